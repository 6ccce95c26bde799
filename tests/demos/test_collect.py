"""Collected rows, in a vec whose every cell says (row, episode, step), under both autoreset conventions."""

import sys

import gymnasium
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Batch, EnvSpec
from puffer_il.demos import collect, doubts
from puffer_il.vector.vec import make_vec
from tests.support.field import NotANumber

NAN = np.nan


class FakeVec:
    """Row r's episode e lasts lengths[r][e] steps; observations are (row, episode, step), rewards 100·e + step.

    Episodes of even number terminate, the others are truncated. `absent` rows are never valid.
    """

    time_limit = None

    def __init__(self, lengths, next_step, continuous=False, absent=()):
        bound = np.ones(2, np.float32)
        action = ActionSpec(low=-bound, high=bound, shape=(2,)) if continuous else ActionSpec(nvec=(1000,))
        self.spec = EnvSpec("fake", (3,), np.dtype(np.float32), action)
        self.lengths, self.next_step, self.absent = lengths, next_step, list(absent)
        self.num_envs = len(lengths)

    def reset(self, seed):
        self.seed = seed
        self.episode, self.time = np.zeros((2, self.num_envs), int)
        self.resetting = np.zeros(self.num_envs, bool)
        self.buffer = self._obs()
        return self.buffer

    def env_states(self):
        return None

    def _obs(self):
        return np.stack([np.arange(self.num_envs), self.episode, self.time], 1).astype(np.float32)

    def step(self, actions):
        valid = ~self.resetting
        valid[self.absent] = False
        self.time[valid] += 1
        ended = valid & (self.time == [self.lengths[r][e] for r, e in enumerate(self.episode)])
        rewards = np.where(valid, 100 * self.episode + self.time, NAN).astype(np.float32)
        terminations, truncations = ended & (self.episode % 2 == 0), ended & (self.episode % 2 == 1)
        final = np.where(ended[:, None], self._obs(), NAN)
        begins = self.resetting if self.next_step else ended
        self.episode[begins] += 1
        self.time[begins] = 0
        self.resetting = ended if self.next_step else self.resetting
        self.buffer[:] = self._obs()  # the same memory every time, as vectors do
        return Batch(slice(0, self.num_envs), self.buffer, rewards, terminations, truncations, valid, final,
                     np.empty(0), np.empty(0))


def number(obs, episode_start):
    """An action that says which observation it was for."""
    return (10 * obs[:, 1] + obs[:, 2])[:, None]


LENGTHS = [[4, 2, 9, 3, 9, 9, 9], [1, 1, 1, 1, 1, 1, 1], [7, 3, 5, 9, 9, 9, 9]]


@pytest.mark.parametrize("next_step", [False, True])
@pytest.mark.parametrize(("rows", "episodes", "quota"), [(1, 3, [3]), (3, 7, [3, 2, 2]), (3, 2, [1, 1, 0]),
                                                         (3, 3, [1, 1, 1])])
def test_each_row_gives_its_first_episodes_whole(next_step, rows, episodes, quota):
    vec = FakeVec([lengths + [5] * 50 for lengths in LENGTHS[:rows]], next_step)
    demos = collect(vec, number, episodes, "fake expert", seed=5)
    expected = [(r, e) for r in range(rows) for e in range(quota[r])]
    assert demos.lengths.tolist() == [LENGTHS[r][e] for r, e in expected]
    for (row, episode), start, end in zip(expected, demos.episode_starts, demos.episode_ends, strict=True):
        steps = np.arange(end - start)
        np.testing.assert_array_equal(demos.obs[start:end], [(row, episode, t) for t in steps])
        np.testing.assert_array_equal(demos.next_obs[start:end], [(row, episode, t + 1) for t in steps])
        np.testing.assert_array_equal(demos.actions[start:end, 0], 10 * episode + steps)
        np.testing.assert_array_equal(demos.rewards[start:end], 100 * episode + steps + 1)
        assert demos.terminations[end - 1] == (episode % 2 == 0)
        assert demos.truncations[end - 1] == (episode % 2 == 1)
    assert (demos.source, vec.seed) == ("fake expert", 5)


@pytest.mark.parametrize("next_step", [False, True])
def test_the_expert_is_told_when_episodes_begin(next_step):
    starts = []

    def act(obs, episode_start):
        starts.append((obs[0, 2], bool(episode_start[0])))
        return np.zeros(len(obs))

    collect(FakeVec([[3, 2, 4, 9]], next_step), act, 3, "x")
    assert all(start for step, start in starts if step == 0)
    assert sum(start for _, start in starts) == (5 if next_step else 3)  # the ignored action of a resetting row as well


def test_continuous_actions_are_stored_as_executed():
    vec = FakeVec([[3, 9]], False, continuous=True)
    demos = collect(vec, lambda obs, _: np.tile([0.25, -7.0], (len(obs), 1)), 1, "x")
    assert demos.actions.dtype == np.float32
    np.testing.assert_array_equal(demos.actions, [[0.25, -1]] * 3)


def test_an_episode_without_an_end_is_an_error(monkeypatch):
    monkeypatch.setattr(sys.modules["puffer_il.demos.collect"], "MAX_EPISODE_STEPS", 20)
    with pytest.raises(InputError, match="has not ended after 20 steps; give the environment a time limit"):
        collect(FakeVec([[30, 9]], False), number, 1, "x")
    with pytest.raises(InputError, match="has not ended"):
        collect(FakeVec([[5] * 50] * 2, False, absent=[1]), number, 2, "x")
    with pytest.raises(InputError, match="has not ended after 9 steps"):
        collect(FakeVec([[10] * 9], False), number, 5, "x", limit=9)
    for next_step in (False, True):  # whose resets are steps in which nothing counts
        known = FakeVec([[30] * 9], next_step)
        known.time_limit = 30
        assert collect(known, number, 5, "x", limit=9).num_episodes == 5, "its own limit goes first"
    assert collect(FakeVec([[10] * 9], False), number, 5, "x").num_episodes == 5


def test_no_episodes_is_an_error():
    with pytest.raises(InputError, match="0 episodes asked for"):
        collect(FakeVec([[3]], False), number, 0, "x")


@pytest.mark.parametrize("name", ["cartpole", "CartPole-v1"])
def test_real_environments_replay(name):
    """Every collected row, put into Gymnasium's CartPole, gives the successor and the end that was collected."""
    with make_vec(name, num_envs=3) as vec:
        demos = collect(vec, lambda obs, _: (obs[:, 2:3] > 0).astype(np.int32), 5, "leaning", seed=1)
        assert doubts(demos, vec.spec) == []
    assert demos.num_episodes == 5
    env = gymnasium.make("CartPole-v1").unwrapped
    for t in range(len(demos)):
        env.reset()
        env.state = demos.obs[t].astype(np.float64)
        following, reward, terminated, _, _ = env.step(int(demos.actions[t, 0]))
        np.testing.assert_allclose(following, demos.next_obs[t], rtol=1e-5, atol=1e-6)
        assert (reward, terminated) == (demos.rewards[t], demos.terminations[t])
    assert demos.terminated.all()


@pytest.mark.parametrize(("where", "said"), [("reward", "the reward"), ("observation", "observation 'obs'")])
def test_an_environment_that_gives_nan_is_named(where, said):
    with make_vec(NotANumber, num_envs=2, backend="serial", kwargs={"where": where, "at": 8}) as vec, (
            pytest.raises(InputError, match=f"d: {said} is NaN or infinite in row 0, 8 steps after the reset")):
        collect(vec, lambda obs, starts: np.zeros((2, 1), np.int32), 2, "d")
