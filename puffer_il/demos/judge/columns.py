"""Columns of observations that teach nothing, or the wrong thing: constants, clocks, hung sensors, the last action."""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject, runs, some

FEWEST = 50  # rows that follow on one another; fewer rise by chance
REGULAR = 0.01  # how far a clock's tick, or an episode's pace, may be from the others, relative to it
MOSTLY = 0.95  # of the rows
EPS = 4 * float(np.finfo(np.float32).eps)  # of the largest value: what a float32 is rounded by, twice
FROZEN = 20  # rows without any change of a number that else changes in most rows
EPISODES = 5  # from which on there are others to compare with
SAME = 0.999  # correlation from which on two columns are the same, up to their units


def constant(s: Subject) -> Iterator[Finding]:
    """Numbers that are the same in all rows."""
    still = np.flatnonzero(~s.moves)
    if len(still) and len(s.demos) > 1:
        yield Finding("constant", f"{len(still)} of {s.obs.shape[1]} obs columns never change "
                                  f"({s.named(still)})",
                      "leave them out, or look whether those sensors were connected", columns=tuple(map(int, still)))


def clocks(s: Subject) -> Iterator[Finding]:
    """Numbers that rise by the same amount in every row, or by the same pace in every episode: a policy learns when
    instead of where. Of a clock, ticks that are missing or go back are told as well."""
    if len(s.inner) < FEWEST:
        return
    for column in map(int, np.flatnonzero(s.moves)):
        ticks = s.obs[s.inner + 1, column] - s.obs[s.inner, column]
        tick, rounding = np.median(ticks), EPS * np.abs(s.obs[:, column]).max()
        if abs(tick) <= 4 * rounding:
            continue
        odd = np.flatnonzero(np.abs(ticks - tick) > REGULAR * abs(tick) + rounding)
        if len(odd) <= (1 - MOSTLY) * len(ticks):
            yield _clock(s, column, f"changes by {tick:.4g} in every row")
            yield from _gaps(s, column, ticks / tick, odd)
        elif _steady(s, column):
            yield _clock(s, column, "rises with the rows at the same pace in every episode")


def _clock(s: Subject, column: int, how: str) -> Finding:
    return Finding("clock", f"obs column {s.named([column])} is a clock: it {how}",
                   "leave it out, or a policy learns the time instead of the state", columns=(int(column),))


def _gaps(s: Subject, column: int, ticks: Array, odd: Array) -> Iterator[Finding]:
    for kind, found, remedy in (
            ("time-back", odd[ticks[odd] < -REGULAR], "sort the rows by time, or split the episode there"),
            ("time-gap", odd[ticks[odd] > 1.5], "split the episodes there, or record them again"),
            ("time-still", odd[np.abs(ticks[odd]) <= REGULAR], "drop the rows that were recorded twice")):
        if len(found):
            what = {"time-back": "goes back", "time-still": "stands still"}.get(
                kind, f"jumps by {ticks[found[0]]:.3g} ticks: rows are missing")
            yield Finding(kind, f"the clock in obs column {s.named([column])} {what} (rows: {len(found)})",
                          remedy, **s.at(s.inner[found[0]]), columns=(int(column),))


def _steady(s: Subject, column: int) -> bool:
    """Whether it rises in every row, by a line through time that has the same slope in three or more episodes."""
    values, starts, ends = s.obs[:, column], s.demos.episode_starts, s.demos.episode_ends
    long = ends - starts >= 10
    if long.sum() < 3 or (values[s.inner + 1] <= values[s.inner]).any():
        return False
    paces = (values[ends - 1] - values[starts])[long] / (ends - starts - 1)[long]
    ideal = values[starts][s.episode] + np.median(paces) * (np.arange(len(values)) - starts[s.episode])
    off = np.abs(values - ideal).max() / np.median((values[ends - 1] - values[starts])[long])
    return bool(np.ptp(paces) < 2 * REGULAR * np.median(paces) and off < 5 * REGULAR)


def frozen(s: Subject) -> Iterator[Finding]:
    """A number that changes in most rows, and then not for a while in which others do, until it catches up with one
    large step: a sensor that hangs. What is at rest sets off gently."""
    if len(s.inner) < FEWEST:
        return
    changed = s.steps != 0
    lively = np.flatnonzero(changed.mean(0) > MOSTLY / (1 + 1 / 4))  # a hang may itself take up a fifth of the rows
    others = changed.sum(1)
    for column in map(int, lively):
        hangs = np.zeros(len(s.demos), bool)
        hangs[s.inner] = ~changed[:, column] & (others > 0)
        catch = np.quantile(np.abs(s.steps[:, column]), 0.9)
        found = [(a, b) for a, b in runs(hangs, s.episode)
                 if b - a >= FROZEN and np.abs(s.next_obs[b, column] - s.obs[b, column]) > catch * s.scale[column]]
        if 0 < len(found) <= max(2, s.demos.num_episodes // 10):
            (a, b), rest = found[0], changed[:, column].sum() + sum(y - x for x, y in found)
            if rest >= MOSTLY * len(s.inner):
                yield Finding("frozen", f"obs column {s.named([column])} hangs for {b - a} rows while others change"
                                        f"{f' ({len(found)} times)' * (len(found) > 1)}",
                              "leave those episodes out (demos edit --drop), or look after that sensor", **s.at(a),
                              columns=(int(column),))


def dead(s: Subject) -> Iterator[Finding]:
    """A number that never changes in a few episodes, and in all others in most rows: a sensor that was off."""
    demos = s.demos
    if not s.whole or demos.num_episodes < EPISODES or demos.obs.dtype.kind != "f" or not len(s.inner):
        return
    changed = np.zeros(s.obs.shape, np.int64)
    changed[s.inner] = s.steps != 0
    rates = np.add.reduceat(changed, demos.episode_starts) / np.maximum(demos.lengths - 1, 1)[:, None]
    still = (rates == 0) & (demos.lengths >= FROZEN)[:, None]
    few = max(1, demos.num_episodes // 10)
    for column in map(int, np.flatnonzero(still.any(0))):
        off = np.flatnonzero(still[:, column])
        if len(off) <= few and np.delete(rates[:, column], off).min() > 0.5:
            row = demos.episode_starts[off[0]]
            yield Finding("frozen", f"obs column {s.named([column])} never changes in {len(off)} of "
                                    f"{demos.num_episodes} episodes ({some(off)})",
                          "leave those out (demos edit --drop), or look after that sensor", **s.at(row),
                          columns=(column,))


def copycat(s: Subject) -> Iterator[Finding]:
    """A number that is the action of the row before, or of its own row, up to units and sign: a clone learns to repeat
    it (the copycat problem; de Haan et al. 2019, arXiv:1905.11979)."""
    if len(s.inner) < FEWEST or not s.acted.shape[1]:
        return
    seen = s.moves
    before = correlation(s.obs[s.inner + 1], s.acted[s.inner])
    own = correlation(s.obs[s.inner], s.acted[s.inner])
    for kind, found, what, remedy in (
            ("copycat", before > SAME, "the action of the row before",
             "leave it out, or a clone learns to repeat itself"),
            ("leak", own > SAME, "the action itself", "leave it out, unless it is known before acting")):
        columns = np.flatnonzero(found.any(1) & seen)
        if len(columns):
            yield Finding(kind, f"obs column{'s' * (len(columns) > 1)} {s.named(columns)} repeat"
                                f"{'s' * (len(columns) == 1)} {what}", remedy, columns=tuple(map(int, columns)))


def correlation(obs: Array, acted: Array) -> Array:
    """(observation columns, action columns) sizes of their correlations, 0 where one of them does not change."""
    left, right = (array - array.mean(0) for array in (obs, acted))
    size = np.sqrt(np.square(left).sum(0))[:, None] * np.sqrt(np.square(right).sum(0))
    return np.abs(left.T @ right) / np.where(size > 1e-9, size, np.inf)
