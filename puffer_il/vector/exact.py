"""Whether the Python environments of a vector can go on exactly where a run was interrupted, and how.

"Exactly" is only claimed of an environment that has shown it: at the start its state is read in the middle of an
episode, put into a second one that was opened anew, and both go on with the same actions; every number that they give
must agree.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace

import numpy as np

from puffer_il.core.errors import one_line
from puffer_il.core.spec import Array
from puffer_il.vector.make import Creator, EnvFacts
from puffer_il.vector.serial import Serial, allocate
from puffer_il.vector.snapshot import Unreadable

STEPS, END = 32, 2  # of the test, after the state is read, and in the next episode
ROUNDS = (3, 6)  # so many steps before the state is read; what comes in turns must not be in the same one
BUDGET_S = 0.2  # for some steps, of which there are six times


def why_inexact(creator: Creator, facts: EnvFacts) -> str:
    """Why environments cannot go on exactly; "" if one has shown that it can."""
    facts = replace(facts, exact=True)
    space = deepcopy(facts.single_action_space)
    space.seed(0)
    taken = [np.stack([space.sample() for _ in range(facts.rows)]) for _ in range(STEPS)]
    with _global_generators_kept(), ExitStack() as stack:
        try:
            one, other = (Serial(creator, facts, 1, allocate(facts, facts.rows), seed) for seed in (1, 2))
            for serial in (one, other):
                stack.callback(serial.close)
            one.async_reset(1)
            for seed in ROUNDS:
                other.async_reset(seed)
                for serial, actions in ((one, taken[:seed]), (other, taken[-seed:])):
                    _played(serial, actions)
                stored = one.get_state()
                seen = _played(one, taken, begin_anew=True)
                other.set_state(stored)
                if seen != _played(other, taken[:len(seen) - END], begin_anew=True):
                    return "it goes on in another way when its state is put back"
            return ""
        except Unreadable as error:
            return str(error)
        except (Exception, SystemExit) as error:  # whatever an environment may raise: the run itself will tell
            return f"reading its state fails ({type(error).__name__}: {one_line(error)})"


def _played(serial: Serial, taken: list[Array], begin_anew: bool = False) -> list[bytes]:
    """The rows after each step, as many as there is time for, and after END more of the next episode if it shall
    `begin_anew` then."""
    seen, until = [], time.monotonic() + BUDGET_S

    def step(actions: Array) -> None:
        serial.send(actions)
        seen.append(b"".join(array.tobytes() for name, array in serial.buffers.items() if name != "actions"))

    for actions in taken:
        step(actions)
        if time.monotonic() > until:
            break
    if begin_anew:
        for env in serial.envs:
            env.reset()
        for actions in taken[:END]:
            step(actions)
    return seen


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
