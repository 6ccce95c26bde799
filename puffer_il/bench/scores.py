"""`puffer-il bench scores`: algorithm × environment × demonstrations, over seeds, by whole training runs.

Every run is `puffer-il train`, in a process of its own, of the experiment as it is shipped (configs/). --json FILE:

    {"machine": as of `puffer-il bench`, "cells": [cell, …], "refused": [{"algo", "env", "why"}, …],
     "interrupted": bool}
    cell: {"algo", "env", "seed",
           "demos": episodes demonstrated, 0 where the algorithm uses none, "source": where they are from,
           "experiment": digest of config and demonstrations, "status": of the run, or "failed", "error",
           "score": normalised return of the last 100 episodes, "return_mean", "expert_return", "random_return",
           "env_steps", "wall_s": of the whole run,
           "expert_steps", "expert_s": until the first evaluation at 0.95 or more, null where none was}

Cells that the file has already are kept, and run again only if their experiment has changed or they failed; so an
interrupted command goes on where it was, and one FILE can be filled in by several commands.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from puffer_il.bench.measure import Say
from puffer_il.bench.score_tables import EXPERT_LEVEL, markdown, tables
from puffer_il.bench.session import Session
from puffer_il.core.errors import InputError
from puffer_il.core.text import duration
from puffer_il.demos import read_demos, shipped_path
from puffer_il.kernels.threads import cores
from puffer_il.learners.experiment import build, experiment_layers
from puffer_il.learners.registry import get_learner, usable_learners
from puffer_il.rollout.stats import normalized
from puffer_il.vector.make import find_creator

COLLECTED = 10  # episodes of the scripted expert, where an environment comes without demonstrations
Cell = dict[str, Any]
Pair = tuple[str, str]  # algorithm, environment


@dataclass(frozen=True)
class Demonstrations:
    """A file for an environment's runs, where it is from, and its mean return; `file` is None if there can be none."""

    file: Path | None
    source: str
    episodes: int = 0
    return_mean: float | None = None


@dataclass(frozen=True)
class Experiment:
    """One run to be made, and what tells whether it is still the same one."""

    algo: str
    env: str
    demos: int
    seed: int
    experiment: str

    @property
    def name(self) -> str:
        shown = f", {self.demos} demonstration{'s' * (self.demos > 1)}" if self.demos else ""
        return f"{self.algo} {self.env}{shown}, seed {self.seed}"


def main(args: Namespace) -> int:
    """Make the runs that `args`, those of cli/bench.py, ask for and that are missing, and show and write all of them.
    InputError before anything is run."""
    args.algos = args.algos or list(usable_learners()[0])
    for algo in args.algos:
        get_learner(algo)
    for env in args.envs:
        find_creator(env, None).facts()
    session = Session(args, {"cells": [], "refused": []} | _read(args.json), markdown)
    data = session.data

    def work(say: Say) -> None:
        with tempfile.TemporaryDirectory() as folder:
            shown = {env: demonstrations(env, max(args.demos), Path(folder)) for env in args.envs}
            todo, refused = plan(args, shown)
            fresh = [e for e in todo if not _done(e, data["cells"])]
            again = {_key(asdict(e)) for e in fresh}
            data["cells"] = [cell for cell in data["cells"] if _key(cell) not in again]
            asked = {(algo, env) for algo in args.algos for env in args.envs}
            data["refused"] = [r for r in data["refused"] if (r["algo"], r["env"]) not in asked] + refused
            measure(args, fresh, shown, session, say)

    return session.run(work, tables)


def demonstrations(env: str, episodes: int, folder: Path) -> Demonstrations:
    """Those that come with an environment, or else episodes of its scripted expert, or none and the reason why."""
    shipped = shipped_path(env)
    file, source = shipped, "the demonstrations that come with it"
    if not shipped.is_file():
        file, episodes = folder / f"{env.replace('/', '-')}.npz", max(episodes, COLLECTED)
        source = f"{episodes} episodes of its scripted expert"
        done = subprocess.run([*_program("demos", "collect", env), "--expert", "--episodes", str(episodes), "--out",
                               str(file)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            return Demonstrations(None, f"no demonstrations come with it, and {_last_line(done.stderr)}")
    demos = read_demos(file)
    returns = None if demos.returns is None else float(demos.returns.mean())
    return Demonstrations(file, source, demos.num_episodes, returns)


def plan(args: Namespace, shown: dict[str, Demonstrations]) -> tuple[list[Experiment], list[dict[str, str]]]:
    """All runs, seed by seed, so that an interrupted table is even; and the pairs that do not apply, with the
    reason."""
    experiments: list[Experiment] = []
    refused: list[dict[str, str]] = []
    for env in args.envs:
        action, found = find_creator(env, None).facts().spec.action, shown[env]
        for algo in args.algos:
            cls = get_learner(algo)
            if not cls.about.covers(action):
                why = f"its actions are {action.kind}, the algorithm's {', '.join(cls.about.spaces)}"
            elif cls.needs_demos and found.file is None:
                why = found.source
            else:
                digest = _digest(algo, env, found.file if cls.needs_demos else None)
                numbers = [n for n in args.demos if n <= found.episodes] if cls.needs_demos else [0]
                experiments += [Experiment(algo, env, n, seed, digest) for n in numbers
                                for seed in range(1, args.seeds + 1)]
                continue
            refused.append({"algo": algo, "env": env, "why": why})
    return sorted(experiments, key=lambda e: e.seed), refused


def measure(args: Namespace, todo: list[Experiment], shown: dict[str, Demonstrations], session: Session,
            say: Say) -> None:
    """Make the runs, `args.jobs` at a time; each is in `session.data`, and in the file, as soon as it has ended. A pair
    that is refused once (exit code 2) is not tried again."""
    threads = ("--train.threads", str(max(1, cores() // args.jobs))) if args.jobs > 1 else ()
    stop, left, data = threading.Event(), list(todo), session.data
    running: dict[Future[Cell], Experiment] = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            while left or running:
                while left and len(running) < args.jobs:
                    e = left.pop(0)
                    say(f"[{len(todo) - len(left)} of {len(todo)}, "
                        f"{_time_left([e, *left, *running.values()], data['cells'], args.jobs)}] {e.name}")
                    running[pool.submit(run, e, shown[e.env], args.limit, threads, stop)] = e
                for future in wait(running, return_when=FIRST_COMPLETED)[0]:
                    e, cell = running.pop(future), future.result()
                    if cell["status"] != "refused":
                        data["cells"].append(cell)
                    elif all((e.algo, e.env) != (r["algo"], r["env"]) for r in data["refused"]):
                        data["refused"].append({"algo": e.algo, "env": e.env, "why": cell["error"]})
                        left = [other for other in left if (other.algo, other.env) != (e.algo, e.env)]
                    session.save()
        finally:
            stop.set()


def run(e: Experiment, shown: Demonstrations, limit: float, threads: tuple[str, ...], stop: threading.Event) -> Cell:
    """One run in a process of its own, and its cell. `stop` ends it at once."""
    words = ["--demos", str(shown.file), "--demos.episodes", str(e.demos)] if e.demos else []
    with tempfile.TemporaryDirectory() as folder:
        run_dir, errors = Path(folder) / "run", Path(folder) / "errors"
        with errors.open("w") as stream:
            process = subprocess.Popen([*_program("train", e.algo, e.env), "--seed", str(e.seed), "--run-dir",
                                        str(run_dir), *words, *threads], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True)
        begin = time.monotonic()
        while process.poll() is None and not stop.wait(0.05):
            if time.monotonic() - begin > limit:
                break
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return _failed(e, "failed", f"not finished after {limit:.0f} s")
        if not (run_dir / "summary.json").is_file():
            status = "refused" if process.returncode == 2 else "failed"
            return _failed(e, status, _last_line(errors.read_text()) or f"exit code {process.returncode}")
        return read_run(e, shown, run_dir)


def read_run(e: Experiment, shown: Demonstrations, run_dir: Path) -> Cell:
    """The cell of a run that has ended. Where no demonstrations were used, those of the environment are the expert."""
    summary = json.loads((run_dir / "summary.json").read_text())
    expert, random = summary["expert_return"] if e.demos else shown.return_mean, summary["random_return"]
    evaluations = [line for line in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
                   if "eval/return_mean" in line]
    reached: dict[str, float] = next((line for line in evaluations if (
        normalized(line["eval/return_mean"], random, expert) or 0.0) >= EXPERT_LEVEL), {})
    ended = summary["status"] == "finished"  # a diverged run counts as no better than random
    mean = summary["eval"]["return_mean"] if ended else random
    return {**asdict(e), "source": shown.source if e.demos else "", "status": summary["status"], "error": "",
            "score": normalized(mean, random, expert), "return_mean": mean, "expert_return": expert,
            "random_return": random, "success_rate": (summary["eval"] or {}).get("success_rate"),
            "env_steps": summary["env_steps"], "wall_s": summary["wall_s"],
            "expert_steps": reached.get("env_steps"), "expert_s": reached.get("wall_s")}


def _failed(e: Experiment, status: str, error: str) -> Cell:
    return {**asdict(e), "status": status, "error": error, "score": None}


def _time_left(left: list[Experiment], cells: list[Cell], jobs: int) -> str:
    """By what runs of the same pair took, or else all of them."""
    took: dict[Pair, list[float]] = {}
    for cell in cells:
        if "wall_s" in cell:
            took.setdefault((cell["algo"], cell["env"]), []).append(cell["wall_s"])
    if not took:
        return "time left unknown"
    means = {pair: sum(s) / len(s) for pair, s in took.items()}
    usual = sum(means.values()) / len(means)
    return f"{duration(sum(means.get((e.algo, e.env), usual) for e in left) / jobs)} left"


def _done(e: Experiment, cells: list[Cell]) -> bool:
    return any(_key(cell) == _key(asdict(e)) and cell["experiment"] == e.experiment and not cell["error"]
               for cell in cells)


def _key(cell: Cell) -> tuple[Any, ...]:
    return tuple(cell[name] for name in ("algo", "env", "demos", "seed"))


def _digest(algo: str, env: str, file: Path | None) -> str:
    """Sixteen digits that change with the resolved experiment, the demonstrations, and nothing else."""
    config = build(algo, [*experiment_layers(algo, env), ("bench", {"env": {"name": env}})])
    shown = b"" if file is None else b"".join(
        array.tobytes() for demos in [read_demos(file)] for array in (demos.obs, demos.actions) if array is not None)
    return hashlib.sha256(config.to_toml().encode() + shown).hexdigest()[:16]


def _read(path: Path | None) -> dict[str, Any]:
    """Cells and refusals of a file that an earlier command wrote; InputError if it is another kind of file."""
    if path is None or not path.is_file() or not path.stat().st_size:
        return {}
    try:
        data = json.loads(path.read_text())
        return {"cells": list(data["cells"]), "refused": list(data["refused"])}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} was not written by 'puffer-il bench scores'; choose another file") from None


def _program(*words: str) -> list[str]:
    return [sys.executable, "-m", "puffer_il", *words]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].removeprefix("puffer-il: ").removeprefix("error: ")
