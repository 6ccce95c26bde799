"""Pictures as a network is to see them: grey, resized, the last few in one. Environments, demonstrations and `predict`
all prepare them here.

    grey    by the colours' weights in luminance
    resize  a pixel is the mean of the area that it covers, after the grey (both in core.pixels)
    stack   the last pictures of the episode side by side as channels, the oldest first; where there are not yet so
            many, its first one again (gymnasium's FrameStackObservation, which has an axis of its own for them)

Leaves that are no pictures stay as they are, and so does the order of a picture's axes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.pixels import grey, resized
from puffer_il.core.rows import Array, Layout, ObsField, channels_said

LEAST_SIDE = 16  # pixels from which on bytes with two axes are taken for a picture
FEW_LEVELS = 16  # of a pixel: fewer, and rounded means lose what a picture shows
MOST_SIDE, MOST_STACKED = 8192, 256  # more is a slip, or a file that is to fill the memory
ORDERS = ("auto", "first", "last")


@dataclass(frozen=True)
class Pictures:
    """The options, as the keys env.resize, env.grey, env.stack and env.channels name them.

    resize    (height, width), or () for the environment's own
    channels  where a picture has its channels; "auto" decides by its shape (`rows.channels_last`)
    """

    resize: tuple[int, ...] = ()
    grey: bool = False
    stack: int = 1
    channels: str = "auto"

    def __post_init__(self) -> None:
        sides = tuple(self.resize) if isinstance(self.resize, list | tuple | np.ndarray) else (self.resize,)
        if len(sides) not in (0, 2) or not all(_is_whole(size, MOST_SIDE) for size in sides):
            raise InputError(f"env.resize = {','.join(map(str, sides))}: give two whole numbers from 1 to {MOST_SIDE}, "
                             "the height and the width, such as 84,84")
        if not _is_whole(self.stack, MOST_STACKED):
            raise InputError(f"env.stack = {self.stack}: must be a whole number from 1 to {MOST_STACKED}")
        if not isinstance(self.grey, bool | np.bool_):
            raise InputError(f"env.grey = {self.grey!r}: must be true or false")
        for name, value in (("resize", tuple(map(int, sides))), ("stack", int(self.stack)), ("grey", bool(self.grey))):
            object.__setattr__(self, name, value)
        if self.channels not in ORDERS:
            raise InputError(f"env.channels = {self.channels!r}: choose one of {', '.join(ORDERS)}")

    @classmethod
    def of(cls, given: Pictures | Mapping[str, Any] | None) -> Pictures:
        """Options as a table gives them; InputError for one that there is not."""
        if isinstance(given, Pictures):
            return given
        known = {"resize", "grey", "stack", "channels"}
        if unknown := sorted(set(given or {}) - known):
            raise InputError(f"pictures = {{{unknown[0]!r}: …}}: there is no such option; choose among "
                             f"{', '.join(sorted(known))}")
        return cls(**(given or {}))

    @property
    def change(self) -> bool:
        """Whether pictures become others than the environment gives."""
        return bool(self.resize or self.grey or self.stack > 1)

    def same(self, other: Pictures) -> bool:
        """Whether both make the same of a picture whose channels are known."""
        return (self.resize, self.grey, self.stack) == (other.resize, other.grey, other.stack)

    def table(self) -> dict[str, Any]:
        """For files: `of` gives the same options again."""
        return {"resize": list(self.resize), "grey": self.grey, "stack": self.stack}

    def __str__(self) -> str:
        said = [("env.resize", ",".join(map(str, self.resize))), ("env.grey", "true" if self.grey else ""),
                ("env.stack", str(self.stack) if self.stack > 1 else ""),
                ("env.channels", "" if self.channels == "auto" else self.channels)]
        return ", ".join(f"{key} = {value}" for key, value in said if value) or "no option for pictures"


@dataclass(frozen=True)
class Frames:
    """What makes rows of prepared pictures (`made`) of the environment's own (`raw`). All else in a row stays."""

    options: Pictures  # without the order of channels, which the fields of `raw` know
    raw: Layout

    @functools.cached_property
    def pictures(self) -> tuple[ObsField, ...]:
        return pictures_of(self.raw)

    @functools.cached_property
    def changed(self) -> tuple[ObsField, ObsField] | None:
        """The first picture that gets another shape, raw and made, by which they are told apart; None for none, which
        `arranged` does not let pass."""
        pairs = zip(self.raw.fields, self.made.fields, strict=True)
        return next(((raw, made) for raw, made in pairs if raw.shape != made.shape), None)

    @functools.cached_property
    def made(self) -> Layout:
        fields = [self._made(field) if field in self.pictures else field for field in self.raw.fields]
        if len(fields) == 1 and not self.raw.nested:
            return Layout((fields[0],), fields[0].shape, fields[0].dtype)
        end, placed = 0, []
        for field in fields:
            unit = field.dtype.alignment
            placed.append(replace(field, offset=-(-end // unit) * unit))
            end = placed[-1].end
        unit = max(field.dtype.alignment for field in fields)
        return Layout(tuple(placed), (-(-end // unit) * unit,), np.dtype(np.uint8))

    def _made(self, field: ObsField) -> ObsField:
        height, width, channels = _sides(field)
        height, width = self.options.resize or (height, width)
        if self.options.grey:
            if channels not in (1, 3):
                raise InputError(f"env.grey = true: the picture {field.name!r} {field.shape} has {channels} channels "
                                 "where 3 are colours; leave it out, or say where they are with env.channels")
            channels = 1
        channels *= self.options.stack
        last = _last(field)
        shape = (height, width, channels) if last else (channels, height, width)
        return replace(field, shape=shape, offset=0, channels=channels_said(shape, last))

    def begin(self, raw: Array) -> Array:
        """Rows (n, *raw.shape) of which each begins an episode → (n, *made.shape)."""
        rows = np.zeros((len(raw), *self.made.shape), self.made.dtype)
        self.write(rows, raw, np.ones(len(raw), bool))
        return rows

    def write(self, rows: Array, raw: Array, begins: Array) -> None:
        """Put raw rows (n, …) into `rows` (n, …), which hold those of the step before and take these as their newest;
        where `begins` (n,) they are the first of an episode, and all that there is."""
        stack = self.options.stack
        for (field, source), (_, target) in zip(self.raw.targets(raw), self.made.targets(rows), strict=True):
            if field not in self.pictures:
                target[...] = source
                continue
            frames = self._prepared(field, source)  # (n, height, width, channels)
            if not _last(field):
                target = np.moveaxis(target, 1, 3)
            channels = frames.shape[3]
            if stack > 1:
                target[..., :-channels] = target[..., channels:]
                if begins.any():
                    target[begins, :, :, :-channels] = np.tile(frames[begins], stack - 1)
            target[..., -channels:] = frames

    def gathered(self, single: Array, index: Array) -> Array:
        """Rows of stacks out of those that `begin` gave: index (m, stack) says which pictures, the oldest first; all
        else is that of the last of them."""
        rows = single[index[:, -1]]
        parts = zip(self.raw.fields, self.made.targets(rows), self.made.targets(single), strict=True)
        for field, (_, target), (_, source) in parts:
            if field in self.pictures:
                if not _last(field):
                    target, source = np.moveaxis(target, 1, 3), np.moveaxis(source, 1, 3)
                channels = target.shape[3] // self.options.stack
                for k in range(self.options.stack - 1):
                    target[..., k * channels:(k + 1) * channels] = source[index[:, k], :, :, -channels:]
        return rows

    def is_raw(self, obs: Any) -> bool:
        """Whether an observation in the environment's own form, or a row, or a batch of either, is not prepared yet."""
        if self.raw.nested and not isinstance(obs, Mapping | tuple):
            return np.shape(obs)[-len(self.raw.shape):] == self.raw.shape != self.made.shape
        assert self.changed is not None
        field, made = self.changed
        shape = np.shape(field.leaf(obs))
        return shape[-len(field.shape):] == field.shape and shape[-3:] != made.shape

    def _prepared(self, field: ObsField, pictures: Array) -> Array:
        """(n, *shape) of this leaf → (n, height, width, channels), each by itself."""
        if len(field.shape) == 2:
            pictures = pictures[..., None]
        elif not field.channels_last:
            pictures = np.moveaxis(pictures, 1, 3)
        if self.options.grey and pictures.shape[3] == 3:
            pictures = grey(pictures)
        return resized(pictures, *self.options.resize) if self.options.resize else pictures


def pictures_of(layout: Layout) -> tuple[ObsField, ...]:
    """The leaves that are pictures: bytes with three axes, or, where there are none, with two that are long enough."""
    own = [field for field in layout.own if field.dtype == np.uint8 and not field.mask and not field.categories]
    return tuple(field for field in own if len(field.shape) == 3) or tuple(
        field for field in own if len(field.shape) == 2 and min(field.shape) >= LEAST_SIDE)


def arranged(name: str, layout: Layout, options: Pictures) -> tuple[Layout, Frames | None]:
    """The layout of an environment's rows with these options, and what makes such rows; None where they are its own.
    InputError where there is nothing to prepare."""
    if not options.change and options.channels == "auto":
        return layout, None
    if not pictures_of(layout):
        found = "; ".join(f"{field.name!r} is {field.dtype} {field.shape}" for field in layout.own[:3])
        raise InputError(f"{options}: {name} has no pictures, which are uint8 with three axes, or with two of at least "
                         f"{LEAST_SIDE} pixels ({found}); leave it out")
    if options.channels != "auto":
        last = options.channels == "last"
        layout = replace(layout, fields=tuple(
            replace(field, channels=channels_said(field.shape, last)) if field.image else field
            for field in layout.fields))
    if not options.change:
        return layout, None
    frames = Frames(replace(options, channels="auto"), layout)
    if frames.changed is not None:
        return frames.made, frames
    if options.stack == 1 and not (options.grey and any(_sides(field)[2] == 3 for field in frames.pictures)):
        return layout, None  # they are so already
    shape = frames.pictures[0].shape
    raise InputError(f"{options}: pictures {shape} of {name} become others of the same shape, so that nobody could "
                     "tell which of them are prepared; stack another number, or resize them")


def picture_notices(spec: Any) -> list[str]:
    """How the images of an EnvSpec are read, and what has been made of them, a line each."""
    found = []
    own = spec.frames.pictures if spec.frames is not None else [field for field in spec.obs_fields if field.image]
    for field in own:
        axes = "height x width" if len(field.shape) == 2 else (
            "height x width x channels" if field.channels_last else "channels x height x width")
        text = (f"image {field.name!r} {field.shape} is read as {axes}, its pixels scaled from the declared range "
                f"{field.low:g} to {field.high:g}")
        if spec.frames is not None:
            made = spec.obs_fields[spec.frames.raw.fields.index(field)]
            text += f"; it becomes {made.shape} by {spec.frames.options}"
            if spec.frames.options.resize and field.high - field.low < FEW_LEVELS:
                text += ", and the means are rounded to its few whole numbers"
        found.append(text)
    return found


def _is_whole(number: Any, most: int) -> bool:
    return isinstance(number, int | float | np.integer) and bool(1 <= number <= most) and int(number) == number


def _sides(field: ObsField) -> tuple[int, int, int]:
    """Height, width and channels."""
    if len(field.shape) == 2:
        return field.shape[0], field.shape[1], 1
    first, second, third = field.shape
    return (first, second, third) if field.channels_last else (second, third, first)


def _last(field: ObsField) -> bool:
    """Whether a picture's channels are its last axis, or are to become it."""
    return len(field.shape) == 2 or field.channels_last
