"""PPO's minibatches of policies with an LSTM or a GRU in single calls of the C kernels against torch's
backpropagation through time."""

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
from puffer_il.nn import fused
from puffer_il.nn.observations import obs_moments
from puffer_il.rollout.buffer import RolloutBuffer
from tests.learners.test_ppo_kernel import ppo_learner
from tests.support.kernel_learners import ACTIONS, actions_for, make_spec, random_obs, spoil_memory
from tests.support.kernels import EACH_SET, error

COLUMNS = {"neighbours": slice(5, 31), "scattered": np.array([0, 3, 4, 17, 36]), "one": np.array([36])}
HEADS: dict[str, dict[str, Any]] = {"two networks": {}, "shared": {"shared": True}, "heads alone": {"hidden": []}}


def rollout_of(learner: PPO, spec: EnvSpec, invalid: bool = False, num_steps: int = 7,
               num_envs: int = 37) -> RolloutBuffer:
    """A rollout in which episodes begin anywhere, after a memory of other things."""
    rng, policy = np.random.default_rng(0), learner.policy
    buffer, shape = RolloutBuffer(spec, num_steps, num_envs, state_dim=policy.state_dim), (num_steps, num_envs)
    buffer.start()
    n = num_steps * num_envs
    buffer.obs[:] = random_obs(spec, n, rng).reshape(*shape, *spec.obs_shape)
    buffer.actions[:] = actions_for(spec, n, rng).reshape(*shape, -1)
    buffer.episode_starts[:] = rng.random(shape) < 0.2
    buffer.initial_state[:] = rng.normal(size=(num_envs, policy.state_dim))
    policy.encoder.update_norm(*obs_moments(policy.flatten, torch.from_numpy(buffer.flat().obs)))
    with torch.no_grad():
        logprobs, _, values = policy.evaluate(*(torch.from_numpy(array) for array in (
            buffer.obs, buffer.actions, buffer.initial_state, buffer.episode_starts)))
    buffer.logprobs[:] = (logprobs.numpy() + 0.3 * rng.normal(size=n)).reshape(shape)
    buffer.values[:] = (values.numpy() + 0.3 * rng.normal(size=n)).reshape(shape)
    buffer.advantages[:], buffer.returns[:] = rng.normal(size=shape), rng.normal(size=shape)
    buffer.valid[:] = rng.random(shape) > 0.2 if invalid else True
    return buffer


def both_steps(learner: PPO, buffer: RolloutBuffer, columns: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Losses (with the gradient's norm) and gradients: by the kernels, by torch's autograd alone."""
    step = learner._fused_step(buffer)
    assert step is not None
    learner.optimizer.grad.fill_(math.nan)  # all of it is written
    ours = [step(columns, True), learner.optimizer.grad.clone()]
    fused.enable(False)
    assert learner._fused_step(buffer) is None
    expected = [learner._torch_step(buffer)(columns, True), learner.optimizer.grad.clone()]
    fused.enable(True)
    return ours, expected


def alike(ours: list[Tensor], expected: list[Tensor]) -> None:
    assert error(ours[1:], expected[1:]) < 2e-5
    torch.testing.assert_close(ours[0], expected[0], rtol=5e-5, atol=5e-6)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_ppo_through_a_memory_matches_torch(memory: str, action: str, heads: str, columns: str) -> None:
    spec = make_spec(action)
    learner = ppo_learner(spec, {memory: 19} | HEADS[heads], vf_clip_coef=0.2 if columns == "scattered" else 0.0)
    alike(*both_steps(learner, rollout_of(learner, spec, columns == "neighbours"), COLUMNS[columns]))


@pytest.mark.parametrize("spread", [{"squash": True}, {"state_std": True}], ids=str)
def test_ppo_through_a_memory_matches_torch_whatever_the_gaussian(spread: dict[str, bool]) -> None:
    spec = make_spec("box")
    learner = ppo_learner(spec, {"lstm": 19, **spread})
    alike(*both_steps(learner, rollout_of(learner, spec), slice(0, 37)))


@EACH_SET
@pytest.mark.parametrize("units", [1, 16, 33, 128])
@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_memories_of_every_size_match_torch_over_sequences_of_every_length(memory: str, units: int, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for steps, envs in ((1, 7), (2, 1), (40, 50)):
        spec = make_spec("multidiscrete", shape=(3, units % 5 + 1))
        learner = ppo_learner(spec, {memory: units, "obs_norm": units != 33})
        assert learner.policy.memory is not None
        for p in learner.policy.memory.parameters():  # gates that are neither all open nor all shut
            p.data.mul_(0.3 if units > 16 else 1)
        buffer = rollout_of(learner, spec, num_steps=steps, num_envs=envs)
        if units == 33:  # they are not normalised
            buffer.obs[:] = 0.05 * buffer.obs
        alike(*both_steps(learner, buffer, slice(0, envs)))


def test_many_columns_go_through_groups_and_chunks_and_match_torch() -> None:
    spec = make_spec("box")
    learner = ppo_learner(spec, {"lstm": 24, "hidden": [16]})
    buffer = rollout_of(learner, spec, num_steps=3, num_envs=3500)
    alike(*both_steps(learner, buffer, slice(0, 3500)))


def test_ppo_gradient_through_an_lstm_has_the_same_bits_on_any_number_of_threads_and_every_time() -> None:
    spec = make_spec("box")
    learner = ppo_learner(spec, {"lstm": 40, "hidden": [64]})
    buffer = rollout_of(learner, spec, True, 50, 190)
    gradients = []
    for threads in (1, 2, 3, 1):
        kernels.set_threads(threads)
        gradients.append(both_steps(learner, buffer, slice(0, 190))[0])
    assert all(torch.equal(a, b) for other in gradients[1:] for a, b in zip(gradients[0], other, strict=True))


@pytest.mark.parametrize("name", ["logprobs", "returns", "advantages", "obs", "initial_state"])
def test_ppo_through_an_lstm_shows_a_nan_of_the_rollout_in_losses_and_gradient(name: str) -> None:
    spec = make_spec("box")
    learner = ppo_learner(spec, {"lstm": 8})
    buffer = rollout_of(learner, spec)
    buffer.episode_starts[:] = False
    getattr(buffer, name)[2, 10] = math.nan
    losses = learner._fused_step(buffer)(slice(0, 37), True)
    assert bool(losses[:2].isnan().any()) and bool(losses[5].isnan()) and bool(learner.optimizer.flat.isnan().any())


@EACH_SET
def test_ppo_through_an_lstm_forgets_a_nan_of_an_earlier_call(isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec = make_spec("discrete")
    learner = ppo_learner(spec, {"lstm": 19})
    buffer = rollout_of(learner, spec)
    before, _ = both_steps(learner, buffer, np.arange(7))
    spoil_memory(learner.policy.actor)
    obs = buffer.obs.copy()
    buffer.obs[:] = math.nan
    learner._fused_step(buffer)(slice(0, 37), True)
    buffer.obs[:] = obs
    learner = ppo_learner(spec, {"lstm": 19})
    rollout_of(learner, spec)
    after, _ = both_steps(learner, buffer, np.arange(7))
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_memory_does_not_learn_from_rows_drawn_at_random(memory: str) -> None:
    with pytest.raises(InputError, match=rf"ppo\.minibatch = 'rows': a policy with a memory \(policy\.{memory} = 8\)"):
        ppo_learner(make_spec(), {memory: 8}, minibatch="rows")
