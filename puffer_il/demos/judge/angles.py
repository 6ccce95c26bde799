"""Rotations that jump where the body does not: angles that wrap round, quaternions that change their sign."""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject

TURNS = ((2 * np.pi, "radians"), (360.0, "degrees"))
NEARLY = 0.9  # of a turn: a jump across the cut
SMOOTH = 0.25  # of a turn: what an angle moves by at most in other steps
UNIT = 1e-3  # how far a quaternion's length may be from 1


def odd_angles(s: Subject) -> Iterator[Finding]:
    """A line for all angles, and one for each quaternion; none for subsampled rows, which are far apart."""
    if s.demos.obs.dtype.kind != "f" or not len(s.inner) or not s.obs.shape[1]:
        return
    before, after = s.obs[s.inner], s.obs[s.inner + 1]
    steps, width = np.abs(after - before), np.ptp(s.obs, axis=0)
    for turn, unit in TURNS:
        jumps = steps > NEARLY * turn
        wraps = jumps.any(0) & (width <= 1.001 * turn) & (np.where(jumps, 0, steps).max(0) < SMOOTH * turn)
        if wraps.any():
            columns = np.flatnonzero(wraps)
            row = s.inner[np.argmax(jumps[:, columns[0]])]
            yield Finding("angle", f"{len(columns)} of {len(width)} obs columns ({s.named(columns)}) jump by a "
                                   f"whole turn in {unit}", "the sine and cosine of an angle do not",
                          **s.at(row), columns=tuple(map(int, columns)))
    yield from _flips(s, before, after)


def _flips(s: Subject, before: Array, after: Array) -> Iterator[Finding]:
    first = 0
    while first + 4 <= s.obs.shape[1]:
        part = slice(first, first + 4)
        if np.abs(np.linalg.norm(s.obs[:, part], axis=1) - 1).max() > UNIT:
            first += 1
            continue
        flips = np.flatnonzero((before[:, part] * after[:, part]).sum(1) < -NEARLY)
        if len(flips):
            yield Finding("quaternion", f"obs columns {first} to {first + 3} are a quaternion that changes its sign "
                                        f"{len(flips)} times, for the same rotation",
                          "keep the sign nearer to the row before", **s.at(s.inner[flips[0]]),
                          columns=tuple(range(first, first + 4)))
        first += 4
