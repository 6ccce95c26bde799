"""`import puffer_il.gym`: every C environment under a name of Gymnasium's registry, single and as a vector."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import puffer_il
from puffer_il.core.errors import InputError
from puffer_il.native.envfile import read_env
from puffer_il.native.gymnasium_env import GymnasiumEnv, GymnasiumVectorEnv
from tests.support.environments import FOLDERS

gymnasium.register_envs(puffer_il.gym)
NAMES = sorted(name for name in gymnasium.registry if name.startswith("puffer_il/"))
ADVICE = ["A Box observation space", "For Box action spaces"]  # on what spaces should be, which Gymnasium's own get too


def make(name: str, **kwargs) -> gymnasium.Env:
    return gymnasium.make(f"puffer_il/{name}-v0", **kwargs)


def test_every_environment_is_registered_once():
    assert len(NAMES) == len(FOLDERS)
    assert {"puffer_il/CartPole-v0", "puffer_il/MountainCarContinuous-v0", "puffer_il/Breakout-v0"} <= set(NAMES)


def test_registering_a_module_is_all_that_a_user_types():
    code = ("import gymnasium, puffer_il; gymnasium.register_envs(puffer_il.gym); "
            "gymnasium.make('puffer_il/CartPole-v0')")
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_importing_gymnasium_does_not_import_ours():
    code = "import sys, gymnasium; sys.exit(any(name.startswith('puffer_il') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_check_of_an_environment_finds_nothing(name: str):
    folder = gymnasium.spec(name).kwargs["folder"]
    if read_env(folder).agents != 1:
        with pytest.raises(InputError, match="only one fits a Gymnasium environment"):
            gymnasium.make(name)
        return
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        check_env(gymnasium.make(name).unwrapped, skip_render_check=True)
    assert not [str(w.message) for w in found if not any(advice in str(w.message) for advice in ADVICE)]


def test_make_gives_the_c_environment_with_its_parameters_and_pictures():
    env = make("CartPole", gravity=20.0, render_mode="rgb_array")
    assert isinstance(env.unwrapped, GymnasiumEnv) and env.spec.id == "puffer_il/CartPole-v0"
    plain = make("CartPole")
    assert np.array_equal(env.reset(seed=0)[0], plain.reset(seed=0)[0])
    assert not np.array_equal(env.step(1)[0], plain.step(1)[0])
    assert env.render().shape == (400, 600, 3)


def test_make_vec_gives_the_batch_with_its_autoreset_mode():
    vec = gymnasium.make_vec("puffer_il/CartPole-v0", num_envs=64, max_episode_steps=5)
    assert isinstance(vec, GymnasiumVectorEnv) and vec.num_envs == 64
    assert vec.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    recorded = RecordEpisodeStatistics(vec)
    recorded.reset(seed=0)
    for _ in range(5):
        *_, truncations, infos = recorded.step(vec.action_space.sample())
    assert truncations.all() and (infos["episode"]["l"] == 5).all() and len(infos["final_obs"]) == 64


@pytest.mark.parametrize("name", ["CartPole", "Pendulum", "FrozenLake"])
def test_the_batch_equals_gymnasiums_own_vector_of_single_ones(name: str):
    """Of Gymnasium's wrappers in make too, episode ends and their infos included."""
    options = {"vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}, "vectorization_mode": "sync"}
    batch, singles = (gymnasium.make_vec(f"puffer_il/{name}-v0", num_envs=3, max_episode_steps=9, **more)
                      for more in ({}, options))
    assert batch.observation_space == singles.observation_space and batch.action_space == singles.action_space
    np.testing.assert_array_equal(batch.reset(seed=5)[0], singles.reset(seed=5)[0])
    batch.action_space.seed(0)
    for _ in range(40):
        actions = batch.action_space.sample()
        ours, theirs = batch.step(actions), singles.step(actions)
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        assert ours[4].keys() - {"final_info", "_final_info"} == theirs[4].keys() - {"final_info", "_final_info"}
