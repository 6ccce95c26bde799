"""An observation of any space as one flat row: where its leaves lie, and the way in and out.

This is the only place that knows how: environments, recordings, demonstrations and `predict` all use `Layout`, which
`core.spaces` makes of a space.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError

Array = np.ndarray
Path = tuple[str | int, ...]  # keys of Dicts, and places in Tuples as whole numbers, from the outside in

MASK_KEY = "action_mask"  # of a Dict observation, and of `info`


@dataclass(frozen=True)
class ObsField:
    """One leaf of an observation inside its flat row: byte offset, dtype, shape.

    path        where it is in the observation; () for one that is no Dict or Tuple, None for what lies beside it
    categories  nonzero for a leaf that holds a category number from `first` on: the policy sees it one-hot
    low, high   of an image: what its pixels are declared to range over, and are scaled by
    mask        True for one that says which actions may be taken (nonzero: may), which networks do not see
    channels    of an image: "first" or "last" where its channels are not where its shape would tell (`channels_last`)
    """

    name: str  # for people
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int = 0
    categories: int = 0
    path: Path | None = ()
    first: int = 0
    low: float = 0.0
    high: float = 255.0
    mask: bool = False
    channels: str = ""

    @property
    def image(self) -> bool:
        """uint8 with three axes: the policy sends it through its convolutional encoder."""
        return self.dtype == np.uint8 and len(self.shape) == 3 and not self.mask

    @property
    def channels_last(self) -> bool:
        """Whether an image is (height, width, channels), and not (channels, height, width)."""
        return self.channels == "last" if self.channels else channels_last(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """One past its last byte."""
        return self.offset + self.size * self.dtype.itemsize

    def of(self, rows: Array) -> Array:
        """(n, *shape) this leaf of n observation rows."""
        raw = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:])).view(np.uint8)
        return np.ascontiguousarray(raw[:, self.offset:self.end]).view(self.dtype).reshape(len(rows), *self.shape)

    def leaf(self, obs: Any) -> Any:
        """Its part of an observation, or of a batch of them."""
        try:
            return leaf_of(obs, self.path or ())
        except (KeyError, IndexError, TypeError):
            raise InputError(f"the observation has no part {self.name!r}, which its space declares; give all of them"
                             ) from None

    def put(self, target: Array, leaf: Any) -> None:
        """Write into `target` ((*batch, *shape), a view of rows) what the environment gave. InputError for another
        shape, and for numbers that would not be the same afterwards; what is only rounded to float32 may be."""
        if target.ndim == 0 and type(leaf) is int and self.first <= leaf < self.first + self.categories:
            target[()] = leaf  # a category, as most environments give it
            return
        array = np.asarray(leaf)
        if array.shape != target.shape:
            if _without_ones(array.shape) != _without_ones(target.shape):
                own = array.shape[target.ndim - len(self.shape):]
                raise InputError(f"the observation{self._called} has shape {own} but its space declares {self.shape}; "
                                 "correct one of them")
            array = array.reshape(target.shape)
        if _keeps(array.dtype, target.dtype):
            target[...] = array
        else:
            self._put_checked(target, array)
        if self.categories:
            wrong = (target < self.first) | (target >= self.first + self.categories)
            if np.any(wrong):
                raise InputError(f"the observation{self._called} is category {int(np.ravel(target)[np.argmax(wrong)])} "
                                 f"but its space declares {self.first} to {self.first + self.categories - 1}; correct "
                                 "one of them")

    def _put_checked(self, target: Array, array: Array) -> None:
        if array.dtype.kind not in "biuf":
            raise InputError(f"the observation{self._called} has dtype {array.dtype}, no plain numbers; give numbers")
        with np.errstate(invalid="ignore", over="ignore"):
            target[...] = array
        wrong = target != array
        if np.any(wrong):
            raise InputError(f"the observation{self._called} is {array[wrong][0].item()!r}, which its declared dtype "
                             f"{target.dtype} cannot hold; declare {array.dtype}, or give what is declared")

    @property
    def _called(self) -> str:
        return f" {self.name!r}" if self.path else ""


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a picture of this shape is (height, width, channels): two equal sides are its height and width; otherwise
    the channels are the smaller of the outer axes, and the last one where these are equal."""
    first, second, third = shape
    if (first == second) != (second == third):
        return first == second
    return third <= first


def channels_said(shape: tuple[int, ...], last: bool) -> str:
    """What `ObsField.channels` has to be for a picture with its channels there."""
    return "" if channels_last(shape) == last else "last" if last else "first"


def field_to_list(field: ObsField) -> list[Any]:
    """A field as plain numbers and texts, for files."""
    path = None if field.path is None else list(field.path)
    entry = [field.name, field.dtype.str, list(field.shape), field.offset, field.categories, path, field.first,
             field.low, field.high, field.mask]
    if field.image and field.channels_last != _told_once(field.shape):
        entry.append("last" if field.channels_last else "first")
    return entry


def field_from_list(entry: list[Any]) -> ObsField:
    """The reverse; entries of older files end with the categories, and their names are the paths."""
    name, dtype, shape, offset, categories, *more = entry
    path, *others = more or (_old_path(name),)
    field = ObsField(name, np.dtype(dtype), tuple(shape), offset, categories, None if path is None else tuple(path),
                     *others)
    if not field.image:
        return field
    last = field.channels == "last" if field.channels else _told_once(field.shape)
    return replace(field, channels=channels_said(field.shape, last))


def _told_once(shape: tuple[int, ...]) -> bool:
    """`channels_last` as files mean it that say nothing: those from before there was a word for it."""
    return shape[2] <= shape[0]


def _old_path(name: str) -> list[str | int]:
    keys = name.split(".")
    places = [re.fullmatch(r"f(\d+)", key) for key in keys]
    return [] if name == "obs" else [int(m[1]) if m else key for m, key in zip(places, keys, strict=True)]


@dataclass(frozen=True)
class Layout:
    """Rows of `shape` and `dtype`, and the leaves in them."""

    fields: tuple[ObsField, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nested(self) -> bool:
        """False where an observation is a single array or number."""
        return bool(self.fields[0].path)

    @functools.cached_property
    def own(self) -> tuple[ObsField, ...]:
        """The leaves that are a part of the observation."""
        return tuple(field for field in self.fields if field.path is not None)

    @functools.cached_property
    def by_name(self) -> bool:
        """Whether columns of rows are told apart by the names of a Dict alone: places in a Tuple are an order of their
        own, and rows of bytes, for leaves of several dtypes, are made here only."""
        keys = any(isinstance(key, str) for field in self.own for key in field.path or ())
        return keys and len(self.own) > 1 and len({field.dtype for field in self.fields}) == 1

    @functools.cached_property
    def mask(self) -> ObsField | None:
        """What says which actions may be taken."""
        return next((field for field in self.fields if field.mask), None)

    def targets(self, rows: Array) -> list[tuple[ObsField, Array]]:
        """The leaves of a row (*shape,), or of rows (n, *shape), as views to be written to."""
        batch = rows.shape[:rows.ndim - len(self.shape)]
        raw = rows.reshape(*batch, math.prod(self.shape)).view(np.uint8)
        return [(f, raw[..., f.offset:f.end].view(f.dtype).reshape((*batch, *f.shape))) for f in self.fields]

    def pack(self, obs: Any, masks: Any = None) -> tuple[Array, bool]:
        """One observation or a batch, in the environment's own form or as rows → rows (n, *shape), and whether it was a
        batch. A Dict or Tuple is a dict or tuple of either. InputError for anything else.

        masks: which actions may be taken, instead of what the observation says; None: that, or any
        """
        if self._are_rows(obs):
            if self.by_name:
                raise InputError(f"rows of shape {np.shape(obs)} are given, whose columns have no names, where an "
                                 f"observation has the parts {', '.join(field.name for field in self.own)}; give a "
                                 "dict of them (spec.unpack makes one of rows)")
            return self._rows(np.asarray(obs))
        leaves = [(field, np.asarray(field.leaf(obs))) for field in self.own]
        batched = all(leaf.ndim > len(field.shape) for field, leaf in leaves)
        if not self.nested and leaves[0][1].shape[batched:] != self.fields[0].shape:
            raise self._refused(leaves[0][1].shape)
        rows = np.zeros((len(leaves[0][1]) if batched else 1, *self.shape), self.dtype)
        if masks is not None and self.mask is None:
            raise InputError("an action mask is given, but the policy was trained without any; leave it out")
        for field, target in self.targets(rows if batched else rows[0]):
            if field.path is not None and not (field.mask and masks is not None):
                field.put(target, field.leaf(obs))
            else:
                put_masks(target.reshape(*target.shape[:target.ndim - len(field.shape)], -1), masks)
        return rows, batched

    def unpack(self, rows: Array) -> Any:
        """Rows (n, *shape) → a batch of n in the environment's own form: an array, or a dict or tuple of arrays."""
        if not self.nested:
            return rows if len(self.fields) == 1 and self.fields[0].shape == self.shape else self.fields[0].of(rows)
        return nested([(field.path or (), field.of(rows)) for field in self.own])

    def _are_rows(self, obs: Any) -> bool:
        """Whether `obs` is a row, or rows, not what the environment gives."""
        if self.nested:
            return not isinstance(obs, Mapping | tuple)
        shape, own = np.shape(obs), self.fields[0].shape
        return self.shape != own and len(shape) > len(own) and shape[len(shape) - len(self.shape):] == self.shape and (
            len(self.shape) <= len(shape) <= len(self.shape) + 1) and (len(shape), own) != (1, ())

    def _rows(self, rows: Array) -> tuple[Array, bool]:
        if rows.shape[rows.ndim - len(self.shape):] != self.shape or rows.ndim > len(self.shape) + 1:
            raise self._refused(rows.shape)
        plain = rows.reshape(-1, *self.shape)
        packed = np.zeros(plain.shape, self.dtype)
        ObsField("rows", self.dtype, self.shape).put(packed, plain)
        return packed, rows.ndim > len(self.shape)

    def _refused(self, shape: tuple[int, ...]) -> InputError:
        wanted = self.shape if self.nested else self.own[0].shape
        return InputError(f"observations of shape {shape}: the environment has {wanted}; give one, or a batch "
                          f"(n{''.join(f', {n}' for n in wanted)})")


def put_masks(target: Array, masks: Any) -> None:
    """Write which actions may be taken, (*batch, choices): an array of them all, or a tuple with one for each part of
    the action; None: any. InputError for another number of them."""
    if masks is None:
        target[...] = 1
        return
    if isinstance(masks, np.ndarray) and masks.shape == target.shape:  # as environments give them in every step
        np.not_equal(masks, 0, out=target, casting="unsafe")
        return
    parts = masks if isinstance(masks, tuple | list) and np.ndim(masks[0]) else (masks,)
    given = np.concatenate([np.reshape(part, (*target.shape[:-1], -1)) for part in parts], -1)
    if given.shape != target.shape:
        raise InputError(f"the action mask has {given.shape[-1]} numbers but there are {target.shape[-1]} choices; "
                         "give one number for each, nonzero for what may be done")
    target[...] = given != 0


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


@functools.lru_cache(maxsize=256)
def _keeps(given: np.dtype, row: np.dtype) -> bool:
    """Whether numbers are the same in a row, or rounded from one kind of floats to another."""
    return np.can_cast(given, row, "safe") or (given.kind in "biuf" and row.kind == "f")


def leaf_of(parts: Any, path: Path) -> Any:
    """parts["a"][0] for the path ("a", 0)."""
    for key in path:
        parts = parts[key]
    return parts


def nested(leaves: list[tuple[Path, Any]]) -> Any:
    """The dicts and tuples whose leaves have these paths."""
    groups: dict[str | int, list[tuple[Path, Any]]] = {}
    for path, leaf in leaves:
        if not path:
            return leaf
        groups.setdefault(path[0], []).append((path[1:], leaf))
    made = {key: nested(group) for key, group in groups.items()}
    return tuple(made.values()) if isinstance(next(iter(made)), int) else made
