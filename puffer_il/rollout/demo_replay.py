"""Demonstrations as a replay of off-policy learners: drawn where they lie, in memory or in mapped files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import puffer_il.rollout._replay as kernels
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos import spread
from puffer_il.demos.dataset import Demos
from puffer_il.demos.rows import Successors, take
from puffer_il.rollout.replay import Transitions, allocated


class DemoReplay:
    """Demonstrated transitions that fit `spec`, drawn as a `ReplayBuffer` draws those that it holds, which are the same
    for the same `seed` and `stream`. Of weighted ones each is there as often as its weight says.

    numbers  (n,) the demonstrated rows that are drawn from, None where they are all of them in order
    rewards  (n,) float32, what the learner optimises, of each of these; 0 until it is set
    """

    def __init__(self, spec: EnvSpec, demos: Demos, seed: int, stream: int = 0) -> None:
        assert demos.actions is not None
        self.spec, self._demos, self._actions = spec, demos, demos.actions
        self.numbers = None if demos.weights is None else spread(demos.weights, len(demos))
        self.rewards = np.zeros(len(demos), np.float32)
        self.generator = kernels.Generator(seed, stream)
        self._index = np.empty(0, np.int64)
        self._staged: Transitions | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    def set_rewards(self, rewards: Array) -> None:
        """Those of all demonstrated rows (n,)."""
        self.rewards = np.asarray(rewards if self.numbers is None else rewards[self.numbers], np.float32)

    def sample(self, *lead: int) -> Transitions:
        """Rows (*lead, …) drawn with replacement. They are staged: good until the next call."""
        if self._staged is None or self._staged.rewards.shape != lead:
            self._staged = allocated(self.spec, lead)
            self._index = np.empty(self._staged.rewards.size, np.int64)
        rows, demos, index = self._staged, self._demos, self._index
        kernels.draw(self.generator, len(self), index)
        own = index if self.numbers is None else self.numbers[index]
        for source, staged in ((self._demos.obs, rows.obs), (self._actions, rows.actions),
                               (demos.terminations, rows.terminations)):
            take(source, own, _flat(staged, lead))
        take(self.rewards, index, _flat(rows.rewards, lead))
        if isinstance(demos.next_obs, Successors):
            demos.next_obs.take(own, _flat(rows.next_obs, lead))
        else:
            take(demos.next_obs, own, _flat(rows.next_obs, lead))
        return rows

    def state_dict(self) -> dict[str, Any]:
        """The rewards, and where the generator stands; demonstrations are read again."""
        return {"rewards": torch.from_numpy(self.rewards.copy()), "generator": list(self.generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError if it is of other demonstrations."""
        if len(state["rewards"]) != len(self):
            raise ValueError(f"the saved replay has {len(state['rewards'])} demonstrated rows; there are {len(self)}")
        self.rewards, self.generator.state = state["rewards"].numpy().copy(), tuple(state["generator"])


def _flat(staged: Array, lead: tuple[int, ...]) -> Array:
    """The same memory with the leading axes taken together."""
    return staged.reshape(-1, *staged.shape[len(lead):])
