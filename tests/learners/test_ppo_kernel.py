"""PPO's minibatches in single calls of the C kernels against torch: the same losses, the same gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.ppo import PPO
from puffer_il.nn.observations import obs_moments
from puffer_il.rollout.buffer import RolloutBuffer
from tests.support.kernel_learners import (
    ACTIONS,
    BENT,
    CPU,
    DTYPES,
    actions_for,
    config,
    make_spec,
    random_obs,
    shake,
    spoil_memory,
)
from tests.support.kernels import ACTIVATIONS, EACH_SET, error

PARTS = {"columns": (slice(5, 31), True), "scattered columns": (np.array([0, 3, 4, 17, 36]), True),
         "rows": (np.random.default_rng(3).permutation(222)[:100], False), "one row": (np.array([221]), False)}


def ppo_learner(spec: EnvSpec, policy: dict[str, Any] | None = None, **ppo: Any) -> PPO:
    """A learner whose policy stands still, so that both routes start from the same weights."""
    torch.manual_seed(0)
    ppo = {"ent_coef": 0.02, "vf_coef": 0.7, "learning_rate": 0.0} | ppo
    learner = PPO(spec, None, config("ppo", ppo=ppo, policy={"hidden": [20, 33]} | (policy or {})), CPU, 0)
    shake(learner.policy)
    learner.optimizer.learning_rate = 0.0
    learner.optimizer.prepare()
    return learner


def rollout_of(learner: PPO, spec: EnvSpec, invalid: bool = False, num_steps: int = 6,
               num_envs: int = 37) -> RolloutBuffer:
    """A rollout whose ratios lie on both sides of the clip range, and values that have moved far and little."""
    rng = np.random.default_rng(0)
    buffer, n = RolloutBuffer(spec, num_steps, num_envs), num_steps * num_envs
    buffer.start()
    flat = buffer.flat()
    flat.obs[:], flat.actions[:] = random_obs(spec, n, rng), actions_for(spec, n, rng)
    learner.policy.encoder.update_norm(*obs_moments(learner.policy.flatten, torch.from_numpy(flat.obs)))
    with torch.no_grad():
        logprobs, _, values = learner.policy.evaluate(torch.from_numpy(flat.obs), torch.from_numpy(flat.actions))
    flat.logprobs[:] = logprobs.numpy() + 0.3 * rng.normal(size=n)
    flat.values[:] = values.numpy() + 0.3 * rng.normal(size=n)
    flat.advantages[:], flat.returns[:] = rng.normal(size=n), rng.normal(size=n)
    flat.valid[:] = True
    if invalid:
        hidden = rng.random(n) < 0.2
        flat.valid[:] = ~hidden
        flat.obs[hidden], flat.logprobs[hidden], flat.returns[hidden], flat.advantages[hidden] = 99, -40.0, 1e6, 1e4
    return buffer


def both_steps(learner: PPO, buffer: RolloutBuffer, part: Any, columns: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Losses (with the gradient's norm) and gradients: by the kernels, by torch."""
    results = []
    for make in (learner._fused_step, learner._torch_step):
        step = make(buffer)
        assert step is not None
        learner.optimizer.grad.fill_(math.nan)  # all of it is written
        if make == learner._torch_step:
            learner.optimizer.zero_grad()
        losses = step(part, columns)
        results.append([losses, learner.optimizer.grad.clone()])
    return results[0], results[1]


@pytest.mark.parametrize("invalid", [False, True], ids=["valid", "invalid"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("action", ACTIONS)
def test_ppo_kernel_matches_torch(action: str, shared: bool, part: str, invalid: bool) -> None:
    spec = make_spec(action)
    learner = ppo_learner(spec, {"shared": shared}, vf_clip_coef=0.2 if invalid else 0.0)
    buffer = rollout_of(learner, spec, invalid)
    ours, expected = both_steps(learner, buffer, *PARTS[part])
    assert error(ours[1:], expected[1:]) < 1e-5
    torch.testing.assert_close(ours[0], expected[0], rtol=2e-5, atol=2e-6)
    if part == "columns":
        assert 0.1 < float(ours[0][4]) < 0.9  # clipped and free rows are both among them


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("action", ["multidiscrete", "box"])
def test_ppo_kernel_matches_torch_with_every_activation(action: str, activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec = make_spec(action)
    for policy in ({"hidden": [64, 64], "obs_norm": False}, {"hidden": [130], "shared": True}, {"hidden": [9, 17, 5]}):
        learner = ppo_learner(spec, policy | {"activation": activation}, vf_clip_coef=0.1)
        with torch.no_grad():
            for p in learner.policy.parameters():
                p.mul_(0.5 if policy.get("obs_norm") is None else 0.1)
        ours, expected = both_steps(learner, rollout_of(learner, spec), slice(0, 37), True)
        assert error(ours[1:], expected[1:]) < 1e-5
        torch.testing.assert_close(ours[0], expected[0], rtol=2e-5, atol=2e-6)


@EACH_SET
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("bent", BENT, ids=str)
def test_ppo_kernel_matches_torch_of_squashed_actions_and_spreads_of_each_state(bent: dict[str, bool], shared: bool,
                                                                                isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec = make_spec("box")
    learner = ppo_learner(spec, bent | {"shared": shared, "init_log_std": 0.3})
    buffer = rollout_of(learner, spec)
    flat, rng = buffer.flat(), np.random.default_rng(1)
    obs = torch.from_numpy(flat.obs)
    with torch.no_grad():  # actions that the policy may well take, in range: else log π is in the hundreds
        flat.actions[:] = learner.policy.dist.sample(learner.policy.action_params(obs))[0]
        logprobs, *_ = learner.policy.evaluate(obs, torch.from_numpy(flat.actions))
    flat.logprobs[:] = logprobs.numpy() + 0.3 * rng.normal(size=len(logprobs))
    ours, expected = both_steps(learner, buffer, slice(0, 37), True)
    assert error(ours[1:], expected[1:]) < 1e-4
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ppo_kernel_matches_torch_on_observations_of_every_dtype(dtype: str) -> None:
    spec = make_spec(dtype=dtype, shape=(3, 2))
    learner = ppo_learner(spec)
    ours, expected = both_steps(learner, rollout_of(learner, spec), PARTS["rows"][0], False)
    assert error(ours, expected) < 1e-5


@pytest.mark.parametrize("name", ["clip_coef", "vf_coef", "ent_coef", "vf_clip_coef"])
def test_ppo_kernel_matches_torch_with_coefficients_at_their_limits(name: str) -> None:
    for value in (0.0, 1e-3, 1.0):
        spec = make_spec("multidiscrete")
        learner = ppo_learner(spec, **{name: value})
        ours, expected = both_steps(learner, rollout_of(learner, spec), slice(0, 20), True)
        assert error(ours, expected) < 1e-5


def test_ppo_kernel_bounds_extreme_ratios_as_torch_does() -> None:
    """Ratios beyond what float holds: bounded, and nothing flows through the bound."""
    spec = make_spec("box")
    learner = ppo_learner(spec)
    buffer = rollout_of(learner, spec)
    buffer.logprobs[::2] -= 100.0
    buffer.logprobs[1::4] += 300.0
    ours, expected = both_steps(learner, buffer, slice(0, 37), True)
    assert bool(ours[0].isfinite().all()) and error(ours, expected) < 1e-5


def test_ppo_gradient_has_the_same_bits_on_any_number_of_threads() -> None:
    spec = make_spec("box")
    learner = ppo_learner(spec, {"hidden": [64, 64], "shared": True})
    buffer = rollout_of(learner, spec, True, 50, 90)
    gradients = []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        gradients.append(both_steps(learner, buffer, slice(0, 90), True)[0])
    assert all(torch.equal(a, b) for other in gradients[1:] for a, b in zip(gradients[0], other, strict=True))


@pytest.mark.parametrize("name", ["logprobs", "returns", "advantages", "obs"])
def test_ppo_kernel_shows_a_nan_of_the_rollout_in_losses_and_gradient(name: str) -> None:
    spec = make_spec("box")
    learner = ppo_learner(spec, {"activation": "relu"})
    buffer = rollout_of(learner, spec)
    getattr(buffer, name)[2, 10] = math.nan
    step = learner._fused_step(buffer)
    losses = step(slice(0, 37), True)
    assert bool(losses[:2].isnan().any()) and bool(losses[5].isnan()) and bool(learner.optimizer.flat.isnan().any())


def test_ppo_refuses_an_empty_minibatch() -> None:
    spec = make_spec()
    learner = ppo_learner(spec, num_minibatches=230, minibatch="rows")
    buffer = rollout_of(learner, spec)
    with pytest.raises(InputError, match="num_minibatches"):
        learner.update(buffer, 0.0)


@EACH_SET
@pytest.mark.parametrize("action", ["discrete", "box"])
def test_ppo_kernel_forgets_a_nan_of_an_earlier_call(action: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec = make_spec(action)
    learner = ppo_learner(spec)
    buffer = rollout_of(learner, spec)
    before, _ = both_steps(learner, buffer, np.arange(7), False)
    spoil_memory(learner.policy.actor)
    after, _ = both_steps(learner, buffer, np.arange(7), False)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
