"""A whole rollout as one call without Python, for a batch of C environments and a policy that the kernels cover."""

from typing import NamedTuple

from torch import Tensor

import puffer_il.kernels._kernels as kernels
from puffer_il.core.spec import Array
from puffer_il.nn import FusedPolicy, Noise, address
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.vector.vec import NativeBatch

ARRAYS = ("obs", "actions", "rewards", "env_rewards", "logprobs", "values", "final_values", "terminations",
          "truncations", "valid", "episode_starts")  # of the buffer, in the kernels' order


class Ended(NamedTuple):
    """Episodes that ended in a rollout, in the order of `buffer.final_index`: returns and lengths (k,), the sums of
    what their environments have logged, as in `Vec.logs`, and what a memory then held (k, state_dim)."""

    returns: Array
    lengths: Array
    logs: Array
    states: Array


def native_rollout(policy: FusedPolicy, batch: NativeBatch, buffer: RolloutBuffer, starts: Array, noise: Noise,
                   greedy: bool = False, state: Tensor | None = None) -> Ended:
    """Fill the buffer with a rollout of the batch.

    `greedy` takes the likeliest actions instead of samples. `starts` (num_envs,) bool tells which rows begin an
    episode, before and after, and `state` (num_envs, state_dim) what a memory holds or the policy's chunks have left to
    be done.
    """
    arrays = tuple(address(getattr(buffer, name)) for name in ARRAYS)
    memory = policy.memory()
    index, returns, lengths, final_obs, logs, states = kernels.rollout(
        policy.networks(), policy.observations(), policy.distribution, address(policy.log_std), batch.vec, batch.step,
        arrays, buffer.num_steps, buffer.num_envs, batch.agents, address(starts), address(batch.returns),
        address(batch.lengths), noise.seed, noise.step, greedy, buffer.actions.shape[-1],
        batch.log_size, policy.chunks(state), memory, address(state) if memory else 0)
    spec = policy.policy.spec
    buffer.keep_ends(index, final_obs.view(spec.obs_dtype).reshape(len(index), *spec.obs_shape))
    return Ended(returns, lengths, logs, states)
