"""Rollouts on a device: what travels there, and where it lies."""

from __future__ import annotations

import numpy as np
import torch

from puffer_il.rollout.tensors import DeviceRollout, HostRollout, allocator
from tests.support.rollouts import make_buffer

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_memory_is_zeroed_and_of_the_dtype_asked_for():
    array = allocator(DEVICE)((2, 3), np.uint8)
    assert array.dtype == np.uint8 and array.shape == (2, 3) and not array.any()


def test_a_minibatch_is_the_same_on_the_host_and_on_the_device():
    buffer = make_buffer(invalid=True, state_dim=2)
    buffer.compute_advantages(0.9, 0.95)
    buffer.initial_state[:] = np.random.default_rng(0).normal(size=buffer.initial_state.shape)
    device, host = DeviceRollout(buffer, DEVICE), HostRollout(buffer)
    for part, columns in ((slice(1, 4), True), (np.array([4, 0]), True), (np.array([7, 47, 0]), False)):
        ours, expected = device.select(part, columns), host.select(part, columns)
        for name in expected.__slots__:
            a, b = getattr(ours, name), getattr(expected, name)
            if name == "weight" and b is None:  # of the host's, where no row of this very minibatch is left out
                b = torch.ones(len(ours.logprobs.reshape(-1)))
            assert (a is None) == (b is None), name
            assert b is None or torch.equal(a.cpu(), b), name
        assert ours.weight is not None and (ours.episode_starts is None) == (not columns)
        assert ours.episode_starts is None or ours.episode_starts.device.type == "cpu"


def test_the_successors_of_every_rollout_lie_in_the_same_place():
    buffer = make_buffer()
    buffer.rollout = DeviceRollout(buffer, DEVICE)
    first = buffer.rollout.next_obs()
    place, before = first.data_ptr(), first.clone()
    buffer.start()
    buffer.obs[:] += 1
    second = buffer.rollout.next_obs()
    assert second.data_ptr() == place and not torch.equal(second, before)
