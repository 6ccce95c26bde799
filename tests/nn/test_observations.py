"""Flattening, normalisation and moments of observations, by torch and by the C kernels, against what NumPy says."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces

from puffer_il.core.actions import ActionSpec
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import EnvSpec
from puffer_il.kernels import _kernels as kernels
from puffer_il.nn import fused
from puffer_il.nn.observations import Flatten, RunningNorm, moments, obs_moments
from tests.support.kernel_learners import ACTIONS, DTYPES, make_spec, random_obs
from tests.support.kernels import error
from tests.support.observations import structured_spec


def test_flatten_cuts_a_struct_into_its_leaves():
    spec = structured_spec()
    struct = np.dtype([("a", np.float32, (2,)), ("b", np.int32), ("c", np.uint8, (8, 8, 3))], align=True)
    rng = np.random.default_rng(0)
    rows = np.zeros(5, struct)
    rows["a"], rows["b"] = rng.normal(size=(5, 2)), [0, 1, 2, 3, 0]
    rows["c"] = rng.integers(0, 256, (5, 8, 8, 3))
    flat = Flatten(spec)(torch.from_numpy(rows.view(np.uint8).reshape(5, -1))).numpy()
    np.testing.assert_allclose(flat[:, :2], rows["a"])
    np.testing.assert_array_equal(flat[:, 2:6], np.eye(4)[rows["b"]])
    np.testing.assert_allclose(flat[:, 6:], rows["c"].reshape(5, -1) / 255, rtol=1e-6)


def test_flatten_of_plain_floats_is_a_view():
    obs = torch.rand(3, 4)
    assert Flatten(EnvSpec("x", (4,), np.dtype(np.float32), ACTIONS["discrete"]))(obs).data_ptr() == obs.data_ptr()


def test_running_norm_merges_moments_exactly():
    rng = np.random.default_rng(1)
    parts = [rng.normal(3, 2, (n, 3)).astype(np.float32) for n in (10, 200, 37)]
    norm = RunningNorm(3)
    for part in parts:
        norm.update(*moments(torch.from_numpy(part)), len(part))
    whole = np.concatenate(parts)
    np.testing.assert_allclose(norm.mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.var, whole.var(0), rtol=1e-4)
    x = torch.from_numpy(whole)
    np.testing.assert_allclose(norm(x), np.clip((whole - whole.mean(0)) / whole.std(0), -10, 10), atol=1e-4)


def test_running_norm_is_frozen_between_updates():
    norm, x = RunningNorm(2), torch.rand(4, 2)
    before = norm(x)
    norm(torch.rand(100, 2) * 50)
    assert torch.equal(norm(x), before)


def test_moments_ignore_rows_of_no_weight():
    x = torch.tensor([[1.0], [3.0], [1e6]])
    mean, var = moments(x, torch.tensor([1.0, 1.0, 0.0]))
    assert mean.item() == pytest.approx(2.0) and var.item() == pytest.approx(1.0)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "valid"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_match_float64(dtype: str, masked: bool) -> None:
    spec = make_spec(dtype=dtype, shape=(3, 4))
    rng = np.random.default_rng(0)
    for n in (1, 2, 4096, 9001):
        obs, valid = random_obs(spec, n, rng), rng.random(n) < 0.7
        valid[0] = True
        counted = obs[valid] if masked else obs
        reference = counted.reshape(len(counted), -1).astype(np.float32).astype(np.float64)  # as networks see them
        found = []
        for threads in (1, 3):
            kernels.set_threads(threads)
            found.append(obs_moments(Flatten(spec), torch.from_numpy(obs), torch.from_numpy(valid) if masked else None))
            mean, variance, count = found[-1]
            assert mean.dtype == variance.dtype == torch.float32 and count == len(counted)
            np.testing.assert_allclose(mean, reference.mean(0), rtol=1e-6)
            np.testing.assert_allclose(variance, reference.var(0), rtol=1e-5, atol=1e-9)
        assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
        fused.enable(False)
        slow = obs_moments(Flatten(spec), torch.from_numpy(obs), torch.from_numpy(valid) if masked else None)
        fused.enable(True)
        assert error(slow[:2], [torch.from_numpy(reference.mean(0)), torch.from_numpy(reference.var(0))]) < 1e-4


def test_moments_far_from_zero_keep_their_digits() -> None:
    spec = make_spec(shape=(1,))
    obs = (1e5 + np.random.default_rng(0).normal(size=(5000, 1))).astype(np.float32)
    _, variance, _ = obs_moments(Flatten(spec), torch.from_numpy(obs))
    np.testing.assert_allclose(variance, obs.astype(np.float64).var(0), rtol=1e-6)


@pytest.mark.parametrize("garbage", [1e20, math.nan])
def test_an_invalid_first_row_does_not_enter_the_moments(garbage: float) -> None:
    spec = make_spec()
    obs = random_obs(spec, 100, np.random.default_rng(0))
    obs[0] = garbage
    valid = torch.arange(100) > 0
    mean, variance, count = obs_moments(Flatten(spec), torch.from_numpy(obs), valid)
    assert count == 99
    np.testing.assert_allclose(mean, obs[1:].mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, obs[1:].var(0), rtol=1e-5)


def test_no_rows_have_moments_without_a_crash() -> None:
    _, _, count = obs_moments(Flatten(make_spec()), torch.zeros(0, *make_spec().obs_shape))
    assert count == 0


def test_moments_of_wide_observations_do_not_overrun_the_stack() -> None:
    source = """
import numpy as np, torch
from puffer_il.nn.observations import Flatten, obs_moments
from puffer_il.core.spec import ActionSpec, EnvSpec
flatten = Flatten(EnvSpec("", (1200, 1000), np.dtype(np.float32), ActionSpec(nvec=(2,))))
print(obs_moments(flatten, torch.ones(3, 1200, 1000)))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def _numbers(space, masked=0):
    layout = lay_out(space, masked)
    return EnvSpec("toy", layout.shape, layout.dtype, ActionSpec(nvec=(3,)), layout.fields)


def test_numbers_of_one_dtype_side_by_side_are_a_row_that_the_kernels_read():
    box = spaces.Box(-9, 9, (2,), np.float32)
    flat = Flatten(_numbers(spaces.Dict(a=box, b=spaces.Tuple([box, spaces.Box(-9, 9, (1, 2), np.float64)]))))
    rows = torch.randn(5, 6)
    assert flat.covered and torch.equal(flat(rows), rows)
    for other in (spaces.Discrete(3), spaces.Box(0, 9, (2,), np.int16), spaces.Box(0, 255, (2, 2, 3), np.uint8)):
        assert not Flatten(_numbers(spaces.Dict(a=box, b=other))).covered
    pictures = spaces.Dict(a=spaces.Box(0, 255, (2, 2, 3), np.uint8), b=spaces.Box(0, 15, (2, 2, 3), np.uint8))
    scaled = Flatten(_numbers(pictures))(torch.full((1, 24), 15, dtype=torch.uint8))
    assert scaled[0, :12].unique().tolist() == [pytest.approx(15 / 255)] and scaled[0, 12:].unique().tolist() == [1]


def test_a_mask_beside_numbers_comes_last_or_not_at_all():
    spec = _numbers(spaces.Box(-9, 9, (2,), np.float32), masked=3)
    rows = torch.tensor(spec.pack(np.float32([[4, -5], [6, 7]]), np.array([[1, 0, 1], [0, 1, 1]]))[0])
    assert Flatten(spec, with_mask=True)(rows).tolist() == [[4, -5, 1, 0, 1], [6, 7, 0, 1, 1]]
    assert Flatten(spec)(rows).tolist() == [[4, -5], [6, 7]]
    uneven = _numbers(spaces.Dict(a=spaces.Box(0, 9, (3,), np.int16), b=spaces.Box(-9, 9, (), np.float32)), masked=3)
    given = {"a": np.array([[1, 2, 3]]), "b": np.float32([0.5])}
    rows = torch.tensor(uneven.pack(given, np.array([[0, 1, 0]]))[0])
    assert Flatten(uneven, with_mask=True)(rows).tolist() == [[1, 2, 3, 0.5, 0, 1, 0]]
