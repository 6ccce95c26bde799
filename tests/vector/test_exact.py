"""Python environments go on exactly where they were, or it is said that they do not."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TransformObservation

from puffer_il.vector.snapshot import Reader, Unreadable
from puffer_il.vector.state import State
from puffer_il.vector.vec import Vec, make_vec
from tests.support.runs import final_state, run, same_state, tiny


class Walk(gymnasium.Env):
    """A random walk, for others to derive from."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.at = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.at[:] = self.np_random.normal(size=2)
        return self.at.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.at += self.np_random.normal(size=2) + action
        return self.at.copy(), float(self.at[0]), bool(self.np_random.random() < 0.05), False, {}


@dataclass
class Ball:
    speed: float
    trail: deque = field(default_factory=lambda: deque(maxlen=3))


class Awkward(Walk):
    """Views, shared lists, closures, balls that come and go, a generator of its own, and frames of several steps."""

    def __init__(self) -> None:
        super().__init__()
        self.x = self.at[:1]  # a view
        self.bump = functools.partial(np.add, np.ones(2))
        self._begin(0)

    def _begin(self, seed: int) -> None:
        self.balls = [Ball(1.0)]
        self.first = self.balls[0]  # the same object
        self.own, self.count = np.random.RandomState(seed), self._counter()

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        if seed is not None:
            self._begin(seed)
        return super().reset(seed=seed)

    def _counter(self) -> Callable[[], int]:
        total = 0

        def count() -> int:
            nonlocal total
            total += 1
            return total

        return count

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.x += 0.1 * self.own.normal()
        if self.own.random() < 0.3:
            self.balls.append(Ball(self.own.normal()))
        self.first.speed += 1
        self.balls[-1].trail.append(self.at.copy())
        self.at += 0.01 * self.count() + 0.001 * self.bump(self.at) + 0.1 * len(self.balls[-1].trail)
        self.at[1] += sum(ball.speed for ball in self.balls)
        return super().step(action)


class Locked(Walk):
    """Holds what has no state to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Elsewhere(Walk):
    """Keeps a part of its state where nobody sees it: in its class."""

    steps = 0.0

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        Elsewhere.steps += 1
        self.at += Elsewhere.steps
        return super().step(action)


def awkward() -> gymnasium.Env:
    stacked = FrameStackObservation(Awkward(), 2)
    return TransformObservation(stacked, lambda obs: 2 * obs, stacked.observation_space)


def opened(env: Any, **options: Any) -> Vec:
    return make_vec(env, num_envs=2, seed=1, resumable=True, **options)


def played(vec: Vec, steps: int, seed: int) -> list[bytes]:
    generator = np.random.default_rng(seed)
    action, found = vec.spec.action, []
    for _ in range(steps):
        low, high = (0, action.nvec[0]) if action.discrete else (-1.0, 1.0)
        draw = generator.integers if action.discrete else generator.uniform
        batch = vec.step(draw(low, high, (vec.num_envs, action.dim)).astype(action.dtype))
        found += [getattr(batch, part.name).tobytes() for part in fields(batch)[1:]]
    return found


ENVIRONMENTS = ["gymnasium:CartPole-v1", "gymnasium:FrozenLake-v1", "gymnasium:Pendulum-v1", "gymnasium:Blackjack-v1",
                awkward]


@pytest.mark.parametrize("env", [*ENVIRONMENTS, "gymnasium:Humanoid-v5", "gymnasium:Pusher-v5"])
def test_a_vector_goes_on_from_its_state_bit_by_bit(env):
    if "v5" in str(env):
        pytest.importorskip("mujoco")
    with opened(env) as vec, opened(env) as other:
        assert vec.exact_state and not any("resumed" in notice for notice in vec.notices)
        vec.reset()
        played(vec, 30, 1)
        state = vec.get_state()
        whole = played(vec, 80, 2)
        other.reset(5)
        played(other, 3, 3)
        assert other.set_state(state) and played(other, 80, 2) == whole


@pytest.mark.parametrize("backend", ["serial", "multiprocessing"])
@pytest.mark.parametrize("env", ["gymnasium:CartPole-v1", f"{__name__}:awkward"])
def test_an_interrupted_run_on_a_python_environment_ends_as_the_undisturbed_one(tmp_path, env, backend):
    keys = {"env__name": env, "env__backend": backend, "env__num_workers": 2 * (backend == "multiprocessing")}
    run(tiny("ppo", tmp_path / "whole", **keys))
    run(tiny("ppo", tmp_path / "cut", **keys), interrupt_after=2)
    run(tiny("ppo", tmp_path / "cut", **keys), resume=True)
    one, other = (final_state(tmp_path / name) for name in ("whole", "cut"))
    assert all(same_state(one[key], other[key]) for key in ("learner", "collector", "last_eval"))


@pytest.mark.parametrize("env, why", [(Locked, "lock is a _thread.lock"), (Elsewhere, "it goes on in another way")])
def test_what_is_not_exact_is_said_at_the_start(env, why):
    with opened(env) as vec:
        assert not vec.exact_state
        (notice,) = (notice for notice in vec.notices if "resumed" in notice)
        assert why in notice
        vec.reset()
        state = vec.get_state()
        assert not vec.set_state(state)


def test_evaluations_do_not_ask_whether_an_environment_is_exact():
    with make_vec(Locked, num_envs=2) as vec:
        assert not vec.notices


def test_the_test_at_the_start_leaves_the_generators_of_python_alone():
    np.random.seed(4)
    with opened(awkward):
        assert np.random.random() == np.random.RandomState(4).random()


def test_a_state_that_does_not_fit_begins_new_episodes_and_says_why():
    with opened(awkward) as vec:
        vec.reset()
        state = vec.get_state()
        state["environments"] = state["environments"].copy()
        state["environments"][0, 40] ^= 255
        assert not vec.set_state(state) and vec.began_anew
        played(vec, 3, 1)


def test_a_state_that_is_too_large_is_refused():
    with pytest.raises(Unreadable, match="64 MiB"):
        Reader().read([dict(map=np.zeros(2**23 + 1))])


@pytest.mark.parametrize("stored", [b"", b"x" * 40, np.array([10**9, 10**9], np.int64).tobytes()])
def test_bytes_that_are_no_state_are_unreadable(stored):
    with pytest.raises(Unreadable, match="damaged"):
        State([], {}).write(np.frombuffer(stored, np.uint8))
