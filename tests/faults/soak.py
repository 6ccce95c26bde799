"""`python -m tests.faults.soak --minutes 60`: runs whose trainer and workers are killed at random, and that are resumed
each time, must end bit by bit as those that nobody has disturbed. Then, in one process, as many steps as --flat says:
its memory, descriptors and threads must not grow.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from puffer_il.training.run_dir import is_finished
from tests.faults.runs import Live, differences, orphans, saved_steps, stop, whole
from tests.support.runs import tiny

WORKERS = 2
EARLY = 8  # one kill in so many may come before a run has done anything
GROWTH = 0.02  # of the memory, from the middle to the end, that counts as flat
SAMPLES = 20


def config_of(algo: str, env: str, folder: Path, steps: int, **keys: Any) -> Config:
    return tiny(algo, folder, env__name=env, env__num_envs=16, env__backend="multiprocessing", env__num_workers=WORKERS,
                train__num_steps=64, train__total_steps=steps, train__checkpoint_minutes=0.02,
                eval__interval_steps=steps // 8, **keys)


def disturbed(config: Config, until: float, chance: random.Random) -> dict[str, int]:
    """Run to the end with kills until `until` (time.monotonic()), in peace afterwards; what was done."""
    done = {"kills of the trainer": 0, "kills of a worker": 0, "resumes": 0, "steps lost": 0}
    live = Live(config)
    while True:
        _wait(live, until, chance)
        code = live.process.poll()
        if code == 0:
            return done
        if code is None and time.monotonic() >= until:
            assert live.end() == 0, live.output
            return done
        workers = live.workers()
        if code is None and workers and chance.random() < 0.4:
            stop(chance.choice(workers))
            done["kills of a worker"] += 1
            assert live.end() in (0, 1), f"a killed worker: {live.output}"  # 0 once it has ended its work
        elif code is None:
            stop(live.process.pid)
            live.end()
            done["kills of the trainer"] += 1
        assert not orphans(workers), "workers live on"
        if is_finished(live.folder):
            return done
        if checkpoint.has_any(live.folder):
            done["steps lost"] += max(0, live.steps - saved_steps(live.folder))
        done["resumes"] += 1
        live = Live(config, resume=True) if (live.folder / "config.toml").is_file() else Live(config)


def _wait(live: Live, until: float, chance: random.Random) -> None:
    """Let a run go on until it has made progress, and for some seconds more; one in EARLY not as long."""
    before, early = live.steps, chance.random() < 1 / EARLY
    at = time.monotonic() + chance.uniform(0.0, 10.0)
    while time.monotonic() < until and live.process.poll() is None and not (early and time.monotonic() > at):
        if not early and live.steps != before:
            at = time.monotonic() + chance.uniform(0.0, 10.0)
            early = True
        time.sleep(0.05)


def flat(steps: int, folder: Path, say: Any) -> bool:
    """Whether memory, descriptors and threads stay as they are from the middle of a long run on."""
    config = tiny("ppo", folder, env__num_envs=256, train__num_steps=64, train__total_steps=steps,
                  ppo__update_epochs=1, eval__interval_steps=steps // 10)
    live = Live(config)
    process, seen = psutil.Process(live.process.pid), []
    while live.process.poll() is None:
        if live.steps >= len(seen) * steps / SAMPLES:
            try:
                with process.oneshot():
                    seen.append((live.steps, process.memory_info().rss, process.num_fds(), process.num_threads()))
            except psutil.Error:
                break
        time.sleep(0.1)
    assert live.end() == 0, live.output
    say("| steps | memory, MB | descriptors | threads |\n|---|---|---|---|")
    for at, memory, descriptors, threads in seen[1:]:
        say(f"| {at:,} | {memory / 1e6:.1f} | {descriptors} | {threads} |")
    middle = seen[len(seen) // 2]
    last = [min(column) for column in zip(*seen[-len(seen) // 4:], strict=True)]  # a file is open while it is written
    return last[1] <= middle[1] * (1 + GROWTH) and last[2] <= middle[2] and last[3] <= middle[3]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--flat", type=float, default=1e7, help="steps of the run that must not grow")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="a Markdown file that the log is added to")
    args = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)
        if args.log:
            with args.log.open("a") as file:
                file.write(line + "\n")

    chance, good = random.Random(args.seed), True
    begin = time.monotonic()
    say(f"\n## Soak of {args.minutes:g} minutes, begun {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n")
    say("| minute | run | kills of the trainer | of a worker | resumes | steps done twice | what differs in the end |\n"
        "|---|---|---|---|---|---|---|")
    cases = [("gail", "cartpole", 40_000), ("ppo", "gymnasium:CartPole-v1", 30_000), ("sac", "pendulum", 20_000)]
    turn = args.seed - 1
    with tempfile.TemporaryDirectory(prefix="puffer_il-soak-") as folder:
        while time.monotonic() - begin < 60 * args.minutes:
            algo, env, steps = cases[turn % len(cases)]
            turn += 1
            place = Path(folder) / str(turn)
            reference = whole(config_of(algo, env, place / "whole", steps, train__seed=turn))
            left = 60 * args.minutes - (time.monotonic() - begin)
            config = config_of(algo, env, place / "run", steps, train__seed=turn)
            done = disturbed(config, time.monotonic() + left, chance)
            wrong = differences(reference, place / "run")
            good &= not wrong
            say(f"| {(time.monotonic() - begin) / 60:.1f} | {algo} on {env}, {steps:,} steps | "
                f"{done['kills of the trainer']} | {done['kills of a worker']} | {done['resumes']} | "
                f"{done['steps lost']:,} | {', '.join(wrong) or 'nothing'} |")
        say(f"\nIt ran {(time.monotonic() - begin) / 60:.1f} minutes; "
            f"{'every run ended as the undisturbed one' if good else 'NOT ALL RUNS ENDED AS THE UNDISTURBED ONE'}.\n")
        if args.flat:
            steady = flat(int(args.flat), Path(folder) / "flat", say)
            say(f"\n{'Nothing grows' if steady else 'SOMETHING GROWS'} from the middle of the run on.\n")
            good &= steady
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
