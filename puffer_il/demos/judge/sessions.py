"""Recordings of two sessions in one file: sensors that read otherwise in some of the episodes, from the first row to
the last, as after a camera was nudged, a light changed or a scale calibrated anew.

Told from the task by three marks: several columns lie in the same two groups of episodes, both where episodes begin and
on their average; they are columns that change within an episode, and no goal lies in the same groups; and others do not
differ.
"""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject, some

FEWEST = 12  # episodes
GROUP = 0.1, 3  # share of the episodes, and how many, that a session has at least
APART = 5.0  # standard deviations within the groups between their means, at the start
STILL = 3.0  # the same of the means of episodes
COLUMNS = 3  # that must tell the same groups


def sessions(s: Subject) -> Iterator[Finding]:
    columns, episodes = split_by(s)
    if len(columns):
        yield Finding("sessions", f"{len(columns)} obs columns ({s.named(columns)}) read otherwise in {len(episodes)} "
                                  f"episodes ({some(episodes)})",
                      "look whether a camera, light or calibration was changed",
                      episode=int(episodes[0]), row=int(s.demos.episode_starts[episodes[0]]),
                      columns=tuple(map(int, columns)))


def split_by(s: Subject) -> tuple[Array, Array]:
    """The columns that read otherwise in some episodes, and those episodes, the fewer of two groups; none where there
    are no two sessions."""
    count, none = s.demos.num_episodes, np.zeros(0, np.int64)
    if count < FEWEST or not s.whole or s.demos.obs.dtype.kind != "f" or s.obs.shape[1] <= COLUMNS:
        return none, none
    firsts = s.obs[s.demos.episode_starts]
    means = np.add.reduceat(s.obs, s.demos.episode_starts) / s.demos.lengths[:, None]
    moving = np.sqrt(np.square(s.obs - means[s.episode]).mean(0)) > 1e-3 * s.scale
    fewest = max(GROUP[1], GROUP[0] * count)
    groups: dict[bytes, list[int]] = {}
    goals = set[bytes]()
    for column in range(firsts.shape[1]):
        upper = upper_of(firsts[:, column])
        if upper is None or not fewest <= upper.sum() <= count - fewest:
            continue
        fewer = (upper if upper.sum() * 2 <= count else ~upper).tobytes()  # whichever side it is on
        if not moving[column]:
            goals.add(fewer)
        elif _apart(firsts[:, column], upper) > APART and _apart(means[:, column], upper) > STILL:
            groups.setdefault(fewer, []).append(column)
    groups = {key: columns for key, columns in groups.items() if key not in goals}
    same, columns = max(groups.items(), key=lambda group: len(group[1]), default=(b"", []))
    if not COLUMNS <= len(columns) < moving.sum():
        return none, none
    return np.array(columns), np.flatnonzero(np.frombuffer(same, bool))


def upper_of(values: Array) -> Array | None:
    """(n,) bool, which of n values lie above their widest gap; None where they are all the same."""
    order = np.sort(values)
    widths = np.diff(order)
    if not widths.any():
        return None
    return values > order[widths.argmax()] + widths.max() / 2


def _apart(values: Array, upper: Array) -> float:
    """By how many standard deviations within the two groups their means are apart."""
    high, low = values[upper], values[~upper]
    within = np.sqrt((np.square(high - high.mean()).sum() + np.square(low - low.mean()).sum()) / len(values))
    return float((high.mean() - low.mean()) / (within + 1e-9 * (np.ptp(values) + 1e-30)))
