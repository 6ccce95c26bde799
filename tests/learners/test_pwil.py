"""PWIL's own rules: its atoms, its horizon, and rewards that run out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ObsField
from puffer_il.learners.experiment import build
from puffer_il.learners.pwil import PWIL
from tests.support.rollouts import SPEC, make_buffer, sign_demos

CPU = torch.device("cpu")


def make(demos=None, spec=SPEC, **pwil) -> PWIL:
    torch.manual_seed(0)
    tables = {"pwil": pwil, "ppo": {"gamma": 0.9}, "policy": {"hidden": [8]}}
    return PWIL(spec, demos or sign_demos(), build("pwil", [("test", tables)]), CPU, 0)


def started(**keys):
    buffer = make_buffer(**keys)
    buffer.episode_starts[0] = True
    return buffer


def test_the_reward_is_the_exponential_of_the_distance_and_falls_with_its_sharpness():
    soft, sharp = started(), started()
    metrics = make(sharpness=1.0).relabel(soft)
    make(sharpness=2.0).relabel(sharp)
    np.testing.assert_allclose(sharp.rewards, soft.rewards**2, rtol=1e-5)
    assert metrics["disc/distance"] > 0 and 0 < soft.rewards.max() <= 1
    assert (soft.final_values == 0).all()


def test_an_episode_is_paid_for_as_many_steps_as_the_demonstrations_have():
    learner, buffer = make(), started(num_steps=16)  # ten steps each
    buffer.episode_starts[1:] = False
    learner.relabel(buffer)
    assert (buffer.rewards[:10] > 0).all() and (buffer.rewards[10:] == 0).all()
    learner, buffer = make(horizon=4), started(num_steps=16)
    buffer.episode_starts[1:] = False
    learner.relabel(buffer)
    assert (buffer.rewards[:4] > 0).all() and (buffer.rewards[4:] == 0).all()


def test_the_demonstrator_is_paid_most():
    demos, learner, buffer = sign_demos(), make(horizon=40), started(num_steps=40, num_envs=6)
    buffer.episode_starts[1:] = False
    buffer.obs[:, 0], buffer.actions[:, 0] = demos.obs, demos.actions
    learner.relabel(buffer)
    np.testing.assert_allclose(buffer.rewards[:, 0], 1, atol=1e-5)
    assert buffer.rewards[:, 1:].mean() < 0.5


def test_atoms_are_drawn_evenly_from_rows_that_count():
    demos = sign_demos()
    learner = make(atoms=8)
    assert learner.coupling.columns.shape == (learner.inputs.width, 8)
    weights = (np.arange(40) % 2).astype(np.float32)
    learner = make(dataclasses.replace(demos, weights=weights))
    expected = learner.inputs.rows(torch.tensor(demos.obs[1::2]), torch.tensor(demos.actions[1::2])).numpy()
    np.testing.assert_allclose(np.sort(learner.coupling.columns, 1), np.sort(expected.T, 1), rtol=1e-6)


def test_the_true_reward_can_be_added_or_taken_alone():
    plain, mixed, truth = started(), started(), started()
    make().relabel(plain)
    make(true_reward_coef=2.0).relabel(mixed)
    make(debug_use_ground_truth=True).relabel(truth)
    np.testing.assert_allclose(mixed.rewards, plain.rewards + 2 * plain.env_rewards, rtol=1e-5, atol=1e-6)
    assert np.array_equal(truth.rewards, truth.env_rewards)


def test_what_episodes_have_left_is_saved():
    first, again = make(), make()
    first.relabel(started())
    again.load_state_dict(first.state_dict())
    later = [started(seed=5) for _ in range(2)]
    for learner, buffer in zip((first, again), later, strict=True):
        buffer.episode_starts[:] = False
        learner.relabel(buffer)
    assert np.array_equal(later[0].rewards, later[1].rewards) and (later[0].rewards == 0).any()


def test_images_are_refused():
    spec = dataclasses.replace(SPEC, obs_shape=(8, 8, 3), obs_dtype=np.dtype(np.uint8),
                               obs_fields=(ObsField("image", np.dtype(np.uint8), (8, 8, 3)),))
    with pytest.raises(InputError, match="distances between images"):
        make(spec=spec)
