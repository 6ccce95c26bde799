"""Who acts: scripts, files, runs, chance, objects; and refusals in one line."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.demos.npz import save_npz
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import Actor, NumpyActor, PolicyActor
from puffer_il.training.resolve_actor import resolve_actor
from puffer_il.vector.vec import make_vec
from tests.support.runs import run, tiny


def test_a_script_answers_for_the_environments_as_they_stand():
    with make_vec("cartpole", num_envs=5) as vec:
        obs = vec.reset(1)
        expert = resolve_actor("dagger.expert", "script", vec)
        assert expert.stepwise
        for _ in range(30):
            x, x_dot, theta, theta_dot = obs.T
            expected = (theta + 0.4 * theta_dot + 0.1 * x + 0.2 * x_dot > 0).astype(np.int32)
            np.testing.assert_array_equal(expert(obs, np.zeros(5, bool), slice(1, 4))[:, 0], expected[1:4])
            obs = vec.step(np.ones((5, 1), np.int32)).obs


def test_chance_goes_on_where_it_was():
    with make_vec("pendulum", num_envs=5) as vec:
        one, other = (resolve_actor("k", "random", vec, seed=seed) for seed in (3, 3))
        starts, rows = np.zeros(5, bool), slice(0, 5)
        first, halfway = one(vec.obs, starts, rows), copy.deepcopy(one.state_dict())
        second = one(vec.obs, starts, rows)
        assert not np.array_equal(first, second) and np.abs(first).max() <= 2
        other.load_state_dict(halfway)
        np.testing.assert_array_equal(other(vec.obs, starts, rows), second)
        assert not np.array_equal(resolve_actor("k", "random", vec, seed=4)(vec.obs, starts, rows), first)


@pytest.mark.parametrize("lstm", [0, 4])
def test_a_runs_policy_answers_by_its_mode_and_remembers(lstm, tmp_path):
    run(tiny("ppo", tmp_path / "run", policy__lstm=lstm, train__total_steps=256))
    with make_vec("cartpole", num_envs=4) as vec:
        expert = resolve_actor("dagger.expert", str(tmp_path / "run"), vec)
        assert isinstance(expert, PolicyActor) and expert.stepwise == bool(lstm)
        obs = np.random.default_rng(0).normal(size=(7, 4, 4)).astype(np.float32)
        starts = np.arange(7) % 3 == 0
        policy, state, expected = expert.policy, None, []
        for t in range(7):  # Stable-Baselines3's interface, which is tested by itself
            actions, state = policy.predict(obs[t], state, np.full(4, starts[t]), deterministic=True)
            expected.append(actions)
        got = [expert(obs[t], np.full(4, starts[t]), slice(0, 4))[:, 0] for t in range(7)]
        np.testing.assert_array_equal(got, expected)
        fresh = resolve_actor("dagger.expert", str(tmp_path / "run"), vec)
        fresh.load_state_dict(expert.state_dict())
        ours, theirs = (e(obs[0], np.zeros(4, bool), slice(0, 4)) for e in (fresh, expert))
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_answers_as_it_would_act_and_the_vector_clips(tmp_path):
    path = tmp_path / "expert.npz"  # ten times the first observation
    weights = np.zeros((3, 1))
    weights[0] = 10
    save_npz(path, {"Wout": weights, "bout": np.zeros(1), "obs_mean": np.zeros(3), "obs_std": np.ones(3),
                    "act": np.zeros(1)})
    with make_vec("pendulum", num_envs=3) as vec:
        expert = resolve_actor("dagger.expert", str(path), vec)
        obs = np.float32([[1, 0, 0], [0.1, 0, 0], [-1, 0, 0]])
        assert not expert.stepwise
        np.testing.assert_allclose(expert(obs, np.zeros(3, bool), slice(None)), [[10], [1], [-10]])


def test_refusals_name_the_key_the_value_and_the_remedy(tmp_path):
    run(tiny("ppo", tmp_path / "run", train__total_steps=256))
    with make_vec("cartpole", num_envs=4, backend="multiprocessing", num_workers=2) as vec:
        vec.reset()
        check(vec, "script", "env.backend = 'serial'")
    with make_vec("Pendulum-v1", num_envs=2, backend="serial") as vec:
        vec.reset()
        check(vec, "script", "no scripted expert")
        check(vec, "person", "no terminal")
        check(vec, str(tmp_path / "missing.npz"), "there is no such file")
        check(vec, str(tmp_path / "run"), "a policy for cartpole")


def check(vec, source, text):
    for given in (f"dagger.expert = {source!r}", f"--policy {source}"):
        with pytest.raises(InputError) as error:
            resolve_actor(given, source, vec)
        message = str(error.value)
        assert message.startswith(f"{given}: ") and text in message and "\n" not in message


def test_a_policy_of_the_same_shape_fits_another_name(tmp_path):
    run(tiny("ppo", tmp_path / "run", train__total_steps=256))
    with make_vec("CartPole-v1", num_envs=2, backend="serial") as vec:
        expert = resolve_actor("k", str(tmp_path / "run"), vec)
        assert expert(vec.reset(0), np.ones(2, bool), slice(0, 2)).shape == (2, 1)


def test_an_lstm_expert_keeps_a_state_for_each_row():
    with make_vec("cartpole", num_envs=4) as vec:
        torch.manual_seed(0)
        expert = PolicyActor(Policy(vec.spec, PolicyConfig(hidden=(8,), lstm=3)), 4)
        obs = vec.reset(0)
        expert(obs[2:], np.ones(2, bool), slice(2, 4))
        assert not expert.state[:2].any() and expert.state[2:].any()


class Model:
    """Stable-Baselines3's `predict`, with a state that counts steps; it acts by the number of the step."""

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        state = np.where(episode_start, 0, 0 if state is None else state + 1)
        return state % 2, state


def test_policies_and_functions_act_as_objects_too():
    with make_vec("cartpole", num_envs=4) as vec:
        obs, starts = vec.reset(0), np.ones(4, bool)
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,)))
        expected, _ = policy.predict(obs, deterministic=True)
        np.testing.assert_array_equal(resolve_actor("expert", policy, vec)(obs, starts)[:, 0], expected)
        lean = resolve_actor("expert", lambda obs: obs[:, 2] > 0, vec)
        assert not lean.stepwise
        np.testing.assert_array_equal(lean(obs, starts), (obs[:, 2:3] > 0).astype(np.int32))
        assert resolve_actor("expert", lean, vec) is lean
        with pytest.raises(InputError, match=r"^expert: 3 cannot act"):
            resolve_actor("expert", 3, vec)
    with make_vec("pendulum", num_envs=4) as vec, pytest.raises(InputError, match=r"^expert: a policy for cartpole"):
        resolve_actor("expert", policy, vec)


def test_a_model_of_another_library_remembers_by_groups_of_rows_and_is_told_of_new_episodes():
    with make_vec("cartpole", num_envs=4) as vec:
        actor, obs = resolve_actor("expert", Model(), vec), vec.reset(0)
        assert isinstance(actor, NumpyActor) and actor.stepwise
        first, second = slice(0, 2), slice(2, 4)
        steps = [[actor(obs[rows], np.array([t in (0, 3), t == 0]), rows)[:, 0].tolist() for rows in (first, second)]
                 for t in range(5)]
    assert steps == [[[n, m]] * 2 for n, m in ((0, 0), (1, 1), (0, 0), (0, 1), (1, 0))]


def test_an_actor_without_a_state_has_none_to_save():
    actor = Actor()
    assert actor.state_dict() == {} and not actor.stepwise
    actor.load_state_dict({})
