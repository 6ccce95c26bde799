"""Pictures that a file holds packed, as a JPEG or PNG each ↔ arrays. Sizes are looked at before any is unpacked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.errors import one_line
from puffer_il.core.spec import Array

FORMATS, LEVEL = ("JPEG", "PNG"), 1  # LeRobot's own, and a tenth of the time of the highest
CHANNELS = {"RGB": (3,), "RGBA": (4,), "L": (1,), "I;16": (), "I": (), "P": (3,)}  # of Pillow's modes
Refuse = Callable[[str], NoReturn]  # raises InputError of a sentence, which begins with the name of an array


def picture_shape(piece: bytes, what: str, refuse: Refuse, formats: Sequence[str] = FORMATS) -> tuple[int, ...]:
    """(height, width, channels) of one, or (height, width) of 16 bits. `what` names the array for `refuse`."""
    image = _pillow(what, refuse)
    try:
        with image.open(io.BytesIO(piece), formats=formats) as picture:
            return (picture.height, picture.width, *CHANNELS[picture.mode])
    except (OSError, ValueError, SyntaxError, KeyError, image.DecompressionBombError) as error:
        refuse(f"{what} row 0 is no {' or '.join(formats)}{_why(error)}; copy the data set again")


def unpack_pictures(count: int, pieces: Iterable[bytes], shape: tuple[int, ...], what: str, refuse: Refuse,
                    formats: Sequence[str] = FORMATS) -> Array:
    """(count, *shape) of so many `pieces`, uint8, or uint16 without channels. The loss of a JPEG is its own."""
    image = _pillow(what, refuse)
    frames = np.empty((count, *shape), np.uint16 if len(shape) == 2 else np.uint8)
    for row, piece in enumerate(pieces):
        try:
            with image.open(io.BytesIO(piece), formats=formats) as picture:
                if (picture.height, picture.width) != shape[:2]:
                    raise ValueError(f"it is {picture.height} x {picture.width}, not {shape[0]} x {shape[1]}")
                frames[row] = np.asarray(picture.convert("RGB") if picture.mode == "P" else picture).reshape(shape)
        except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
            refuse(f"{what} row {row} is no {' or '.join(formats)} of {shape}{_why(error)}; copy the data set again")
    return frames


def pack_pictures(frames: Array, what: str, refuse: Refuse) -> list[bytes]:
    """A PNG of each of `frames` (n, height, width, channels) uint8 with 1, 3 or 4 channels. Nothing is lost."""
    image = _pillow(what, refuse)
    packed = []
    for frame in frames:
        file = io.BytesIO()
        image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(file, "PNG", compress_level=LEVEL)
        packed.append(file.getvalue())
    return packed


def _why(error: Exception) -> str:
    """In brackets; nothing where Pillow says no more than that it does not know it."""
    return "" if str(error).startswith("cannot identify") else f" ({one_line(error)[:80]})"


def _pillow(what: str, refuse: Refuse) -> Any:
    try:
        from PIL import Image
    except ImportError:
        refuse(f"{what} holds packed pictures (JPEG or PNG), which need Pillow; pip install pillow")
    return Image
