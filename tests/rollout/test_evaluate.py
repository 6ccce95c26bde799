"""Evaluation: whole episodes, every row its share, the true reward only, and the same answer for the same seed."""

import os
import signal
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.core.config import EnvConfig, PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Batch, EnvSpec
from puffer_il.demos import collect
from puffer_il.demos.quota import Quota
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import PolicyActor, RandomActor, policy_actor
from puffer_il.rollout.episode_limit import episode_limit
from puffer_il.rollout.evaluate import Scores, evaluate, make_eval_vec
from puffer_il.rollout.stats import bootstrap_ci
from puffer_il.training.run_dir import load_config
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.vec import make_vec
from tests.support.demos import make_demos
from tests.support.runs import run, tiny


class LengthVec:
    """Row i plays episodes of exactly lengths[i] steps, reward 1 each; the step after an end is ignored if asked."""

    logs, dropped, time_limit = None, (), None

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


# Episodes without an end

class Endless(gymnasium.Env):
    """Ends only if the policy says so, after the steps that its number says."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, bool(action), False, {}


def test_an_episode_without_an_end_is_cut_and_told():
    with make_eval_vec(EnvConfig(name=f"{__name__}:Endless", num_envs=4, backend="serial"), 4) as vec:
        def never(obs, starts):
            return np.zeros((4, 1), np.int32)

        def some(obs, starts):
            return np.array([[0], [1], [0], [1]], np.int32)

        scores = evaluate(vec, never, 4, 0, 30)
        assert scores.returns.tolist() == [30] * 4 == scores.lengths.tolist() and scores.cut == 4
        scores = evaluate(vec, some, 8, 0, 30)
        assert sorted(scores.lengths) == [1] * 4 + [30] * 2, "who does not end plays no other episode"
        assert scores.notices == ["2 of 6 evaluated episodes do not end: they count as they stood after 30 steps; give "
                                  "the environment a time limit, or set eval.max_episode_steps"]
        assert scores.summary(None, None)["cut"] == 2
        assert evaluate(vec, lambda obs, starts: np.ones((4, 1), np.int32), 8, 0, 30).notices == []


@pytest.mark.parametrize("limit", [64, 100, 130])
def test_cut_in_c_as_step_by_step(limit, tmp_path):
    """A pendulum without a time limit never ends."""
    vec = make_eval_vec(EnvConfig(name="pendulum", num_envs=8, kwargs={"max_episode_steps": 0}), 8)
    policy = Policy(vec.spec, PolicyConfig(hidden=(8,)))
    fast = evaluate(vec, policy_actor(policy, vec, True, 0), 8, 0, limit)
    actor = policy_actor(policy, vec, True, 0)
    slow = evaluate(vec, lambda obs, starts: actor(obs, starts), 8, 0, limit)
    assert fast.cut == slow.cut == 8 and set(fast.lengths) == set(slow.lengths) == {limit}
    np.testing.assert_allclose(fast.returns, slow.returns, rtol=1e-4)


def test_without_a_number_the_environments_limit_counts_then_the_demonstrations_then_that_of_atari():
    longest = make_demos((3, 250, 2))
    assert episode_limit(0, None) == 27_000
    assert episode_limit(0, None, longest) == 2_500 and episode_limit(0, None, make_demos((3, 1))) == 1_000
    assert episode_limit(0, 50_000, longest) == 50_000 and episode_limit(70, 50_000, longest) == 70


def test_an_environment_with_a_long_limit_of_its_own_is_not_cut_before():
    never = LengthVec([27_500], False)
    assert evaluate(never, lambda obs, starts: np.zeros((1, 1), np.int32), 1, 0).lengths.tolist() == [27_000]
    never.time_limit = 30_000
    scores = evaluate(never, lambda obs, starts: np.zeros((1, 1), np.int32), 1, 0)
    assert scores.lengths.tolist() == [27_500] and not scores.notices


@pytest.mark.parametrize(("name", "kwargs", "limit"), [
    ("cartpole", {}, 500), ("cartpole", {"max_episode_steps": 0}, None), ("taxi", {"max_episode_steps": 77}, 77),
    ("CartPole-v1", {}, 500), ("CliffWalking-v1", {}, None), ("FrozenLake-v1", {"max_episode_steps": 9}, 9),
    (f"{__name__}:Endless", {}, None)])
def test_the_environments_own_limit_is_known_where_it_tells(name, kwargs, limit):
    with make_vec(name, num_envs=2, kwargs=kwargs, backend="auto") as vec:
        assert vec.time_limit == limit


def test_a_run_whose_episodes_have_no_end_says_which_key_limits_them(tmp_path):
    """The key changes where they are cut."""
    for limit in (40, 50):
        recorder = run(tiny("ppo", tmp_path / str(limit), env__name=f"{__name__}:Endless", env__num_envs=4,
                            env__backend="serial", train__total_steps=256, eval__max_episode_steps=limit,
                            ppo__learning_rate=3e-2))
        told = [message for message in recorder.messages if "eval.max_episode_steps" in message]
        assert len(told) == 1 and f"after {limit} steps" in told[0]
        assert recorder.summary["eval"]["return_mean"] == limit and recorder.summary["eval"]["cut"] == 3


def test_the_demonstrations_limit_is_kept_in_the_run_for_whoever_evaluates_or_records_it_later(tmp_path):
    """Their expert never ends the 120 steps of its episode, and the clone of it does not either."""
    shown = replace(make_demos((120,), obs_shape=(1,), ends="open"), actions=np.zeros((120, 1), np.int32))
    shown.save(tmp_path / "d.npz")
    config = tiny("bc", tmp_path / "run", env__name=f"{__name__}:Endless", env__num_envs=4, env__backend="serial",
                  demos__source=str(tmp_path / "d.npz"))
    recorder = run(config)
    assert any("do not end: they count as they stood after 1,200 steps" in message for message in recorder.messages)
    assert recorder.summary["eval"]["limit"] == 1200
    (tmp_path / "d.npz").unlink()
    assert load_config(tmp_path / "run").eval.max_episode_steps == 1200
    assert puffer_il.evaluate(tmp_path / "run", episodes=2, trust=True)["limit"] == 1200
    with pytest.raises(InputError, match="an episode has not ended after 1,200 steps"):
        puffer_il.collect(tmp_path / "run", episodes=2, trust=True)


@pytest.mark.parametrize("moment", ["during", "last"])
def test_an_interrupt_ends_an_evaluation_at_once(moment, tmp_path, monkeypatch):
    """With a checkpoint, and the scores that there are."""
    played = []

    def interrupted(vec, actor, episodes, seed, limit, stopped, *more):
        played.append(seed)
        if len(played) == 2:  # the first one is of the random policy
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(vec, actor, episodes, seed, limit, stopped, *more)

    monkeypatch.setattr("puffer_il.training.judge.evaluate", interrupted)
    recorder = run(tiny("ppo", tmp_path / "run", train__total_steps=512,
                        eval__interval_steps=256 if moment == "during" else 0))
    assert recorder.summary["status"] == "interrupted" and recorder.summary["eval"] is None
    assert recorder.summary["env_steps"] == (256 if moment == "during" else 512) and len(played) == 2
    assert list((tmp_path / "run" / "checkpoints").glob("*.pt"))


# Agents that take no part

class Guests:
    """Four agents: one stays to the end, one leaves early, one joins late, and one never comes; or none do."""

    possible_agents = ("host", "leaver", "late", "never")

    def __init__(self, empty=False):
        self.empty, self.agents = empty, []

    def observation_space(self, agent):
        return gymnasium.spaces.Box(-1, 1, (1,))

    def action_space(self, agent):
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, [] if self.empty else ["host", "leaver"]
        return self._now(), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        acted, self.t = self.agents, self.t + 1
        over = {agent: agent == "leaver" and self.t == 2 for agent in acted}
        told = {agent: np.zeros(1, np.float32) for agent in acted} | ({"late": np.zeros(1, np.float32)} if self.t == 3
                                                                      else {})
        cut = {agent: self.t == 6 for agent in told}
        self.agents = [] if self.t == 6 else [agent for agent in told if not over.get(agent)]
        rewards = {agent: {"host": 1.0, "leaver": 10.0, "late": 100.0}[agent] if agent in acted else 0.0
                   for agent in told}
        return told, rewards, {agent: over.get(agent, False) for agent in told}, cut, {agent: {} for agent in told}

    def _now(self):
        return {agent: np.zeros(1, np.float32) for agent in self.agents}

    def close(self):
        pass


def guests(vec):
    return lambda obs, starts: np.zeros((vec.num_envs, 1), np.int32)


def test_the_score_is_the_mean_over_episodes_of_agents_that_took_part():
    with make_vec(Guests, num_envs=8, backend="serial") as vec:
        scores = evaluate(vec, guests(vec), 16, 0)
        assert sorted(scores.returns) == [6] * 4 + [20] * 4 + [300] * 4
        assert sorted(scores.lengths) == [2] * 4 + [3] * 4 + [6] * 4
        assert scores.absent == 4 and "in 4 evaluated episodes an agent took no part" in scores.notices[0]
        demos = collect(vec, guests(vec), 16, "d")
        assert sorted(demos.returns) == sorted(scores.returns)
        assert demos.notes == ("12 of 16 episodes: in the others an agent took no part",)
        assert not collect(vec, guests(vec), 3, "d").notes


def test_who_joins_or_leaves_takes_part_in_the_episode_of_the_others():
    with make_vec(Guests, num_envs=8, backend="serial") as vec:
        scores = evaluate(vec, guests(vec), 16, 0)
        assert scores.clusters is not None
        shared = [tuple(sorted(scores.returns[scores.clusters == c])) for c in np.unique(scores.clusters)]
        assert shared == [(6, 20, 300)] * 4
        (low, high), (least, most) = scores.ci95, bootstrap_ci(scores.returns)
        assert low == pytest.approx(high) and most - least > 100, "every episode has the same three agents"


@pytest.mark.parametrize("limit", [27_000, 30])
def test_agents_of_a_c_environment_share_episodes_however_they_are_played(limit):
    env = EnvConfig(name="tron", num_envs=16, kwargs={"scripted": 0})
    with make_eval_vec(env, 40) as vec:
        agents = vec.spec.num_agents
        assert agents > 1
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,)))
        fast = evaluate(vec, policy_actor(policy, vec, False, 0), 40, 0, limit)
        actor = policy_actor(policy, vec, False, 0)
        slow = evaluate(vec, lambda obs, starts: actor(obs, starts), 40, 0, limit)
    assert np.array_equal(fast.returns, slow.returns) and np.array_equal(fast.clusters, slow.clusters)
    assert len(fast.clusters) == len(fast.returns) and np.bincount(np.unique(fast.clusters, return_counts=True)[1]
                                                                   ).argmax() == agents


def test_an_agent_that_never_waits_for_the_others_shares_one_long_episode_with_them():
    """No step ends the episodes of both, so that nothing says that any two of them are independent."""
    quota = Quota(2, 6, 2)
    valid = np.ones(2, bool)
    for t in range(12):
        quota.follow(valid, np.array([t % 4 == 1, t % 4 == 3]))
    scores = Scores(np.arange(6.0), np.ones(6), clusters=quota.clusters)
    assert quota.clusters.tolist() == [0] * 6 and scores.ci95 is None
    assert "the 6 evaluated episodes are those of agents in one episode" in scores.notices[0]


def test_a_run_with_agents_that_never_come_ends(tmp_path):
    recorder = run(tiny("ppo", tmp_path / "run", env__name=f"{__name__}:Guests", env__num_envs=8,
                        env__backend="serial", train__total_steps=512, eval__final_episodes=8))
    assert recorder.summary["eval"]["return_mean"] == (6 + 20 + 300) / 3
    assert recorder.summary["eval"]["episodes"] == 6 and recorder.summary["eval"]["absent"] == 2


def test_an_environment_in_which_nobody_acts_is_refused():
    with make_vec(Guests, num_envs=4, backend="serial", kwargs={"empty": True}) as vec, (
            pytest.raises(InputError, match="nobody took part in an evaluated episode")):
        evaluate(vec, guests(vec), 4, 0, 50)
