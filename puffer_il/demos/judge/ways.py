"""Two ways from the start: episodes that begin alike, and of which some go left and some go right round a post.

Where they part may be a single row, too little for `modes`; but they stay apart for a while. Their starts are taken
into account by a line, and must not tell which way it will be: neighbours at the start go different ways. That can only
be seen where few numbers make a start.
"""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.core.text import number
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.sessions import upper_of
from puffer_il.demos.judge.subject import Subject, some

FEWEST = 16  # episodes
LOOKS = 32  # rows at which episodes are compared, of a fifth of the shortest excluded
SIDE = 0.1, 4  # share of the episodes, and how many, that go each way
APART = 6.0  # standard deviations within a way between the two
STAY = 3  # looks in a row at which it is the same two groups
DIMENSIONS, LITTLE = 3, 0.05  # directions in which starts differ at most, by more than that share of the widest
FAR, PROBES = 3.0, 20  # times as far from the others, at any time, as these are from one another; how many are asked
GUESSED = 0.8  # of the episodes of each way whose nearest start goes it too: more, and the start tells it


def two_ways(s: Subject) -> Iterator[Finding]:
    demos = s.demos
    if demos.num_episodes < FEWEST or not s.whole or demos.obs.dtype.kind != "f" or not s.moves.any():
        return
    starts = _directions((s.obs[demos.episode_starts] / s.scale)[:, s.moves])
    if starts.shape[1] > DIMENSIONS:
        return
    last = int(np.quantile(demos.lengths, 0.2))
    long = np.flatnonzero(demos.lengths >= last)
    if last < LOOKS // 4 or len(long) < FEWEST:
        return
    for column in map(int, np.flatnonzero(s.moves)):
        begun = s.obs[demos.episode_starts[long], column]
        own = (begun - begun.mean()) / (begun.std() + 1e-12)  # however little it differs there: a door's own place
        known = np.column_stack([np.ones(len(long)), starts[long], own])
        before, stayed = b"", 0
        for step in np.unique(np.linspace(1, last - 1, LOOKS).astype(int)):
            values = s.obs[demos.episode_starts[long] + step, column]
            if len(np.unique(values)) < len(values) / 2:
                break
            ways = _ways(known, values)
            if ways is None or _told(starts[long], ways) or _told(own[:, None], ways):
                before, stayed = b"", 0
                continue
            stayed = stayed + 1 if ways.tobytes() == before else 1
            before = ways.tobytes()
            if stayed == STAY and not _only_later(s, long, ways, int(step)):
                yield _finding(s, long, ways, values, column, int(step))
                return


def _only_later(s: Subject, episodes: Array, ways: Array, step: int) -> bool:
    """Whether the fewer go where the others go at another time, so that only their pace differs."""
    ticks = s.steps.mean(0)
    timeless = s.moves & (s.steps.std(0) > 0.01 * np.abs(ticks))  # without clocks
    points = s.obs[:, timeless] / s.scale[timeless]
    fewer = ways if ways.sum() * 2 <= len(ways) else ~ways
    rows = s.demos.episode_starts[episodes] + step
    theirs = np.flatnonzero(np.isin(s.episode, episodes[~fewer]))
    own = np.median([_nearest(points, rows[k], theirs) for k in np.flatnonzero(fewer)])
    usual = np.median([_nearest(points, rows[k], theirs[s.episode[theirs] != episodes[k]])
                       for k in np.flatnonzero(~fewer)[:PROBES]])
    return bool(own < FAR * usual)


def _nearest(points: Array, row: int, others: Array) -> float:
    return float(np.sqrt(np.square(points[others] - points[row]).sum(1).min()))


def _finding(s: Subject, episodes: Array, ways: Array, values: Array, column: int, step: int) -> Finding:
    fewer = ways if ways.sum() * 2 <= len(ways) else ~ways
    those, first = episodes[fewer], int(episodes[fewer][0])
    return Finding("ways", f"two ways from one start: obs column {s.named([column])} is "
                           f"{number(values[fewer].mean())} in {len(those)} episodes ({some(those)}), else "
                           f"{number(values[~fewer].mean())}",
                   "take --policy.head mixture, or keep one way",
                   episode=first, row=int(s.demos.episode_starts[first]) + step, columns=(column,))


def _directions(points: Array) -> Array:
    """(n, directions) points along those directions in which they differ by enough."""
    away = points - points.mean(0)
    _, sizes, axes = np.linalg.svd(away, full_matrices=False)
    return away @ axes[np.square(sizes) > LITTLE * max(sizes[0] ** 2, 1e-12)].T


def _ways(known: Array, values: Array) -> Array | None:
    """(n,) bool, which of the two ways each of n episodes goes, whose `values` (n,) a line through what is `known`
    (n, k) tells but for the way; None where there are no two."""
    ways = upper_of(values - known @ np.linalg.lstsq(known, values, rcond=None)[0])
    if ways is None or min(ways.sum(), (~ways).sum()) < max(SIDE[1], SIDE[0] * len(ways)):
        return None
    both = np.column_stack([known, ways])
    line = np.linalg.lstsq(both, values, rcond=None)[0]
    within = np.sqrt(np.square(values - both @ line).mean()) + 1e-9 * (np.ptp(values) + 1e-30)
    return ways if abs(line[-1]) > APART * within else None


def _told(starts: Array, ways: Array) -> bool:
    """Whether the nearest start tells the way."""
    if not starts.shape[1]:
        return False
    distances = np.square(starts[:, None] - starts[None]).sum(2)
    np.fill_diagonal(distances, np.inf)
    same = ways[distances.argmin(1)] == ways
    return bool((same[ways].mean() + same[~ways].mean()) / 2 > GUESSED)
