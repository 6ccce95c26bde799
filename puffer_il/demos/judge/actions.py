"""Actions that teach nothing, or are in other units than the environment's."""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.likeness import neighbours
from puffer_il.demos.judge.subject import Subject, some

SMALL = 0.02  # of half the range of an action
PILED = 0.01  # of the rows, from which on a value is an end of the recorder's own range
FEWEST = 200  # rows
CHANCE = 0.1  # of what observations could tell of actions; random ones are near 0


def stored(s: Subject) -> Iterator[Finding]:
    if s.demos.actions is None:
        yield Finding("no-actions", "no actions are stored",
                      "only algorithms that learn from observations alone can use them")


def constant(s: Subject) -> Iterator[Finding]:
    actions = s.demos.actions
    if actions is None or len(actions) < 2:
        return
    still = np.flatnonzero((actions == actions[0]).all(0))
    if len(still):
        yield Finding("constant-action", f"{len(still)} of {actions.shape[1]} action columns never change "
                                         f"({some(still)})", "a demonstrator that does nothing teaches nothing",
                      columns=tuple(map(int, still)))


def twins(s: Subject) -> Iterator[Finding]:
    """Two columns of one and the same number: one of them was mapped to the wrong source."""
    actions = s.demos.actions
    if actions is None or len(actions) < 2 or actions.shape[1] > 128:
        return
    varied = np.ptp(actions, axis=0) > 0
    for k in np.flatnonzero(varied):
        same = np.flatnonzero((actions[:, k + 1:] == actions[:, k:k + 1]).all(0)) + k + 1
        if len(same):
            yield Finding("twin-actions", f"action columns {some([k, *same])} are the same in all rows",
                          "look whether each is taken from its own source", columns=(int(k), *map(int, same)))
            return


def unused(s: Subject) -> Iterator[Finding]:
    """Choices that the environment has and the demonstrator never takes."""
    actions, spec = s.demos.actions, s.spec
    if actions is None or spec is None or not spec.action.discrete or actions.shape[1] != spec.action.dim:
        return
    for column, count in enumerate(spec.action.nvec):
        never = np.setdiff1d(np.arange(count), actions[:, column])
        if np.ptp(actions[:, column]) and len(never):
            never += spec.action.start[column] if spec.action.start else 0
            yield Finding("unused-action", f"{len(never)} of {count} actions are never taken ({some(never)})",
                          "fine if nothing needs them; otherwise add episodes that take them", columns=(column,))


def small(s: Subject) -> Iterator[Finding]:
    """Columns that stay in a corner of their range: actions in other units, such as shares of 1 in a range to 255."""
    found = _ranges(s)
    if found is None:
        return
    actions, low, high = found
    spread, half = np.ptp(actions, axis=0), (high - low) / 2
    tight = np.flatnonzero(np.isfinite(half) & (spread < SMALL * half) & (spread > 0))
    if len(tight):
        column = tight[0]
        yield Finding("small-actions",
                      f"{len(tight)} action columns use less than 1% of their range ({some(tight)}), such as "
                      f"{column}: [{actions[:, column].min():.3g}, {actions[:, column].max():.3g}] of "
                      f"[{low[column]:.3g}, {high[column]:.3g}]",
                      "map other units with demos edit --rescale-actions=LOW,HIGH",
                      columns=tuple(map(int, tight)))


def normalised(s: Subject) -> Iterator[Finding]:
    """Actions that pile up at −1 and 1 where the environment's range is another one: its recorder normalised them."""
    found = _ranges(s)
    if found is None:
        return
    actions, low, high = found
    ends = ((actions == 1).mean(0) > PILED) & ((actions == -1).mean(0) > PILED) & (np.abs(actions).max(0) == 1)
    own = np.isfinite(low) & np.isfinite(high) & ((low < -1.01) | (high > 1.01))
    whole = (actions == np.round(actions)).all(0)  # choices of a bang-bang controller
    columns = np.flatnonzero(ends & own & ~whole)
    if len(columns):
        k = columns[0]
        yield Finding("normalised-actions",
                      f"actions pile up at -1 and 1 (columns {some(columns)}) of [{low[k]:.4g}, {high[k]:.4g}]: "
                      "they look normalised",
                      "map them with demos edit --rescale-actions=-1,1 --env ENV", columns=tuple(map(int, columns)))


def _ranges(s: Subject) -> tuple[Array, Array, Array] | None:
    """Continuous actions, and the range of each column."""
    actions, spec = s.demos.actions, s.spec
    if actions is None or spec is None or spec.action.discrete or len(actions) < 2:
        return None
    if actions.shape[1] != spec.action.dim or not np.ptp(actions, axis=0).all():
        return None
    return actions, np.asarray(spec.action.low, np.float64), np.asarray(spec.action.high, np.float64)


def unrelated(s: Subject) -> Iterator[Finding]:
    """Actions of which observations tell nothing, neither by a line nor by their nearest like: random ones, or rows of
    the one that are not those of the other."""
    pairs = neighbours(s, 1)
    if pairs is None or len(s.demos) < FEWEST or not s.moves.any():
        return
    mine, theirs = s.acted[pairs.rows], s.acted[pairs.near[:, 0]]
    spread = s.acted.var(0).sum()
    if spread < 1e-12:
        return
    alike = 1 - np.square(mine - theirs).sum(1).mean() / (2 * spread)
    if alike < CHANCE and (line := _told_by_a_line(s, spread)) < CHANCE:
        yield Finding("unrelated", f"observations tell {100 * max(alike, line, 0):.0f}% of the actions: random ones, "
                                   "or of other rows", "look whether both were recorded by the same clock; no clone "
                                                       "learns from these")


def _told_by_a_line(s: Subject, spread: float) -> float:
    """Share of the actions' variance that a line through the observations tells, of rows that it was not drawn by."""
    known = np.column_stack([np.ones(len(s.demos)), (s.obs - s.obs.mean(0)) / s.scale])
    half = s.episode % 2 == 0
    if half.all() or not half.any():
        return 1.0
    fitted = np.linalg.lstsq(known[half], s.acted[half], rcond=None)[0]
    return float(1 - np.square(s.acted[~half] - known[~half] @ fitted).sum(1).mean() / spread)
