"""What is mixed into on-policy learning: its gradients are those of the equations, its draws those of the weights."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from puffer_il.core.config import MixConfig
from puffer_il.core.errors import InputError
from puffer_il.learners.common.demo_rows import RowSampler
from puffer_il.learners.common.mixins import ExpertRows, starts_of, wants
from puffer_il.learners.experiment import build
from puffer_il.learners.ppo import PPO
from tests.support.rollouts import SPEC, make_buffer, sign_demos

CPU = torch.device("cpu")


def make(demos=None, policy=None, ppo=None, **mix) -> PPO:
    torch.manual_seed(0)
    step = {"update_epochs": 1, "num_minibatches": 1, "max_grad_norm": 0.0, "ent_coef": 0.02, "minibatch": "columns"}
    tables = {"ppo": step | (ppo or {}), "policy": {"hidden": [8]} | (policy or {}), "mix": mix}
    return PPO(SPEC, demos or sign_demos(), build("ppo", [("test", tables)]), CPU, 0)


def gradient(learner: PPO, buffer, progress: float = 0.0) -> torch.Tensor:
    """(parameters,) of one update, whose step is left out."""
    kept = []
    learner.optimizer.step = lambda: kept.append(learner.optimizer.grad.clone()) or torch.zeros(())
    learner.advantages(buffer)
    learner.update(buffer, progress)
    return kept[0]


def expected(policy, buffer, rows: np.ndarray, demos, share: float, weight: float) -> torch.Tensor:
    """The same in float64, written out: (1 − h) L_clip − ent + vf + weight · mean −log π of the demonstrated `rows`."""
    flat = {name: torch.from_numpy(getattr(buffer.flat(), name)) for name in
            ("obs", "actions", "logprobs", "advantages", "returns")}

    def logits(obs):
        return policy.actor(policy.encoder(obs.double())).log_softmax(-1)

    logp = logits(flat["obs"])
    ratio = (logp.gather(1, flat["actions"].long())[:, 0] - flat["logprobs"].double()).exp()
    advantages = flat["advantages"].double()
    advantages = (advantages - advantages.mean()) / (advantages.std(unbiased=False) + 1e-8)
    surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    values = policy.critic(policy.encoder(flat["obs"].double()))[:, 0]
    value_loss = 0.5 * (values - flat["returns"].double()).square().mean()
    entropy = -(logp.exp() * logp).sum(-1).mean()
    shown = logits(torch.from_numpy(demos.obs[rows])).gather(1, torch.from_numpy(demos.actions[rows]).long())
    (-(1 - share) * surrogate - 0.02 * entropy + 0.5 * value_loss - weight * shown.mean()).backward()
    return torch.cat([p.grad.reshape(-1) for p in policy.parameters()])


CASES = {"bc": ({"bc_coef": 0.7, "bc_final": 1.0}, 0.0, 0.7), "rows": ({"expert_rows": 0.3}, 0.3, 0.3),
         "all rows": ({"expert_rows": 1.0}, 1.0, 1.0),
         "both": ({"expert_rows": 0.25, "bc_coef": 0.5, "bc_final": 0.2}, 0.25, 0.25 + 0.5 * 0.2 ** 0.4)}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_equation_in_float64(case, route):
    mix, share, weight = CASES[case]
    demos = sign_demos()
    learner, buffer = make(demos, batch_size=30, **mix), make_buffer()
    # The rows that the learner will draw are known from a copy of its generator: minibatches are drawn first.
    rng = copy.deepcopy(learner.rng)
    list(buffer.columns(1, rng))
    rows = rng.integers(len(demos), size=30)
    policy = copy.deepcopy(learner.policy).double()
    got = gradient(learner, buffer, progress=0.4)
    reference = expected(policy, buffer, rows, demos, share, weight)
    torch.testing.assert_close(got.double(), reference, rtol=1e-4, atol=1e-6)


def test_the_torch_route_and_the_kernels_agree_for_continuous_actions():
    from puffer_il.core.spec import ActionSpec, EnvSpec
    from puffer_il.nn import fused

    bound = np.ones(2, np.float32)
    spec = EnvSpec("made up", (3,), np.dtype(np.float32), ActionSpec(low=-bound, high=bound, shape=(2,)))
    rng = np.random.default_rng(3)
    demos = replace(sign_demos(), actions=rng.uniform(-1, 1, (40, 2)).astype(np.float32))
    found = []
    for kernels in (True, False):
        fused.enable(kernels)
        torch.manual_seed(0)
        config = build("ppo", [("test", {"mix": {"bc_coef": 0.6, "batch_size": 25}, "policy": {"hidden": [8]}})])
        learner = PPO(spec, demos, config, CPU, 0)
        learner.expert.start(0.5, make_buffer())
        found.append([*learner.expert.gradients(np.random.default_rng(1))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert found[0][0].abs().max() > 1e-3


def test_nothing_mixed_in_is_nothing_done():
    plain, off = (make(demos) for demos in (None, sign_demos()))
    assert plain.expert is None and off.expert is None
    before = copy.deepcopy(off.rng.bit_generator.state)
    buffer = make_buffer()
    off.advantages(buffer)
    metrics = off.update(buffer, 0.0)
    assert off.rng.bit_generator.state == before, "whole environments in one minibatch take no random number"
    assert "losses/expert_nll" not in metrics


def test_the_loss_fades_from_its_coefficient_to_its_share():
    learner = make(bc_coef=2.0, bc_final=0.01)
    weights = []
    for progress in (0.0, 0.5, 1.0):
        learner.expert.start(progress, make_buffer())
        weights.append(learner.expert.sources[0][2])
    assert weights == pytest.approx([2.0, 0.2, 0.02])


@pytest.mark.parametrize("policy", [{}, {"shared": True}, {"lstm": 4}], ids=["separate", "shared", "lstm"])
def test_demonstrated_actions_become_likely(policy, route):
    demos = sign_demos()
    learner = make(demos, policy, {"learning_rate": 0.02, "update_epochs": 4, "minibatch": "auto"}, expert_rows=1.0,
                   batch_size=64)
    buffer = make_buffer(state_dim=learner.policy.state_dim)
    found = []
    for _ in range(40):
        learner.advantages(buffer)
        found.append(learner.update(buffer, 0.0)["losses/expert_nll"])
    assert found[0] == pytest.approx(np.log(2), abs=0.1)
    assert found[-1] < 0.35


def test_weighted_rows_are_drawn_as_often_as_they_weigh(route):
    weights = np.where(np.arange(40) < 20, 3.0, 1.0).astype(np.float32)
    weights[5] = 0
    learner = make(replace(sign_demos(), weights=weights), bc_coef=1.0, batch_size=60_000)
    rows = learner.expert
    index = rows._draw(rows.rows, rows.limits, np.random.default_rng(0))
    share = np.bincount(index, minlength=40) / len(index)
    assert share[5] == 0
    np.testing.assert_allclose(share, weights / weights.sum(), atol=6e-3)


def test_weighted_chunks_of_a_recurrent_policy():
    """Four episodes of ten rows, cut into chunks of 16: one chunk each, six rows of it padding."""
    weights = np.repeat([4.0, 0.0, 2.0, 2.0], 10).astype(np.float32)
    learner = make(replace(sign_demos(), weights=weights), {"lstm": 4}, bc_coef=1.0, batch_size=16 * 20_000)
    rows = learner.expert
    share = np.bincount(rows._draw(rows.rows, rows.limits, np.random.default_rng(0)), minlength=4) / 20_000
    np.testing.assert_allclose(share, [0.5, 0, 0.25, 0.25], atol=0.02)


def test_row_sampler_follows_the_weights_and_is_uniform_without():
    weights = np.array([1.0, 0.0, 3.0, 0.0])
    draw = RowSampler(4, weights, torch.Generator().manual_seed(0))
    counts = torch.bincount(draw(40_000), minlength=4)
    assert counts[1] == counts[3] == 0
    assert abs(int(counts[0]) - 10_000) < 4 * 87  # binomial: sd 87
    plain, torchs = RowSampler(7, None, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(1)
    assert torch.equal(plain(100), torch.randint(7, (100,), generator=torchs))


def test_starts_are_the_states_as_often_as_they_weigh():
    states = np.arange(40.0)[:, None]
    demos = replace(sign_demos(), states=states)
    assert starts_of(MixConfig(), demos, "x") is None
    plain = starts_of(MixConfig(expert_resets=0.5), demos, "x")
    assert plain.share == 0.5 and np.array_equal(plain.states, states)
    weights = np.zeros(40, np.float32)
    weights[[3, 8]] = 1, 3
    weighted = starts_of(MixConfig(expert_resets=1.0), replace(demos, weights=weights), "x").states[:, 0]
    assert [int((weighted == row).sum()) for row in (3, 8)] == [10, 30]


def test_refusals_name_the_key_and_the_remedy():
    with pytest.raises(InputError, match=r"mix\.expert_resets = 0\.5: .* memory hold no states .* collect pole"):
        starts_of(MixConfig(expert_resets=0.5), sign_demos(), "pole")
    assert wants(MixConfig(bc_coef=0.1)) == "mix.bc_coef = 0.1" and wants(MixConfig()) == ""
    learner = make()
    for demos, message in ((None, "needs demonstrations; give a file with --demos"),
                           (replace(sign_demos(), actions=None), "stores none; set it to 0")):
        with pytest.raises(InputError, match=rf"mix\.bc_coef = 0\.1 .*{message}"):
            ExpertRows(MixConfig(bc_coef=0.1), demos, learner.policy, learner.optimizer, CPU)
    tables = {"train": {"cuda_graphs": True}, "mix": {"bc_coef": 0.1}}
    with pytest.raises(InputError, match=r"train\.cuda_graphs = true: .*; set it to false"):
        PPO(SPEC, sign_demos(), build("ppo", [("test", tables)]), CPU, 0)
