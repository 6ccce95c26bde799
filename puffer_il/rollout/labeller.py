"""An expert beside a rollout: it labels every state with what it would do, and the learner decides who acts."""

from typing import Protocol

from puffer_il.core.spec import Array
from puffer_il.rollout.actors import Actor
from puffer_il.rollout.buffer import RolloutBuffer

CHUNK = 4096  # rows of one question, whose layers stay in the cache


class Mixer(Protocol):
    """Who acts in a rollout, of a learner with `needs_expert`: the first three are read once per rollout.

    expert_acts, policy_acts   whether `mix` needs the actions of each; without the expert's it is not called
    greedy                     True if the policy acts by its mode
    """

    expert_acts: bool
    policy_acts: bool
    greedy: bool

    def mix(self, own: Array | None, expert: Array, starts: Array, rows: slice, obs: Array) -> Array:
        """(n, dim) what is done in the environments `rows`, which show `obs` (n, *obs_shape), the policy's and the
        expert's actions being (n, dim)."""


class Labeller:
    """`expert` labels every state of a rollout: as one batch afterwards if that can be, else step by step. A label is
    what would be executed: continuous ones are clipped to their range."""

    def __init__(self, expert: Actor, mixer: Mixer) -> None:
        self.expert, self.mixer = expert, mixer

    @property
    def afterwards(self) -> bool:
        """True if the policy acts alone, and the expert can be asked about the whole rollout when it is over."""
        return not (self.mixer.expert_acts or self.expert.stepwise)

    def act(self, buffer: RolloutBuffer, t: int, rows: slice, obs: Array, starts: Array, own: Array | None) -> Array:
        """(n, dim) what is done at step t in the environments `rows`; the policy's actions are `own`."""
        if self.afterwards:
            assert own is not None
            return own
        labels = _labels(buffer)[t, rows]
        labels[:] = buffer.action.executed(self.expert(obs, starts, rows))
        return self.mixer.mix(own, labels, starts, rows, obs) if self.mixer.expert_acts or own is None else own

    def finish(self, buffer: RolloutBuffer) -> None:
        """Label what has not been labelled."""
        if self.afterwards:
            flat, labels = buffer.flat(), _labels(buffer).reshape(-1, buffer.actions.shape[-1])
            for first in range(0, len(labels), CHUNK):
                rows = slice(first, first + CHUNK)
                labels[rows] = buffer.action.executed(self.expert(flat.obs[rows], flat.episode_starts[rows]))


def _labels(buffer: RolloutBuffer) -> Array:
    assert buffer.expert_actions is not None, "allocate the buffer with expert=True"
    return buffer.expert_actions
