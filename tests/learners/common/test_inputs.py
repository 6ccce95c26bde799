"""Rows that a discriminator judges, and its logits of them, by the C kernels against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.core.spec import EnvSpec
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.common.discriminator import Discriminator
from puffer_il.nn import fused
from puffer_il.nn.observations import obs_moments
from tests.support.kernel_learners import ACTIONS, DTYPES, actions_for, make_spec, random_obs, shake
from tests.support.kernels import ACTIVATIONS, EACH_SET


def make_discriminator(spec: EnvSpec, hidden: tuple[int, ...] = (8,), activation: str = "tanh") -> Discriminator:
    torch.manual_seed(0)
    discriminator = Discriminator(spec, hidden, activation, False)
    shake(discriminator.net)
    obs = random_obs(spec, 200, np.random.default_rng(9))
    discriminator.update_norm(*obs_moments(discriminator.flatten, torch.from_numpy(obs)))
    return discriminator


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_by_kernels_match_torch(dtype: str, action: str) -> None:
    spec = make_spec(action, dtype, (2, 3))
    rng = np.random.default_rng(0)
    discriminator = make_discriminator(spec)
    obs, actions = (torch.from_numpy(f(spec, 2500, rng)) for f in (random_obs, actions_for))
    obs[5] = 100  # beyond what is clipped
    for index in (None, torch.randint(2500, (3000,)), torch.randint(2500, (3000,))[17:], torch.arange(0)):
        found = []
        for on in (True, False):
            fused.enable(on)
            found.append(discriminator.rows(obs, actions, index))
        assert found[0].shape == (2500 if index is None else len(index), discriminator.width)
        torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)
        into = torch.full((*found[0].shape[:1], discriminator.width + 1), 7.0)
        discriminator.rows(obs, actions, index, into[:, 1:])  # by torch
        fused.enable(True)
        assert torch.equal(into[:, 1:], found[1]) and bool((into[:, 0] == 7).all())
        assert torch.equal(discriminator.rows(obs, actions, index, into[:, 1:]), found[0])
        assert torch.equal(into[:, 1:], found[0]) and bool((into[:, 0] == 7).all())
    kernels.set_threads(3)
    assert torch.equal(discriminator.rows(obs, actions), discriminator.rows(obs.clone(), actions.clone()))
    strided = discriminator.rows(obs[::2], actions[::2])
    assert torch.equal(strided, discriminator.rows(obs[::2].contiguous(), actions[::2].contiguous()))


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("action", ACTIONS)
def test_logits_by_kernels_match_the_discriminator(action: str, activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for dtype, hidden in (("float32", (64, 64)), ("uint8", (20,)), ("int64", (9, 300))):
        spec, rng = make_spec(action, dtype, (2, 3)), np.random.default_rng(0)
        discriminator = make_discriminator(spec, hidden, activation)
        for n in (1, 49, 3001):
            obs, actions = (torch.from_numpy(f(spec, n, rng)) for f in (random_obs, actions_for))
            kernels.set_threads(1 + n % 3)
            ours = discriminator.logits(obs, actions)
            assert discriminator.kernel_layers() is not None and ours.shape == (n,)
            with torch.no_grad():
                expected = discriminator(discriminator.rows(obs, actions))
                torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
                fused.enable(False)
                by_torch = discriminator.logits(obs, actions)
                torch.testing.assert_close(ours, by_torch, rtol=1e-4, atol=1e-5)
                assert torch.equal(by_torch, discriminator(discriminator.rows(obs, actions)))
            assert discriminator.kernel_layers() is None
            fused.enable(True)


@EACH_SET
@pytest.mark.parametrize("kind", ["state_next_state", "state"])
def test_rows_and_logits_without_actions_match_torch(kind: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for dtype in DTYPES:
        spec, rng = make_spec("box", dtype, (2, 3)), np.random.default_rng(0)
        torch.manual_seed(0)
        discriminator = Discriminator(spec, (20,), "tanh", False, kind)
        obs, later = (torch.from_numpy(random_obs(spec, 3001, rng)) for _ in range(2))
        paired = later if kind == "state_next_state" else None
        discriminator.update_norm(*obs_moments(discriminator.flatten, obs))
        later[5] = 100  # beyond what is clipped
        for index in (None, torch.randint(3001, (500,)), torch.arange(0)):
            found = []
            for on in (True, False):
                fused.enable(on)
                found.append(discriminator.rows(obs, paired, index))
            assert found[0].shape == (3001 if index is None else len(index), 13 if paired is not None else 7)
            torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
        fused.enable(True)
        logits = discriminator.logits(obs, paired)
        with torch.no_grad():
            torch.testing.assert_close(logits, discriminator(discriminator.rows(obs, paired)), rtol=1e-5, atol=1e-5)


def test_logits_by_kernels_do_not_cover_other_discriminators() -> None:
    spec = make_spec()
    for discriminator in (Discriminator(spec, (8,), "tanh", True), make_discriminator(spec, (8,) * 9)):
        assert discriminator.kernel_layers() is None
    with torch.autocast("cpu", torch.bfloat16):
        assert make_discriminator(spec).kernel_layers() is None


def test_logits_by_kernels_do_not_cover_float64() -> None:
    assert make_discriminator(make_spec()).double().kernel_layers() is None


def test_rows_of_an_index_that_is_not_contiguous() -> None:
    spec = make_spec()
    rng = np.random.default_rng(0)
    obs, actions = (torch.from_numpy(f(spec, 100, rng)) for f in (random_obs, actions_for))
    discriminator, index = make_discriminator(spec), torch.randint(100, (60,))[::3]
    assert torch.equal(discriminator.rows(obs, actions, index), discriminator.rows(obs, actions, index.clone()))


def test_rows_of_actions_of_another_dtype() -> None:
    spec = make_spec("box")
    rng = np.random.default_rng(0)
    obs, actions = (torch.from_numpy(f(spec, 100, rng)) for f in (random_obs, actions_for))
    discriminator = make_discriminator(spec)
    assert torch.equal(discriminator.rows(obs, actions.double()), discriminator.rows(obs, actions))
