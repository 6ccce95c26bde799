"""Raw arrays of any recorder → Demos, shapes and dtypes made uniform, what cannot be refused by name; and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.rows import Array, Layout
from puffer_il.demos.dataset import PER_EPISODE, Demos
from puffer_il.demos.rows import Successors, is_mapped, successors

FLAT = {"terminations": bool, "truncations": bool, "rewards": np.float32, "weights": np.float32}  # one number a row
DTYPES = {**FLAT, **PER_EPISODE, "episode_starts": np.int64, "states": np.float64}
LARGE = 1e4  # from which on float32 tells no thousandths apart


def build_demos(source: str, *, notes: Sequence[str] = (), layout: Layout | None = None,
                action_parts: Parts = (), action_first: tuple[int | None, ...] = (), pictures: Pictures | None = None,
                **arrays: Any) -> Demos:
    """Demos from numeric arrays of any dtype, named as its fields. `layout`, `action_parts`, `action_first` and
    `pictures` are as in `Demos`.

    Floating-point observations and actions become float32, actions of integers int32, the others what DTYPES says;
    integer observations keep their dtype. Actions of one transition are flattened to a row. Raises InputError as Demos
    does.
    """
    lost = [f"obs column {k} changes by less than float32 can tell near {value:.4g}; subtract its start"
            for k, value in _flattened(arrays.get("obs"))]
    made: dict[str, Any] = {name: None if array is None else _uniform(source, name, array)
                            for name, array in arrays.items() if name != "next_obs"}
    following: Any = arrays["next_obs"]
    if isinstance(following, Successors):
        made["next_obs"] = Successors(made["obs"], _uniform(source, "next_obs", following.finals), following.starts)
    else:
        made["next_obs"] = successors(made["obs"], _uniform(source, "next_obs", following), made["episode_starts"])
    return Demos(source=source, notes=(*notes, *lost), layout=layout, action_parts=action_parts,
                 action_first=action_first, pictures=pictures, **made)


def shifted(obs: Array, final_obs: Array, episode_starts: Array) -> Successors:
    """True successors: the next row's observation, and `final_obs` (episodes, …) for the last row of each episode."""
    return Successors(obs, final_obs.astype(obs.dtype, copy=False), episode_starts)


def split_off(obs: Array, lengths: Array) -> Successors:
    """Of observations (n + episodes, …), one more in an episode than its `lengths` (episodes,) steps, the final ones
    apart: the successors of all others, which are their `obs`. `obs` itself is written over, so that no second copy
    takes memory; episodes without a step are left out."""
    ends = np.cumsum(lengths + 1)
    finals, to = obs[ends - 1], 0
    for end, length in zip(ends, lengths, strict=True):
        obs[to:to + length] = obs[end - 1 - length:end - 1]
        to += length
    real = lengths > 0
    return Successors(obs[:to], finals[real], (np.cumsum(lengths) - lengths)[real])


def follows_on(demos: Demos) -> bool:
    """True if every successor is the next row's observation, except at the episodes' ends."""
    return isinstance(demos.next_obs, Successors) or np.array_equal(
        shifted(demos.obs, demos.final_obs, demos.episode_starts), demos.next_obs)


def trajectories(demos: Demos) -> tuple[Array, Array]:
    """Observations (n + episodes, *obs_shape), each episode's final one after it, and actions, for other formats.

    InputError where there are no actions, or where rows are missing.
    """
    if not follows_on(demos):
        raise InputError(f"demos {demos.source}: rows do not follow on one another (they are subsampled), "
                         "which this format cannot hold; keep our own .npz")
    if demos.actions is None:
        raise InputError(f"demos {demos.source}: no actions are stored, which this format requires; keep our own .npz")
    return np.insert(demos.obs, demos.episode_ends, demos.final_obs, axis=0), demos.actions


def _uniform(source: str, name: str, array: Array) -> Array:
    if name == "actions":
        array = array.reshape(len(array), int(np.prod(array.shape[1:])))
    elif name in FLAT:
        array = array.reshape(-1)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which Demos refuses by row
        if array.dtype.kind == "f" or name != "actions":
            dtype = DTYPES.get(name, np.float32 if array.dtype.kind == "f" else array.dtype)
            return array.astype(dtype, copy=False)
    whole = array.astype(np.int32)
    if not np.array_equal(whole, array):
        raise InputError(f"demos {source}: actions reach {array.max()}, too large for int32; renumber them")
    return whole


def _flattened(obs: Array | None) -> list[tuple[int, float]]:
    """Columns, with their largest value, of which float32 loses most of the changes from row to row, such as the time
    of day in seconds since 1970."""
    if obs is None or is_mapped(obs) or obs.dtype.kind not in "fiu" or obs.dtype.itemsize < 8 or len(obs) < 2:
        return []
    wide = obs.reshape(len(obs), -1)
    large = np.flatnonzero(np.abs(wide).max(0) > LARGE)
    with np.errstate(over="ignore", invalid="ignore"):  # Demos refuses what is not finite
        changed, told = (np.count_nonzero(np.diff(x, axis=0), axis=0)
                         for x in (wide[:, large], wide[:, large].astype(np.float32)))
    return [(int(k), float(np.abs(wide[:, k]).max())) for k in large[2 * told < changed]]
