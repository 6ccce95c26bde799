"""Rows of other episodes that are nearest to a row."""

from dataclasses import dataclass

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.subject import Subject

PROBES, KNOWN = 1_000, 20_000  # rows that are asked for, and rows that may be near


@dataclass(frozen=True)
class Near:
    """rows (n,), near (n, k) the nearest rows of other episodes, the nearest first; distances (n, k) in `scale`s."""

    rows: Array
    near: Array
    distances: Array


def neighbours(s: Subject, count: int) -> Near | None:
    """The `count` nearest rows of other episodes to PROBES rows, drawn with a seed of their own; None where there are
    not two episodes, no actions, or no numbers to compare."""
    if s.demos.num_episodes < 2 or s.demos.actions is None or not s.moves.any() or len(s.demos) < 4 * count:
        return None
    rng = np.random.default_rng(0)
    known = _draw(rng, len(s.demos), KNOWN)
    probes = known[_draw(rng, len(known), PROBES)]
    points = s.obs[:, s.moves] / s.scale[s.moves]
    there, squares = points[known], np.square(points[known]).sum(1)
    near, distances = np.empty((len(probes), count), np.int64), np.empty((len(probes), count))
    for i, probe in enumerate(probes):
        apart = squares + squares[np.searchsorted(known, probe)] - 2 * (there @ points[probe])
        apart[s.episode[known] == s.episode[probe]] = np.inf
        order = np.argpartition(apart, count - 1)[:count]
        order = order[np.argsort(apart[order])]
        near[i], distances[i] = known[order], np.sqrt(np.maximum(apart[order], 0))
    fine = np.isfinite(distances).all(1)
    return Near(probes[fine], near[fine], distances[fine]) if fine.any() else None


def _draw(rng: np.random.Generator, rows: int, count: int) -> Array:
    return np.arange(rows) if rows <= count else np.sort(rng.choice(rows, count, replace=False))
