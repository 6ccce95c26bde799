"""An environment as Python sees it: its vectors, and what they give under random actions."""

import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.spec import Array, Batch
from puffer_il.envkit.check.results import OF_VECTORS, at_step
from puffer_il.vector.make import EnvFacts, find_creator
from puffer_il.vector.vec import Vec, make_vec

COPIES, SEED = 8, 5


class CheckedEnv:
    def __init__(self, name: str, kwargs: dict[str, Any], folder: Path | None, seconds: float) -> None:
        self.name, self.kwargs, self.folder, self.seconds = str(folder or name), kwargs, folder, seconds
        self.creator = find_creator(self.name, kwargs)

    @cached_property
    def facts(self) -> EnvFacts:
        return self.creator.facts()

    def open(self) -> str:
        """What it is, in a few words."""
        spec = self.facts.spec
        acts = "×".join(map(str, spec.action.nvec)) + " choices" if spec.action.discrete else (
            f"{spec.action.dim} float32 actions")
        return (f"{'×'.join(map(str, spec.obs_shape))} {spec.obs_dtype} observations, {acts}, "
                f"{spec.num_agents} agent{'s' * (spec.num_agents > 1)}")

    def has(self, check: str) -> bool:
        """Does a check make sense here? Of a C environment the program in C has made the others."""
        return check in OF_VECTORS or self.folder is None

    def vec(self, backend: str, workers: int = 0, copies: int = COPIES, **more: Any) -> Vec:
        return make_vec(self.name, num_envs=copies * self.facts.rows, backend=backend, num_workers=workers,
                        kwargs=self.kwargs | more)

    @property
    def in_process(self) -> str:
        return "native" if self.facts.native and self.facts.batched else "serial"


def random_actions(vec: Vec, rng: np.random.Generator) -> Array:
    """(num_envs, dim) within the bounds, near zero where there are none, and none that may not be taken now."""
    action, count, allowed = vec.spec.action, vec.num_envs, vec.spec.allowed(vec.obs)
    if allowed is not None:
        return np.stack([(rng.random(part.shape) * part).argmax(1) for part in allowed], 1).astype(np.int32)
    if action.low is None or action.high is None:
        return rng.integers(0, action.nvec, (count, action.dim)).astype(np.int32)
    low = np.where(np.isfinite(action.low), action.low, np.minimum(action.high, 3) - 6)
    high = np.where(np.isfinite(action.high), action.high, low + 6)
    return rng.uniform(low, high, (count, action.dim)).astype(np.float32)


def random_steps(vec: Vec, seed: int, limit: int, seconds: float) -> Iterator[Batch]:
    """Steps under random actions."""
    rng, end = np.random.default_rng(0), time.monotonic() + seconds
    vec.reset(seed)
    for step in range(limit):
        if step > 1 and time.monotonic() > end:
            return
        yield vec.step(random_actions(vec, rng))


def compared(batch: Batch) -> tuple[bytes, ...]:
    """All of a step that must agree."""
    ended = batch.terminations | batch.truncations
    return tuple(np.ascontiguousarray(array).tobytes() for array in (
        batch.obs, batch.rewards, batch.valid, batch.terminations, batch.truncations, batch.final_obs[ended]))


def recorded(env: CheckedEnv, backend: str, **how: int) -> list[tuple[bytes, ...]]:
    """All that must agree of up to 100 steps of a vector; `how` as in `CheckedEnv.vec`."""
    with env.vec(backend, **how) as vec:
        return [compared(batch) for batch in random_steps(vec, SEED, 100, env.seconds / 8)]


def difference_of(a: list[tuple[bytes, ...]], b: list[tuple[bytes, ...]]) -> str | None:
    """What differs first, and when; None if nothing does, as far as both go."""
    names = ("observations", "rewards", "valid rows", "terminations", "truncations", "final observations")
    found = ((name, step) for step, (x, y) in enumerate(zip(a, b, strict=False), 1)
             for name, left, right in zip(names, x, y, strict=True) if left != right)
    return next((f"{name} differ, {at_step(step)}" for name, step in found), None)
