"""Evaluation: whole episodes, every row its share, the true reward only, and the same answer for the same seed."""

import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.core.config import EnvConfig, PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Batch, EnvSpec
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import PolicyActor, RandomActor, policy_actor
from puffer_il.rollout.evaluate import Scores, evaluate, make_eval_vec
from puffer_il.training.saved_run import load_policy
from tests.support.runs import run, tiny


class LengthVec:
    """Row i plays episodes of exactly lengths[i] steps, reward 1 each; the step after an end is ignored if asked."""

    logs = None

    def __init__(self, lengths, next_step_reset):
        self.lengths, self.next_step = np.array(lengths), next_step_reset
        self.num_envs = len(lengths)
        self.spec = EnvSpec("lengths", (1,), np.dtype(np.float32), ActionSpec(nvec=(2,)))

    def reset(self, seed):
        self.t, self.waiting = np.zeros(self.num_envs, int), np.zeros(self.num_envs, bool)
        return np.zeros((self.num_envs, 1), np.float32)

    def step(self, actions):
        valid = ~self.waiting
        self.t = np.where(valid, self.t + 1, 0)
        ended = valid & (self.t == self.lengths)
        self.waiting = ended & self.next_step
        if not self.next_step:
            self.t[ended] = 0
        obs = np.zeros((self.num_envs, 1), np.float32)
        none = np.zeros(self.num_envs, bool)
        return Batch(slice(0, self.num_envs), obs, valid.astype(np.float32), ended, none, valid, obs, np.zeros(0),
                     np.zeros(0))


@pytest.mark.parametrize("next_step_reset", [False, True])
def test_short_episodes_are_not_favoured(next_step_reset):
    scores = evaluate(LengthVec([2, 50], next_step_reset), lambda obs, starts: np.zeros((2, 1), np.int32), 10, 0)
    assert sorted(scores.returns) == [2.0] * 5 + [50.0] * 5
    assert sorted(scores.lengths) == [2] * 5 + [50] * 5


def test_uneven_shares_are_played_in_full():
    scores = evaluate(LengthVec([3, 4, 5], False), lambda obs, starts: np.zeros((3, 1), np.int32), 7, 0)
    assert sorted(scores.lengths) == [3, 3, 3, 4, 4, 5, 5]


def test_summary_is_normalised_with_its_interval():
    scores = Scores(np.array([90.0, 110.0] * 50), np.full(100, 7))
    summary = scores.summary(random_return=0.0, expert_return=100.0)
    assert summary["return_mean"] == 100 and summary["normalized"] == pytest.approx(1.0)
    low, high = summary["ci95"]
    assert 0.97 < low < 1.0 < high < 1.03  # a standard error is 0.01
    unknown = scores.summary(0.0, None)
    assert unknown["normalized"] is None and 97 < unknown["ci95"][0] < 100


def test_random_policy_of_cartpole_scores_what_is_known_of_it():
    with make_eval_vec(EnvConfig(name="cartpole", num_envs=256), 100) as vec:
        scores = evaluate(vec, RandomActor(vec.spec, 0), 1000, 0)
        again = evaluate(vec, RandomActor(vec.spec, 0), 1000, 0)
    assert 20 < scores.returns.mean() < 25  # 22.2 is often quoted
    assert np.array_equal(scores.returns, again.returns)


@pytest.mark.parametrize(("env", "rows"), [
    (EnvConfig(name="cartpole", num_envs=256), 50), (EnvConfig(name="cartpole", num_envs=8, num_workers=2), 8),
    (EnvConfig(name="tests.support.identified:Parallel", num_envs=6, backend="serial"), 6),
    (EnvConfig(name="tests.support.identified:Parallel", num_envs=300, backend="serial"), 48)])
def test_evaluation_takes_no_more_rows_than_it_needs_and_whole_environments(env, rows):
    with make_eval_vec(env, 50) as vec:
        assert vec.num_envs == rows


def test_random_actor_covers_a_box_and_survives_an_unbounded_one():
    action = ActionSpec(low=np.float32([-3, -np.inf]), high=np.float32([1, np.inf]), shape=(2,))
    spec = EnvSpec("x", (1,), np.dtype(np.float32), action)
    actions = RandomActor(spec, 0)(np.zeros((10_000, 1)), np.zeros(10_000, bool))
    assert actions.dtype == np.float32 and np.isfinite(actions).all()
    assert -3 <= actions[:, 0].min() < -2.9 and 0.9 < actions[:, 0].max() <= 1
    assert actions[:, 1].std() == pytest.approx(1, abs=0.05)


def test_policy_actor_keeps_the_recurrent_state_between_steps():
    action = ActionSpec(low=np.float32([-1]), high=np.float32([1]), shape=(1,))
    policy = Policy(EnvSpec("x", (2,), np.dtype(np.float32), action), PolicyConfig(hidden=(8,), lstm=4))
    act, obs = PolicyActor(policy, 3), np.ones((3, 2), np.float32)
    first = act(obs, np.ones(3, bool))
    second = act(obs, np.array([False, True, False]))
    assert np.allclose(first[1], second[1]) and not np.allclose(first[0], second[0])


def test_a_run_is_evaluated_from_its_directory(tmp_path):
    recorder = run(tiny("ppo", tmp_path / "run", eval__final_episodes=20))
    result = puffer_il.evaluate(tmp_path / "run", episodes=20, seed=1)
    assert result["return_mean"] == recorder.summary["eval"]["return_mean"]  # the same starting states and weights
    assert result["env_steps"] == recorder.summary["env_steps"]
    policy, config, _ = load_policy(tmp_path / "run")
    assert config.env.name == "cartpole" and not policy.training
    assert torch.is_tensor(policy.value(torch.zeros(1, 4)))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a run directory"):
        puffer_il.evaluate(tmp_path)


@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_whole_rollouts_give_the_scores_of_single_steps(env, deterministic):
    torch.manual_seed(1)
    with make_eval_vec(EnvConfig(name=env, num_envs=20), 20) as vec:
        policy = Policy(vec.spec, PolicyConfig(hidden=(16,)))
        assert vec.num_envs == 20
        fast = evaluate(vec, policy_actor(policy, vec, deterministic, 7), 33, 5)
        actor = policy_actor(policy, vec, deterministic, 7)
        slow = evaluate(vec, lambda *asked: actor(*asked), 33, 5)
    assert len(fast.returns) == 33
    assert np.array_equal(fast.returns, slow.returns) and np.array_equal(fast.lengths, slow.lengths)
