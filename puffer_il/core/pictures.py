"""Pictures, uint8 (height, width, 3): their size, and what they are as PNG and as GIF."""

import io
import struct
import zlib
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array

GIF_BYTES = 300_000  # what a page or a README takes without a thought
GIF_WIDTH, GIF_RATE = 480, 25  # at most: pixels, and pictures per second
GIF_SIZES = ((480, 25, 64), (400, 25, 64), (320, 25, 32), (320, 15, 32), (320, 10, 32), (240, 10, 32), (240, 7, 32),
             (240, 5, 32), (160, 5, 32))  # width, rate and colours, in the order in which they are given up
HOLD_S = 1.0  # the last picture stays, or a loop hides how it ended


def needed(module: str, path: Path) -> Any:
    """A module of an extra; InputError with the line that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise InputError(f"--out {path}: needs {module.split('.')[0].replace('PIL', 'pillow')}; "
                         "pip install 'puffer-il[render]'") from None


def png(picture: Array) -> bytes:
    height, width, _ = picture.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with the number of its filter, 0 for none
    rows[:, 1:] = picture.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b""))


def gif(frames: Sequence[Array], fps: float) -> tuple[bytes, int]:
    """An endless loop at the speed of the frames, and how many pictures are in it: the first of GIF_SIZES that takes
    no more than GIF_BYTES, or else the last."""
    data, shown, per_pixel = b"", 0, 0.0
    tried = set()
    for width, rate, colors in GIF_SIZES:
        every, width = max(1, round(fps / rate)), min(width, frames[0].shape[1])
        chosen = [*range(0, len(frames) - 1, every), len(frames) - 1]
        hopeless = per_pixel * len(chosen) * width**1.3 > 1.2 * GIF_BYTES
        if (width, every, colors) in tried or (hopeless and (width, rate, colors) != GIF_SIZES[-1]):
            continue
        tried.add((width, every, colors))
        times = [round(100 * i / fps) for i in (*chosen, len(frames))]  # in the hundredths of a second that a GIF has
        lengths = [max(2, b - a) * 10 for a, b in pairwise(times)]
        lengths[-1] += int(1000 * HOLD_S)
        data, shown = _gif([shrunk(frames[i], width) for i in chosen], lengths, colors), len(chosen)
        if len(data) <= GIF_BYTES:
            break
        per_pixel = len(data) / (len(chosen) * width**1.3)
    return data, shown


def _gif(pictures: list[Array], lengths: list[int], colors: int) -> bytes:
    """One palette for all, so that pillow stores of each picture only what has changed."""
    image = needed("PIL.Image", Path("x.gif"))
    some = np.concatenate(pictures[::max(1, len(pictures) // 8)])
    palette = image.fromarray(some).quantize(colors, method=image.Quantize.MEDIANCUT, dither=image.Dither.NONE)
    images = [image.fromarray(picture).quantize(palette=palette, dither=image.Dither.NONE) for picture in pictures]
    memory = io.BytesIO()
    images[0].save(memory, "GIF", save_all=True, append_images=images[1:], duration=lengths, loop=0, optimize=True,
                   disposal=1)
    return memory.getvalue()


def shrunk(picture: Array, width: int) -> Array:
    """At most `width` wide, in its own proportions."""
    height, own, _ = picture.shape
    return picture if own <= width else resized(picture, max(1, round(height * width / own)), width)


def resized(picture: Array, height: int, width: int) -> Array:
    """Smaller by averages, larger by repetition, in each direction."""
    for axis, size in enumerate((height, width)):
        own = picture.shape[axis]
        starts = np.arange(size) * own // size
        if size < own:
            counts = np.diff(starts, append=own).reshape([-1 if k == axis else 1 for k in range(3)])
            picture = (np.add.reduceat(picture, starts, axis, dtype=np.uint32) // counts).astype(np.uint8)
        elif size > own:
            picture = picture.take(starts, axis)
    return picture
