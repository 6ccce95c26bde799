"""`puffer-il bench locomotion`: seconds and steps until GAIL is at 0.95 of the expert, ours and the peers'.

All see the first EPISODES episodes of the same file, FOLDER/TASK.npz, and all are measured against the same return:
EXPERT_LEVEL of those episodes' mean. Ours is `puffer-il train gail TASK` by its defaults in a process of its own; the
peers are described in peers/workers/. The environments are Gymnasium's v4, whose rewards ours equal.

    entry: {"name", "task", "target": return, "cap": seconds or None, "error": "", "versions": {…},
            "runs": [{"seed", "reached", "seconds", "steps", "best": highest return}, …], "ratio": {"median", "bound"}}
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from puffer_il.bench.measure import Say
from puffer_il.bench.peers.run import EntryResult, interleave, peer_entry
from puffer_il.bench.score_tables import EXPERT_LEVEL
from puffer_il.core.errors import InputError, unknown
from puffer_il.demos import read_demos

TASKS = {"hopper": "Hopper-v4", "halfcheetah": "HalfCheetah-v4"}
PEERS = {"imitation_locomotion": "imitation GAIL, tuned", "torchrl": "TorchRL GAIL, its example"}
EPISODES = 10
FIRST_SEED = 101  # no setting was chosen on seeds from here on
TIMES = 20  # a peer is given up at so many times our median, unless --cap says otherwise
OUR_LIMIT = 600.0  # seconds of one run of ours; also the peers' cap where none of ours arrives
POLL = 0.2  # seconds between two looks at our run's metrics

Run = dict[str, Any]
Entries = list[dict[str, Any]]


def check(args: Namespace) -> None:
    """InputError unless the tasks are known and each has its demonstrations."""
    for task in args.tasks:
        if task not in TASKS:
            raise InputError(unknown("task", task, list(TASKS)))
        if args.demos_folder is None:
            raise InputError("bench locomotion needs demonstrations: give --demos-folder a folder with "
                             f"{' and '.join(f'{t}.npz' for t in args.tasks)}")
        target(args.demos_folder / f"{task}.npz")


def target(demos: Path) -> float:
    """The return that counts as arrived; InputError where the file has too few episodes or no rewards."""
    read = read_demos(demos)
    if read.returns is None or read.num_episodes < EPISODES:
        raise InputError(f"{demos} must hold rewards and at least {EPISODES} episodes; record it again with both")
    return EXPERT_LEVEL * float(read.returns[:EPISODES].mean())


def locomotion(args: Namespace, entries: Entries, say: Say) -> None:
    """Task by task, first ours, then the peers in turn; each is in `entries` as soon as it is known."""
    for task in args.tasks:
        demos = (args.demos_folder / f"{task}.npz").resolve()
        goal, seeds = target(demos), range(FIRST_SEED, FIRST_SEED + args.seeds)
        own: list[Run] = []
        for seed in seeds:
            say(f"locomotion: {task}, ours, seed {seed}")
            own.append(our_run(our_command(task, demos, seed), seed, goal))
        entries.append({"name": "puffer_il GAIL", "task": task, "target": goal, "cap": None, "error": "", "runs": own})
        if args.peers:
            cap = args.cap or peer_cap(own)
            settings = {"env": TASKS[task], "demos": str(demos), "episodes": EPISODES, "target": goal, "cap": cap,
                        "seed": FIRST_SEED}
            made = [replace(peer_entry(peer, name, settings, say), sample_timeout=3 * cap + OUR_LIMIT)
                    for peer, name in PEERS.items()]
            done = interleave(made, args.seeds, partial(_say_of, task, say))
            entries += [peer_result(result, task, goal, cap, own) for result in done]


def _say_of(task: str, say: Say, line: str) -> None:
    say(f"locomotion: {task}, {line}")


def peer_cap(own: Sequence[Run]) -> float:
    """Seconds at which a peer is given up."""
    times = [run["seconds"] for run in own if run["reached"]]
    return TIMES * median(times) if times else OUR_LIMIT


def peer_result(result: EntryResult, task: str, goal: float, cap: float, own: Sequence[Run]) -> dict[str, Any]:
    """A peer's entry, with how many times our seconds it took, seed by seed."""
    runs = [{"seed": s["seed"], "reached": s["reached"], "seconds": s["process_seconds"], "steps": s["steps"],
             "best": s["best"]} for s in result.samples]
    pairs = [(a, b) for a, b in zip(own, runs, strict=False) if a["reached"]]
    ratio = {"median": median(b["seconds"] / a["seconds"] for a, b in pairs),
             "bound": not all(b["reached"] for _, b in pairs)} if pairs else None
    return {"name": result.name, "task": task, "target": goal, "cap": cap, "error": result.error, "runs": runs,
            "ratio": ratio, "versions": result.facts.get("versions")}


def our_command(task: str, demos: Path, seed: int) -> list[str]:
    return [sys.executable, "-m", "puffer_il", "train", "gail", task, "--demos", str(demos), "--demos.episodes",
            str(EPISODES), "--seed", str(seed)]


def our_run(command: Sequence[str], seed: int, goal: float, limit: float = OUR_LIMIT) -> Run:
    """`command` until an evaluation of its run reaches `goal`, then it is ended. The seconds are on our clock, from the
    start of the process until the evaluation stands in its metrics. RuntimeError if the command fails."""
    with tempfile.TemporaryDirectory() as folder:
        metrics, errors, begin = Path(folder, "run", "metrics.jsonl"), Path(folder, "errors"), time.perf_counter()
        with errors.open("w") as stream:
            process = subprocess.Popen([*command, "--run-dir", f"{folder}/run"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True,
                                       env={**os.environ, "NO_COLOR": "1"})
        try:
            ended = False
            while True:
                seconds = time.perf_counter() - begin
                seen = evaluations(metrics)
                there = next((e for e in seen if e[1] >= goal), None)
                if there or ended or seconds > limit:
                    break
                time.sleep(POLL)
                ended = process.poll() is not None  # then its last lines are read once more
            if ended and process.returncode:
                raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}, {errors.read_text()[-500:]}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    last = there or (seen[-1] if seen else (0, float("nan")))
    return {"seed": seed, "reached": there is not None, "seconds": seconds, "steps": last[0],
            "best": max((e[1] for e in seen), default=float("nan"))}


def evaluations(metrics: Path) -> list[tuple[int, float]]:
    """(steps, mean return) of a run so far; a line that is still being written is left out."""
    if not metrics.is_file():
        return []
    *lines, _ = metrics.read_text().split("\n")
    return [(line["env_steps"], line["eval/return_mean"]) for line in map(json.loads, lines)
            if "eval/return_mean" in line]
