"""The MuJoCo environments against EnvPool's, which are the same physics in C++ on threads.

    python -m venv /tmp/envpool && /tmp/envpool/bin/pip install envpool
    python -m puffer_il.bench.mujoco --envpool-python /tmp/envpool/bin/python

Both step under random actions, drawn beforehand, on the same cores, in turns. EnvPool takes part with several numbers
of environments and in its asynchronous mode, and is compared by whichever has the best median.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from gymnasium.spaces import Box

from puffer_il.bench import peers
from puffer_il.bench.peers.run import Entry, Result, Sample, interleave, ratios
from puffer_il.native.native_env import NativeEnv

ENVS = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2d", "ant": "Ant", "swimmer": "Swimmer",
        "humanoid": "Humanoid", "reacher": "Reacher"}
FOLDERS = next(folder for folder in (Path(__file__).parents[1] / "envs", Path(__file__).parents[2] / "envs")
               if folder.is_dir())  # installed, or in a repository
OURS = (128,)  # environments to try
THEIRS = ((64, 64), (256, 256), (64, 32), (256, 128))  # the same, and how many of them a step waits for
SECONDS = 0.5  # of one measurement
WORKER = Path(peers.__file__).with_name("workers") / "envpool_worker.py"


class Ours:
    """Our environment; called, it steps for SECONDS."""

    def __init__(self, name: str, rules: str, num_envs: int, cores: int) -> None:
        self.env = NativeEnv(FOLDERS / name, num_envs, threads=cores, version=rules)
        self.env.reset()
        space = self.env.single_action_space
        assert isinstance(space, Box)
        self.actions = np.random.default_rng(0).uniform(space.low, space.high, (64, *self.env.actions.shape))
        self.actions = self.actions.astype(np.float32)
        self.turns = 1
        while (sample := self())["seconds"] < SECONDS / 4:
            self.turns *= 2
        self.turns = max(1, round(self.turns * SECONDS / sample["seconds"]))

    def __call__(self) -> Sample:
        begin = time.perf_counter()
        for turn in range(self.turns):
            self.env.step(self.actions[turn % 64])
        return {"steps": self.turns * self.env.num_envs, "seconds": time.perf_counter() - begin}


def theirs(python: str, name: str, rules: str, sizes: tuple[int, int], cores: int) -> Entry:
    settings = {"id": f"{ENVS[name]}-{rules}", "num_envs": sizes[0], "batch_size": sizes[1], "cores": cores,
                "unit_seconds": SECONDS}
    return Entry(f"{sizes[0]} by {sizes[1]}", (python, str(WORKER), json.dumps(settings)))


def compare(python: str, name: str, rules: str, cores: int, rounds: int) -> tuple[Result, Result]:
    """The best of ours and the best of EnvPool's."""
    entries = [Entry(str(count), Ours(name, rules, count, cores)) for count in OURS]
    entries += [theirs(python, name, rules, sizes, cores) for sizes in THEIRS]
    results = interleave(entries, rounds)
    own, other = (max(group, key=lambda result: median(result.rates or [0]))
                  for group in (results[:len(OURS)], results[len(OURS):]))
    return own, other


def row(name: str, own: Result, other: Result) -> str:
    found = ratios(own, other)
    if found is None:
        return f"{name:<15} {own.error or other.error}"
    return (f"{name:<15}{own.name:>8}{median(own.rates):>11,.0f}{other.name:>14}{median(other.rates):>11,.0f}"
            f"{found.median:>8.2f}  {found.min:.2f} to {found.max:.2f}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m puffer_il.bench.mujoco", description=__doc__.split("\n")[0])
    parser.add_argument("--envpool-python", required=True, help="an interpreter that has envpool")
    parser.add_argument("--envs", nargs="+", default=list(ENVS), choices=list(ENVS), metavar="NAME")
    parser.add_argument("--version", nargs="+", default=["v5"], choices=["v5", "v4"])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    print(f"{'':<15}{'ours':>8}{'steps/s':>11}{'EnvPool':>14}{'steps/s':>11}{'ratio':>8}")
    for name in given.envs:
        for rules in given.version:
            own, other = compare(given.envpool_python, name, rules, given.cores, given.rounds)
            print(row(f"{ENVS[name]}-{rules}", own, other), flush=True)
    print(f"ours: MuJoCo {version('mujoco')}; EnvPool {other.facts.get('versions', {}).get('envpool')}: MuJoCo "
          f"{other.facts.get('mujoco')}; {given.cores} cores; medians of {given.rounds} turns of {SECONDS:g} s each")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
