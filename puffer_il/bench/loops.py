"""Whole training loops: what a person gets, per algorithm and network, and how it scales."""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from puffer_il.bench.measure import Say, figure
from puffer_il.bench.peers.run import Entry, EntryResult, interleave, ratio
from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.demos import shipped_path
from puffer_il.kernels.threads import cores
from puffer_il.learners.common.learned_reward import FILE as REWARD_FILE
from puffer_il.learners.common.learned_reward import save_reward
from puffer_il.learners.common.off_policy import STEPS_PER_UPDATE
from puffer_il.learners.experiment import build, section_types
from puffer_il.learners.registry import get_learner, learner_names
from puffer_il.training.assemble import assemble
from puffer_il.training.loggers import Logger
from puffer_il.training.process import set_threads
from puffer_il.training.trainer import PHASES, Trainer

Keys = dict[str, Any]  # "section.key" → value, as on the command line of `puffer-il train`
WARM_UP = 2  # iterations that are not counted: first touch of memory, threads starting
GAIL_VARIANTS: dict[str, Keys] = {
    "": {}, ", no penalty": {"gail.gp_coef": 0.0}, ", shared": {"policy.shared": True},
    ", shared, no penalty": {"policy.shared": True, "gail.gp_coef": 0.0}}
WORK = ("disc_updates", "disc_batch_size", "disc_hidden")
STAGES = tuple(phase for phase in PHASES if phase != "eval")


class Loop:
    """A run whose iterations are timed. Called, it works for at least `seconds` and says what it did.

    The seconds are those of whole iterations, with the trainer's own bookkeeping but without evaluations and
    checkpoints.

    heard  the run's notices so far
    """

    def __init__(self, algo: str, keys: Keys, stack: ExitStack, seconds: float = 0.0) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = build(algo, [("bench", tables(algo, keys))])
        self.heard: list[str] = []
        self.run = Trainer(assemble(config, stack), [_Heard(self.heard)], folder)
        self.keys, self.rows = keys, config.env.num_envs * config.train.num_steps
        for _ in range(WARM_UP):
            begin = time.perf_counter()
            self.run.iterate()
        self.repeats = max(1, math.ceil(seconds / (time.perf_counter() - begin)))

    def __call__(self) -> dict[str, Any]:
        set_threads(self.run.config.train)  # others may have run meanwhile, in the same process
        stages = dict.fromkeys(STAGES, 0.0)
        steps, begin, cpu = self.run.env_steps, time.perf_counter(), time.process_time()
        for _ in range(self.repeats):
            self.run.iterate()
            for stage in STAGES:
                stages[stage] += self.run.phases[stage]
        return {"steps": self.run.env_steps - steps, "seconds": time.perf_counter() - begin,
                "cpu_seconds": time.process_time() - cpu, "stages": stages}


class _Heard(Logger):
    """Keeps notices in a list."""

    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    def message(self, text: str) -> None:
        self.heard.append(text)


def tables(algo: str, keys: Keys) -> dict[str, dict[str, Any]]:
    """The experiment of all comparisons, CartPole with 4,096 environments × 64 steps, 1 PPO epoch of 4 minibatches;
    `keys` go over it. Keys of sections that the algorithm does not have are left out."""
    merged: Keys = {
        "env.name": "cartpole", "env.num_envs": 4096, "train.num_steps": 64, "train.total_steps": 10**12,
        "train.checkpoint_minutes": 0, "eval.episodes": 1, "eval.final_episodes": 1, "ppo.update_epochs": 1,
        "ppo.num_minibatches": 4, "ppo.target_kl": 0.0, "demos.source": str(shipped_path("cartpole")),
        "policy.hidden": [64, 64], "policy.activation": "tanh", **keys}
    known = section_types(algo)
    made: dict[str, dict[str, Any]] = {}
    for key, value in merged.items():
        section, name = key.split(".")
        if section in known:
            made.setdefault(section, {})[name] = value
    return made


def entry(result: EntryResult, algo: str, keys: Keys, **more: Any) -> dict[str, Any]:
    """JSON of one measured loop: steps/s, and the seconds per stage that one iteration takes in the median."""
    rates = {"steps_per_s": result.rate} if result.samples else {}
    return {"name": result.name, "algo": algo, "keys": keys, **more, **rates, "stages": result.stages,
            "error": result.error}


def throughput(results: list[dict[str, Any]], variants: dict[str, tuple[str, Keys]], iterations: int, say: Say) -> None:
    """name → (algorithm, keys), all interleaved, one iteration each in turn."""
    with ExitStack() as stack:
        entries = []
        for name, (algo, keys) in variants.items():
            say(f"throughput: setting up {name}")
            entries.append(Entry(name, Loop(algo, keys, stack)))
        for result in interleave(entries, iterations, lambda line: say(f"throughput: {line}")):
            results.append(entry(result, *variants[result.name]))


def standard_variants(num_envs: int, num_steps: int, epochs: int, algos: list[str]) -> dict[str, tuple[str, Keys]]:
    """What `throughput` measures without further wishes: the algorithms, and GAIL and PPO on other networks."""
    size = {"env.num_envs": num_envs, "train.num_steps": num_steps, "ppo.update_epochs": epochs}
    made: dict[str, tuple[str, Keys]] = {algo: (algo, dict(size)) for algo in algos}
    if "gail" in algos:
        wide = {"policy.hidden": [256, 256], "gail.disc_hidden": [256, 256]}
        made |= {f"gail{name}": ("gail", {**size, **keys}) for name, keys in {**GAIL_VARIANTS, ", 2×256": wide}.items()}
    for algo in ("ppo", "gail"):
        if algo in algos and epochs == 1:
            made[f"{algo}, 4 epochs"] = (algo, {**size, "ppo.update_epochs": 4})
    return made


def learners(results: list[dict[str, Any]], size: Keys, rounds: int, seconds: float, say: Say) -> None:
    """Every registered learner's cost per step (without rollouts: per sample), relative to GAIL's on the same work."""
    with ExitStack() as stack:
        say("learners: setting up gail")
        gail = Loop("gail", size, stack, seconds)
        size = {**size, "transfer.reward": _learned_reward(gail, stack)}
        entries, algos = [Entry("gail", gail)], ["gail", *(name for name in learner_names() if name != "gail")]
        for algo in algos[1:]:
            say(f"learners: setting up {algo}")
            entries.append(_try_loop(algo, algo, same_work(algo, size), stack, seconds))
        done = interleave(entries, rounds, lambda line: say(f"learners: {line}"))
    for algo, result in zip(algos, done, strict=True):
        unit, keys = "step" if get_learner(algo).needs_rollouts else "sample", same_work(algo, size)
        # Our rate over theirs is their cost over ours.
        found = entry(result, algo, keys, unit=unit, kind=kind(algo), cost=ratio(done[0], result))
        if result.samples and kind(algo) == "off-policy":
            sac = build(algo, [("bench", tables(algo, keys))]).sac
            rows = keys["env.num_envs"] * keys["train.num_steps"]
            updates = sac.updates or max(1, rows // STEPS_PER_UPDATE)
            found |= {"batch_size": sac.batch_size,
                      "updates_per_s": figure([updates * rate / rows for rate in result.rates])}
        results.append(found)


def kind(algo: str) -> str:
    """By what a learner learns from: its newest rollout, all of them, an expert's answers, or no rollouts."""
    cls = get_learner(algo)
    if not cls.needs_rollouts:
        return "offline"
    return "off-policy" if "sac" in section_types(algo) else "expert" if cls.needs_expert else "on-policy"


def same_work(algo: str, keys: Keys) -> Keys:
    """`keys`, and as many updates, rows and units as GAIL's discriminator has for whatever `algo` has in its place."""
    gail, own = get_learner("gail").section(), {f.name for f in fields(get_learner(algo).section)}
    return keys | {f"{algo}.{name}": keys.get(f"gail.{name}", getattr(gail, name)) for name in WORK if name in own}


def _learned_reward(loop: Loop, stack: ExitStack) -> str:
    """The folder of a reward as `loop` has learned it, for learners that begin with one."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    learner: Any = loop.run.learner
    save_reward(learner.learned_reward(), Path(folder) / REWARD_FILE)
    return folder


def scaling(results: list[dict[str, Any]], axes: dict[str, list[tuple[Any, Keys]]], rounds: int, seconds: float,
            say: Say) -> None:
    """GAIL's loop along each axis, [(value, keys)]; the values of one axis are measured in turn."""
    for axis, points in axes.items():
        with ExitStack() as stack:
            entries = []
            for value, keys in points:
                say(f"scaling: setting up {axis} {value}")
                entries.append(_try_loop(f"{axis} {value}", "gail", keys, stack, seconds))
            done = interleave(entries, rounds, lambda line: say(f"scaling: {line}"))
        for result, (value, keys) in zip(done, points, strict=True):
            results.append(entry(result, "gail", keys, axis=axis, value=value))


def _try_loop(name: str, algo: str, keys: Keys, stack: ExitStack, seconds: float) -> Entry:
    """A loop, or why there is none: another package's learner may want other data, a large one more memory."""
    try:
        return Entry(name, Loop(algo, keys, stack, seconds))
    except (InputError, EnvFailure, MemoryError) as error:
        return Entry(name, (), str(error) or "out of memory")


def standard_axes(max_envs: int = 65_536) -> dict[str, list[tuple[Any, Keys]]]:
    counts = [n for n in (64, 256, 1024, 4096, 16_384, 65_536) if n <= max_envs]
    most = cores()
    some = sorted({2**k for k in range(most.bit_length()) if 2**k <= most} | {most})
    python: Keys = {"env.name": "CartPole-v1", "env.num_envs": 64}
    workers: list[tuple[Any, Keys]] = [(0, {**python, "env.backend": "serial"})]
    workers += [(n, {**python, "env.backend": "multiprocessing", "env.num_workers": n}) for n in some if 64 % n == 0]
    return {"environments": [(n, {"env.num_envs": n}) for n in counts],
            "horizon": [(n, {"train.num_steps": n}) for n in (16, 64, 256)],
            "hidden": [(n, {"env.num_envs": 1024, "policy.hidden": [n, n], "gail.disc_hidden": [n, n]})
                       for n in (64, 128, 256, 512)],
            "threads": [(n, {"train.threads": n}) for n in some],
            "torch_threads": [(n, {"train.torch_threads": n}) for n in some], "workers": workers}


PEAK = """\
import sys
from pathlib import Path
from puffer_il.cli import main
code = main(sys.argv[1:])
# VmHWM, not getrusage: that one still holds what the parent had when it started this process.
lines = Path("/proc/self/status").read_text().splitlines()
print(1024 * int(next(x for x in lines if x.startswith("VmHWM")).split()[1]))
sys.exit(code)
"""


def peak_memory(results: list[dict[str, Any]], num_envs: int, num_steps: int, say: Say) -> None:
    """Peak resident memory of `puffer-il train gail cartpole` of ten iterations, in a process of its own."""
    say("throughput: memory")
    keys: Keys = {"env.num_envs": num_envs, "train.num_steps": num_steps, "eval.interval_steps": 0,
                  "train.total_steps": 10 * num_envs * num_steps}
    if not Path("/proc/self/status").is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        words = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
        done = subprocess.run([sys.executable, "-c", PEAK, "train", "gail", "cartpole", "--run-dir", f"{folder}/run",
                               *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"train gail cartpole: exit code {done.returncode}, {done.stderr.strip()[-500:]}")
    results.append({"name": "gail, peak memory", "keys": keys, "bytes": int(done.stdout.splitlines()[-1])})


def time_to_expert(seed: int) -> dict[str, Any]:
    """`puffer-il train gail cartpole` from the start of its process; its summary's `time_to_expert_s`, None if it never
    got there, and all the seconds until the process ended."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "puffer_il", "train", "gail", "cartpole", "--seed", str(seed),
                        "--run-dir", f"{folder}/run"], check=True, capture_output=True, stdin=subprocess.DEVNULL,
                       env={**os.environ, "NO_COLOR": "1"})
        seconds = time.perf_counter() - begin
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    return {"steps": summary["env_steps"], "seconds": seconds, "seed": seed, "expert_s": summary["time_to_expert_s"],
            "return_mean": summary["eval"]["return_mean"]}
