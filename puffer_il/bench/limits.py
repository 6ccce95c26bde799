"""What the machine can do at most, measured beside what is measured against it (csrc/yardstick.h)."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import puffer_il.bench._limits as yardstick
from puffer_il.bench.measure import Effort, Figure, Say, Work, figure, interleaved, quotient, rate
from puffer_il.core.spec import Array
from puffer_il.kernels.threads import cores
from puffer_il.native.catalogue import env_folders
from puffer_il.native.native_env import NativeEnv
from puffer_il.training.machine import processor

# Three float arrays of so many bytes together: what stays in a core's own cache, in the shared one, in neither.
LEVELS = {"cache": 384 << 10, "shared": 12 << 20, "memory": 384 << 20}
KINDS = ("read", "fill", "copy", "triad")
FMA_ROUNDS = 500_000  # some milliseconds
GEMM_SIZE = 1024


def machine(threads: int, command: str) -> dict[str, Any]:
    return {"cpu": f"{processor()} × {os.cpu_count()}", "cores": cores(),
            "instruction_set": yardstick.instruction_set(), "threads": threads,
            "torch": torch.__version__, "python": platform.python_version(), "puffer_il": version("puffer-il"),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "date": datetime.now().strftime("%Y-%m-%d %H:%M"), "command": command}


def measure_limits(threads: int, effort: Effort, say: Say) -> dict[str, Any]:
    """Operations, bytes and steps of C CartPole per second, with one thread and with all."""
    limits, raw = Limits(), RawSteps(env_folders()["cartpole"], 4096, 64)

    def measured(what: str, need: Callable[..., Need], *settings: Any) -> dict[str, Figure]:
        say(f"limits: {what}")
        needs = {str(n): need(*settings, n) for n in sorted({1, threads})}
        return {n: rate(one.per_call, interleaved({n: one.probe}, effort)[n]) for n, one in needs.items()}

    return {"fma": measured("multiply-adds", limits.flops, 0),
            "gemm": measured("torch's matrix product", lambda n: Need("", _gemm_work(n), 2 * GEMM_SIZE**3, 0)),
            "bandwidth": {level: {"bytes": size, **{
                kind: measured(f"bandwidth, {level}, {kind}", limits.bytes, kind, 0, size) for kind in KINDS}}
                for level, size in LEVELS.items()},
            "steps": measured("stepping", limits.steps, raw, 0)}


def _gemm_work(threads: int) -> Work:
    a, b, c = (torch.full((GEMM_SIZE, GEMM_SIZE), 0.5) for _ in range(3))

    def work() -> None:
        torch.set_num_threads(threads)
        torch.matmul(a, b, out=c)

    return work


class LevelArrays:
    """Three arrays that fill one level of the memory's hierarchy."""

    def __init__(self, level: str) -> None:
        self.floats = LEVELS[level] // 12 // 64 * 64
        self.passes = max(1, (4 << 20) // LEVELS[level])  # a call of the smallest ones is too short to time
        self.arrays = tuple(np.ones(self.floats, np.float32) for _ in range(3))

    def bytes(self, kind: str) -> int:
        """Read and written by one call."""
        return {"read": 4, "fill": 4, "copy": 8, "triad": 12}[kind] * self.floats * self.passes

    def work(self, kind: str, threads: int) -> Work:
        return partial(yardstick.stream, kind, *self.arrays, self.passes, threads)


def level_of(size: int) -> str:
    """The level in which a working set of so many bytes lives."""
    return next((level for level in ("cache", "shared") if size <= 2 * LEVELS[level]), "memory")


class RawSteps:
    """A C environment stepped by a C loop, with random actions and nothing else: the limit of stepping."""

    def __init__(self, folder: Path, num_envs: int, steps: int) -> None:
        self.env, self.steps = NativeEnv(folder, num_envs), steps
        self.env.reset(0)
        rng, shape = np.random.default_rng(0), (steps, *self.env.actions.shape)
        space = self.env.single_action_space
        drawn = rng.integers(0, space.n, shape) if hasattr(space, "n") else rng.uniform(-1, 1, shape)
        self.actions: Array = drawn.astype(self.env.actions.dtype)
        self.bytes = self.actions.reshape(steps, -1).view(np.uint8)

    def work(self, threads: int) -> Work:
        return lambda: yardstick.steps(*self.env.addresses(), self.bytes, self.steps, self.env.num_envs, threads)


@dataclass(frozen=True)
class Need:
    """A share of a stage's work that a limit bounds: `amount` of what `probe` does `per_call` of."""

    name: str  # "FMA", "copy, shared cache", …
    probe: Work
    per_call: float
    amount: float


@dataclass(frozen=True)
class Stage:
    """One piece of the loop that can be repeated by itself. `rows` are worked on by one call."""

    name: str
    work: Work
    rows: int
    threads: int
    needs: Sequence[Need]
    settings: dict[str, Any] = field(default_factory=dict)


class Limits:
    """Makes the needs of stages; the memory of probes is shared."""

    def __init__(self) -> None:
        self._arrays: dict[str, LevelArrays] = {}

    def flops(self, amount: float, threads: int) -> Need:
        work = partial(yardstick.fma, FMA_ROUNDS, threads)
        return Need("FMA", work, work(), amount)

    def bytes(self, kind: str, amount: float, working_set: int, threads: int = 1) -> Need:
        """`amount` read and written, as the stream `kind` does it at the level where the working set lives."""
        level = level_of(working_set)
        arrays = self._arrays.setdefault(level, LevelArrays(level))
        return Need(f"{kind} ({level})", arrays.work(kind, threads), arrays.bytes(kind), amount)

    def steps(self, raw: RawSteps, amount: float, threads: int) -> Need:
        return Need("C stepping", raw.work(threads), raw.steps * raw.env.num_envs, amount)


def measure_stage(stage: Stage, effort: Effort) -> dict[str, Any]:
    """Time and rate of a stage, and the share of its limit: the least time its needs take over its own, each measured
    right after the other."""
    works: dict[str, Callable[[], Any]] = {"stage": stage.work} | {n.name: n.probe for n in stage.needs}
    seconds = interleaved(works, effort)
    least = [sum(need.amount / need.per_call * seconds[need.name][k] for need in stage.needs)
             for k in range(effort.repeats)]
    return {"name": stage.name, **stage.settings, "rows": stage.rows, "threads": stage.threads,
            "seconds": figure(seconds["stage"]), "rows_per_s": rate(stage.rows, seconds["stage"]),
            "limit": " + ".join(need.name for need in stage.needs), "limit_seconds": figure(least),
            "share": quotient(least, seconds["stage"])}
