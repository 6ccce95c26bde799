"""Rotations that jump where the body does not: angles that wrap round, quaternions that change their sign."""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.dataset import Demos

TURNS = ((2 * np.pi, "radians"), (360.0, "degrees"))
NEARLY = 0.9  # of a turn: a jump across the cut
SMOOTH = 0.25  # of a turn: what an angle moves by at most in other steps
UNIT = 1e-3  # how far a quaternion's length may be from 1


def odd_angles(demos: Demos) -> Iterator[str]:
    """A line for all angles, and one for each quaternion; none for observations that are no rows of floats."""
    if demos.obs.ndim != 2 or demos.obs.dtype.kind != "f" or len(demos) < 2:
        return
    inner = np.setdiff1d(np.arange(len(demos) - 1), demos.episode_ends - 1)
    if demos.episode_lengths is not None or not len(inner):  # subsampled rows are far apart
        return
    before, after = demos.obs[inner], demos.obs[inner + 1]
    steps, width = np.abs(after - before), np.ptp(demos.obs, axis=0)
    for turn, unit in TURNS:
        jumps = steps > NEARLY * turn
        wraps = jumps.any(0) & (width <= 1.001 * turn) & (np.where(jumps, 0, steps).max(0) < SMOOTH * turn)
        if wraps.any():
            some = ", ".join(map(str, np.flatnonzero(wraps)[:5]))
            yield (f"{wraps.sum()} of {len(width)} observation columns ({some}) jump by a whole turn in {unit}; the "
                   "sine and cosine of an angle do not")
    yield from _flips(demos.obs, before, after)


def _flips(obs: Array, before: Array, after: Array) -> Iterator[str]:
    first = 0
    while first + 4 <= obs.shape[1]:
        part = slice(first, first + 4)
        if np.abs(np.linalg.norm(obs[:, part], axis=1) - 1).max() > UNIT:
            first += 1
            continue
        flips = np.count_nonzero((before[:, part] * after[:, part]).sum(1) < -NEARLY)
        if flips:
            yield (f"observation columns {first} to {first + 3} are a quaternion that changes its sign {flips} times, "
                   "which is the same rotation; keep the sign that is nearer to the row before")
        first += 4
