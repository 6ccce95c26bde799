"""Batches of pictures, uint8 (n, height, width, channels), made grey and resized, as networks are to see them.

All of it in whole numbers, so that every machine and every worker gives the same bytes.
"""

from __future__ import annotations

import functools

import numpy as np

from puffer_il.core.rows import Array

LUMA = (13926, 46885, 4725)  # of 65,536


def grey(pictures: Array) -> Array:
    """(n, height, width, 3) → (n, height, width, 1): 0.2125 R + 0.7154 G + 0.0721 B, as gymnasium's
    GrayscaleObservation has it, but rounded to the nearest where that rounds down."""
    red, green, blue = (pictures[..., k].astype(np.uint32) for k in range(3))
    return ((LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 32768) >> 16).astype(np.uint8)[..., None]


def resized(pictures: Array, height: int, width: int) -> Array:
    """(n, *, *, channels) → (n, height, width, channels): a pixel is the mean of the area that it covers, rounded to
    the nearest. Where it shrinks that is OpenCV's INTER_AREA, which rounds otherwise by 1 at most."""
    area, sums = 1, pictures
    for axis, size in ((1, height), (2, width)):
        own = pictures.shape[axis]
        if own != size:
            area *= own
            places, weights = _shares(own, size)
            shape = [-1 if k == axis else 1 for k in range(4)]
            dtype = np.int32 if 255 * area < 2**30 else np.int64
            sums = sum(sums.take(place, axis).astype(dtype, copy=False) * weight.astype(dtype).reshape(shape)
                       for place, weight in zip(places, weights, strict=True))
    return pictures if area == 1 else ((2 * sums + area) // (2 * area)).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _shares(own: int, size: int) -> tuple[Array, Array]:
    """Which of `own` pixels each of `size` covers, and how much of it, (terms, size) each; of the whole, `own`."""
    begins = np.arange(size) * own
    places = begins // size + np.arange(-(-own // size) + 1)[:, None]
    weights = np.minimum(begins + own, (places + 1) * size) - np.maximum(begins, places * size)
    used = (weights > 0).any(1)
    return np.minimum(places, own - 1)[used], np.maximum(weights, 0)[used]
