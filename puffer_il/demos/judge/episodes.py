"""Episodes that count twice, and those that are unlike the rest."""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.core.text import number
from puffer_il.demos.dataset import kinds_of
from puffer_il.demos.judge.columns import correlation
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject, some

NEARLY = 0.002  # standard deviations by which a near copy differs; two runs of one expert differ by far more
ALIKE = 0.05  # difference of the lengths of near copies
MOST = 2_000  # episodes that are compared with each other
REPEATED = 10  # rows in a row: fewer may be the same by chance, or at a start
ENOUGH = 8  # episodes from which on there is a rest to be unlike; below MANY it takes twice as much
MANY = 20  # the same for what hangs on where an episode happens to begin
FENCE = 6.0  # quartile ranges beyond the quartiles: 1 in 3,000 even of an exponential distribution
PINNED = 0.1  # of the actions that an episode has at their limits beyond the others'
FOLLOWS = 0.9  # correlation of an action and the next observation that it asks for
FAR = 15.0  # the same for where an episode is on average: a few wander off, and many columns are looked at


def copies(s: Subject) -> Iterator[Finding]:
    kinds = kinds_of(s.demos)
    found = np.flatnonzero(np.bincount(kinds)[kinds] > 1)
    if len(found):
        yield Finding("copies", f"{len(found)} episodes are copies of one another ({some(found)})",
                      "they count more than once: keep one of each (demos edit --drop-copies)")
    yield from _near_copies(s, kinds)
    yield from _overlaps(s, kinds)


def _near_copies(s: Subject, kinds: Array) -> Iterator[Finding]:
    """Pairs of whole episodes whose rows differ by next to nothing."""
    demos = s.demos
    if not s.moves.any() or not s.whole or not 2 <= demos.num_episodes <= MOST:
        return
    points = s.obs[:, s.moves] / s.scale[s.moves]
    starts, lengths = demos.episode_starts, demos.lengths
    marks = np.concatenate([points[starts + (lengths - 1) * k // 4] for k in range(4)], 1)
    for e in range(demos.num_episodes):
        later = np.arange(e + 1, demos.num_episodes)
        close = (np.abs(marks[later] - marks[e]).max(1) < 10 * NEARLY) & (kinds[later] != kinds[e])
        for other in later[close & (np.abs(lengths[later] - lengths[e]) <= ALIKE * lengths[e])]:
            n = min(lengths[e], lengths[other])
            off = points[starts[e]:starts[e] + n] - points[starts[other]:starts[other] + n]
            if n >= REPEATED and np.sqrt(np.square(off).mean()) < NEARLY and _acts_alike(s, e, other, n):
                yield Finding("near-copies", f"differs from episode {e} by less than 0.2% of a standard deviation",
                              "they count twice: keep one of them (demos edit --drop)", episode=int(other))
                return


def _acts_alike(s: Subject, one: int, other: int, n: int) -> bool:
    """Copies with noise on them act alike; nobody's two runs do in every row."""
    a, b = (s.acted[s.demos.episode_starts[e]:s.demos.episode_starts[e] + n] for e in (one, other))
    spread = s.acted.std(0) + 1e-9
    return bool(np.sqrt((np.square(a - b) / np.square(spread)).mean()) < 0.1) if a.shape[1] else True


def _overlaps(s: Subject, kinds: Array) -> Iterator[Finding]:
    """Stretches that stand in two episodes: windows that overlap, cut out of one recording."""
    demos = s.demos
    if demos.obs.dtype.kind != "f" or not s.whole or len(demos) < 2 * REPEATED:
        return
    rows = np.ascontiguousarray(np.concatenate([s.obs, s.acted], 1))
    _, first, inverse = np.unique(rows.view([("", f"V{rows.strides[0]}")]).reshape(-1), return_index=True,
                                  return_inverse=True)
    if len(first) < 0.5 * len(demos):  # few states: they come again anyway
        return
    twin = first[inverse]
    again = (twin != np.arange(len(demos))) & (kinds[s.episode[twin]] != kinds[s.episode])
    goes_on = np.append(again[:-1] & again[1:] & (twin[1:] == twin[:-1] + 1) & (s.episode[1:] == s.episode[:-1]), False)
    length = 0
    for row in np.flatnonzero(again):
        length = length + 1 if row and goes_on[row - 1] else 1
        if length == REPEATED:
            begin = row - REPEATED + 1
            if begin != demos.episode_starts[s.episode[row]] or twin[begin] in demos.episode_starts:
                continue  # deterministic runs that have met, or begun alike: not two cuts of one recording
            yield Finding("overlap", f"these rows are those of episode {s.episode[twin[begin]]} from row {twin[begin]} "
                                     f"on ({again.sum()} rows in all)",
                          "they count twice: cut the recording without overlap", **s.at(begin))
            return


def short(s: Subject) -> Iterator[Finding]:
    found = np.flatnonzero((s.demos.whole_lengths == 1) & ~s.demos.terminated)  # a goal may be reached at once
    if len(found):
        yield Finding("one-step", f"{len(found)} episodes are one step long ({some(found)})",
                      "are episode_starts right? leave them out with demos edit --min-length 2")


def unlike(s: Subject) -> Iterator[Finding]:
    """Episodes that lie far beyond the quartiles of the others, with what is unlike."""
    if s.demos.num_episodes < ENOUGH:
        return
    told: dict[int, list[str]] = {}
    few = 1 if s.demos.num_episodes >= MANY else 2
    for name, values, fence, least in _features(s):
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        reach = max(few * fence * (high - low), FENCE / 10 * abs(middle), least)
        found = np.flatnonzero((values < low - reach) | (values > high + reach))
        for e in found if len(found) <= max(1, s.demos.num_episodes // 10) else ():  # more are no exceptions
            told.setdefault(int(e), []).append(f"its {name} is {number(values[e])}, of most others "
                                               f"{number(low)} to {number(high)}")
    if not told:
        return
    worst = max(told, key=lambda e: len(told[e]))
    more = f" ({len(told)} such: {some(sorted(told))})" if len(told) > 1 else ""
    yield Finding("unlike", f"unlike the rest: {told[worst][0]}{more}",
                  "leave it out if it failed (demos edit --drop)", episode=worst)


def _features(s: Subject) -> Iterator[tuple[str, Array, float, float]]:
    """What episodes are compared by: a name, a number for each (episodes,), how far is unlike in quartile ranges, and
    at least."""
    demos = s.demos
    if demos.returns is not None and demos.num_episodes >= MANY:
        yield "return", demos.returns, FENCE, 1e-9
    yield "length", demos.whole_lengths.astype(np.float64), FENCE, 1.0
    if s.whole and s.continuous and len(s.inner):
        change = np.zeros(len(demos))
        change[s.inner] = np.abs(s.acted[s.inner + 1] - s.acted[s.inner]).mean(1)
        yield "change of action per row", _means(s, change), FENCE, 1e-9
    if s.continuous and demos.num_episodes >= MANY:
        yield "size of the actions", _means(s, np.abs(s.acted).mean(1)), FENCE, 1e-9
        yield "share of actions at their limits", _at_limits(s), FENCE, PINNED
        if s.whole and len(s.inner):
            yield from _tracking(s)
    for column in map(int, np.flatnonzero(s.moves)):
        yield f"mean obs column {s.named([column])}", _means(s, s.obs[:, column]), FAR, s.scale[column]


def _at_limits(s: Subject) -> Array:
    """(episodes,) the share of an episode's actions that are within 1% of the least or the largest of their column, as
    far as it goes to both: one that comes to rest at its goal may rest at one of them."""
    low, high = s.acted.min(0), s.acted.max(0)
    ends = [(s.acted <= low + (high - low) / 100) & (high > low), (s.acted >= high - (high - low) / 100) & (high > low)]
    lower, upper = (np.add.reduceat(end.astype(np.int64), s.demos.episode_starts) for end in ends)
    return (2 * np.minimum(lower, upper) / s.demos.lengths[:, None]).mean(1)


def _tracking(s: Subject) -> Iterator[tuple[str, Array, float, float]]:
    """Where an action says which observation is to come, such as a joint's position: how far off that one is."""
    pairs = correlation(s.next_obs[s.inner], s.acted[s.inner])
    for action in map(int, np.flatnonzero(pairs.max(0, initial=0) > FOLLOWS)):
        column = int(pairs[:, action].argmax())
        slope, begin = np.polyfit(s.acted[:, action], s.next_obs[:, column], 1)
        off = np.abs(s.next_obs[:, column] - slope * s.acted[:, action] - begin)
        yield (f"distance of obs column {s.named([column])} from action {action}", _means(s, off), FENCE,
               s.scale[column] / 100)


def _means(s: Subject, values: Array) -> Array:
    return np.add.reduceat(values, s.demos.episode_starts) / s.demos.lengths
