"""The rollout buffer against its NumPy reference, worked examples, and data in which every cell names its place."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.rollout import _buffer as kernels
from puffer_il.rollout.buffer import ROW_FIELDS, RolloutBuffer, Rows

OBS_DTYPES = ("float32", "float64", "uint8", "int8", "int16", "int32")


def reference_advantages(rewards: Array, values: Array, last_values: Array, final_values: Array, terminations: Array,
                         truncations: Array, valid: Array, gamma: float, gae_lambda: float) -> tuple[Array, Array]:
    """`RolloutBuffer.compute_advantages` in NumPy, float64; returns advantages and returns."""
    ended = terminations | truncations
    advantages = np.zeros(rewards.shape)
    next_values, next_advantages = last_values, np.zeros(rewards.shape[1])
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * np.where(ended[t], final_values[t], next_values) - values[t]
        later = np.where(ended[t], 0, gamma * gae_lambda * next_advantages)
        advantages[t] = np.where(valid[t], delta + later, 0)
        next_values, next_advantages = values[t], advantages[t]
    return advantages, advantages + values


def make_spec(obs_shape: tuple[int, ...] = (3,), obs_dtype: Any = np.float32, continuous: bool = False) -> EnvSpec:
    bound = np.ones(2, np.float32)
    action = ActionSpec(low=-bound, high=bound, shape=(2,)) if continuous else ActionSpec(nvec=(4,))
    return EnvSpec("test", obs_shape, obs_dtype, action)


def numbered(shape: tuple[int, ...], dtype: Any, start: int = 0) -> Array:
    """Every cell another number, as far as the dtype has them."""
    return (np.arange(np.prod(shape)) + start).astype(dtype).reshape(shape)


def filled(num_steps: int = 4, num_envs: int = 6, state_dim: int = 0, **spec: Any) -> RolloutBuffer:
    """A buffer whose every cell names its place."""
    buffer = RolloutBuffer(make_spec(**spec), num_steps, num_envs, state_dim=state_dim)
    for k, name in enumerate(ROW_FIELDS):
        array = getattr(buffer, name)
        if array.dtype == bool:
            array[:] = np.random.default_rng(k).random(array.shape) < 0.5
        else:
            array[:] = numbered(array.shape, array.dtype, 1000 * k)
    buffer.initial_state[:] = numbered(buffer.initial_state.shape, np.float32)
    return buffer


def rollout_arrays(rng: np.random.Generator, num_steps: int, num_envs: int, ends: float,
                   invalid: float) -> dict[str, Array]:
    size = (num_steps, num_envs)
    terminations = rng.random(size) < ends
    return {"rewards": rng.normal(size=size).astype(np.float32), "values": rng.normal(size=size).astype(np.float32),
            "last_values": rng.normal(size=num_envs).astype(np.float32),
            "final_values": rng.normal(size=size).astype(np.float32), "terminations": terminations,
            "truncations": (rng.random(size) < ends) & ~terminations, "valid": rng.random(size) >= invalid}


def kernel_advantages(arrays: dict[str, Array], gamma: float, gae_lambda: float) -> tuple[Array, Array]:
    buffer = RolloutBuffer(make_spec(), *arrays["rewards"].shape)
    for name, array in arrays.items():
        getattr(buffer, name)[:] = array
    buffer.compute_advantages(gamma, gae_lambda)
    return buffer.advantages, buffer.returns


def reference(arrays: dict[str, Array], gamma: float, gae_lambda: float) -> tuple[Array, Array]:
    return reference_advantages(**arrays, gamma=gamma, gae_lambda=gae_lambda)


shapes = {"num_steps": st.integers(1, 40), "num_envs": st.integers(1, 70)}
knobs = {"ends": st.sampled_from([0.0, 0.1, 0.5, 1.0]), "gamma": st.floats(0, 1), "seed": st.integers(0, 2**32)}


@pytest.mark.parametrize("advantages_of", [kernel_advantages, reference])
def test_advantages_worked_by_hand(advantages_of: Any) -> None:
    # gamma = lambda = 1/2, so advantages decay by 1/4 and values by 1/2; a row per time step.
    # column       goes on   terminates at 1   truncated at 1   truncated at 0, 1 invalid   absorbing value at 2
    rewards = [[1.0] * 5, [2.0] * 5, [3.0] * 5]
    values = [[2.0] * 5, [4.0] * 5, [6.0] * 5]
    final_values = [[9, 9, 9, 10, 9], [9, 0, 10, 9, 9], [9, 9, 9, 9, -20]]
    terminations, truncations, valid = np.zeros((3, 5), bool), np.zeros((3, 5), bool), np.ones((3, 5), bool)
    terminations[1, 1] = terminations[2, 4] = truncations[1, 2] = truncations[0, 3] = True
    valid[1, 3] = False
    expected = np.array([
        # t = 2: 3 + 8/2 − 6 = 1, and 3 − 20/2 − 6 = −13
        # t = 1: 2 + 6/2 − 4 = 1 plus a quarter of the row below, 2 − 4 = −2, 2 + 10/2 − 4 = 3
        # t = 0: 1 + 4/2 − 2 = 1 plus a quarter of the row below, 1 + 10/2 − 2 = 4
        [1.3125, 0.5, 1.75, 4, 0.4375],
        [1.25, -2, 3, 0, -2.25],
        [1, 1, 1, 1, -13]])
    arrays = {"rewards": np.float32(rewards), "values": np.float32(values), "last_values": np.full(5, 8, np.float32),
              "final_values": np.float32(final_values), "terminations": terminations, "truncations": truncations,
              "valid": valid}
    advantages, returns = advantages_of(arrays, 0.5, 0.5)
    np.testing.assert_array_equal(advantages, expected)
    np.testing.assert_array_equal(returns, expected + values)


@settings(deadline=None, max_examples=100)
@given(**shapes, **knobs, invalid=st.sampled_from([0.0, 0.2, 1.0]), gae_lambda=st.floats(0, 1))
def test_kernel_equals_the_reference(num_steps: int, num_envs: int, ends: float, invalid: float, gamma: float,
                                     gae_lambda: float, seed: int) -> None:
    arrays = rollout_arrays(np.random.default_rng(seed), num_steps, num_envs, ends, invalid)
    ours, expected = kernel_advantages(arrays, gamma, gae_lambda), reference(arrays, gamma, gae_lambda)
    for got, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * num_steps)


@settings(deadline=None, max_examples=30)
@given(**shapes, **knobs)
def test_lambda_one_is_the_discounted_return_minus_the_value(num_steps: int, num_envs: int, ends: float, gamma: float,
                                                             seed: int) -> None:
    a = rollout_arrays(np.random.default_rng(seed), num_steps, num_envs, ends, 0.0)
    expected = np.zeros((num_steps, num_envs))
    for i in range(num_envs):
        for t in range(num_steps):
            ended = np.flatnonzero((a["terminations"] | a["truncations"])[t:, i])
            stop = t + ended[0] if len(ended) else num_steps - 1
            bootstrap = a["final_values"][stop, i] if len(ended) else a["last_values"][i]
            discounts = gamma ** np.arange(stop - t + 1)
            expected[t, i] = discounts @ a["rewards"][t:stop + 1, i] + gamma * discounts[-1] * bootstrap
    advantages, returns = kernel_advantages(a, gamma, 1.0)
    np.testing.assert_allclose(returns, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(advantages, expected - a["values"], rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(**shapes, **knobs)
def test_lambda_zero_is_the_temporal_difference_error(num_steps: int, num_envs: int, ends: float, gamma: float,
                                                      seed: int) -> None:
    a = rollout_arrays(np.random.default_rng(seed), num_steps, num_envs, ends, 0.0)
    following = np.concatenate((a["values"][1:], a["last_values"][None]))
    following = np.where(a["terminations"] | a["truncations"], a["final_values"], following)
    expected = a["rewards"] + gamma * following - a["values"]
    np.testing.assert_allclose(kernel_advantages(a, gamma, 0.0)[0], expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(**shapes, **knobs)
def test_invalid_rows_reach_no_other(num_steps: int, num_envs: int, ends: float, gamma: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rollout_arrays(rng, num_steps, num_envs, ends, 0.0)
    # As an environment that resets in the next step gives them: after an end comes a row that counts for nothing.
    a["valid"][1:] = ~(a["terminations"] | a["truncations"])[:-1]
    advantages, returns = kernel_advantages(a, gamma, 0.95)
    invalid = ~a["valid"]
    for name in ("rewards", "values", "final_values"):
        a[name] = np.where(invalid, np.float32("nan"), a[name])
    for name in ("terminations", "truncations"):
        a[name] = np.where(invalid, rng.random(invalid.shape) < 0.5, a[name])
    changed_advantages, changed_returns = kernel_advantages(a, gamma, 0.95)
    np.testing.assert_array_equal(changed_advantages, advantages)
    np.testing.assert_array_equal(changed_returns[a["valid"]], returns[a["valid"]])
    assert not advantages[invalid].any()


def strided(array: Array, kind: str) -> Array:
    """The same numbers in another memory layout."""
    if kind == "fortran":
        return np.asfortranarray(array)
    if kind == "reversed":
        return np.ascontiguousarray(array[::-1])[::-1]
    if kind == "every third":
        wide = np.zeros((3 * len(array), *array.shape[1:]), array.dtype)
        wide[1::3] = array
        return wide[1::3]
    if kind == "unaligned":
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
        raw[:] = array.reshape(-1).view(np.uint8)
        return raw.view(array.dtype).reshape(array.shape)
    if kind == "broadcast":
        return np.broadcast_to(array[:1], array.shape)
    array = array.copy()
    array.setflags(write=False)
    return array


@settings(deadline=None, max_examples=60)
@given(kinds=st.lists(st.sampled_from(["fortran", "reversed", "every third", "unaligned", "broadcast", "read-only"]),
                      min_size=9, max_size=9),
       obs_shape=st.sampled_from([(), (3,), (2, 5)]), num_envs=st.integers(1, 9), data=st.data())
def test_writes_take_any_strides(kinds: list[str], obs_shape: tuple[int, ...], num_envs: int,
                                 data: st.DataObject) -> None:
    first = data.draw(st.integers(0, num_envs - 1))
    n = data.draw(st.integers(1, num_envs - first))
    t, rows = data.draw(st.integers(0, 2)), slice(first, first + n)
    buffer = RolloutBuffer(make_spec(obs_shape, np.int16, continuous=True), 3, num_envs)
    rng = np.random.default_rng(0)
    fields = {"obs": numbered((n, *obs_shape), np.int16), "actions": numbered((n, 2), np.float32, 7),
              "logprobs": numbered((n,), np.float32, 50), "values": numbered((n,), np.float32, 90),
              "rewards": numbered((n,), np.float32, 130), "terminations": rng.random(n) < 0.5,
              "truncations": rng.random(n) < 0.5, "valid": rng.random(n) < 0.5,
              "final_obs": numbered((n, *obs_shape), np.int16, 200)}
    given_ = {name: strided(array, kind) for (name, array), kind in zip(fields.items(), kinds, strict=True)}
    before = {name: getattr(buffer, name).copy() for name in ROW_FIELDS}
    buffer.write_actions(t, rows, *(given_[name] for name in ("obs", "actions", "logprobs", "values")))
    outcome = ("rewards", "terminations", "truncations", "valid", "final_obs")
    buffer.write_outcome(t, rows, *(given_[name] for name in outcome))
    for name in given_.keys() - {"final_obs"}:
        before[name][t, rows] = given_[name]
    for name in ROW_FIELDS:
        np.testing.assert_array_equal(getattr(buffer, name), before[name], err_msg=name)
    np.testing.assert_array_equal(buffer.env_rewards, buffer.rewards)
    ended = np.flatnonzero((given_["terminations"] | given_["truncations"]) & given_["valid"])
    np.testing.assert_array_equal(buffer.final_index, t * num_envs + first + ended)
    np.testing.assert_array_equal(buffer.final_obs, given_["final_obs"][ended])


@pytest.mark.parametrize("dtype", OBS_DTYPES)
@pytest.mark.parametrize("obs_shape", [(), (4,), (17,), (3, 8, 8)])
def test_observations_are_kept_as_they_are(dtype: str, obs_shape: tuple[int, ...]) -> None:
    buffer = filled(3, 5, obs_shape=obs_shape, obs_dtype=dtype)
    columns, rows = np.array([3, 0]), np.array([14, 0, 7, 7])
    assert buffer.obs.dtype == dtype
    assert buffer.minibatch(columns).obs.dtype == dtype
    np.testing.assert_array_equal(buffer.minibatch(columns).obs, buffer.obs[:, columns])
    np.testing.assert_array_equal(buffer.minibatch_rows(rows).obs, buffer.obs.reshape(15, *obs_shape)[rows])


def test_rewards_are_stored_as_truth_and_as_what_is_optimised() -> None:
    buffer = filled(2, 2)
    write_outcome(buffer, 1, rewards=np.float32([3, 4]))
    buffer.rewards[:] = 0
    np.testing.assert_array_equal(buffer.env_rewards[1], [3, 4])


def write_outcome(buffer: RolloutBuffer, t: int, **changes: Array) -> None:
    n = buffer.num_envs
    arrays = {"rewards": np.zeros(n, np.float32), "terminations": np.zeros(n, bool), "truncations": np.zeros(n, bool),
              "valid": np.ones(n, bool), "final_obs": np.zeros_like(buffer.last_obs)} | changes
    buffer.write_outcome(t, slice(0, n), **arrays)


def test_final_values_are_zero_until_somebody_writes_them() -> None:
    buffer = filled(2, 3)
    buffer.final_values[:] = 5
    write_outcome(buffer, 0)
    np.testing.assert_array_equal(buffer.final_values, [[0, 0, 0], [5, 5, 5]])


def test_final_observations_grow_stay_and_start_anew() -> None:
    num_steps, num_envs = 7, 3
    buffer = filled(num_steps, num_envs)
    everywhere = np.ones(num_envs, bool)
    for rollout in range(2):
        buffer.start()
        assert len(buffer.final_index) == len(buffer.final_obs) == 0
        for t in range(num_steps):
            final_obs = numbered((num_envs, 3), np.float32, 9 * t + rollout)
            write_outcome(buffer, t, truncations=everywhere, final_obs=final_obs)
        np.testing.assert_array_equal(buffer.final_index, np.arange(num_steps * num_envs))
        np.testing.assert_array_equal(buffer.final_obs, numbered((num_steps * num_envs, 3), np.float32, rollout))


@settings(deadline=None, max_examples=40)
@given(num_steps=st.integers(1, 12), num_envs=st.integers(1, 5), next_step=st.booleans(), seed=st.integers(0, 2**32))
def test_next_obs_is_the_true_successor(num_steps: int, num_envs: int, next_step: bool, seed: int) -> None:
    # An observation is 1000 · episode + step, so the successor of a valid row is always one more.
    rng = np.random.default_rng(seed)
    buffer = RolloutBuffer(make_spec(obs_shape=(1,), obs_dtype=np.int32), num_steps, num_envs)
    obs, resetting = np.arange(num_envs, dtype=np.int32) * 100_000, np.zeros(num_envs, bool)
    no_actions, zeros = np.zeros((num_envs, 1), np.int32), np.zeros(num_envs, np.float32)
    everything = slice(0, num_envs)
    for t in range(num_steps):
        buffer.write_actions(t, everything, obs[:, None], no_actions, zeros, zeros)
        valid, after = ~resetting, obs + 1
        ended = (rng.random(num_envs) < 0.4) & valid
        fresh = (obs // 1000 + 1) * 1000
        obs = np.where(resetting if next_step else ended, fresh, after).astype(np.int32)
        resetting = ended if next_step else resetting
        write_outcome(buffer, t, terminations=ended, valid=valid, final_obs=after[:, None])
    buffer.last_obs[:] = obs[:, None]
    valid = buffer.valid.reshape(-1)
    np.testing.assert_array_equal(buffer.next_obs()[valid], buffer.flat().obs[valid] + 1)


def assert_rows(rows: Rows, buffer: RolloutBuffer, pick: Any) -> None:
    for name in ROW_FIELDS:
        np.testing.assert_array_equal(getattr(rows, name), pick(getattr(buffer, name)), err_msg=name)


def test_the_whole_rollout_is_a_view() -> None:
    buffer = filled(state_dim=2)
    flat, whole, part = buffer.flat(), buffer.minibatch(slice(0, 6)), buffer.minibatch(slice(1, 3))
    assert_rows(flat, buffer, lambda a: a.reshape(24, *a.shape[2:]))
    assert_rows(whole, buffer, lambda a: a)
    assert_rows(part, buffer, lambda a: a[:, 1:3])
    for name in (*ROW_FIELDS, "initial_state"):
        held = getattr(buffer, name)
        assert all(np.shares_memory(getattr(rows, name), held) for rows in (flat, whole, part)), name
        assert getattr(whole, name).flags.c_contiguous
    np.testing.assert_array_equal(part.initial_state, buffer.initial_state[1:3])


@settings(deadline=None, max_examples=40)
@given(num_steps=st.integers(1, 9), num_envs=st.integers(1, 20), obs_shape=st.sampled_from([(), (4,), (17,), (2, 3)]),
       data=st.data())
def test_staged_minibatches_equal_fancy_indexing(num_steps: int, num_envs: int, obs_shape: tuple[int, ...],
                                                 data: st.DataObject) -> None:
    buffer = filled(num_steps, num_envs, state_dim=3, obs_shape=obs_shape)
    for _ in range(3):  # of different sizes, in the same staging
        columns = data.draw(st.lists(st.integers(0, num_envs - 1), min_size=1, max_size=30))
        staged = buffer.minibatch(np.array(columns))
        assert_rows(staged, buffer, lambda a, columns=columns: a[:, columns])
        np.testing.assert_array_equal(staged.initial_state, buffer.initial_state[columns])
        index = data.draw(st.lists(st.integers(0, num_steps * num_envs - 1), min_size=1, max_size=30))
        loose = buffer.minibatch_rows(np.array(index, np.int32))
        assert_rows(loose, buffer, lambda a, index=index: a.reshape(-1, *a.shape[2:])[index])
        assert loose.initial_state.shape == (0, 3)


def test_staging_stays_where_it_is() -> None:
    buffer = filled()
    rows = buffer.minibatch(np.array([0, 1, 2]))
    tensor = torch.from_numpy(rows.obs)
    assert buffer.minibatch(np.array([5, 1, 3])) is rows
    buffer.minibatch(np.array([4, 5]))  # smaller: in the same memory
    buffer.minibatch(np.array([3, 4, 5]))
    np.testing.assert_array_equal(tensor.numpy(), buffer.obs[:, 3:])
    assert all(getattr(rows, name).flags.c_contiguous for name in ROW_FIELDS)


@pytest.mark.parametrize("rng", [None, np.random.default_rng(1)])
@pytest.mark.parametrize("num_minibatches", [1, 3, 4, 10])
def test_columns_share_the_environments_out(rng: np.random.Generator | None, num_minibatches: int) -> None:
    everything = np.arange(10)
    parts = [everything[part] for part in filled(num_envs=10).columns(num_minibatches, rng)]
    assert len(parts) == num_minibatches
    assert sorted(np.concatenate(parts)) == everything.tolist()
    assert {len(part) for part in parts} <= {10 // num_minibatches, -(-10 // num_minibatches)}


def test_columns_are_random_and_the_same_for_the_same_generator() -> None:
    buffer = filled(num_envs=50)
    first, again, other = (np.stack(list(buffer.columns(5, np.random.default_rng(seed)))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_one_minibatch_of_everything_is_copied_by_nobody() -> None:
    buffer = filled()
    rows, = map(buffer.minibatch, buffer.columns(1, np.random.default_rng(0)))
    assert np.shares_memory(rows.obs, buffer.obs)


def test_memory_comes_from_the_allocator_once() -> None:
    asked: list[tuple[tuple[int, ...], np.dtype]] = []

    def allocate(shape: tuple[int, ...], dtype: Any) -> Array:
        asked.append((shape, np.dtype(dtype)))
        return np.zeros(shape, dtype)

    buffer = RolloutBuffer(make_spec(obs_dtype=np.uint8), 4, 6, state_dim=2, allocate=allocate)
    count = len(asked)
    assert ((4, 6, 3), np.dtype(np.uint8)) in asked and ((6, 2), np.dtype(np.float32)) in asked
    write_outcome(buffer, 0, terminations=np.ones(6, bool))
    buffer.compute_advantages(0.9, 0.9)
    buffer.minibatch(np.array([1]))
    assert len(asked) == count


@pytest.mark.parametrize(("change", "message"), [
    ({"rewards": np.zeros(6)}, "rewards is float64 (6,) but the buffer holds float32 (6,)"),
    ({"rewards": np.zeros(5, np.float32)}, "rewards is float32 (5,) but the buffer holds float32 (6,)"),
    ({"rewards": np.zeros((6, 1), np.float32)}, "rewards is float32 (6, 1) but the buffer holds float32 (6,)"),
    ({"valid": np.ones(6, np.uint8)}, "valid is uint8 (6,) but the buffer holds bool (6,)"),
    ({"final_obs": np.zeros((6, 4), np.float32)}, "final_obs is float32 (6, 4) but the buffer holds float32 (6, 3)"),
    ({"rewards": np.zeros(6, ">f4")}, "rewards is >f4 (6,) but the buffer holds float32 (6,)"),
])
def test_outcomes_that_do_not_fit_name_both_sides(change: dict[str, Array], message: str) -> None:
    buffer = filled()
    with pytest.raises(ValueError) as error:
        write_outcome(buffer, 0, **change)
    assert str(error.value) == message


@pytest.mark.parametrize(("name", "array", "message"), [
    ("obs", np.zeros((2, 3)), "obs is float64 (2, 3) but the buffer holds float32 (2, 3)"),
    ("actions", np.zeros((2, 1), np.int64), "actions is int64 (2, 1) but the buffer holds int32 (2, 1)"),
    ("values", np.zeros((2, 1), np.float32), "values is float32 (2, 1) but the buffer holds float32 (2,)"),
])
def test_actions_that_do_not_fit_name_both_sides(name: str, array: Array, message: str) -> None:
    arrays = {"obs": np.zeros((2, 3), np.float32), "actions": np.zeros((2, 1), np.int32),
              "logprobs": np.zeros(2, np.float32), "values": np.zeros(2, np.float32)} | {name: array}
    with pytest.raises(ValueError) as error:
        filled().write_actions(0, slice(2, 4), **arrays)
    assert str(error.value) == message


@pytest.mark.parametrize(("t", "rows"), [(4, slice(0, 2)), (-1, slice(0, 2)), (0, slice(0, 4, 2)), (0, slice(6, 8)),
                                         (0, slice(3, 3))])
def test_places_outside_the_buffer_are_refused(t: int, rows: slice) -> None:
    with pytest.raises(IndexError, match="4 steps of 6"):
        filled().write_actions(t, rows, np.zeros((2, 3), np.float32), np.zeros((2, 1), np.int32),
                               np.zeros(2, np.float32), np.zeros(2, np.float32))


def test_minibatches_outside_the_buffer_are_refused() -> None:
    buffer = filled()
    for bad in ([6], [-1]):
        with pytest.raises(IndexError, match="of 6 environments"):
            buffer.minibatch(np.array(bad))
    with pytest.raises(IndexError, match="of 24 rows"):
        buffer.minibatch_rows(np.array([24]))
    with pytest.raises(ValueError, match="whole numbers"):
        buffer.minibatch(np.array([0.5]))
    with pytest.raises(InputError, match="num_minibatches"):
        buffer.minibatch_rows(np.arange(0))
    with pytest.raises(InputError, match="num_minibatches = 7: there are only 6 environments"):
        buffer.columns(7)
    with pytest.raises(ValueError, match="empty"):
        RolloutBuffer(make_spec(), 0, 6)


def test_an_array_of_the_buffer_cannot_be_replaced() -> None:
    buffer = filled()
    with pytest.raises(AttributeError, match=r"buffer.rewards\[:\]"):
        buffer.rewards = np.zeros((4, 6), np.float32)


def kernel_calls() -> dict[str, Any]:
    n = 1 << 16
    source, target = np.zeros((1, n, 4), np.uint8), np.zeros((1, n, 4), np.uint8)
    floats, flags, index = np.zeros((1, n), np.float32), np.zeros((1, n), np.uint8), np.arange(n)
    return {"write": lambda: kernels.write((target,), (source[0],), 0, 0, n),
            "gather": lambda: kernels.gather((target,), (source,), index),
            "advantages": lambda: kernels.advantages(floats, floats, floats[0], floats, flags, flags, flags, 0.9, 0.9,
                                                     np.zeros_like(floats), np.zeros_like(floats))}


@pytest.mark.parametrize("name", ["write", "gather", "advantages"])
def test_kernels_release_the_gil(name: str) -> None:
    # Nobody is made to give the GIL up for a minute, so the other thread runs only if the kernel lets it go.
    call, go, ran = kernel_calls()[name], threading.Event(), threading.Event()
    other = threading.Thread(target=lambda: (go.wait(), ran.set()))
    other.start()
    interval, deadline = sys.getswitchinterval(), time.monotonic() + 5
    sys.setswitchinterval(60)
    try:
        go.set()
        while not ran.is_set() and time.monotonic() < deadline:
            call()
        assert ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        other.join()
