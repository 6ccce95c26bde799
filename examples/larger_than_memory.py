"""Behaviour cloning from demonstrations that are larger than memory, and what it takes: speed and resident memory.

    python examples/larger_than_memory.py FOLDER --gb 20             write them, rows of 1 kB, and clone them once
    python examples/larger_than_memory.py FOLDER --gb 2 --npz        from memory, to compare with
    python examples/larger_than_memory.py FOLDER --draw         how fast rows are drawn, beside a memcpy of as many

The demonstrator is a linear rule. Resident memory is RssAnon of /proc/self/status, without the pages of mapped files,
which the system takes back when memory is short; its highest value is told, and that of all resident pages beside it.
"""

import argparse
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np

import puffer_il
from puffer_il.demos.dataset import Demos
from puffer_il.demos.rows import take
from puffer_il.demos.shard_writer import ShardWriter

WIDTH, ACTIONS, LENGTH = 256, 8, 1000  # numbers of an observation and of an action, steps of an episode
DRAWN = (((4,), "float32", 4_000_000, 65_536), ((17,), "float32", 2_000_000, 65_536),
         ((256,), "float32", 200_000, 16_384), ((64, 64, 3), "uint8", 20_000, 2048), ((64, 64), "uint16", 20_000, 2048),
         ((84, 84, 4), "uint8", 12_000, 1024))
EPISODES = 100  # of a part that is written at once
RULE = np.random.default_rng(0).standard_normal((WIDTH, ACTIONS)).astype(np.float32) / np.sqrt(np.float32(WIDTH))


class Wide(gym.Env):
    """Observations of noise; only its spaces matter here."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (WIDTH,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (ACTIONS,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.left = 10
        return np.zeros(WIDTH, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.left -= 1
        return np.zeros(WIDTH, np.float32), 0.0, False, self.left == 0, {}


def demonstrated(parts: int) -> Iterator[Demos]:
    """Whole episodes, a part of them after the other."""
    rng = np.random.default_rng(1)
    for _ in range(parts):
        frames = rng.standard_normal((EPISODES, LENGTH + 1, WIDTH), np.float32)
        obs, following = (x.reshape(-1, WIDTH) for x in (frames[:, :-1], frames[:, 1:]))
        ends = np.arange(1, len(obs) + 1) % LENGTH == 0
        yield puffer_il.load_demos({"obs": obs, "next_obs": following, "actions": np.tanh(obs @ RULE),
                                    "terminations": np.zeros(len(obs), bool), "truncations": ends,
                                    "episode_starts": np.arange(0, len(obs), LENGTH)})


class Peak(threading.Thread):
    """The highest RssAnon and VmRSS of this process, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = {"RssAnon": 0, "VmRSS": 0}

    def run(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                name = line.partition(":")[0]
                if name in self.most:
                    self.most[name] = max(self.most[name], int(line.split()[1]) // 1000)
            time.sleep(0.02)


def draw(shape: tuple[int, ...], dtype: str, rows: int, count: int) -> None:
    """Draw `count` of `rows` in a random order, again and again, each time beside a copy of as many that lie together;
    medians of the thread's own time, which other processes do not lengthen."""
    source, rng = np.ones((rows, *shape), dtype), np.random.default_rng(0)
    targets = np.empty((2, count, *shape), dtype)
    times = np.empty((2, 201))
    for k in range(times.shape[1]):
        index, first = rng.integers(0, rows, count), int(rng.integers(rows - count))
        start = time.thread_time()
        take(source, index, targets[0])
        middle = time.thread_time()
        np.copyto(targets[1], source[first:first + count])
        times[:, k] = middle - start, time.thread_time() - middle
    drawn, copied = np.median(times, axis=1)
    print(f"{dtype} {shape}: {count / drawn / 1e6:.2f} million rows/s, {targets[0].nbytes / drawn / 1e9:.1f} GB/s, "
          f"{np.median(times[1] / times[0]):.2f} of memcpy ({targets[0].nbytes / copied / 1e9:.1f} GB/s)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, default=1)
    parser.add_argument("--npz", action="store_true")
    parser.add_argument("--window", type=int, default=262_144)
    parser.add_argument("--keep", action="store_true", help="leave the folder there")
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    if args.draw:
        for shape, dtype, rows, count in DRAWN:
            draw(shape, dtype, rows, count)
        return
    parts = max(1, round(args.gb * 1e9 / (EPISODES * LENGTH * (WIDTH + ACTIONS) * 4)))
    folder = args.folder / "wide.shards"
    if not folder.exists():
        start = time.perf_counter()
        with ShardWriter(folder, env="Wide") as writer:
            for part in demonstrated(parts):
                writer.add(part)
        print(f"{writer.rows:,} rows written in {time.perf_counter() - start:.0f} s", flush=True)
    source: Path | Demos = folder
    if args.npz:
        mapped = puffer_il.load_demos(folder)
        source = puffer_il.load_demos({name: np.array(getattr(mapped, name)) for name in (
            "obs", "next_obs", "actions", "terminations", "truncations", "episode_starts")})
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    run = puffer_il.train("bc", Wide, demos=source, seed=1, device="cpu", bc={"window": args.window},
                          policy={"hidden": (64, 64)},
                          train={"total_steps": 1, "threads": 1}, eval={"episodes": 1})
    print(f"{'memory' if args.npz else 'shards'}: {time.perf_counter() - start:.0f} s with all checks, "
          f"{run.summary.get('sps', 0):,.0f} rows/s; " + ", ".join(f"{k} {v:,} MB" for k, v in peak.most.items()))
    if not args.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
