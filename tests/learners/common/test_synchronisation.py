"""No step of the learner waits for the device: between two reads of a whole update, nothing asks for a tensor's value.

Where there is a GPU, torch itself watches. Elsewhere every operation that would wait there is an error while the step
runs, and no source of the hot path may hold a call that brings a tensor to the host.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from puffer_il.learners.amp import AMP
from puffer_il.learners.common import discriminator
from puffer_il.learners.experiment import build
from puffer_il.learners.gaifo import GAIfO
from puffer_il.learners.gail import GAIL
from puffer_il.learners.mm import MM
from puffer_il.learners.ppo import PPO
from puffer_il.nn import Encoder, FlatAdam, Policy, RunningNorm, distributions, fused, losses
from puffer_il.rollout.tensors import DeviceRollout, HostRollout
from tests.support.rollouts import SPEC, make_buffer, sign_demos

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "_unique2")
TO_HOST = ("item", "cpu", "tolist", "numpy", "nonzero")


class NoWaiting(TorchDispatchMode):
    """Every operation that would wait for a GPU is an error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            t is not None and t.dtype == torch.bool for t in args[1])
        if name in WAITING or by_mask:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def watched() -> Iterator[None]:
    if DEVICE.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with NoWaiting():
            yield


@pytest.fixture(autouse=True)
def torch_alone() -> Iterator[None]:
    fused.enable(False)
    yield
    fused.enable(True)


def learner(cls: type, **tables):
    torch.manual_seed(0)
    config = build(cls.name, [("test", {"policy": {"hidden": [8]}} | tables)])
    return cls(SPEC, sign_demos(), config, DEVICE, 0)


def rollout(invalid: bool):
    buffer = make_buffer(num_steps=8, num_envs=6, invalid=invalid)
    buffer.rollout = DeviceRollout(buffer, DEVICE)
    buffer.compute_advantages(0.9, 0.95)
    return buffer


@pytest.mark.parametrize("waits", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: float(x[0]),
                                   lambda x: x.nonzero(), lambda x: bool((x > 0).any())])
def test_the_watch_notices_what_waits(waits):
    with pytest.raises((AssertionError, RuntimeError)), watched():
        waits(torch.arange(3.0, device=DEVICE))


@pytest.mark.parametrize("invalid", [False, True])
@pytest.mark.parametrize("columns", [False, True])
def test_a_ppo_minibatch_never_waits(invalid, columns):
    ppo, buffer = learner(PPO, ppo={"vf_clip_coef": 0.2, "ent_coef": 0.01}), rollout(invalid)
    step = ppo._torch_step(buffer)
    part = slice(0, 3) if columns else torch.randperm(48).numpy()[:20]
    with watched():
        parts = step(part, columns)
    assert torch.isfinite(parts).all()


@pytest.mark.parametrize("gp_kind", ["interpolated", "zero_centred"])
@pytest.mark.parametrize("cls", [GAIL, GAIfO, AMP, MM])
def test_a_discriminator_update_never_waits(cls, gp_kind):
    keys = {"gp_kind": gp_kind, "disc_batch_size": 16, "replay_size": 32}
    adversarial, buffer = learner(cls, **{cls.name: keys}), rollout(False)
    adversarial.relabel(buffer)  # fills the replay
    obs, paired = buffer.rollout["obs"].flatten(0, 1), adversarial._paired(buffer.rollout)
    with watched():
        parts = adversarial._update_discriminator(obs, paired, None)
    assert torch.isfinite(parts).all()


def test_the_rollout_reaches_the_device_once():
    buffer = rollout(False)
    first = buffer.rollout["obs"]
    before = first.clone()
    buffer.obs[:] += 1
    assert torch.equal(buffer.rollout["obs"], before)  # resident: not copied again
    buffer.start()
    assert torch.equal(buffer.rollout["obs"].cpu(), torch.from_numpy(buffer.obs))
    assert buffer.rollout["obs"].data_ptr() == first.data_ptr()


def test_successors_are_the_same_on_the_host_and_on_the_device():
    buffer = rollout(False)
    assert len(buffer.final_index) > 3
    expected = HostRollout(buffer).next_obs()
    for index, final in zip(buffer.final_index, buffer.final_obs, strict=True):
        assert np.array_equal(expected[index], final)  # not the next episode's first observation
    assert torch.equal(buffer.rollout.next_obs().cpu(), expected)
    follows = ~(buffer.terminations | buffer.truncations)[:-1]
    rows = expected.reshape(buffer.obs.shape)[:-1].numpy()
    assert np.array_equal(rows[follows], buffer.obs[1:][follows])


HOT: list[Callable] = [PPO._losses, PPO._torch_minibatch, GAIL._update_discriminator, GAIL._gradients_in_torch,
                       GAIL._expert_rows, GAIL._policy_rows, GAIL._with_absorbing, Policy.heads, Policy.evaluate,
                       Policy.act, FlatAdam.step, Encoder.prepare, RunningNorm.forward, DeviceRollout.select,
                       discriminator.Inputs.rows, discriminator.Inputs.encode, discriminator.Discriminator.forward,
                       distributions.Categorical, distributions.Gaussian.log_prob,
                       distributions.Gaussian.log_prob_entropy, losses]


@pytest.mark.parametrize("where", HOT, ids=lambda f: getattr(f, "__qualname__", getattr(f, "__name__", "")))
def test_no_source_of_the_hot_path_brings_a_tensor_to_the_host(where):
    tree = ast.parse(textwrap.dedent(inspect.getsource(where)))
    calls = [node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and
             isinstance(node.func, ast.Attribute)]
    assert not set(calls) & set(TO_HOST)
