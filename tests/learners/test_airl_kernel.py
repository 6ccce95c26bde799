"""AIRL's discriminator, made of two networks, in a single call of the C kernels against torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from puffer_il.core.spec import EnvSpec
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.airl import AIRL
from puffer_il.learners.common.discriminator import discriminator_gradients
from puffer_il.nn import fused
from puffer_il.nn.observations import obs_moments
from tests.support.kernel_learners import (
    ACTIONS,
    CPU,
    by_the_kernels,
    check_that_torch_steps,
    config,
    make_spec,
    random_demos,
    shake,
)
from tests.support.kernels import ACTIVATIONS, EACH_SET, error


def airl_learner(spec: EnvSpec, inputs: str = "state_action", **airl: Any) -> AIRL:
    torch.manual_seed(0)
    airl = {"disc_hidden": [20, 33], "shaping_hidden": [17], "disc_batch_size": 250, "max_grad_norm": 0.0} | airl
    tables = {"airl": airl | {"inputs": inputs}, "policy": {"hidden": [8]}, "ppo": {"gamma": 0.8}}
    learner = AIRL(spec, random_demos(spec), config("airl", **tables), CPU, 0)
    with torch.no_grad():
        shake(learner.discriminator)
        for network in (learner.discriminator.reward, learner.discriminator.shaping):
            for p in network.net.parameters():
                p *= 1.5
    return learner


def both_airl_steps(learner: AIRL, expert: Tensor, policy: Tensor, shaping: bool = True) -> tuple[list[Tensor], ...]:
    """Statistics and gradients: by the kernels, by torch's own layers. Without shaping the logit is g − log π."""
    cfg, shaped, grad = learner.config, learner.discriminator, learner.optimizer.grad
    mix = torch.rand(len(expert), generator=torch.Generator().manual_seed(1))
    mix = mix if cfg.gp_coef and cfg.gp_kind == "interpolated" else None
    logit = shaped.logit() if shaping else shaped.logit()._replace(terms=shaped.logit().terms[:1])
    grad.fill_(math.nan if shaping else 0.0)  # all of it is written
    first, own = [by_the_kernels(cfg, logit, expert, policy, mix), grad.clone()], shaped.reward.width
    if not shaping:
        learner.discriminator = lambda rows: shaped.reward(rows[:, :own]) - rows[:, -1].detach()
    fused.enable(False)
    second = [learner._gradients_in_torch(expert, policy, mix), grad.clone()]
    fused.enable(True)
    learner.discriminator = shaped
    return first, second


def random_rows(learner: AIRL, rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    expert, policy = (torch.randn(rows, learner.discriminator.width, generator=generator) for _ in range(2))
    return expert, policy


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("penalty", ["interpolated", "zero_centred", "none"])
def test_airl_kernel_matches_torch(penalty: str, activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    keys = {"gp_coef": 0.0} if penalty == "none" else {"gp_kind": penalty, "gp_coef": 3.0}
    for inputs, action, hidden in (("state", "box", [64, 64]), ("state_action", "multidiscrete", [20, 33]),
                                   ("state_action", "unbounded", [9])):
        learner = airl_learner(make_spec(action), inputs, disc_activation=activation, disc_hidden=hidden,
                               disc_ent_coef=0.1, **keys)
        for rows in (1, 47, 250):
            for shaping in (True, False):
                ours, expected = both_airl_steps(learner, *random_rows(learner, rows), shaping)
                assert error(ours, expected) < 1e-5
        *_, worth, norm = ours[0].tolist()
        assert (worth > 0.01) == (penalty != "none") == (norm > 0)


@pytest.mark.parametrize("inputs", ["state", "next_state", "state_action"])
@pytest.mark.parametrize("action", ACTIONS)
def test_airl_kernel_matches_torch_on_demonstrated_rows(action: str, inputs: str) -> None:
    """Rows of demonstrations, with ends and absorbing states among them, made by the kernels and by torch."""
    spec, rng = make_spec(action, "int16", (2, 3)), np.random.default_rng(1)
    learner = airl_learner(spec, inputs)
    shaped = learner.discriminator
    shaped.update_norm(*obs_moments(shaped.flatten, learner.demo_obs))
    learner._ask_policy(slice(0, 300))
    steps = learner.demos_at(torch.arange(300))[1]
    assert bool(steps.ended.any()) and bool((steps.logprobs < 0).any())
    index = torch.from_numpy(rng.integers(300, size=200))
    made = []
    for on in (True, False):
        fused.enable(on)
        made.append([shaped.rows(learner.demo_obs, steps), shaped.rows(learner.demo_obs, steps, index)])
        into = torch.full((200, shaped.width + 2), 7.0)
        assert torch.equal(shaped.rows(learner.demo_obs, steps, index, into[:, 1:-1]), made[-1][1])
        assert torch.equal(into[:, 1:-1], made[-1][1]) and bool((into[:, [0, -1]] == 7).all())
    fused.enable(True)
    torch.testing.assert_close(made[0], made[1], rtol=1e-6, atol=1e-6)
    assert torch.equal(made[0][0][index], made[0][1])
    expert, policy = learner._with_absorbing(made[0][1], [20, 0], 0), made[0][0][:200]
    ours, expected = both_airl_steps(learner, expert, policy)
    assert error(ours, expected) < 1e-5


def test_airl_gradient_has_the_same_bits_on_any_number_of_threads() -> None:
    learner, results = airl_learner(make_spec("box"), disc_hidden=[64, 64]), []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        results.append(both_airl_steps(learner, *random_rows(learner, 5001))[0])
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@EACH_SET
def test_airl_kernel_forgets_a_nan_of_an_earlier_step(isa: str) -> None:
    kernels.use_instruction_set(isa)
    learner = airl_learner(make_spec("box"))
    before, _ = both_airl_steps(learner, *random_rows(learner, 7))
    nans = torch.full((100, learner.discriminator.width), math.nan)
    spoilt = discriminator_gradients(learner.discriminator.logit(), nans, nans, loss="bce", label_smoothing=0.0,
                                     ent_coef=0.0, gp_coef=1.0, gp_kind="zero_centred", gp_target=1.0, mix=None)
    assert spoilt is not None and bool(spoilt[0].isnan()) and bool(learner.optimizer.grad.isnan().any())
    after, _ = both_airl_steps(learner, *random_rows(learner, 7))
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("changes", [{"disc_hidden": [8] * 9}, {"shaping_hidden": [8] * 9}])
def test_airl_networks_that_the_kernels_do_not_cover_learn_by_torch(changes: dict[str, Any]) -> None:
    learner = airl_learner(make_spec(), **changes)
    check_that_torch_steps(learner, learner.demos_at(torch.arange(len(learner.demo_obs)))[1])
