"""The replay buffer against its NumPy reference, and data in which every cell names its row."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos import spread
from puffer_il.demos.build import shifted
from puffer_il.rollout.demo_replay import DemoReplay
from puffer_il.rollout.replay import FIELDS, ReplayBuffer, Transitions, joined
from tests.support.rollouts import SPEC, make_buffer, sign_demos
from tests.support.runs import same_state


class ReferenceReplay:
    """What ReplayBuffer holds and draws, in plain NumPy: a list of rows, the oldest first."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.stored = capacity, 0
        self.rows: list[dict[str, Array]] = []

    def append(self, rows: Transitions, valid: Array) -> None:
        for i in np.flatnonzero(valid):
            self.rows.append({name: getattr(rows, name)[i].copy() for name in FIELDS})
            self.stored += 1
        del self.rows[:-self.capacity]

    def gather(self, index: Array) -> Transitions:
        """Rows by their place in the ring: row k of the list is at (stored − len + k) mod capacity."""
        oldest = self.stored - len(self.rows)
        places = {(oldest + k) % self.capacity: row for k, row in enumerate(self.rows)}
        return Transitions(**{name: np.array([places[int(i)][name] for i in index]) for name in FIELDS})


def make_spec(obs_shape: tuple[int, ...], obs_dtype: Any, continuous: bool) -> EnvSpec:
    bound = np.ones(2, np.float32)
    action = ActionSpec(low=-bound, high=bound, shape=(2,)) if continuous else ActionSpec(nvec=(4,))
    return EnvSpec("test", obs_shape, obs_dtype, action)


def numbered(spec: EnvSpec, first: int, n: int) -> Transitions:
    """Rows first, first + 1, …: every cell of a row says its number (as far as the dtype has it) and its column."""
    def cells(shape: tuple[int, ...], dtype: Any, offset: int) -> np.ndarray:
        columns = int(np.prod(shape))
        return (7 * np.arange(first, first + n)[:, None] + np.arange(columns) + offset).astype(dtype).reshape(n, *shape)

    return Transitions(cells(spec.obs_shape, spec.obs_dtype, 0), cells((spec.action.dim,), spec.action.dtype, 1),
                       cells((), np.float32, 2), cells(spec.obs_shape, spec.obs_dtype, 3),
                       np.arange(first, first + n) % 3 == 0)


@settings(deadline=None, max_examples=60)
@given(capacity=st.integers(1, 20), sizes=st.lists(st.integers(0, 25), max_size=6), seed=st.integers(0, 2**32),
       obs_shape=st.sampled_from([(), (3,), (2, 4)]), obs_dtype=st.sampled_from(["float32", "uint8", "int16"]),
       continuous=st.booleans(), share=st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_the_ring_holds_what_the_reference_holds(capacity: int, sizes: list[int], seed: int,
                                                 obs_shape: tuple[int, ...], obs_dtype: str, continuous: bool,
                                                 share: float) -> None:
    spec, rng, first = make_spec(obs_shape, obs_dtype, continuous), np.random.default_rng(seed), 0
    ours, reference = ReplayBuffer(spec, capacity, 0), ReferenceReplay(capacity)
    for n in sizes:
        rows, valid = numbered(spec, first, n), rng.random(n) < share
        assert ours.append(rows, valid) == valid.sum()
        reference.append(rows, valid)
        first += n
    assert len(ours) == len(reference.rows) and ours.stored == reference.stored
    assert ours.terminated == sum(bool(row["terminations"]) for row in reference.rows)
    expected = reference.gather(np.arange(len(ours)))
    for name in FIELDS:
        held = getattr(ours.rows, name)[:len(ours)]
        np.testing.assert_array_equal(held, getattr(expected, name).reshape(held.shape), err_msg=name)


@settings(deadline=None, max_examples=20)
@given(capacity=st.integers(1, 40), stored=st.integers(1, 60), lead=st.sampled_from([(5,), (3, 4), (2, 1)]))
def test_drawn_rows_are_rows_of_the_ring(capacity: int, stored: int, lead: tuple[int, ...]) -> None:
    spec = make_spec((3,), np.int32, False)
    replay = ReplayBuffer(spec, capacity, 3)
    replay.append(numbered(spec, 0, stored))
    rows = replay.sample(*lead)
    number = rows.obs[..., 0] // 7
    assert rows.rewards.shape == lead and rows.obs.shape == (*lead, 3)
    assert number.min() >= max(0, stored - capacity) and number.max() < stored
    for name in FIELDS:
        expected = getattr(numbered(spec, 0, stored), name)[number]
        np.testing.assert_array_equal(getattr(rows, name), expected, err_msg=name)
        assert getattr(rows, name).flags.c_contiguous


@pytest.mark.parametrize("weights", [None, np.repeat(np.float32([1, 0, 2, 1]), 10)])
@pytest.mark.parametrize("follow", [True, False])
def test_demonstrations_are_drawn_as_a_replay_that_holds_them_draws(weights: Array | None, follow: bool) -> None:
    demos = dataclasses.replace(sign_demos(), weights=weights)
    if follow:
        demos = dataclasses.replace(demos, next_obs=shifted(demos.obs, demos.final_obs + 1, demos.episode_starts))
    rows = np.arange(40) if weights is None else spread(weights, 40)
    held, lying = ReplayBuffer(SPEC, 40, 5, stream=1), DemoReplay(SPEC, demos, 5, stream=1)
    assert demos.actions is not None
    held.append(Transitions(demos.obs[rows], demos.actions[rows], rows.astype(np.float32), demos.next_obs[rows],
                            demos.terminations[rows]))
    lying.set_rewards(np.arange(40, dtype=np.float32))
    assert len(lying) == len(held) == 40
    for lead in ((7,), (3, 4), (3, 4)):
        one, other = held.sample(*lead), lying.sample(*lead)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    again = DemoReplay(SPEC, demos, 99)
    again.load_state_dict(lying.state_dict())
    np.testing.assert_array_equal(again.sample(9).rewards, lying.sample(9).rewards)
    with pytest.raises(ValueError, match="the saved replay has 39 demonstrated rows; there are 40"):
        again.load_state_dict(lying.state_dict() | {"rewards": np.zeros(39)})


def test_rows_are_drawn_alike_often_and_not_in_order() -> None:
    replay = DemoReplay(SPEC, sign_demos(), 1)
    replay.set_rewards(np.arange(40, dtype=np.float32))
    drawn = replay.sample(40_000).rewards.astype(int)
    counts = np.bincount(drawn, minlength=40)
    # Chi-squared with 39 degrees of freedom: 80 has a chance of one in ten thousand.
    assert len(counts) == 40 and ((counts - 1000) ** 2 / 1000).sum() < 80
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


def test_weighted_demonstrations_are_drawn_by_their_weights() -> None:
    weights = np.repeat(np.float32([1, 0, 2, 1]), 10)
    replay = DemoReplay(SPEC, dataclasses.replace(sign_demos(), weights=weights), 1)
    replay.set_rewards(np.arange(40, dtype=np.float32))
    episodes = replay.sample(40_000).rewards.astype(int) // 10
    np.testing.assert_allclose(np.bincount(episodes, minlength=4) / 40_000, [0.25, 0, 0.5, 0.25], atol=0.01)


def test_seed_and_stream_decide_what_is_drawn() -> None:
    def draws(seed: int, stream: int) -> np.ndarray:
        replay = DemoReplay(SPEC, sign_demos(), seed, stream)
        replay.set_rewards(np.arange(40, dtype=np.float32))
        return replay.sample(64).rewards.copy()

    np.testing.assert_array_equal(draws(1, 0), draws(1, 0))
    assert (draws(1, 0) != draws(2, 0)).any() and (draws(1, 0) != draws(1, 1)).any()


def test_a_rollout_goes_in_with_its_successors_and_without_rows_that_are_not_valid() -> None:
    buffer = make_buffer(invalid=True)
    buffer.rewards[:] = np.arange(48).reshape(8, 6)
    replay = ReplayBuffer(SPEC, 100, 0)
    valid = buffer.flat().valid
    assert replay.append_rollout(buffer) == valid.sum() < 48
    for name, expected in (("obs", buffer.flat().obs), ("next_obs", buffer.next_obs()),
                           ("rewards", np.arange(48)), ("terminations", buffer.flat().terminations)):
        np.testing.assert_array_equal(getattr(replay.rows, name)[:len(replay)], expected[valid], err_msg=name)


@pytest.mark.parametrize("stored", [5, 30])
def test_a_restored_replay_draws_and_goes_on_as_the_saved_one(stored: int) -> None:
    spec = make_spec((3,), np.float32, True)
    first = ReplayBuffer(spec, 20, 1)
    first.append(numbered(spec, 0, stored))
    first.sample(7)
    state = first.state_dict()
    assert len(state["obs"]) == min(stored, 20)  # nothing that is not there
    second = ReplayBuffer(spec, 20, 99)
    second.load_state_dict(state)
    for replay in (first, second):
        replay.append(numbered(spec, stored, 6))
    assert same_state(first.state_dict(), second.state_dict())
    np.testing.assert_array_equal(first.sample(50).rewards, second.sample(50).rewards)


def test_staging_stays_where_it_is() -> None:
    replay = DemoReplay(SPEC, sign_demos(), 0)
    rows = replay.sample(2, 3)
    assert replay.sample(2, 3) is rows and replay.sample(6) is not rows


def test_joined_rows_lie_side_by_side() -> None:
    spec = make_spec((3,), np.float32, False)
    parts = []
    for first, m in ((0, 4), (100, 2)):
        rows = numbered(spec, first, 2 * m)
        parts.append(Transitions(*(getattr(rows, name).reshape(2, m, *getattr(rows, name).shape[1:])
                                   for name in FIELDS)))
    both = joined(*parts)
    assert both.obs.shape == (2, 6, 3)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(both, name)[:, :4], getattr(parts[0], name))
        np.testing.assert_array_equal(getattr(both, name)[:, 4:], getattr(parts[1], name))


def test_what_does_not_fit_is_refused() -> None:
    replay, rows = ReplayBuffer(SPEC, 10, 0), numbered(SPEC, 0, 4)
    with pytest.raises(ValueError, match=r"rewards is float64 \(4,\) but the replay holds float32 \(4,\)"):
        rows.rewards = rows.rewards.astype(np.float64)
        replay.append(rows)
    with pytest.raises(ValueError, match=r"actions is int32 \(3, 1\) but the replay holds int32 \(4, 1\)"):
        rows = numbered(SPEC, 0, 4)
        rows.actions = rows.actions[:3]
        replay.append(rows)
    with pytest.raises(ValueError, match="valid has shape"):
        replay.append(numbered(SPEC, 0, 4), np.ones(3, bool))
    with pytest.raises(ValueError, match="empty"):
        replay.sample(3)
    with pytest.raises(ValueError, match="0 rows"):
        ReplayBuffer(SPEC, 0, 0)
    large = ReplayBuffer(SPEC, 20, 0)
    large.append(numbered(SPEC, 0, 15))
    with pytest.raises(ValueError, match="15 rows of 15 that were stored; this one holds 10"):
        replay.load_state_dict(large.state_dict())


def test_scattered_memory_is_taken_too() -> None:
    replay, rows = ReplayBuffer(SPEC, 10, 0), numbered(SPEC, 0, 8)
    replay.append(Transitions(*(np.repeat(getattr(rows, name), 2, 0)[::2] for name in FIELDS)))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(replay.rows, name)[:8], getattr(rows, name))
