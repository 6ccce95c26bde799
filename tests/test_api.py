"""`import puffer_il`: names and objects in, objects out, nothing written that nobody asked for."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO

import puffer_il
from puffer_il import InputError
from tests.support import identified
from tests.support.runs import scripted_cartpole_demos


def test_importing_costs_nothing():
    code = "import sys, puffer_il; sys.exit(any(x in sys.modules for x in ('numpy', 'torch', 'puffer_il.api')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_environments_and_demonstrations_need_no_torch():
    code = "import sys, puffer_il; puffer_il.make('cartpole'); puffer_il.load_demos('shipped', 'cartpole'); " \
           "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", puffer_il.__all__)
def test_every_public_name_is_there_and_documented(name: str):
    assert getattr(puffer_il, name).__doc__ and name in dir(puffer_il)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'puffer_il' has no attribute 'trian'"):
        puffer_il.trian  # noqa: B018


def test_the_module_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "puffer_il", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"puffer-il {puffer_il.__version__}\n"
    wrong = subprocess.run([sys.executable, "-m", "puffer_il", "trian"], capture_output=True, text=True)
    assert wrong.returncode == 2


# Environments

@pytest.mark.filterwarnings("ignore:.*A Box observation space")
@pytest.mark.parametrize("env", ["cartpole", "CartPole-v1", "gymnasium:CartPole-v1", "tests.support.spaces:Mixed",
                                 identified.Gymnasium, lambda: gymnasium.make("CartPole-v1")], ids=str)
def test_make_passes_gymnasiums_check_and_make_vec_agrees_with_it(env):
    single, vec = puffer_il.make(env), puffer_il.make_vec(env, num_envs=3)
    assert isinstance(single, gymnasium.Env) and isinstance(vec, gymnasium.vector.VectorEnv)
    assert vec.single_observation_space == single.observation_space
    assert vec.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    obs, _ = vec.reset(seed=0)
    assert len(obs) == vec.num_envs == 3 and vec.step(vec.action_space.sample())[1].dtype == np.float64
    if env is not identified.Gymnasium:  # whose observations say how often it has been reset
        check_env(single.unwrapped, skip_render_check=True)


def test_parameters_and_pictures_reach_the_environment():
    drawn = puffer_il.make("cartpole", render_mode="rgb_array", gravity=20.0)
    drawn.reset(seed=0)
    assert drawn.render().shape == (400, 600, 3)
    assert puffer_il.make("gymnasium:CartPole-v1", render_mode="rgb_array").render_mode == "rgb_array"
    assert puffer_il.make("gymnasium:Pendulum-v1", g=20.0).unwrapped.g == 20.0
    heavy, plain = (puffer_il.make_vec("cartpole", num_envs=2, **kwargs) for kwargs in ({"gravity": 20.0}, {}))
    assert np.array_equal(heavy.reset(seed=1)[0], plain.reset(seed=1)[0])
    assert not np.array_equal(heavy.step([0, 1])[0], plain.step([0, 1])[0])


@pytest.mark.parametrize("call, message", [
    (lambda: puffer_il.make("cartpol"), "unknown environment 'cartpol'; did you mean 'cartpole'?"),
    (lambda: puffer_il.make("cartpole", gravty=1), "environment cartpole: .*gravty"),
    (lambda: puffer_il.make(gymnasium.make("CartPole-v1")), "give a name, or a function that opens a new environment"),
    (lambda: puffer_il.make("tests.support.identified:Puffer"), "it is a Puffer, no Gymnasium environment"),
    (lambda: puffer_il.make_vec("cartpole", 0), "num_envs = 0: must be at least 1"),
    (lambda: puffer_il.load_demos("shipped"), "demos shipped: the environment is missing"),
    (lambda: puffer_il.load_demos("no.npz"), "demos no.npz: no such file"),
])
def test_wrong_input_is_told_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_stable_baselines3_trains_on_make():
    model = PPO("MlpPolicy", puffer_il.make("cartpole"), n_steps=512, batch_size=64, seed=0).learn(2_000)
    assert model.num_timesteps == 2_048


# Demonstrations

def test_demonstrations_are_read_from_files_and_arrays_and_saved(tmp_path):
    path = scripted_cartpole_demos(tmp_path / "d.npz")
    demos = puffer_il.load_demos(path)
    columns = (demos.obs, demos.actions[:, 0], demos.next_obs, demos.terminations, demos.truncations, demos.rewards)
    from_arrays = puffer_il.load_demos(columns, "cartpole")
    assert np.array_equal(from_arrays.actions, demos.actions) and np.array_equal(from_arrays.returns, demos.returns)
    assert puffer_il.load_demos({"obs": demos.obs, "actions": demos.actions, "next_obs": demos.next_obs,
                                 "terminations": demos.terminations, "truncations": demos.truncations,
                                 "episode_starts": demos.episode_starts}).num_episodes == demos.num_episodes
    some = puffer_il.load_demos(str(path), episodes=2, subsample=10)
    assert some.num_episodes == 2 and len(some) < len(demos) / 10
    some.save(tmp_path / "some.npz")
    assert len(puffer_il.load_demos(tmp_path / "some.npz")) == len(some)


def test_shipped_demonstrations_come_with_their_environment():
    assert puffer_il.load_demos("shipped", "cartpole", episodes=3).num_episodes == 3


# What there is to choose from

def test_algorithms_say_what_they_need():
    known = puffer_il.algorithms()
    assert known["gail"]["needs"] == {"rollouts": True, "demonstrations": True, "actions": True, "expert": False}
    assert known["bc"]["needs"]["rollouts"] is False and "continuous" in known["sac"]["spaces"]
