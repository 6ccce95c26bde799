"""`make gpu`: what a GPU gains and whether it learns the same, in at most eight minutes; a table and a JSON file.

    python -m puffer_il.bench.gpu [--json FILE] [--markdown FILE] [--only WORD] [--seconds N] [--cap N] [--limit N]

Measures are taken in a process beside this one. What fails is told in its row; if it hangs or breaks the device, the
next ones begin in a new process. `--device cpu` walks through all of it without a GPU, on small sizes: that tries this
file and measures nothing. Exit 0: all was measured and agrees; 1: not all; 2: there is no GPU.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from puffer_il.bench.apart import Row, take
from puffer_il.bench.limits import machine
from puffer_il.bench.loops import Keys, Loop
from puffer_il.bench.memory import random_rollout
from puffer_il.core import checkpoint
from puffer_il.core.config import PolicyConfig
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.kernels.threads import cores
from puffer_il.learners.common.adversarial import Draw
from puffer_il.learners.experiment import build
from puffer_il.learners.registry import get_learner
from puffer_il.nn import Policy, fused, sequences
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.tensors import allocator
from puffer_il.vector.vec import make_vec

CPU = torch.device("cpu")
NUMBERS = EnvSpec("numbers", (17,), np.dtype(np.float32),
                  ActionSpec(low=-np.ones(6, np.float32), high=np.ones(6, np.float32), shape=(6,)))
CHOICES = EnvSpec("choices", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
PICTURES = EnvSpec("pictures", (84, 84, 4), np.dtype(np.uint8), ActionSpec(nvec=(6,)))
AGREES = 0.05  # of what an update changes: how far a GPU's weights may be from the CPU's, which rounds otherwise
UPDATES = 4  # before weights are compared: enough for a graph to be recorded and replayed
Tables = dict[str, dict[str, Any]]  # settings by section
Side = Callable[[], Any]  # what is timed, once


class Sizes(NamedTuple):
    """Of what is measured; small ones only try the code."""

    num_envs: int
    num_steps: int
    demos: int
    pictures: int  # environments that show them
    columns: int  # sequences of a memory
    units: int  # of an LSTM or GRU
    hidden: tuple[int, ...]


FULL = Sizes(4096, 64, 100_000, 256, 1024, 128, (256, 256))
SMALL = Sizes(32, 4, 300, 8, 4, 8, (8, 8))


class Bench(NamedTuple):
    """How to measure: on which device, for how many seconds each, what sizes."""

    device: torch.device
    seconds: float
    sizes: Sizes


def learner_of(bench: Bench, algo: str, spec: EnvSpec, graphs: bool, device: torch.device, tables: Tables) -> Any:
    """An untrained learner, always the same."""
    torch.manual_seed(0)
    plain: Tables = {
        "policy": {"hidden": bench.sizes.hidden}, "train": {"cuda_graphs": graphs and device.type == "cuda"},
        "ppo": {"update_epochs": 2, "num_minibatches": 4, "target_kl": 0.0}, "bc": {"patience": 0, "batch_size": 4096},
        "gail": {"disc_hidden": bench.sizes.hidden}, "sac": {"batch_size": 256, "critic_hidden": bench.sizes.hidden}}
    sections = ("policy", "train", algo, *get_learner(algo).uses)
    config = build(algo, [("gpu", {name: plain[name] | tables.get(name, {}) for name in sections})])
    demos = demos_of(spec, bench.sizes.demos if algo == "bc" else 1000) if algo in ("bc", "gail") else None
    return get_learner(algo)(spec, demos, config, device, 0)


def demos_of(spec: EnvSpec, rows: int) -> Demos:
    buffer, ends = random_rollout(spec, rows, 1).flat(), np.arange(rows) % 100 == 99
    ends[-1] = True
    return Demos(buffer.obs, buffer.actions, np.roll(buffer.obs, -1, 0), np.zeros(rows, bool), ends,
                 np.concatenate(([0], np.flatnonzero(ends)[:-1] + 1)), None)


def rollout_of(spec: EnvSpec, num_steps: int, num_envs: int, device: torch.device, state_dim: int = 0) -> RolloutBuffer:
    """A rollout of random rows, in memory that the device can read."""
    made, rng = random_rollout(spec, num_steps, num_envs), np.random.default_rng(1)
    buffer = RolloutBuffer(spec, num_steps, num_envs, state_dim=state_dim, allocate=allocator(device))
    if spec.obs_dtype == np.uint8:
        made.obs[:] = rng.integers(0, 256, made.obs.shape, dtype=np.uint8)
    for name in ("obs", "actions", "rewards", "values", "last_values", "logprobs", "terminations", "valid"):
        getattr(buffer, name)[:] = getattr(made, name)
    buffer.episode_starts[1:] = made.terminations[:-1]
    buffer.keep_ends(np.flatnonzero(made.terminations), made.flat().obs[made.terminations.reshape(-1)])
    buffer.compute_advantages(0.99, 0.95)
    return buffer


def work_of(bench: Bench, algo: str, spec: EnvSpec, graphs: bool, device: torch.device, tables: Tables
            ) -> tuple[Any, Side]:
    """A learner, and an update of it: PPO's on a rollout, GAIL's of its discriminator, a call of SAC's, BC's epoch."""
    learner = learner_of(bench, algo, spec, graphs, device, tables)
    if algo == "bc":
        return learner, lambda: learner.update(None, 0.0)
    count = bench.sizes.pictures if spec is PICTURES else bench.sizes.num_envs
    buffer = rollout_of(spec, bench.sizes.num_steps, count, device, learner.policy.state_dim)
    if algo == "sac":
        learner.store(buffer)
        return learner, lambda: learner.learn(learner.replay.sample(32, learner.config.batch_size))
    return learner, lambda: learner.relabel(buffer) if algo == "gail" else learner.update(buffer, 0.0)


def updates(bench: Bench, algo: str, spec: EnvSpec, tables: Tables) -> Row:
    """Updates on the device as they are, beside the same as CUDA graphs."""
    half = tables.get("train", {}).get("precision") == "bfloat16"

    def side(graphs: bool) -> Side:
        learner, work = work_of(bench, algo, spec, graphs, bench.device, tables)

        def update() -> None:
            with torch.autocast(bench.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
                work()
            if learner.notices:
                raise RuntimeError(learner.notices[0])

        return update

    return compared(bench, {"plain": partial(side, False), "graphs": partial(side, True)})


def agreement(bench: Bench, algo: str, spec: EnvSpec, tables: Tables) -> Row:
    """Weights after some updates on the device and on the CPU, from the same random numbers; of smaller rollouts, as
    the CPU takes its time."""
    sizes = bench.sizes
    bench = bench._replace(sizes=sizes._replace(num_envs=sizes.num_envs // 4, pictures=sizes.pictures // 8 + 4))
    found: list[np.ndarray] = []
    for device, graphs in ((CPU, False), (bench.device, False), (bench.device, True)):
        learner, work = work_of(bench, algo, spec, graphs, device, tables)
        same_numbers(learner, algo)
        before = weights_of(learner, algo)
        for _ in range(UPDATES):
            work()
        found.append(weights_of(learner, algo) - before)
    expected, plain, graphed = found
    scale = float(np.abs(expected).mean())
    if not scale > 0:
        raise RuntimeError("the updates changed nothing")
    off = {"plain": float(np.abs(plain - expected).mean()) / scale,
           "graphs": float(np.abs(graphed - expected).mean()) / scale}
    return {"off": off, "agrees": max(off.values()) <= AGREES}


def same_numbers(learner: Any, algo: str) -> None:
    """Random numbers of the CPU, whatever the learner's device, whose own are others."""
    rng, device = np.random.default_rng(0), learner.device
    if algo == "gail":
        def draw(rows: int, valid: Any) -> Draw:
            size = learner.batch_size
            numbers = [torch.from_numpy(rng.integers(n, size=size)).to(device) for n in (learner.draw_expert.n, rows)]
            mix = torch.from_numpy(rng.random(size, np.float32)).to(device)
            return Draw(numbers[0], numbers[1], None, mix, [0, 0])

        learner._draw_rows = draw
    elif algo == "sac":
        learner.engine._noise = lambda *size: torch.from_numpy(
            rng.standard_normal((size[0], 2, *size[1:]), np.float32)).to(device)


def weights_of(learner: Any, algo: str) -> np.ndarray:
    module = learner.discriminator if algo == "gail" else learner.policy
    return np.concatenate([p.detach().cpu().numpy().reshape(-1) for p in module.parameters()])


def sequence(bench: Bench, memory: str) -> Row:
    """PPO's forward and backward pass of a memory: a loop over steps, beside one call for whole sequences."""
    steps, columns, units = bench.sizes.num_steps, bench.sizes.columns, bench.sizes.units
    torch.manual_seed(0)
    config = PolicyConfig(hidden=(units,), lstm=units * (memory == "lstm"), gru=units * (memory == "gru"))
    policy = Policy(NUMBERS, config).to(bench.device)
    rng, state = np.random.default_rng(0), torch.zeros(columns, policy.state_dim, device=bench.device)
    obs, actions = (torch.randn(steps, columns, size, device=bench.device) for size in (17, 6))
    starts = torch.from_numpy(rng.random((steps, columns)) < 0.02)

    def side(one_call: bool) -> Side:
        def both_ways() -> None:
            with mock.patch.object(sequences, "in_one_call", lambda x: one_call):
                torch.stack(policy.evaluate(obs, actions, state, starts)).mean().backward()

        return both_ways

    return compared(bench, {"loop": partial(side, False), "one call": partial(side, True)})


def rollouts(bench: Bench, name: str, num_envs: int, hidden: tuple[int, ...]) -> Row:
    """Rollouts with the policy on the device: environments in one group, and in two that take turns with it."""
    with ExitStack() as stack:
        def side(groups: int) -> Side:
            torch.manual_seed(0)
            vec = stack.enter_context(make_vec(name, num_envs=num_envs, num_groups=groups, groups_here=True))
            policy = Policy(vec.spec, PolicyConfig(hidden=hidden)).to(bench.device)
            allocate = allocator(bench.device)
            buffer = RolloutBuffer(vec.spec, bench.sizes.num_steps, num_envs, allocate=allocate)
            return Collector(vec, policy, buffer, bench.device, 0, allocate).collect

        row = compared(bench, {"one group": partial(side, 1), "two groups": partial(side, 2)})
    return row | {"steps": num_envs * bench.sizes.num_steps}


def loops(bench: Bench, algo: str, keys: Keys) -> Row:
    """Whole iterations of training on CartPole: the CPU's C kernels, beside the device, plain and with CUDA graphs."""
    size = {"env.num_envs": bench.sizes.num_envs, "train.num_steps": bench.sizes.num_steps, **keys}
    with ExitStack() as stack:
        def side(device: str, graphs: bool) -> Side:
            return Loop(algo, {**size, "train.device": device, "train.cuda_graphs": graphs}, stack).run.iterate

        kind = bench.device.type
        row = compared(bench, {"CPU kernels": partial(side, "cpu", False), "plain": partial(side, kind, False),
                               "graphs": partial(side, kind, kind == "cuda")})
    return row | {"steps": bench.sizes.num_envs * bench.sizes.num_steps}


def compared(bench: Bench, sides: dict[str, Callable[[], Side]]) -> Row:
    """Seconds of each side per call, in turn until the time is over, and the device's peak memory with it."""
    made: dict[str, Side] = {}
    peak: dict[str, int] = {}
    for name, make in sides.items():
        with peak_of(bench, name, peak):
            made[name] = make()
            for _ in range(3):  # a graph is recorded in the second or third
                made[name]()
    samples: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + bench.seconds
    while not samples[name] or time.perf_counter() < end:
        for name, work in made.items():
            synchronize(bench)
            begin = time.perf_counter()
            work()
            synchronize(bench)
            samples[name].append(time.perf_counter() - begin)
    first = next(iter(sides))
    ratios = {name: median(a / b for a, b in zip(samples[first], samples[name], strict=True)) for name in sides}
    return {"seconds": {name: median(values) for name, values in samples.items()}, "ratio": ratios,
            "samples": len(samples[first]), "peak_bytes": peak}


@contextmanager
def peak_of(bench: Bench, name: str, peak: dict[str, int]) -> Iterator[None]:
    """Note how much of the device's memory is taken meanwhile, beyond what was before."""
    if bench.device.type != "cuda":
        yield
        return
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.synchronize()
    peak[name] = torch.cuda.max_memory_allocated() - before


def synchronize(bench: Bench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.synchronize()


def measures(sizes: Sizes) -> dict[str, Callable[[Bench], Row]]:
    """All of them, the most telling first, as time may end."""
    small = {"policy": {"hidden": sizes.hidden}}
    lstm = {"policy": {"hidden": sizes.hidden, "lstm": sizes.units}}
    half = {"train": {"precision": "bfloat16"}}
    made: dict[str, Callable[[Bench], Row]] = {}
    cases: tuple[tuple[str, str, EnvSpec, Tables], ...] = (
        ("PPO", "ppo", NUMBERS, small), ("GAIL's discriminator", "gail", NUMBERS, {}), ("SAC", "sac", NUMBERS, {}),
        ("soft Q", "sac", CHOICES, {}), ("BC", "bc", NUMBERS, {}), ("PPO on pictures", "ppo", PICTURES, small),
        ("PPO, LSTM", "ppo", NUMBERS, lstm))
    for name, algo, spec, tables in cases:
        made[f"{name}: as on the CPU"] = partial(agreement, algo=algo, spec=spec, tables=tables)
    for name, algo, spec, tables in cases[:-1]:
        made[f"{name}: update"] = partial(updates, algo=algo, spec=spec, tables=tables)
    made["PPO on pictures, bfloat16: update"] = partial(updates, algo="ppo", spec=PICTURES,
                                                                   tables={**small, **half})
    for memory in ("lstm", "gru"):
        made[f"{memory.upper()}: forward and backward"] = partial(sequence, memory=memory)
    for count in (sizes.num_envs, 4 * sizes.num_envs):
        made[f"rollout, cartpole × {count:,}"] = partial(rollouts, name="cartpole", num_envs=count, hidden=sizes.hidden)
    made[f"rollout, snake × {sizes.num_envs:,}"] = partial(rollouts, name="snake", num_envs=sizes.num_envs,
                                                          hidden=sizes.hidden)
    for algo in ("ppo", "gail"):
        wide: Keys = {"policy.hidden": list(sizes.hidden), "gail.disc_hidden": list(sizes.hidden)}
        made[f"{algo}, whole iterations, 2×64"] = partial(loops, algo=algo, keys={})
        made[f"{algo}, whole iterations, 2×{sizes.hidden[0]}"] = partial(loops, algo=algo, keys=wide)
    return made


def child(connection: Any, names: list[str], device: str, seconds: float, small: bool) -> None:
    """Take measures, one after the other, and send the row of each (apart.py)."""
    sizes = SMALL if small else FULL
    if small:
        torch.set_num_threads(1)
    bench, known = Bench(torch.device(device), seconds, sizes), measures(sizes)
    for name in names:
        begin = time.perf_counter()
        fused.enable(False)  # but in whole iterations, which set it themselves
        try:
            row = known[name](bench)
            synchronize(bench)
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            row = {"error": f"{type(error).__name__}: {first}", "broken": "CUDA error" in str(error)}
        connection.send(row | {"took_s": time.perf_counter() - begin})
        if row.get("broken"):
            return
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def page(data: dict[str, Any]) -> str:
    """The measures as a Markdown table."""
    about = data["machine"]
    where = about["gpu"] or f"no GPU: this tries the script on {about['cpu']} and measures nothing"
    lines = ["# What a GPU gains", "", f"{where}, torch {about['torch']}, {about['cpu']}, {about['date']}; "
             f"`{about['command']}`.", "", "Times are medians of calls that take turns; `×` is how many times as fast "
             "as the first, pair by pair. `off` is how far the device's weights are from the CPU's, in shares of what "
             f"{UPDATES} updates change; up to {AGREES:.0%} agrees.", "",
             "| measure | found | × | peak memory, MB | calls |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(cells(name, row)) + " |" for name, row in data["measures"].items())]
                     ) + "\n"


def cells(name: str, row: Row) -> list[str]:
    """Of a measure's line."""
    if "error" in row:
        return [name, f"failed: {row['error']}".replace("|", "/"), "", "", ""]
    if "off" in row:
        off = " · ".join(f"{side} off by {share:.1%}" for side, share in row["off"].items())
        return [name, f"{'agrees' if row['agrees'] else 'DIFFERS'}: {off}", "", "", ""]
    seconds = {side: f"{side} {1e3 * value:.3g} ms" + (f" ({row['steps'] / value:,.0f} steps/s)" if "steps" in row
                                                       else "") for side, value in row["seconds"].items()}
    ratios = " · ".join(f"{value:.2f}" for value in row["ratio"].values())
    peak = " · ".join(f"{value / 1e6:,.0f}" for value in row["peak_bytes"].values())
    return [name, " · ".join(seconds.values()), ratios, peak, str(row["samples"])]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m puffer_il.bench.gpu", description="What a GPU gains.")
    option = parser.add_argument
    option("--device", default="cuda", choices=("cuda", "cpu"), help="cpu tries the script, on small sizes")
    option("--seconds", type=float, default=6.0, help="of each comparison, beside its setting up (6)")
    option("--cap", type=float, default=60.0, help="seconds after which a measure is given up (60)")
    option("--limit", type=float, default=460.0, help="seconds after which all is given up (460)")
    option("--only", default="", metavar="WORD", help="measures whose names hold this")
    option("--json", type=Path, metavar="FILE")
    option("--markdown", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("puffer-il: make gpu: no CUDA device is visible; run it where there is a GPU and a CUDA build of torch",
              file=sys.stderr)
        return 2
    small = args.device == "cpu"
    names = [name for name in measures(SMALL if small else FULL) if args.only in name]
    command = " ".join(["python -m puffer_il.bench.gpu", *(sys.argv[1:] if arguments is None else arguments)])
    data: dict[str, Any] = {"machine": machine(cores(), command), "measures": {}}

    def heard(name: str, row: Row) -> None:
        data["measures"][name] = row
        print(": ".join(filter(None, cells(name, row)[:2])), flush=True)
        if args.json:
            checkpoint.write_json(args.json, data)
        if args.markdown:
            checkpoint.write_text(args.markdown, page(data))

    take(names, child, (args.device, args.seconds, small), args.cap, args.limit, heard)
    return int(any("error" in row or not row.get("agrees", True) for row in data["measures"].values()))


if __name__ == "__main__":
    sys.exit(main())
