"""Spaces → the layout of their rows, and what an observation says about its space.

Spaces are told apart by the names of their classes, so that those of gym and of Gymnasium are alike and neither is
imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import MASK_KEY, Array, Layout, ObsField, Path

KINDS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple")
MOST_CATEGORIES = 1_000_000  # that a network is shown one-hot
MOST_CHOICES = 4096  # of a whole number in a Box, each of which has an output of the policy
# What rows hold for what a space declares: learning reads float32, and no more kinds than the kernels know.
PLAIN = {"f": "f4", "u2": "i4", "u4": "i8", "u8": "i8"}


def lay_out(space: Any, masked: int = 0, choices: int = 0, exact: bool = False) -> Layout:
    """The rows of a Box, Discrete, MultiDiscrete, MultiBinary, or of a Dict or Tuple of them to any depth. InputError
    for what has no fixed size.

    masked   how many actions a mask is about that lies beside the observation and is to be kept with it; 0 without one
    choices  how many choices there are, so that a Dict's "action_mask" of as many numbers from 0 to 1 is known for one
    exact    whole numbers keep their dtype, as in a recording, whether or not networks know it
    """
    leaves = list(_leaves(space, (), exact))
    if not leaves or not sum(field.size for field in leaves):
        raise InputError("its observation space is empty; there is nothing to learn from")
    found = {field.dtype for field in leaves}
    dtype = found.pop() if len(found) == 1 else np.dtype(np.uint8)
    if len(leaves) == 1 and leaves[0].path == () and not masked and not leaves[0].categories:
        return Layout((leaves[0],), leaves[0].shape or (1,), dtype)
    struct = _struct(space, exact)
    offsets = list(_offsets(space, struct))
    size = struct.itemsize
    if masked:  # beside the observation, in its dtype where it has one
        kind = dtype if len({field.dtype for field in leaves}) == 1 else np.dtype(np.int8)
        offset = -(-size // kind.alignment) * kind.alignment
        leaves.append(ObsField(MASK_KEY, kind, (masked,), path=None, mask=True))
        offsets.append(offset)
        unit = struct.alignment
        size = -(-(offset + masked * kind.itemsize) // unit) * unit
    masks = [path for path, leaf in leaves_of(space) if path == (MASK_KEY,) and _is_mask(leaf, choices)]
    fields = tuple(replace(field, offset=offset, mask=field.mask or field.path in masks)
                   for field, offset in zip(leaves, offsets, strict=True))
    if all(field.mask or not field.size for field in fields):
        raise InputError(f"its observation is nothing but {MASK_KEY!r}; there is nothing to learn from")
    return Layout(fields, (size // dtype.itemsize,), dtype)


def _is_mask(space: Any, choices: int) -> bool:
    """Whether a space is one of a number from 0 to 1 for each of so many choices."""
    if not choices or kind_of(space) not in ("Box", "MultiBinary") or int(np.prod(space.shape)) != choices:
        return False
    return kind_of(space) == "MultiBinary" or bool(np.all(space.low >= 0) and np.all(space.high <= 1))


def kind_of(space: Any) -> str:
    """The name that every version of gym and Gymnasium gives to spaces of this sort."""
    return next((cls.__name__ for cls in type(space).__mro__ if cls.__name__ in KINDS), type(space).__name__)


def parts_of(space: Any) -> list[tuple[str | int, Any]] | None:
    """The keys and spaces of a Dict or Tuple, None for anything else."""
    if kind_of(space) == "Dict":
        return list(space.spaces.items())
    return list(enumerate(space.spaces)) if kind_of(space) == "Tuple" else None


def leaves_of(space: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The leaves of a Dict or Tuple with their paths, or the space itself."""
    inner = parts_of(space)
    if inner is None:
        yield path, space
    for key, part in inner or ():
        yield from leaves_of(part, (*path, key))


def empty_part(space: Any, path: Path = ()) -> str:
    """Where a Dict or Tuple has a part of nothing, of which rows do not tell that it is there; "" for nowhere."""
    inner = parts_of(space)
    if path and (not inner if inner is not None else 0 in (space.shape or ())):
        return ".".join(map(str, path))
    return next(filter(None, (empty_part(part, (*path, key)) for key, part in inner or ())), "")


def choices_of(space: Any) -> tuple[Array, Array] | None:
    """How many values each number of a discrete action has, and the first of them, both (numbers,) int64: of a
    Discrete, MultiDiscrete or MultiBinary, or of a Box of whole numbers that are few enough. None for other leaves."""
    kind = kind_of(space)
    if kind == "MultiBinary":
        return np.full(math.prod(space.shape), 2), np.zeros(math.prod(space.shape), np.int64)
    if kind in ("Discrete", "MultiDiscrete"):
        counts = np.ravel(space.n if kind == "Discrete" else space.nvec).astype(np.int64)
        return counts, np.broadcast_to(np.ravel(getattr(space, "start", 0)).astype(np.int64), counts.shape)
    if kind == "Box" and np.dtype(space.dtype).kind in "biu":
        low, high = (np.ravel(bound).astype(np.float64) for bound in (space.low, space.high))
        if len(low) and np.all((high - low < MOST_CHOICES) & (high >= low) & (np.abs(low) < 2**31)):
            return (high - low + 1).astype(np.int64), low.astype(np.int64)
    return None


def _leaves(space: Any, path: Path, exact: bool) -> Iterator[ObsField]:
    inner = parts_of(space)
    if inner is None:
        yield _leaf(space, path, exact)
        return
    for key, part in inner:
        if kind_of(space) == "Dict" and not isinstance(key, str):
            raise InputError(f"the observation space has the key {key!r}, which is no text; name its parts by texts")
        if kind_of(space) == "Tuple" and parts_of(part) == []:
            raise InputError(f"the observation space has a part {key} that is empty; leave it out")
        yield from _leaves(part, (*path, key), exact)


def _leaf(space: Any, path: Path, exact: bool) -> ObsField:
    name = ".".join(f"f{key}" if isinstance(key, int) else key for key in path) or "obs"
    kind, int32 = kind_of(space), np.dtype(np.int32)
    if kind == "Discrete":
        n, first = int(space.n), int(getattr(space, "start", 0))
        if n > MOST_CATEGORIES or not -2**31 <= first < 2**31 - n:
            raise InputError(f"the observation {name!r} is one of {n} categories from {first} on, too many to be told "
                             f"apart one by one (at most {MOST_CATEGORIES}); make it a Box")
        return ObsField(name, int32, (), categories=n, path=path, first=first)
    if kind == "MultiDiscrete":
        return ObsField(name, int32, tuple(np.shape(space.nvec)), path=path)
    if kind == "MultiBinary":
        return ObsField(name, np.dtype(np.int8), tuple(space.shape), path=path)
    if kind == "Box" and np.dtype(space.dtype).kind in "biuf":
        dtype = np.dtype(space.dtype) if exact and np.dtype(space.dtype).kind in "iu" else plain_dtype(space.dtype)
        low, high = (0.0, 255.0) if dtype != np.uint8 or not np.size(space.low) else (
            float(np.min(space.low)), float(np.max(space.high)))
        return ObsField(name, dtype, tuple(space.shape), path=path, low=low, high=high)
    leave_out = f", or leave {name!r} out, as gymnasium.wrappers.FilterObservation does" if path else ""
    raise InputError(f"observation space {type(space).__name__} has no fixed size in memory; use Box, Discrete, "
                     f"MultiDiscrete, MultiBinary, or a Dict or Tuple of them{leave_out}")


def plain_dtype(dtype: Any) -> np.dtype:
    """The dtype of rows for a declared one: one that holds the same numbers, or float32."""
    dtype = np.dtype(dtype)
    return np.dtype(PLAIN.get(dtype.kind, PLAIN.get(f"{dtype.kind}{dtype.itemsize}", f"{dtype.kind}{dtype.itemsize}")))


def _struct(space: Any, exact: bool) -> np.dtype:
    """The row as a struct that is aligned as in C, as PufferLib's emulation has it; its parts are named by place."""
    inner = parts_of(space)
    if inner is None:
        field = _leaf(space, (), exact)
        return np.dtype((field.dtype, field.shape))
    return np.dtype([(f"f{i}", _struct(part, exact)) for i, (_, part) in enumerate(inner)], align=True)


def _offsets(space: Any, struct: np.dtype, start: int = 0) -> Iterator[int]:
    inner = parts_of(space)
    if inner is None:
        yield start
        return
    for i, (_, part) in enumerate(inner):
        assert struct.fields is not None
        below, offset = struct.fields[f"f{i}"][:2]
        yield from _offsets(part, below, start + offset)


def remarks(space: Any, layout: Layout, obs: Any) -> list[str]:
    """What the user should know of the first observation of an environment: where it is not what its space declares,
    and yet can be taken."""
    cast, outside, found = [], [], []
    for field, (_, part) in zip(layout.own, leaves_of(space), strict=True):
        leaf = np.asarray(field.leaf(obs))
        if kind_of(part) == "Box" and leaf.dtype != part.dtype and leaf.dtype.kind == "f" == np.dtype(part.dtype).kind:
            cast.append(f"{field.name} is {leaf.dtype} where {part.dtype} is declared")
        if kind_of(part) == "Box" and leaf.size == np.size(part.low) and leaf.dtype.kind in "biuf":
            outside += _outside(field.name, leaf.reshape(np.shape(part.low)), part)
    if layout.mask is None and any(field.path == (MASK_KEY,) for field in layout.own):
        found.append(f"the part {MASK_KEY!r} is read as an observation: it is not one number from 0 to 1 for each "
                     "choice")
    if cast:
        found.append(f"observations are cast to their rows' dtype: {_some(cast)}")
    if outside:
        found.append(f"observations lie outside their declared space and are taken as they are: {_some(outside)}")
    if extra := _extra(space, obs):
        found.append(f"observations have parts that their space does not declare, which are left out: {_some(extra)}")
    return found


def _outside(name: str, leaf: Array, box: Any) -> list[str]:
    wrong = np.argwhere((leaf < box.low) | (leaf > box.high))
    if not len(wrong):
        return []
    place = tuple(int(k) for k in wrong[0])
    return [f"{name}{list(place) if place else ''} = {leaf[place]:.6g}, declared {box.low[place]:.6g} to "
            f"{box.high[place]:.6g}"]


def _extra(space: Any, obs: Any) -> list[str]:
    inner = parts_of(space)
    if inner is None or not isinstance(obs, Mapping):
        return []
    known = dict(inner)
    return [repr(key) for key in obs if key not in known] + [
        name for key, part in inner if key in obs for name in _extra(part, obs[key])]


def _some(texts: list[str], shown: int = 3) -> str:
    return "; ".join(texts[:shown]) + (f"; and {len(texts) - shown} more" if len(texts) > shown else "")
