"""Environments of OpenAI's gym: of 0.26, which the dev extra installs, and of 0.23, which the test puts beside it.

Without gym, small classes show what older and careless environments do.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from puffer_il import cli
from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.emulation import emulate
from puffer_il.vector.gym_compat import OldGym, gymnasium_space, is_old
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec
from tests.support.runs import run, tiny

SERIAL, WORKERS = {"backend": "serial"}, {"backend": "multiprocessing", "num_workers": 2}
ROWS = ("obs", "rewards", "terminations", "truncations", "valid", "final_obs", "episode_returns", "episode_lengths")


def beside(version: str) -> str:
    """A folder with that gym and nothing else, downloaded once; what it needs is there for the other version."""
    folder = Path(__file__).resolve().parents[2] / "build" / f"gym-{version}"
    if not folder.is_dir():
        fresh = folder.with_suffix(f".{os.getpid()}")  # another process may be about to do the same
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--timeout", "10",
               "--retries", "1", "--no-deps", "--no-build-isolation", "--target", str(fresh), f"gym=={version}"]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(fresh, ignore_errors=True)
            pytest.skip(f"gym {version} cannot be had: {done.stderr.strip()[-200:]}")
        try:
            fresh.rename(folder)
        except OSError:  # somebody was faster
            shutil.rmtree(fresh)
    return str(folder)


@pytest.fixture(scope="module", params=["0.26.2", "0.23.1"])
def gym(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """`import gym` gives this version, here and in workers, which are forked."""
    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "gym"]:
            del sys.modules[name]

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        if request.param != "0.26.2":
            patch.syspath_prepend(beside(request.param))
        forget()
        module = importlib.import_module("gym")
        assert module.__version__ == request.param
        yield module
        forget()


def same(left: Any, right: Any, action: Any, steps: int) -> tuple[int, int]:
    """Step both vectors alike; every cell is equal. How many terminations and truncations there were."""
    terminations = truncations = 0
    assert np.array_equal(left.reset(3), right.reset(3))
    for _ in range(steps):
        actions = action(left.obs)
        ours, theirs = left.step(actions), right.step(actions)
        for name in ROWS:
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
        terminations += int(ours.terminations.sum())
        truncations += int(ours.truncations.sum())
    return terminations, truncations


@pytest.mark.parametrize("backend", [SERIAL, WORKERS], ids=["serial", "workers"])
def test_cartpole_is_that_of_gymnasium(gym: ModuleType, backend: dict) -> None:
    """Bit for bit, with failures and, in the half that balances, time limits; also a second reset with the seed."""
    def balance_half(obs: np.ndarray) -> np.ndarray:
        return ((obs[:, 2] + obs[:, 3] > 0) & (np.arange(4) < 2)).astype(np.int32)[:, None]

    with (make_vec("gym:make", num_envs=4, kwargs={"id": "CartPole-v1"}, **backend) as old,
          make_vec("CartPole-v1", num_envs=4, **backend) as new):
        terminations, truncations = same(old, new, balance_half, 520)
        assert terminations > 50 and truncations == 2
        same(old, new, balance_half, 20)


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0"])
def test_continuous_actions(gym: ModuleType, name: str) -> None:
    with (make_vec("gym:make", num_envs=2, kwargs={"id": name}, **SERIAL) as old,
          make_vec(name, num_envs=2, **SERIAL) as new):
        rng, (low, high) = np.random.default_rng(0), (new.spec.action.low, new.spec.action.high)
        assert np.array_equal(low, old.spec.action.low) and np.array_equal(high, old.spec.action.high)
        truncations = same(old, new, lambda obs: rng.uniform(low, high, (2, 1)).astype(np.float32), 205)[1]
        assert truncations == (2 if name == "Pendulum-v1" else 0)


def test_blackjack_has_a_tuple(gym: ModuleType) -> None:
    with make_vec("gym:make", num_envs=4, kwargs={"id": "Blackjack-v1"}, **SERIAL) as vec:
        assert [f.categories for f in vec.spec.obs_fields] == [32, 11, 2]
        ends = sum(vec.step(np.ones((4, 1), np.int32)).terminations.sum() for _ in [vec.reset(0), *range(20)])
        assert ends > 10


class Everything:
    """Every kind of space, in the API of `library`: gym's before 0.26 knows `done` alone."""

    def __init__(self, library: ModuleType) -> None:
        kinds = library.spaces
        self.observation_space = kinds.Dict({
            "where": kinds.Box(-10, 10, (2,), np.float32), "picture": kinds.Box(0, 255, (3, 2, 1), np.uint8),
            "kind": kinds.Discrete(5), "pair": kinds.Tuple([kinds.MultiDiscrete([3, 4]), kinds.MultiBinary(2)])})
        self.action_space = kinds.Tuple([kinds.Discrete(3), kinds.MultiDiscrete([2, 4])])
        self.five = library is gymnasium or library.__version__ >= "0.26"

    def observe(self) -> dict:
        draw = self.np_random.random
        return {"where": np.float32([draw(), self.t]), "picture": np.full((3, 2, 1), self.t, np.uint8),
                "kind": self.t, "pair": (np.array([self.t % 3, 1]), np.array([self.t % 2, 1], np.int8))}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)  # type: ignore[misc]
        self.t = 0
        return (self.observe(), {}) if self.five else self.observe()

    def step(self, action: Any) -> tuple:
        assert self.action_space.contains(action)
        self.t += 1
        end = [False, self.t == 4] if self.five else [self.t == 4]
        return self.observe(), float(action[0] + action[1].sum()), *end, {"TimeLimit.truncated": self.t == 4}


def everything(library: str = "gym") -> Any:
    module = importlib.import_module(library)
    return type("Env", (Everything, module.Env), {})(module)


def test_every_space_is_that_of_gymnasium(gym: ModuleType) -> None:
    name, rng = "tests.vector.test_gym_compat:everything", np.random.default_rng(0)
    with (make_vec(name, num_envs=2, **SERIAL) as old,
          make_vec(name, num_envs=2, kwargs={"library": "gymnasium"}, **SERIAL) as new):
        assert old.spec == new.spec and len(old.spec.obs_fields) == 5
        assert same(old, new, lambda obs: rng.integers(0, [3, 2, 4], (2, 3)).astype(np.int32), 12) == (0, 4)


def wrapped(name: str) -> Any:
    gym = importlib.import_module("gym")
    env, wrappers = gym.make("Pendulum-v1"), gym.wrappers
    return {"RecordEpisodeStatistics": lambda: wrappers.RecordEpisodeStatistics(env),  # has num_envs
            "RescaleAction": lambda: wrappers.RescaleAction(env, -1, 1),
            "TimeAwareObservation": lambda: wrappers.TimeAwareObservation(env),  # float64 in a float32 space
            "NormalizeObservation": lambda: wrappers.NormalizeObservation(env),
            "FrameStack": lambda: wrappers.FrameStack(env, 3)}[name]()


@pytest.mark.parametrize("name, shape", [("RecordEpisodeStatistics", (3,)), ("RescaleAction", (3,)),
                                         ("TimeAwareObservation", (4,)), ("FrameStack", (3, 3))])
def test_wrappers_of_gym(gym: ModuleType, name: str, shape: tuple) -> None:
    with make_vec("tests.vector.test_gym_compat:wrapped", num_envs=2, kwargs={"name": name}, **SERIAL) as vec:
        assert vec.spec.obs_shape == shape
        first = vec.reset(1).copy()
        assert vec.step(np.zeros((2, 1), np.float32)).valid.all()
        assert np.array_equal(vec.reset(1), first)


def test_a_wrapper_of_gym_that_goes_on_averaging_is_refused(gym: ModuleType) -> None:
    with pytest.raises(InputError, match="its wrapper NormalizeObservation averages in each copy"):
        make_vec("tests.vector.test_gym_compat:wrapped", num_envs=2, kwargs={"name": "NormalizeObservation"}, **SERIAL)


def test_a_vector_of_gym_is_refused(gym: ModuleType) -> None:
    make = gym.envs.classic_control.CartPoleEnv
    with pytest.raises(InputError, match=r"it is a vector of environments, a SyncVectorEnv; return a single one"):
        emulate(gym.vector.SyncVectorEnv([make, make]), None, 0)


def test_gym_learns_from_the_command_line(gym: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert cli.main(["train", "ppo", "gym:make", "--env.kwargs.id", "CartPole-v1", "--env.num-envs", "8",
                     "--env.backend", "serial", "--train.num-steps", "64", "--total-steps", "5000",
                     "--eval.final-episodes", "20", "--run-dir", str(folder)]) == 0
    policy, *_ = load_policy(folder)
    env, steps = OldGym(gym.make("CartPole-v1")), 0
    for seed in range(5):
        obs, over = env.reset(seed=seed)[0], False
        while not over:
            obs, _, terminated, truncated, _ = env.step(policy.predict(obs, deterministic=True)[0])
            over, steps = terminated or truncated, steps + 1
    assert steps > 5 * 50  # chance stays up for 22


@pytest.mark.parametrize("gym", ["0.26.2"], indirect=True)
def test_what_hides_final_observations_and_what_has_no_size_is_refused(gym: ModuleType) -> None:
    with pytest.raises(InputError, match="it resets itself"):
        emulate(gym.make("CartPole-v1", autoreset=True), None, 0)
    with pytest.raises(InputError, match="its space Text has no fixed size"):
        gymnasium_space(gym.spaces.Text(3))


# Without gym

class Bare:
    """Derives from nothing: the API of 0.21, with arrays where numbers are due. Its action says how a step ends."""

    observation_space, action_space = spaces.Box(-9, 9, (2,)), spaces.Discrete(4)
    ends = ({}, {}, {"TimeLimit.truncated": True}, {"TimeLimit.truncated": False})

    def __init__(self) -> None:
        self.rng = np.random.default_rng()

    def seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def reset(self) -> np.ndarray:
        return self.rng.random(2)  # float64

    def step(self, action: int) -> tuple:
        return [1, 2], np.array([0.5]), np.bool_(action > 0), self.ends[action]


class Reset(Bare):
    """That of 0.22: `reset` takes the seed."""

    def reset(self, seed: int | None = None) -> np.ndarray:  # type: ignore[override]
        if seed is not None:
            super().seed(seed)
        return super().reset()

    def seed(self, seed: int) -> None:
        raise AssertionError("deprecated")


class Careless(Bare):
    """Takes no seed and draws from the global generators."""

    seed = None  # type: ignore[assignment]

    def reset(self) -> np.ndarray:
        return np.array([random.random(), np.random.random()])


class Late(gymnasium.Env, Bare):  # type: ignore[misc]
    """One that has changed its base class and nothing else."""

    reset, step, seed = Bare.reset, Bare.step, Bare.seed
    observation_space, action_space = Bare.observation_space, Bare.action_space

    def __init__(self) -> None:
        Bare.__init__(self)


@pytest.mark.filterwarnings("ignore:.*takes no seed")
@pytest.mark.parametrize("cls", [Bare, Reset, Careless, Late])
def test_seeds_reach_the_environment(cls: type) -> None:
    assert is_old(cls())
    ends = np.ones((3, 1), np.int32)
    with make_vec(f"tests.vector.test_gym_compat:{cls.__name__}", num_envs=3, **SERIAL) as vec:
        first, (_, second) = vec.reset(1).copy(), [vec.step(ends).obs.copy() for _ in range(2)]
        assert len(np.unique([first, second])) == 12 and not np.array_equal(vec.reset(2), first)
        assert np.array_equal(vec.reset(1), first)
        assert np.array_equal([vec.step(ends).obs.copy() for _ in range(2)][1], second)  # goes on from the seed


def test_who_takes_no_seed_is_told() -> None:
    with pytest.warns(UserWarning, match="takes no seed"):
        OldGym(Careless()).reset(seed=1)
    with warnings.catch_warnings(action="error"):
        OldGym(Careless()).reset()


@pytest.mark.parametrize("action, end", [(0, (False, False)), (1, (True, False)), (2, (False, True)),
                                         (3, (True, False))])
def test_the_end_of_four_values(action: int, end: tuple[bool, bool]) -> None:
    with make_vec("tests.vector.test_gym_compat:Bare", num_envs=1, **SERIAL) as vec:
        vec.reset(0)
        batch = vec.step(np.array([[action]], np.int32))
        assert (batch.terminations[0], batch.truncations[0]) == end
        assert batch.rewards[0] == 0.5 and np.array_equal(batch.final_obs, [[1, 2]])


class Pairs(Bare):
    """Its observations look like (observation, info)."""

    observation_space = spaces.Tuple([spaces.Discrete(3), spaces.Dict({"x": spaces.Discrete(2)})])

    def reset(self) -> tuple:  # type: ignore[override]
        return 2, {"x": 1}


def test_an_observation_that_looks_like_a_pair() -> None:
    assert OldGym(Pairs()).reset(seed=0) == ((2, {"x": 1}), {})
    pair = type("Both", (Pairs,), {"reset": lambda self: ((2, {"x": 0}), {"a": 3})})
    assert OldGym(pair()).reset() == ((2, {"x": 0}), {"a": 3})


def test_observations_that_would_lose_their_value_are_refused() -> None:
    cls = type("Float", (Bare,), {"observation_space": type("Box", (), {
        "low": np.zeros(2, np.uint8), "high": np.full(2, 255, np.uint8), "dtype": np.dtype(np.uint8)})()})
    env = emulate(cls(), None, 0)
    with pytest.raises(InputError, match="which its declared dtype uint8 cannot hold"):
        env.reset(1)


@pytest.mark.parametrize("env", [type("NoSpaces", (), {"reset": print, "step": print})(), np, OldGym])
def test_what_is_no_environment(env: Any) -> None:
    assert not is_old(env)


def test_a_gymnasium_environment_is_left_alone() -> None:
    env = gymnasium.make("CartPole-v1")
    assert not is_old(env) and emulate(env, None, 0).env is env


def test_an_environment_that_breaks_is_not_tried_again_without_its_seed() -> None:
    with pytest.raises(EnvFailure, match="ZeroDivisionError: only seeded"):
        make_vec("tests.vector.test_gym_compat:Seeded", num_envs=1, **SERIAL).reset(0)
    with pytest.raises(InputError, match=r"its reset returned a ndarray; return \(observation, info\)"):
        make_vec("tests.vector.test_gym_compat:Alone", num_envs=1, **SERIAL).reset(0)


class Seeded(Late):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            raise ZeroDivisionError("only seeded")
        return super().reset(), {}


class Alone(Late):
    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return super().reset()


def test_a_run_on_an_old_environment_repeats(tmp_path: Path) -> None:
    runs = [run(tiny("ppo", tmp_path / name, env__name="tests.vector.test_gym_compat:Bare", env__backend="serial",
                     train__total_steps=512)).metrics for name in "ab"]
    losses = [[m[name] for m in metrics for name in m if name.startswith("losses/")] for metrics in runs]
    assert losses[0] and losses[0] == losses[1]


def test_puffer_il_does_not_import_gym() -> None:
    """PufferLib does where it is there, which takes time and prints a notice."""
    code = "import sys, puffer_il.vector.make; assert 'gym' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_gym_is_opened_by_its_own_ids(gym: ModuleType) -> None:
    env = find_creator("gym:CartPole-v1")().env
    assert isinstance(env, OldGym) and isinstance(env.env, gym.Env)
    with pytest.raises(InputError, match=r"environment 'gym:CartPole-v7': .*v7"):
        find_creator("gym:CartPole-v7").facts()
