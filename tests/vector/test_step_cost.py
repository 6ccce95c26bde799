"""Workers are started where they pay: by what a step costs, measured."""

from __future__ import annotations

import os
import time

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.vector import plan, step_cost
from puffer_il.vector.make import find_creator
from puffer_il.vector.step_cost import best_workers, step_seconds
from puffer_il.vector.vec import make_vec
from puffer_il.vector.watch import Watch


class Waits(gymnasium.Env):
    """A step takes `seconds`; a negative number crashes the process."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if self.seconds < 0:
            os._exit(1)
        time.sleep(self.seconds) if self.seconds else None
        np.random.seed(1)  # the run's own generator is none of its business
        return np.zeros(1, np.float32), 0.0, bool(self.np_random.random() < 0.1), False, {}


def test_more_workers_are_taken_the_dearer_a_step_is():
    assert best_workers(1e-4, [1, 2, 4]) == 1 and best_workers(0.0, [1]) == 1 and best_workers(1.0, [1]) == 1
    assert best_workers(3e-4, [1, 2]) == 2 and best_workers(1e-2, [1, 2, 4]) == 4
    assert best_workers(4e-4, [1, 2, 4, 8, 16, 32]) in (4, 8)  # waking 32 costs more than it gains


def test_what_is_measured_is_the_step():
    creator = find_creator(f"{__name__}:Waits", {"seconds": 2e-3})
    np.random.seed(5)
    expected = np.random.RandomState(5).random()
    for guard in (False, True):
        assert 2e-3 < step_seconds(creator, creator.facts(), Watch(guard=guard)) < 2e-2
    assert np.random.random() == expected
    cheap = find_creator(f"{__name__}:Waits")
    assert step_seconds(cheap, cheap.facts(), Watch()) < 1e-3


def test_one_that_crashes_does_so_elsewhere_and_gets_workers():
    creator = find_creator(f"{__name__}:Waits", {"seconds": -1.0})
    assert step_seconds(creator, creator.facts(), Watch(guard=True)) == step_cost.UNKNOWN_S


@pytest.mark.parametrize(("seconds", "guard", "backend", "workers"), [
    (0.0, False, "serial", 0), (0.0, True, "multiprocessing", 1), (2e-3, False, "multiprocessing", 2)])
def test_the_plan_follows(monkeypatch, seconds, guard, backend, workers):
    monkeypatch.setattr(plan, "cores", lambda: 2)
    with make_vec(f"{__name__}:Waits", num_envs=8, kwargs={"seconds": seconds}, watch=Watch(guard=guard)) as vec:
        assert (vec.backend, vec.num_workers) == (backend, workers)


def test_a_choice_that_is_made_measures_nothing(monkeypatch):
    monkeypatch.setattr(step_cost, "_measured", lambda *_: pytest.fail("measured"))
    for more in ({"backend": "serial"}, {"num_workers": 2}, {"backend": "multiprocessing"}):
        make_vec(f"{__name__}:Waits", num_envs=8, **more).close()
    make_vec("cartpole", num_envs=8).close()
    make_vec(f"{__name__}:Waits", num_envs=1).close()
