"""Conflicting modes: nearly equal states in which far apart actions were taken, whose mean nobody took.

Where each of a row's nearest neighbours in other episodes has one of two kinds of action and the states do not tell
which, a policy with one mean goes between them. Where the states do tell (the two sides of a switching line), the very
nearest neighbour has the row's own kind, and nothing is in conflict.
"""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.likeness import neighbours
from puffer_il.demos.judge.subject import Subject

NEIGHBOURS = 8
APART = 0.4  # of the range that nine tenths of the actions take up: the gap between two kinds
CLEAR = 9.0  # squared distance of the two kinds, in mean squares within them: three standard deviations
SPLIT = 0.03  # of the rows asked, from which on it is no accident
GUESSED = 0.75  # of the nearest neighbours of the row's own kind, below which states do not tell it; 0.5 by chance


def conflicting(s: Subject) -> Iterator[Finding]:
    if not s.continuous or (pairs := neighbours(s, NEIGHBOURS)) is None:
        return
    span = np.quantile(s.acted, 0.95, axis=0) - np.quantile(s.acted, 0.05, axis=0)
    if not (span > 0).any():
        return
    actions = s.acted[:, span > 0] / span[span > 0]
    step = np.median(np.sqrt(np.square(s.steps[:, s.moves]).sum(1))) if len(s.inner) else np.inf
    close = pairs.distances[:, -1] <= 10 * step  # further away it is another situation
    split, agree, example = 0, 0, None
    for row, near in zip(pairs.rows[close], pairs.near[close], strict=True):
        sides = _two_kinds(actions[np.append(row, near)])
        if sides is None:
            continue
        split, agree = split + 1, agree + int(sides[0] == sides[1])
        if example is None and sides[0] != sides[1]:
            example = row, near[0]
    if example is None or split < max(3, SPLIT * len(pairs.rows)) or agree > GUESSED * split:
        return
    row, other = example
    mine, theirs = (", ".join(f"{x:.3g}" for x in s.acted[r][:4]) for r in (row, other))
    yield Finding("modes", f"acts [{mine}] where episode {s.episode[other]} acts [{theirs}] in row {other}, in nearly "
                           f"the same state ({100 * split / len(pairs.rows):.0f}% of the rows are so)",
                  "clone with a head that holds several modes (--policy.head mixture), or keep one way of doing it",
                  **s.at(row))


def _two_kinds(actions: Array) -> Array | None:
    """(k,) bool, which of two kinds each of `actions` (k, dim) is, divided where the largest gap is; None where there
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
