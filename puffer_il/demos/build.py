"""Raw arrays of any recorder → Demos, shapes and dtypes made uniform, what cannot be refused by name; and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.rows import Array, Layout
from puffer_il.demos.dataset import PER_EPISODE, Demos
from puffer_il.demos.grown import Precision
from puffer_il.demos.rows import BLOCK_BYTES, Successors, is_mapped, successors

FLAT = {"terminations": bool, "truncations": bool, "rewards": np.float32, "weights": np.float32}  # one number a row
DTYPES = {**FLAT, **PER_EPISODE, "episode_starts": np.int64, "states": np.float64}


def build_demos(source: str, *, notes: Sequence[str] = (), layout: Layout | None = None,
                action_parts: Parts = (), action_first: tuple[int | None, ...] = (), pictures: Pictures | None = None,
                **arrays: Any) -> Demos:
    """Demos from numeric arrays of any dtype, named as its fields. `layout`, `action_parts`, `action_first` and
    `pictures` are as in `Demos`.

    Floating-point observations and actions become float32, actions of integers int32, the others what DTYPES says;
    integer observations keep their dtype. Actions of one transition are flattened to a row. Raises InputError as Demos
    does.
    """
    lost = Precision()
    if not is_mapped(arrays["obs"]):
        lost.add(arrays["obs"])
    made: dict[str, Any] = {name: None if array is None else uniform(source, name, array)
                            for name, array in arrays.items() if name != "next_obs"}
    following: Any = arrays["next_obs"]
    if isinstance(following, Successors):
        made["next_obs"] = Successors(made["obs"], uniform(source, "next_obs", following.finals), following.starts)
    else:
        made["next_obs"] = successors(made["obs"], uniform(source, "next_obs", following), made["episode_starts"])
    return Demos(source=source, notes=(*notes, *lost.notes()), layout=layout, action_parts=action_parts,
                 action_first=action_first, pictures=pictures, **made)


def shifted(obs: Array, final_obs: Array, episode_starts: Array) -> Successors:
    """True successors: the next row's observation, and `final_obs` (episodes, …) for the last row of each episode."""
    return Successors(obs, final_obs.astype(obs.dtype, copy=False), episode_starts)


def split_off(obs: Array, lengths: Array) -> Successors:
    """Of observations (n + episodes, …), one more in an episode than its `lengths` (episodes,) steps, the final ones
    apart: the successors of all others, which are their `obs`. `obs` itself is written over, so that no second copy
    takes memory, unless it is read-only; episodes without a step are left out."""
    obs = obs if obs.flags.writeable else obs.copy()
    ends = np.cumsum(lengths + 1)
    finals, to = obs[ends - 1], 0
    most = max(1, BLOCK_BYTES // max(1, obs[:1].nbytes))  # what moves at once may be copied meanwhile
    for end, length in zip(ends, lengths, strict=True):
        for first in range(0, length, most):
            count, begin = min(most, length - first), end - 1 - length + first
            obs[to:to + count] = obs[begin:begin + count]
            to += count
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


def uniform(source: str, name: str, array: Array) -> Array:
    """Rows of the array `name` of any dtype as `Demos` has them, see `build_demos`."""
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

