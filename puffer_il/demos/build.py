"""Raw arrays of any recorder → Demos, shapes and dtypes made uniform, what cannot be refused by name; and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import WHOLE, Demos


def build_demos(source: str, *, obs: Array, actions: Array | None, next_obs: Array, terminations: Array,
                truncations: Array, episode_starts: Array, rewards: Array | None = None, weights: Array | None = None,
                states: Array | None = None, notes: Sequence[str] = (), **whole: Array | None) -> Demos:
    """Demos from numeric arrays of any dtype; `whole` may hold the arrays named in WHOLE.

    Floating-point observations and actions, rewards and weights become float32; actions of integers become int32;
    actions of one transition are flattened to a row. Integer observations keep their dtype. States become float64.
    Raises InputError as Demos does.
    """
    return Demos(
        obs=_compact(obs),
        actions=None if actions is None else _actions(source, actions),
        next_obs=_compact(next_obs),
        terminations=terminations.astype(bool).reshape(-1),
        truncations=truncations.astype(bool).reshape(-1),
        episode_starts=episode_starts.astype(np.int64),
        rewards=None if rewards is None else _single(rewards).reshape(-1),
        weights=None if weights is None else _single(weights).reshape(-1),
        states=None if states is None else states.astype(np.float64),
        source=source, notes=tuple(notes),
        **{name: None if array is None else array.astype(WHOLE[name]) for name, array in whole.items()})


def shifted(obs: Array, final_obs: Array, episode_starts: Array) -> Array:
    """True successors: the next row's observation, and `final_obs` (episodes, …) for the last row of each episode."""
    following = np.empty_like(obs)
    following[:-1] = obs[1:]
    following[np.append(episode_starts[1:], len(obs)) - 1] = final_obs
    return following


def follows_on(demos: Demos) -> bool:
    """True if every successor is the next row's observation, except at the episodes' ends."""
    finals = demos.next_obs[demos.episode_ends - 1]
    return np.array_equal(shifted(demos.obs, finals, demos.episode_starts), demos.next_obs)


def obs_with_finals(demos: Demos) -> Array:
    """(n + episodes, *obs_shape): the observations with each episode's final one after it; InputError if they lack."""
    if not follows_on(demos):
        raise InputError(f"demos {demos.source}: rows do not follow on one another (they are subsampled), "
                         "which this format cannot hold; keep our own .npz")
    return np.insert(demos.obs, demos.episode_ends, demos.next_obs[demos.episode_ends - 1], axis=0)


def actions_of(demos: Demos) -> Array:
    """The actions; InputError where there are none."""
    if demos.actions is None:
        raise InputError(f"demos {demos.source}: no actions are stored, which this format requires; keep our own .npz")
    return demos.actions


def _compact(array: Array) -> Array:
    return _single(array) if array.dtype.kind == "f" else array


def _single(array: Array) -> Array:
    """float32; what is too large becomes infinite, which Demos refuses by row."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _actions(source: str, actions: Array) -> Array:
    rows = actions.reshape(len(actions), int(np.prod(actions.shape[1:])))
    if rows.dtype.kind == "f":
        return _single(rows)
    whole = rows.astype(np.int32)
    if not np.array_equal(whole, rows):
        raise InputError(f"demos {source}: actions reach {rows.max()}, too large for int32; renumber them")
    return whole
