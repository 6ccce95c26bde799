"""Stepping by itself: C environments by a C loop, and Gymnasium's in one process against worker processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from puffer_il.bench.limits import RawSteps
from puffer_il.bench.measure import Effort, Say, interleaved, quotient, rate
from puffer_il.kernels.threads import cores
from puffer_il.native.catalogue import env_folders
from puffer_il.rollout.actors import RandomActor
from puffer_il.vector.vec import make_vec


def environments(results: list[dict[str, Any]], num_envs: int, num_steps: int, effort: Effort, say: Say) -> None:
    """Every C environment: the C loop alone with one thread and with all, and through `vec` from Python."""
    for name, folder in sorted(env_folders().items()):
        say(f"env: {name}")
        raw, counts = RawSteps(folder, num_envs, num_steps), sorted({1, cores()})
        rows = num_envs * num_steps
        with make_vec(name, num_envs=raw.env.num_agents) as vec:
            vec.reset(0)
            actions = raw.actions.reshape(num_steps, raw.env.num_agents, -1)
            works = {str(n): raw.work(n) for n in counts} | {"vec": _steps(vec.step, actions)}
            seconds = interleaved(works, effort)
        results.append({"name": name, "num_envs": num_envs,
                        "steps_per_s": {how: rate(rows, times) for how, times in seconds.items()}})


def backends(results: list[dict[str, Any]], name: str, num_envs: int, workers: int, effort: Effort, say: Say) -> None:
    """Steps/s of an environment stepped serially and by workers, in interleaved pairs, with the ratio pair by pair."""
    say(f"env: {name}, serial against {workers} workers")
    with ExitStack() as stack:
        works = {}
        for backend, count in (("serial", 0), ("multiprocessing", workers)):
            vec = stack.enter_context(make_vec(name, num_envs=num_envs, backend=backend, num_workers=count))
            act, obs = RandomActor(vec.spec, 0), vec.reset(0)
            works[backend] = _steps(vec.step, act(obs, np.ones(len(obs), bool))[None])
        seconds = interleaved(works, effort)
    results.append({"name": name, "num_envs": num_envs, "workers": workers,
                    **{f"{k}_steps_per_s": rate(num_envs, v) for k, v in seconds.items()},
                    "ratio": quotient(seconds["serial"], seconds["multiprocessing"])})


def _steps(step: Callable[[Any], Any], actions: Any) -> Callable[[], Any]:
    return lambda: [step(a) for a in actions]
