"""Which policies the C kernels cover, and that these leave nothing behind for the next call."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.kernels import _kernels as kernels
from puffer_il.nn import FusedPolicy, Policy, fused
from tests.support.kernel_learners import make_spec, shake, spoil_memory
from tests.support.kernels import EACH_SET, make_net


def make_policy(spec: EnvSpec, **keys: Any) -> Policy:
    torch.manual_seed(0)
    policy = Policy(spec, PolicyConfig(**({"hidden": (20, 33)} | keys)))
    shake(policy)
    return policy


def test_fused_policy_exists_only_for_policies_that_the_kernels_cover() -> None:
    def covered(spec: EnvSpec, **policy: Any) -> bool:
        return FusedPolicy.of(make_policy(spec, **policy)) is not None

    box, image = make_spec("box"), make_spec(dtype="uint8", shape=(8, 8, 3))
    assert covered(box) and covered(box, shared=True) and covered(box, hidden=(512, 512, 512))
    assert covered(make_spec(dtype="int16", shape=(2, 2, 2)))
    assert covered(box, squash=True) and covered(box, state_std=True, chunk=2)
    assert not covered(box, lstm=4) and not covered(image)
    assert covered(box, hidden=(8,) * 8) and covered(box, hidden=(2048,), shared=True)
    assert not covered(box, hidden=(8,) * 9) and not covered(box, hidden=(2049,), shared=True)
    fused.forget()
    many = EnvSpec("many", (3,), np.dtype(np.float32), ActionSpec(nvec=(2,) * 257, shape=(257,)))
    assert not covered(many)
    assert any("257 action dimensions with 514 parameters" in notice for notice in fused.take_notices())
    assert covered(box, head="flow", chunk=4) and covered(box, head="mixture") and covered(box, chunk=4, shared=True)
    assert not covered(box, head="mixture", state_std=True) and not covered(box, chunk=4, lstm=4)
    policy = make_policy(box)
    with torch.autocast("cpu", torch.bfloat16):
        assert FusedPolicy.of(policy) is None
    fused.enable(False)
    assert FusedPolicy.of(policy) is None


def test_fused_policy_does_not_cover_float64() -> None:
    assert FusedPolicy.of(make_policy(make_spec()).double()) is None


@EACH_SET
def test_networks_and_samples_forget_a_nan_of_an_earlier_call(isa: str) -> None:
    kernels.use_instruction_set(isa)
    policy = make_policy(make_spec("box"))
    obs = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    before = [*policy.act(obs, noise=None, deterministic=True)[:3]]
    spoil_memory(policy.actor)
    assert all(torch.equal(a, b) for a, b in zip(policy.act(obs, deterministic=True)[:3], before, strict=True))
    net = make_net(5, (20,), 9, "silu")
    spoil_memory(net)
    x = obs.requires_grad_()
    gradient, = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
