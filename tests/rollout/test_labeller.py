"""An expert beside rollouts: every label is the expert's answer to the very state it stands beside.

The environments name themselves in every cell (tests/identified.py), and the expert's answer is a code of the cell.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.demos.rows import Joined
from puffer_il.learners.common.bc_on_labels import LabelledRollouts
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import EVERY, Actor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.labeller import Labeller
from puffer_il.vector.vec import make_vec
from tests.support.rollouts import sign_demos

CPU = torch.device("cpu")
VECS = {"serial": {"backend": "serial"}, "workers": {"backend": "multiprocessing", "num_workers": 2, "num_groups": 2}}


def answer(obs: np.ndarray) -> np.ndarray:
    """(n, 1) the expert's choice out of five for index, episode and step."""
    index, episode, step = obs[..., :3].astype(int).reshape(-1, 3).T
    return ((index + 2 * episode + 3 * step) % 5).astype(np.int32)[:, None]


class Coded(Actor):
    """The expert; it counts how often it is asked."""

    def __init__(self, stepwise: bool) -> None:
        self.stepwise, self.asked = stepwise, 0

    def __call__(self, obs, starts, rows=EVERY):
        self.asked += 1
        return answer(obs)

    def state_dict(self):
        return {"asked": self.asked}

    def load_state_dict(self, state):
        self.asked = state["asked"]


class Half:
    """The mixer: the expert acts where `share` of a counter says so."""

    greedy = False

    def __init__(self, share: float) -> None:
        self.share, self.rng = share, np.random.default_rng(0)

    @property
    def expert_acts(self) -> bool:
        return self.share > 0

    @property
    def policy_acts(self) -> bool:
        return self.share < 1

    def mix(self, own, expert, starts, rows, obs):
        return expert if own is None else np.where(self.rng.random((len(starts), 1)) < self.share, expert, own)


def labelled(kind: str, stepwise: bool, share: float, lstm: int = 0, num_steps: int = 40):
    """Three rollouts in a row of six environments, while their arrays are good."""
    torch.manual_seed(0)
    with make_vec("tests.support.identified:Gymnasium", num_envs=6, seed=7, **VECS[kind]) as vec:
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,), lstm=lstm))
        buffer = RolloutBuffer(vec.spec, num_steps, 6, state_dim=policy.state_dim, expert=True)
        expert = Coded(stepwise)
        collector = Collector(vec, policy, buffer, CPU, 7, labeller=Labeller(expert, Half(share)))
        for _ in range(3):
            collector.collect()
            yield collector, expert


@pytest.mark.parametrize("kind", VECS)
@pytest.mark.parametrize("stepwise", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_labels_stand_beside_their_states_and_what_was_done_is_stored(kind, stepwise, share):
    agreement = []
    for collector, expert in labelled(kind, stepwise, share):
        buffer = collector.buffer
        valid, labels = buffer.valid, buffer.expert_actions
        assert valid.sum() > 150
        np.testing.assert_array_equal(labels[valid], answer(buffer.obs[valid]))
        # The next observation of an episode that goes on echoes what was done.
        on = valid[:-1] & valid[1:] & ~(buffer.terminations | buffer.truncations)[:-1]
        assert on.sum() > 100
        np.testing.assert_array_equal(buffer.obs[1:][on][:, 3], buffer.actions[:-1][on][:, 0])
        agreement.append((buffer.actions[valid] == labels[valid]).mean())
        assert (collector.act_seconds > 0) and (expert.asked % (1 if share == 0 and not stepwise else 40) == 0)
    asked = {"serial": 1, "workers": 2}[kind] * 40 * 3
    assert expert.asked == (3 if share == 0 and not stepwise else asked)
    # A policy near uniform agrees by chance in a fifth of its own steps.
    assert np.mean(agreement) == pytest.approx(share + (1 - share) / 5, abs=0.08 if share < 1 else 0)


def test_a_recurrent_state_follows_whoever_acts():
    for collector, _ in labelled("serial", True, 1.0, lstm=4):
        obs, starts = torch.from_numpy(collector.buffer.obs.copy()), torch.from_numpy(collector.buffer.episode_starts)
        first = torch.from_numpy(collector.buffer.initial_state.copy())
        with torch.no_grad():
            _, state = collector.policy.unroll(obs, first, starts)
        torch.testing.assert_close(collector.state, state, rtol=1e-5, atol=1e-6)


def test_what_the_expert_remembers_is_saved_with_the_rollouts():
    for collector, expert in labelled("serial", True, 1.0):
        state = collector.state_dict()
        assert state["expert"] == {"asked": expert.asked}
    expert.asked = 0
    collector.labeller.expert.load_state_dict(state["expert"])
    assert expert.asked == 120


def test_a_rollout_in_c_is_labelled_as_a_whole():
    torch.manual_seed(0)
    with make_vec("cartpole", num_envs=32) as vec:
        policy, buffer = Policy(vec.spec, PolicyConfig(hidden=(8,))), RolloutBuffer(vec.spec, 20, 32, expert=True)

        class Sign(Coded):
            def __call__(self, obs, starts, rows=EVERY):
                self.asked += 1
                return (obs[:, 2:3] > 0).astype(np.int32)

        expert = Sign(stepwise=False)
        collector = Collector(vec, policy, buffer, CPU, 7, labeller=Labeller(expert, Half(0.0)))
        collector.collect()
        assert expert.asked == 1 and collector.act_seconds == 0  # in C
        np.testing.assert_array_equal(buffer.expert_actions, buffer.obs[..., 2:3] > 0)
        assert buffer.logprobs.any()
        Half.greedy, before = True, buffer.obs.copy()
        try:
            collector.collect()
        finally:
            Half.greedy = False
        assert not np.array_equal(before, buffer.obs)
        with torch.no_grad():
            modes = policy.dist.mode(policy.action_params(torch.from_numpy(buffer.obs.reshape(-1, 4))))
        np.testing.assert_array_equal(buffer.actions.reshape(-1, 1), modes)


@pytest.mark.parametrize("kind", VECS)
def test_an_aggregate_holds_whole_streams_with_the_right_labels(kind):
    data = LabelledRollouts(None, 0.25)
    total = 0
    for collector, _ in labelled(kind, True, 0.0):
        buffer = collector.buffer
        data.add(buffer.obs, buffer.expert_actions, buffer.valid, buffer.episode_starts)
        total += int(buffer.valid.sum())
    obs, labels, episodes, held_out, weights = data.rows()
    assert weights is None
    assert len(obs) == len(data) == total > 500
    np.testing.assert_array_equal(labels, answer(obs))
    names = {tuple(row) for row in obs[:, :2].astype(int)}
    by_id = {number: obs[episodes == number] for number in np.unique(episodes)}
    assert len(by_id) == len(names)  # one number for each episode of each environment
    for rows in by_id.values():
        assert len(np.unique(rows[:, :2], axis=0)) == 1
        np.testing.assert_array_equal(rows[:, 2], np.arange(len(rows)))  # whole, in order, across rollouts
    for number in by_id:
        assert len(set(held_out[episodes == number])) == 1
    assert np.mean([held_out[episodes == number][0] for number in by_id]) == pytest.approx(0.25, abs=0.05)


def in_memory(aggregate: LabelledRollouts) -> list[np.ndarray]:
    """Its rows, those of the demonstrations and of the rollouts end to end."""
    return [np.concatenate((part.first, part.second)) if isinstance(part, Joined) else part
            for part in aggregate.rows()]


def test_an_aggregate_forgets_the_oldest_and_comes_back_as_it_was():
    demos = dataclasses.replace(sign_demos(40), weights=np.repeat(np.float32([1, 3]), 20))
    data, whole = LabelledRollouts(demos, 0.5, capacity=50), LabelledRollouts(demos, 0.5)
    rng = np.random.default_rng(9)
    valid, starts = np.ones((10, 3), bool), np.zeros((10, 3), bool)
    valid[4, 1], starts[[0, 5]] = False, True
    obs = rng.normal(size=(4, 10, 3, 3)).astype(np.float32)
    for part in obs:
        for aggregate in (data, whole):
            aggregate.add(part, (part[..., :1] > 0).astype(np.int32), valid, starts)
    assert (len(data), len(whole)) == (40 + 29, 40 + 4 * 29)  # a rollout more would be 58 rows
    kept, everything = in_memory(data), in_memory(whole)
    np.testing.assert_array_equal(kept[0][:40], demos.obs)
    np.testing.assert_array_equal(kept[1], kept[0][:, :1] > 0)
    np.testing.assert_array_equal(kept[4], [0.5] * 20 + [1.5] * 20 + [1] * 29)
    # What is left has the numbers, and the side, that it always had.
    place = {row.tobytes(): i for i, row in enumerate(everything[0])}
    where = [place[row.tobytes()] for row in kept[0]]
    for ours, theirs in zip(kept, everything, strict=True):
        np.testing.assert_array_equal(ours, theirs[where])
    again = LabelledRollouts(demos, 0.5, capacity=50)
    again.load_state_dict(data.state_dict())
    for aggregate in (again, data):
        aggregate.add(obs[0], (obs[0][..., :1] > 0).astype(np.int32), valid, starts)
    for ours, theirs in zip(in_memory(again), in_memory(data), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_shares_held_out_are_even_and_never_all():
    for share in (0.0, 0.1, 0.3, 0.9):
        sides = LabelledRollouts(None, share)._held_out(np.arange(1000))
        assert sides.sum() == pytest.approx(1000 * share, abs=1) and not sides[0]
        if 0 < share < 0.5:
            gaps = [b - a for a, b in pairwise(np.flatnonzero(sides))]
            assert max(gaps) - min(gaps) <= 1
