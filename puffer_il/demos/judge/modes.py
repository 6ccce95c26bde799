"""Conflicting modes: nearly equal states after which far apart actions were taken, whose mean nobody took.

Looked at is the mean of the next actions, as a single one may be a tremor. Where each of a row's nearest neighbours in
other episodes goes on in one of two ways and the states do not tell which, a policy with one mean goes between them.
Where the states do tell (the two sides of a switching line), the very nearest neighbour goes the row's own way, and
nothing is in conflict.
"""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.likeness import neighbours
from puffer_il.demos.judge.subject import Subject

AHEAD = 10  # rows whose actions are averaged: the horizon of action chunks
NEIGHBOURS = 8
CLOSE = 3.0  # steps from row to row that the furthest of them may be away; beyond it is another situation
APART = 0.4  # of the range that nine tenths of the actions take up: the gap between two ways
CLEAR = 9.0  # squared distance of the two ways, in mean squares within them: three standard deviations
SPLIT, LEAST = 0.02, 8  # of the rows asked, and rows, from which on it is no accident; a turn is taken in few rows
GUESSED = 0.75  # of the nearest neighbours that go the row's own way, below which states do not tell it; 0.5 by chance


def conflicting(s: Subject) -> Iterator[Finding]:
    if not s.continuous or not len(s.inner) or (pairs := neighbours(s, NEIGHBOURS)) is None:
        return
    actions = _ahead(s)
    span = np.quantile(s.acted, 0.95, axis=0) - np.quantile(s.acted, 0.05, axis=0)
    if not (span > 0).any():
        return
    scaled = actions[:, span > 0] / span[span > 0]
    step = np.median(np.sqrt(np.square(s.steps[:, s.moves]).sum(1)))
    close = pairs.distances[:, -1] <= CLOSE * step
    split, agree, example = 0, 0, None
    for row, near in zip(pairs.rows[close], pairs.near[close], strict=True):
        sides = _two_ways(scaled[np.append(row, near)])
        if sides is None:
            continue
        split, agree = split + 1, agree + int(sides[0] == sides[1])
        if example is None and sides[0] != sides[1]:
            example = row, near[0]
    if example is None or split < max(LEAST, SPLIT * len(pairs.rows)) or agree > GUESSED * split:
        return
    row, other = example
    mine, theirs = (", ".join(f"{x:.2g}" for x in actions[r][:4]) for r in (row, other))
    yield Finding("modes", f"acts around [{mine}], episode {s.episode[other]} around [{theirs}] in nearly the same "
                           f"state ({100 * split / len(pairs.rows):.0f}% of rows)",
                  "take --policy.head mixture, or keep one way", **s.at(row))


def _ahead(s: Subject) -> Array:
    """(n, columns) the mean of the actions of the next AHEAD rows, as far as the episode goes."""
    total = np.concatenate([np.zeros((1, s.acted.shape[1])), np.cumsum(s.acted, axis=0)])
    first = np.arange(len(s.demos))
    end = np.minimum(first + AHEAD, s.demos.episode_ends[s.episode])
    return (total[end] - total[first]) / (end - first)[:, None]


def _two_ways(actions: Array) -> Array | None:
    """(k,) bool, which of two ways each of `actions` (k, dim) goes, divided where the largest gap is; None where there
    is no wide gap, or hardly anyone beyond it."""
    column = int(np.ptp(actions, axis=0).argmax())
    order = np.sort(actions[:, column])
    gaps = np.diff(order)
    gap = int(gaps.argmax())
    fewer = min(gap + 1, len(order) - gap - 1)
    if gaps[gap] < APART or fewer < len(order) / 4 or np.delete(gaps, gap).max() > gaps[gap] / 2:
        return None
    sides = actions[:, column] > order[gap] + gaps[gap] / 2
    centers = np.stack([actions[sides].mean(0), actions[~sides].mean(0)])
    within = np.square(actions - centers[np.where(sides, 0, 1)]).sum(1).mean()
    return sides if np.square(centers[0] - centers[1]).sum() > CLEAR * within else None
