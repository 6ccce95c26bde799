"""How a vector is split: its backend, its worker processes, and the groups of them that step in turns."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import gymnasium

from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.kernels.threads import cores
from puffer_il.vector.make import Creator, EnvFacts
from puffer_il.vector.watch import Watch
from puffer_il.vector.workers import START_METHOD

BACKENDS = ("auto", "native", "vector", "serial", "multiprocessing")
ENVS_PER_WORKER = 8  # fewer of the cheapest environments step faster in one process than they travel
VECTOR_FROM = 16  # copies from which on a Gymnasium id's own vector steps faster: CartPole's takes as long for 8
GROUPED_WORKERS = 4  # from so many on, one half of them steps while the other's actions are inferred
GROUP_ROWS = 24  # of a group, or one that the cores' number makes would change what is learned: wide layers sum fewer
# rows otherwise (FEW_ROWS of csrc/kernels/passes.h)


class Plan(NamedTuple):
    """`backend` is native, serial or multiprocessing; `num_workers` is 0 without processes; `instances` are opened in
    each of them, or in this one."""

    backend: str
    num_workers: int
    num_groups: int
    instances: int


def make_plan(creator: Creator, facts: EnvFacts, watch: Watch, num_envs: int, backend: str, num_workers: int,
              num_groups: int, groups_here: bool = False) -> Plan:
    """What `make_vec` was asked for, or chooses; InputError for what cannot be had."""
    if num_envs < 1 or num_envs % facts.rows:
        why = (f"each agent of {creator.name} is a row" if facts.each == 1 else
               f"{creator.name} is a vector of {facts.each}")
        raise InputError(f"env.num_envs = {num_envs}: must be a multiple of {facts.rows}, because {why}; use "
                         f"{_multiples(num_envs, facts.rows)}")
    count = num_envs // facts.rows
    backend, workers = _backend(creator, facts, watch, count, backend, num_workers)
    halves = workers >= GROUPED_WORKERS and workers % 2 == 0 and num_envs >= 2 * GROUP_ROWS
    groups = num_groups or (2 if halves else 1)
    if groups > 1 and backend != "multiprocessing" and groups_here:
        if count % groups:
            raise InputError(f"env.num_groups = {groups} does not divide {count} environments; use "
                             f"{_divisors(count, groups)}")
        return Plan(backend, 0, groups, groups if backend == "native" else count)
    if groups > 1 and backend != "multiprocessing":
        raise InputError(f"env.num_groups = {groups}: groups are groups of workers but the backend is {backend}; set "
                         "env.num_groups = 0, or env.backend = 'multiprocessing'")
    if groups > 1 and workers % groups:
        raise InputError(f"env.num_groups = {groups} does not divide {workers} workers; use "
                         f"{_divisors(workers, groups)}")
    if backend == "native" or (backend == "multiprocessing" and facts.batched):
        return Plan(backend, workers, groups, 1)
    return Plan(backend, workers, groups, count // (workers or 1))


def with_own_vector(creator: Creator, facts: EnvFacts, watch: Watch, num_envs: int, backend: str, num_workers: int,
                    num_groups: int) -> tuple[Creator, EnvFacts]:
    """The same, or the vector that a Gymnasium id has registered beside the environment, where `auto` prefers that to
    copies: it must declare the same spaces and time limit."""
    if backend != "auto" or num_workers or num_groups or num_envs < VECTOR_FROM or watch.on_timeout == "restart" or (
            creator.kind != "gymnasium" or creator.vector or creator.starts is not None):
        return creator, facts
    spec = gymnasium.spec(creator.target.rpartition(":")[2])
    if spec.vector_entry_point is None or spec.additional_wrappers:
        return creator, facts
    own = replace(creator, vector=True)
    try:
        found = own.facts()
    except (InputError, EnvFailure):  # of parameters that it does not know
        return creator, facts
    if any(getattr(found, name) != getattr(facts, name) for name in ("single_observation_space", "single_action_space",
                                                                     "masked", "time_limit", "rows")):
        return creator, facts
    notice = (f"{creator.name} steps as the vector environment that comes with it, one batch, whose starts are drawn "
              "from one generator; env.backend = 'serial' steps copies")
    return own, replace(found, notices=(*found.notices, notice))


def _backend(creator: Creator, facts: EnvFacts, watch: Watch, count: int, backend: str, num_workers: int
             ) -> tuple[str, int]:
    """The backend and its number of workers, 0 without processes, for `count` environments."""
    if backend not in BACKENDS:
        raise InputError(f"env.backend = {backend!r}: choose one of {', '.join(BACKENDS)}")
    whole_batch = facts.native and (facts.batched or count == 1)
    if backend == "auto":
        elsewhere = watch.on_timeout == "restart" or (watch.guard and not facts.native and _travels(creator))
        several = _most_workers(count, count // ENVS_PER_WORKER) > 1 and not whole_batch
        backend = "multiprocessing" if num_workers or several or elsewhere else "native" if whole_batch else "serial"
        num_workers = num_workers or _most_workers(count, count // ENVS_PER_WORKER)
    elif backend in ("native", "vector") and not whole_batch:
        raise InputError(f"env.backend = {backend!r}: {creator.name} does not step {count} environments by itself; use "
                         "'auto', 'serial' or 'multiprocessing'")
    elif backend != "multiprocessing" and num_workers:
        raise InputError(f"env.num_workers = {num_workers}: the {backend} backend has no workers; set it to 0, or "
                         "env.backend = 'multiprocessing'")
    if backend != "multiprocessing" and watch.on_timeout == "restart":
        raise InputError(f"env.on_timeout = 'restart': the {backend} backend runs in this process, which cannot "
                         "begin again; set env.backend = 'multiprocessing'")
    if backend != "multiprocessing":
        return "native" if backend == "vector" else backend, 0
    workers = num_workers or _most_workers(count, count)
    if count % workers:
        raise InputError(f"env.num_workers = {workers} does not divide {count} environments; use "
                         f"{_divisors(count, workers)}")
    return backend, workers


def _travels(creator: Creator) -> bool:
    """Whether another process can open it too, however its function was made."""
    return START_METHOD == "fork" or isinstance(creator.target, str)


def _most_workers(count: int, limit: int) -> int:
    """The largest number of workers that divides `count`, no more than there are cores or than `limit`."""
    return max(d for d in range(1, max(1, min(cores(), limit)) + 1) if count % d == 0)


def _divisors(number: int, near: int) -> str:
    """The divisors of `number` next to `near`."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    below, above = [d for d in divisors if d < near], [d for d in divisors if d > near]
    return " or ".join(map(str, below[-1:] + above[:1]))


def _multiples(number: int, of: int) -> str:
    below = number // of * of
    return f"{below} or {below + of}" if below > 0 else str(of)
