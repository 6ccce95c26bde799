"""A discriminator's step in a single call of the C kernels against torch: the same statistics, the same gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from puffer_il.core.spec import EnvSpec
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.common.discriminator import LOSSES
from puffer_il.learners.gail import GAIL
from puffer_il.nn import fused
from puffer_il.nn.losses import bernoulli_entropy, discriminator_loss
from tests.support.kernel_learners import (
    CPU,
    by_the_kernels,
    check_that_torch_steps,
    config,
    make_spec,
    random_demos,
    shake,
    spoil_memory,
)
from tests.support.kernels import ACTIVATIONS, EACH_SET, error, in_float64


def gail_learner(spec: EnvSpec, **gail: Any) -> GAIL:
    torch.manual_seed(0)
    gail = {"disc_hidden": [20, 33], "disc_batch_size": 250, "max_grad_norm": 0.0} | gail
    learner = GAIL(spec, random_demos(spec), config("gail", gail=gail, policy={"hidden": [8]}), CPU, 0)
    with torch.no_grad():
        shake(learner.discriminator)
        for p in learner.discriminator.net.parameters():
            p *= 1.5  # some gradients are above norm 1, where the one-sided penalty begins
    return learner


def both_discriminator_steps(learner: GAIL, rows: int = 250, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Statistics and gradients: by the kernels, by torch."""
    cfg, width = learner.config, learner.discriminator.absorbing_rows(1).shape[1]
    generator = torch.Generator().manual_seed(seed)
    expert, policy = (torch.randn(rows, width, generator=generator) for _ in range(2))
    mix = torch.rand(rows, generator=generator) if cfg.gp_coef and cfg.gp_kind == "interpolated" else None
    grad = learner.optimizer.grad.fill_(math.nan)
    first = [by_the_kernels(cfg, learner.discriminator.logit(), expert, policy, mix), grad.clone()]
    return first, [learner._gradients_in_torch(expert, policy, mix), grad.clone()]


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("penalty", ["interpolated", "zero_centred", "none"])
def test_discriminator_kernel_matches_torch(penalty: str, activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    keys = {"gp_coef": 0.0} if penalty == "none" else {"gp_kind": penalty, "gp_coef": 3.0}
    for hidden in ([20, 33], [64], [16, 16, 16]):
        learner = gail_learner(make_spec("box"), disc_activation=activation, disc_hidden=hidden, disc_ent_coef=0.1,
                               label_smoothing=0.1, **keys)
        for rows in (1, 47, 250):
            ours, expected = both_discriminator_steps(learner, rows)
            assert error(ours, expected) < 1e-5
        *_, worth, norm = ours[0].tolist()
        assert (worth > 0.05) == (penalty != "none") == (norm > 0)


@EACH_SET
@pytest.mark.parametrize(("loss", "smoothing"), [("least_squares", 0.0), ("least_squares", 0.2), ("wasserstein", 0.0)])
def test_discriminator_kernel_matches_torch_with_every_loss(loss: str, smoothing: float, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for penalty in ("interpolated", "zero_centred"):
        learner = gail_learner(make_spec("box"), loss=loss, label_smoothing=smoothing, disc_ent_coef=0.1,
                               gp_kind=penalty, gp_target=0.4)
        for rows in (1, 47, 250):
            ours, expected = both_discriminator_steps(learner, rows)
            assert error(ours, expected) < 1e-5


@pytest.mark.parametrize("loss", ["bce", "least_squares", "wasserstein"])
def test_discriminator_gradients_are_the_slopes_of_finite_differences(loss: str) -> None:
    learner = gail_learner(make_spec(), loss=loss, gp_coef=0.0, disc_ent_coef=0.3)
    net = in_float64(learner.discriminator.net)
    width = learner.discriminator.width
    (_, gradient), _ = both_discriminator_steps(learner, 40)
    generator = torch.Generator().manual_seed(0)
    expert, policy = (torch.randn(40, width, generator=generator).double() for _ in range(2))

    def value() -> float:
        with torch.no_grad():
            ours, theirs = net(expert)[:, 0], net(policy)[:, 0]
            entropy = bernoulli_entropy(torch.cat((ours, theirs))).mean()
            return float(discriminator_loss(loss, ours, theirs) - 0.3 * entropy)

    first, h = net[0].weight, 1e-6
    for place in ((0, 0), (7, 3), (19, 6)):
        values = []
        for step in (h, -2 * h):
            with torch.no_grad():
                first[place] += step
            values.append(value())
        with torch.no_grad():
            first[place] += h
        slope = (values[0] - values[1]) / (2 * h)
        assert float(gradient[place[0] * width + place[1]]) == pytest.approx(slope, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("key", ["label_smoothing", "disc_ent_coef", "gp_coef", "gp_target"])
@pytest.mark.parametrize("value", [0.0, 0.4])
def test_discriminator_kernel_matches_torch_with_every_coefficient(key: str, value: float) -> None:
    ours, expected = both_discriminator_steps(gail_learner(make_spec("multidiscrete"), **{key: value}))
    assert error(ours, expected) < 1e-5


def test_discriminator_kernel_matches_torch_with_labels_of_one_half() -> None:
    ours, expected = both_discriminator_steps(gail_learner(make_spec(), label_smoothing=0.5))
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-5, atol=1e-6)


def test_certain_discriminator_has_finite_losses_and_gradients() -> None:
    learner = gail_learner(make_spec(), disc_activation="relu", gp_coef=0.0)
    with torch.no_grad():
        for p in learner.discriminator.net.parameters():
            p *= 30
    ours, expected = both_discriminator_steps(learner)
    assert float(ours[0][3].abs()) > 1000 and error(ours, expected) < 1e-5


def test_discriminator_gradient_has_the_same_bits_on_any_number_of_threads() -> None:
    learner, results = gail_learner(make_spec("box")), []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        results.append(both_discriminator_steps(learner, 5001)[0])
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_discriminator_kernel_shows_a_nan_of_the_network_in_its_loss() -> None:
    learner = gail_learner(make_spec("box"))
    with torch.no_grad():
        learner.discriminator.net[0].weight[3, 2] = math.nan
    (stats, gradient), _ = both_discriminator_steps(learner)
    assert bool(gradient.isnan().any()) and bool(stats[0].isnan())


@EACH_SET
def test_discriminator_kernel_forgets_a_nan_of_an_earlier_call(isa: str) -> None:
    kernels.use_instruction_set(isa)
    learner = gail_learner(make_spec())
    before, _ = both_discriminator_steps(learner, 7)
    spoil_memory(learner.discriminator.net)
    after, _ = both_discriminator_steps(learner, 7)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("changes", [{"spectral_norm": True}, {"disc_hidden": [8] * 9}])
def test_discriminators_that_the_kernels_do_not_cover_learn_by_torch(changes: dict[str, Any]) -> None:
    fused.forget()
    learner = gail_learner(make_spec(), **changes)
    check_that_torch_steps(learner, learner.demo_paired)
    assert any("torch computes this" in notice for notice in fused.take_notices())


def test_a_loss_that_the_kernels_do_not_know_is_computed_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = gail_learner(make_spec("box"))
    monkeypatch.delitem(LOSSES, "bce")
    check_that_torch_steps(learner, learner.demo_paired)
