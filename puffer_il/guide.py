"""An expert beside a rollout: it says what it would do, and the learner decides who acts."""

from __future__ import annotations

from puffer_il.buffer import RolloutBuffer
from puffer_il.types import Array, Expert, Mixer

CHUNK = 4096  # rows of one question, whose layers stay in the cache


class Guide:
    """`expert` is asked about every state of a rollout, as one batch afterwards if that can be, else step by step."""

    def __init__(self, expert: Expert, mixer: Mixer) -> None:
        self.expert, self.mixer = expert, mixer

    @property
    def afterwards(self) -> bool:
        """True if the policy acts alone, and the expert can be asked about the whole rollout when it is over."""
        return not (self.mixer.expert_acts or self.expert.stepwise)

    @property
    def asks_policy(self) -> bool:
        return self.mixer.policy_acts

    @property
    def greedy(self) -> bool:
        """True if the policy acts by its mode."""
        return self.mixer.greedy

    def act(self, buffer: RolloutBuffer, t: int, rows: slice, obs: Array, starts: Array, own: Array | None) -> Array:
        """(n, dim) what is done at step t in the environments `rows`; the policy's actions are `own`."""
        if self.afterwards:
            assert own is not None
            return own
        says = self._labels(buffer)[t, rows]
        says[:] = self.expert.act(obs, starts, rows)
        return self.mixer.mix(own, says, starts, rows) if self.mixer.expert_acts or own is None else own

    def finish(self, buffer: RolloutBuffer) -> None:
        """Ask what has not been asked."""
        if self.afterwards:
            flat, labels = buffer.flat(), self._labels(buffer).reshape(-1, buffer.actions.shape[-1])
            for first in range(0, len(labels), CHUNK):
                rows = slice(first, first + CHUNK)
                labels[rows] = self.expert.act(flat.obs[rows], flat.episode_starts[rows], slice(None))

    @staticmethod
    def _labels(buffer: RolloutBuffer) -> Array:
        assert buffer.expert_actions is not None, "allocate the buffer with expert=True"
        return buffer.expert_actions
