"""Gymnasium environments in one process, stepped one after the other with as little Python between them as can be.

`Single.step` handles whatever an environment may give. Here the usual is done in line, for all of them: one conversion
of the actions, one write of the rewards and ends. What is unusual goes to the same functions as there.
"""

from typing import Any

import numpy as np
from gymnasium import spaces

from puffer_il.core.rows import put_masks
from puffer_il.core.spec import Array
from puffer_il.vector.emulation import Single, offered_mask
from puffer_il.vector.rewards import one_number
from puffer_il.vector.success import KEYS

NUMBERS = frozenset({float, int, bool, *(np.dtype(kind).type for kind in "?bhilqBHILQefd")})  # of plain rewards


class Singles:
    """Steps `envs`, whose rows are those of `buffers`: to the same rows as each `Single.step`, and `Single.reset` in
    the step after an end. `bind` when an environment holds other objects than before."""

    def __init__(self, envs: list[Single], buffers: dict[str, Array]) -> None:
        self._envs, self._buffers = envs, buffers
        space, fields = envs[0].action_space, envs[0].layout.own
        self._single = isinstance(space, spaces.Discrete)
        self._numbers = space.dtype if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else None
        # An observation that is one array, of no category, is mostly written as it is.
        self._field = fields[0] if len(fields) == 1 and not fields[0].path and not fields[0].categories else None
        self._fields = fields
        self._keys = [field.path[0] if field.path and len(field.path) == 1 else None for field in fields]
        self._targets = [[target for field, target in env._targets if field.path is not None] for env in envs]
        self._masks = [target for env in envs for field, target in env._targets if field.path is None]
        self.bind()

    def bind(self) -> None:
        self._steps = [env.env.step for env in self._envs]

    def step(self, actions: Array, at: Any) -> None:
        """`actions` (rows, …) as the vector has them; at[0]: which environment is stepped, or −1 minus that in a
        reset."""
        count, plain = len(self._envs), self._field
        rewards, terminals, truncations, anew = [0.0] * count, [False] * count, [False] * count, []
        dtype, shape = (None, None) if plain is None else (plain.dtype, plain.shape)
        for index, (env, step, action, targets) in enumerate(zip(self._envs, self._steps, self._given(actions),
                                                                 self._targets, strict=True)):
            if env.done:
                at[0] = -1 - index
                observation, info = env.begin()
                reward, terminated, truncated = 0.0, False, False
                anew.append(index)
            else:
                at[0] = index
                observation, reward, terminated, truncated, info = step(action)
            if terminated or truncated:
                terminals[index], truncations[index] = bool(terminated), bool(truncated)
                env.done = True
                env._successes.step(0, info, True)
            elif info and (KEYS[0] in info or KEYS[1] in info) and at[0] >= 0:
                env._successes.step(0, info, False)
            if plain is not None and type(observation) is np.ndarray and (
                    observation.dtype is dtype and observation.shape == shape):
                targets[0][...] = observation
            else:
                self._put(targets, observation)
            if self._masks:
                put_masks(self._masks[index], offered_mask(env._masks, info))
            rewards[index] = reward if type(reward) in NUMBERS and env.weights is None else (
                one_number(reward, env.weights))
        at[0] = 0
        for name, column in (("rewards", rewards), ("terminals", terminals), ("truncations", truncations)):
            self._buffers[name][:] = column
        self._buffers["masks"][:] = True
        self._buffers["masks"][anew] = False

    def _put(self, targets: list[Array], observation: Any) -> None:
        """Write the leaves of an observation."""
        for field, key, target in zip(self._fields, self._keys, targets, strict=True):
            try:
                leaf = field.leaf(observation) if key is None else observation[key]
            except (KeyError, IndexError, TypeError):
                leaf = field.leaf(observation)  # which says so
            field.put(target, leaf)

    def _given(self, actions: Array) -> Any:
        """Each environment's action, with memory of its own, as it may keep it: as `sample` gives whole numbers, and no
        int32, which overflows."""
        rows = actions.reshape(len(self._envs), -1)
        rows = rows.copy() if self._numbers is None else rows.astype(self._numbers)
        return rows[:, 0] if self._single else rows
