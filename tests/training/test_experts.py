"""Experts that can be asked: scripts, files, runs, chance; and refusals in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.demos.npz import save_npz
from puffer_il.nn.policy import Policy
from puffer_il.training.experts import RunPolicy, make_expert
from puffer_il.vector.vec import make_vec
from tests.support.runs import run, tiny


def test_a_script_answers_for_the_environments_as_they_stand():
    with make_vec("cartpole", num_envs=5) as vec:
        obs = vec.reset(1)
        expert = make_expert("dagger.expert", "script", vec, 0)
        assert expert.stepwise
        for _ in range(30):
            x, x_dot, theta, theta_dot = obs.T
            expected = (theta + 0.4 * theta_dot + 0.1 * x + 0.2 * x_dot > 0).astype(np.int32)
            np.testing.assert_array_equal(expert.act(obs, np.zeros(5, bool), slice(1, 4))[:, 0], expected[1:4])
            obs = vec.step(np.ones((5, 1), np.int32)).obs


def test_chance_goes_on_where_it_was():
    with make_vec("pendulum", num_envs=5) as vec:
        one, other = (make_expert("k", "random", vec, seed) for seed in (3, 3))
        starts, rows = np.zeros(5, bool), slice(0, 5)
        first, second = one.act(vec.obs, starts, rows), one.act(vec.obs, starts, rows)
        assert not np.array_equal(first, second) and np.abs(first).max() <= 2
        other.load_state_dict({"asked": 1})
        np.testing.assert_array_equal(other.act(vec.obs, starts, rows), second)
        assert not np.array_equal(make_expert("k", "random", vec, 4).act(vec.obs, starts, rows), first)


@pytest.mark.parametrize("lstm", [0, 4])
def test_a_runs_policy_answers_by_its_mode_and_remembers(lstm, tmp_path):
    run(tiny("ppo", tmp_path / "run", policy__lstm=lstm, train__total_steps=256))
    with make_vec("cartpole", num_envs=4) as vec:
        expert = make_expert("dagger.expert", str(tmp_path / "run"), vec, 0)
        assert isinstance(expert, RunPolicy) and expert.stepwise == bool(lstm)
        obs = np.random.default_rng(0).normal(size=(7, 4, 4)).astype(np.float32)
        starts = np.arange(7) % 3 == 0
        policy, state, expected = expert.policy, None, []
        for t in range(7):  # Stable-Baselines3's interface, which is tested by itself
            actions, state = policy.predict(obs[t], state, np.full(4, starts[t]), deterministic=True)
            expected.append(actions)
        got = [expert.act(obs[t], np.full(4, starts[t]), slice(0, 4))[:, 0] for t in range(7)]
        np.testing.assert_array_equal(got, expected)
        fresh = make_expert("dagger.expert", str(tmp_path / "run"), vec, 0)
        fresh.load_state_dict(expert.state_dict())
        ours, theirs = (e.act(obs[0], np.zeros(4, bool), slice(0, 4)) for e in (fresh, expert))
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_answers_within_the_actions_range(tmp_path):
    path = tmp_path / "expert.npz"  # ten times the first observation
    weights = np.zeros((3, 1))
    weights[0] = 10
    save_npz(path, {"Wout": weights, "bout": np.zeros(1), "obs_mean": np.zeros(3), "obs_std": np.ones(3),
                    "act": np.zeros(1)})
    with make_vec("pendulum", num_envs=3) as vec:
        expert = make_expert("dagger.expert", str(path), vec, 0)
        obs = np.float32([[1, 0, 0], [0.1, 0, 0], [-1, 0, 0]])
        assert not expert.stepwise
        np.testing.assert_allclose(expert.act(obs, np.zeros(3, bool), slice(None)), [[2], [1], [-2]])


def test_refusals_name_the_key_the_value_and_the_remedy(tmp_path):
    run(tiny("ppo", tmp_path / "run", train__total_steps=256))
    with make_vec("cartpole", num_envs=4, backend="multiprocessing", num_workers=2) as vec:
        vec.reset()
        check(vec, "script", "env.backend = 'serial'")
    with make_vec("Pendulum-v1", num_envs=2, backend="serial") as vec:
        vec.reset()
        check(vec, "script", "no scripted expert")
        check(vec, "person", "no terminal")
        check(vec, str(tmp_path / "missing.npz"), "no such file")
        check(vec, str(tmp_path / "run"), "a policy for cartpole")


def check(vec, source, text):
    with pytest.raises(InputError, match=r"dagger\.expert = ") as error:
        make_expert("dagger.expert", source, vec, 0)
    message = str(error.value)
    assert source in message and text in message and "\n" not in message


def test_a_policy_of_the_same_shape_fits_another_name(tmp_path):
    run(tiny("ppo", tmp_path / "run", train__total_steps=256))
    with make_vec("CartPole-v1", num_envs=2, backend="serial") as vec:
        expert = make_expert("k", str(tmp_path / "run"), vec, 0)
        assert expert.act(vec.reset(0), np.ones(2, bool), slice(0, 2)).shape == (2, 1)


def test_an_lstm_expert_keeps_a_state_for_each_row():
    with make_vec("cartpole", num_envs=4) as vec:
        torch.manual_seed(0)
        expert = RunPolicy(Policy(vec.spec, PolicyConfig(hidden=(8,), lstm=3)), vec.spec, 4)
        obs = vec.reset(0)
        expert.act(obs[2:], np.ones(2, bool), slice(2, 4))
        assert not expert.state[:2].any() and expert.state[2:].any()
