"""What a step of a Python environment costs, measured when a vector of them is planned, and whether workers pay.

    T(1) = S        T(w) = S / w + SWITCH_S + w TELL_S        seconds of a vector step; S = copies × cost of one

A worker is woken and waited for in every step. What `plan` chooses is the number w of workers with the least T, unless
one process does as well within the error of a measurement (WORTH).
"""

import multiprocessing
import time
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from statistics import fmean

import numpy as np

from puffer_il.vector.exact import global_generators_kept
from puffer_il.vector.make import Creator, EnvFacts
from puffer_il.vector.processes import apart
from puffer_il.vector.serial import Serial, allocate
from puffer_il.vector.watch import Watch
from puffer_il.vector.workers import START_METHOD

SWITCH_S, TELL_S = 60e-6, 10e-6  # measured on two busy cores: 46 µs with one worker and 4 of CartPole, 78 with 8
WORTH = 1.3
BUDGET_S, MOST_STEPS = 0.05, 200
QUESTION_S = 20.0  # for an environment in a process of its own
UNKNOWN_S = 1.0


def best_workers(seconds: float, numbers: Iterable[int]) -> int:
    """The one of `numbers` of workers with which a vector step that takes `seconds` in one process is fastest; 1 unless
    that is clearly faster."""
    times = {w: seconds / w + SWITCH_S + w * TELL_S for w in numbers if w > 1}
    best = min(times, key=times.__getitem__, default=1)
    return best if best > 1 and times[best] * WORTH < seconds else 1


def step_seconds(creator: Creator, facts: EnvFacts, watch: Watch) -> float:
    """Mean seconds of a step of one instance under random actions, resets included; UNKNOWN_S where the question
    crashes or hangs (in a process of its own, where `watch` guards the run's): the run will tell."""
    if watch.guard and START_METHOD == "fork":
        said = apart(partial(_told, creator, facts), multiprocessing.get_context(START_METHOD), QUESTION_S)
    else:
        said = _told(creator, facts)
    with suppress(ValueError):
        return float(said)
    return UNKNOWN_S


def _told(creator: Creator, facts: EnvFacts) -> str:
    try:
        return repr(_measured(creator, facts))
    except (Exception, SystemExit):  # whatever an environment may raise
        return ""


def _measured(creator: Creator, facts: EnvFacts) -> float:
    space = deepcopy(facts.single_action_space)
    space.seed(0)
    taken = [np.stack([space.sample() for _ in range(facts.rows)]) for _ in range(8)]
    with global_generators_kept():
        serial = Serial(creator, facts, 1, allocate(facts, facts.rows))
        try:
            serial.async_reset(0)
            times, until = list[float](), time.monotonic() + BUDGET_S
            while len(times) < MOST_STEPS and (not times or time.monotonic() < until):
                begin = time.perf_counter()
                serial.send(taken[len(times) % len(taken)])
                times.append(time.perf_counter() - begin)
        finally:
            serial.close()
    least = sorted(times)[:-(len(times) // 20) or None]  # without those in which something else had the processor
    return fmean(least)
