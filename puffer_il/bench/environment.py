"""`puffer-il env bench`: steps per second of one environment in every way it can be stepped, and which to take."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from puffer_il.bench.measure import Effort, Figure, Work, interleaved, rate
from puffer_il.bench.session import progress
from puffer_il.core.text import Table, quantity
from puffer_il.kernels.threads import cores
from puffer_il.native.native_env import NativeEnv
from puffer_il.rollout.actors import RandomActor
from puffer_il.vector.make import Creator, EnvFacts, find_creator
from puffer_il.vector.vec import make_vec

BATCHED, ONE_BY_ONE = (1_024, 4_096, 16_384), (8, 64)  # environments, where one call steps many, and where not
REPEATS = 7
ALONE = "C alone, 1 thread"
NATIVE = "--env.backend native"
ACTIONS = 8  # batches of random actions, in turn
CLOSE = 0.9  # what is less than a tenth faster is not worth its trouble
NOISY = 0.3  # a spread from which figures say little


@dataclass(frozen=True)
class Way:
    """How environments are stepped, and the flags of `puffer-il train` that have it so."""

    name: str
    flags: str
    backend: str
    workers: int = 0
    threads: int = 0


def bench(name: str, kwargs: dict[str, Any], num_envs: int | None, seconds: float, *, as_json: bool) -> int:
    """Measure for so many seconds and print what is fastest; at the usual numbers of environments if none is given."""
    creator = find_creator(name, kwargs)
    facts = creator.facts()
    sizes = (num_envs,) if num_envs else BATCHED if facts.batched else ONE_BY_ONE
    results = {}
    with progress() as say:
        for size in sizes:
            say(f"measuring {size:,} environments …")
            chosen = ways(facts, creator.kind == "folder", size)
            effort = Effort(REPEATS, seconds / len(sizes) / REPEATS / (len(chosen) + 1))
            results[size] = measure(creator, facts, size, chosen, effort)
    advice = {size: best(figures) for size, figures in results.items()}
    flags = {way.name: way.flags for size in sizes for way in ways(facts, creator.kind == "folder", size)}
    if as_json:
        taken = {size: {"way": way, "flags": flags[way]} for size, way in advice.items()}
        print(json.dumps({"env": name, "cores": cores(), "agents": facts.num_agents, "steps_per_s": results,
                          "best": taken}, indent=2))
        return 0
    rows = [(way, *(_cell(results[size].get(way)) for size in sizes))
            for way in dict.fromkeys(way for figures in results.values() for way in figures)]
    Table(f"{name}: steps per second, {'every agent counts, ' if facts.num_agents > 1 else ''}on {cores()} cores",
          ("", *(f"{size:,} envs" for size in sizes)), rows, remarks(facts, advice, flags) + noise(results)).show()
    return 0


def ways(facts: EnvFacts, threaded: bool, size: int) -> list[Way]:
    """All that make sense for `size` environments, simple ones first."""
    several = sorted({n for n in (2, 4, 8, 16, 32, 64) if n < cores()} | {cores()} - {1})
    found = [Way("serial", "--env.backend serial", "serial")]
    if facts.batched:
        found = [Way("native, 1 thread" if threaded else "native", NATIVE, "native", threads=int(threaded)),
                 *(Way(f"native, {n} threads", NATIVE, "native", threads=n) for n in several * threaded)]
    return found + [Way(f"{n} worker{'s' * (n > 1)}", f"--env.backend multiprocessing --env.num-workers {n}",
                        "multiprocessing", workers=n) for n in (1, *several) if size % n == 0]


def measure(creator: Creator, facts: EnvFacts, size: int, chosen: Sequence[Way], effort: Effort) -> dict[str, Figure]:
    """Rate of every way, in turns; of an environment in C also without any vector around it."""
    rows = size * facts.num_agents
    with ExitStack() as stack:
        works: dict[str, Work] = {}
        for way in reversed(chosen):  # processes are forked before there are threads
            kwargs = creator.kwargs | ({"threads": way.threads} if way.threads else {})
            vec = stack.enter_context(make_vec(creator.name, num_envs=rows, backend=way.backend, kwargs=kwargs,
                                               num_workers=way.workers))
            act, obs = RandomActor(vec.spec, 0), vec.reset(0)
            actions = [act(obs, np.ones(rows, bool)) for _ in range(ACTIONS)]
            works[way.name] = _work(vec.step, actions)
        works = dict(reversed(works.items()))
        if creator.kind == "folder":
            env = NativeEnv(creator.target, size, **creator.kwargs)
            env.reset(0)
            env.actions[:] = actions[0].reshape(env.actions.shape)
            works = {ALONE: lambda: env.step(env.actions)} | works
        seconds_each = interleaved(works, effort)
    return {name: rate(rows, times) for name, times in seconds_each.items()}


def _work(step: Any, actions: list[Any]) -> Work:
    turns = cycle(actions)
    return lambda: step(next(turns))


def best(figures: dict[str, Figure]) -> str:
    """The first way, unless a later one is clearly faster: in the worst of its repeats too."""
    first, *others = (name for name in figures if name != ALONE)
    for name in others:
        if CLOSE * figures[name]["min"] > figures[first]["median"]:
            first = name
    return first


def remarks(facts: EnvFacts, advice: dict[int, str], flags: dict[str, str]) -> list[str]:
    """Which way to take at each number of environments, as flags, and what else to know."""
    found = []
    for name in dict.fromkeys(advice.values()):
        at = ", ".join(f"{size:,}" for size, way in advice.items() if way == name)
        found.append(f"at {at} environments use {name}: {flags[name]}")
    if facts.batched:
        found.append(f"a run uses {NATIVE} by default, with as many threads as pay off (--train.threads N limits "
                     "them); rollouts in workers are not collected in C, so use them only where they are much faster")
    else:
        found.append("in training the policy acts between steps, on the same cores: 'puffer-il train … --autotune' "
                     "measures both together")
    return found


def noise(results: dict[int, dict[str, Figure]]) -> list[str]:
    """A warning where the repeats lie far apart."""
    worst = max(_spread(figure) for figures in results.values() for figure in figures.values())
    return [f"repeats differ by up to {worst:.0%}: something else is running; measure again when it has ended, or for "
            "longer with --seconds"] if worst > NOISY else []


def _cell(figure: Figure | None) -> str:
    """The median, and how far the repeats lie from it at most."""
    return "–" if figure is None else f"{quantity(figure['median'])} ±{_spread(figure):.0%}"


def _spread(figure: Figure) -> float:
    return max(figure["max"] - figure["median"], figure["median"] - figure["min"]) / figure["median"]
