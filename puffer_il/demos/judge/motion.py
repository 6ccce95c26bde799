"""How episodes move: those whose actions tremble far more than the others', or for a while, and those that hesitate on
their way.

Up to a third of a recording may be such, as where one of three operators had an unsteady hand; what sets them apart is
that nothing lies between them and the others. Who trembles for a while is told by his own calm rows.
"""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.core.text import number
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject, some

FEWEST, MOST = 15, 0.4  # episodes, and the share of them that may be unlike the others
LONG = 20  # rows, below which an episode says little of how it moves
MORE = 3.0  # times as much as the middle one of the others trembles
BETWEEN = 1.6  # times as much as the shakiest of the others: nothing lies between
WINDOW = 10  # rows, over which it is looked how much an episode trembles for a while
STEADY = 2.5  # times the lower quartile of what windows tremble their upper one is at most: a floor of noise
CALM, SHAKY = 2.0, 2.5  # times what windows usually tremble; sound recordings stay below 2.7, and nine in ten below 2.4
LASTS = 3  # windows that overlap by half
TREMBLING, AT_REST = 0.1, 0.2  # shares of the episodes, at least, that tremble for a while, and that never do
OWN = 1.5  # times what windows usually tremble, which an episode's own do: it is calm but for a while
AHEAD = 15  # rows over which it is looked how far something has come, so that trembling on the spot is none
SLOW, FAST = 0.2, 0.5  # of how far it comes when it is fast
SHARE = 0.09  # of the rows, by which an episode must stand still more than four fifths of the others


def trembling(s: Subject) -> Iterator[Finding]:
    """A second difference is little where a hand moves steadily, however fast, and large where it shakes."""
    demos = s.demos
    long = demos.lengths >= LONG
    if not s.continuous or not s.whole or long.sum() < FEWEST:
        return
    shake = np.zeros(len(demos))
    middle = s.inner[np.isin(s.inner + 1, s.inner)]
    spread = s.acted.std(0) + 1e-12
    bends = (s.acted[middle] - 2 * s.acted[middle + 1] + s.acted[middle + 2]) / spread
    shake[middle] = np.square(bends).mean(1)
    values = np.sqrt(np.add.reduceat(shake, demos.episode_starts) / np.maximum(demos.lengths - 2, 1))[long]
    order = np.sort(values)
    first = int((1 - MOST) * len(order))
    ratios = order[first + 1:] / np.maximum(order[first:-1], 1e-9)
    if not len(ratios) or ratios.max() < BETWEEN:
        return
    others = first + 1 + int(np.argmax(ratios >= BETWEEN))
    least, usual = float(order[others]), float(np.median(order[:others]))
    if not 0 < MORE * usual < least:
        return
    episodes = np.flatnonzero(long)[values >= least]
    yield Finding("trembling", f"actions of {len(episodes)} of {demos.num_episodes} episodes ({some(episodes)}) "
                               f"tremble {least / usual:.2g} times as much as the others' or more",
                  "leave them out (demos edit --drop)",
                  episode=int(episodes[0]), row=int(demos.episode_starts[episodes[0]]))


def unsteady(s: Subject) -> Iterator[Finding]:
    """Noise of the size that all rows have is the recorder's, or the demonstrator's own; what is larger for a while, in
    some episodes and not in others, is no stage of the task. Third differences leave of a smooth motion nothing, and
    their median over a window nothing of a sudden turn."""
    demos, need = s.demos, WINDOW + 3
    episodes = np.flatnonzero(demos.lengths >= LASTS * need)
    if not s.continuous or not s.whole or len(episodes) < FEWEST:
        return
    firsts = [np.arange(a, b - need + 1, WINDOW // 2) for a, b in
              zip(demos.episode_starts[episodes], demos.episode_ends[episodes], strict=True)]
    windows = np.concatenate(firsts)
    third = np.abs(np.diff(s.acted, 3, axis=0))
    noise = np.stack([np.median(column[windows[:, None] + np.arange(WINDOW)], 1) for column in third.T], 1)
    low, usual, high = np.quantile(noise, (0.25, 0.5, 0.75), axis=0)
    steady = (high < STEADY * low) & (usual > 1e-3 * s.acted.std(0))
    if not steady.any():
        return
    trembles = (noise[:, steady] / usual[steady]).mean(1)
    of = np.split(trembles, np.cumsum([len(first) for first in firsts])[:-1])
    most = np.array([np.sort(one)[-LASTS] for one in of])
    shaky = (most > SHAKY) & (np.array([np.median(one) for one in of]) < OWN)
    if shaky.mean() < TREMBLING or (most < CALM).mean() < AT_REST:
        return
    found, rows = episodes[shaky], (trembles > SHAKY).mean()
    k = int(np.argmax(shaky))
    yield Finding("unsteady", f"{len(found)} of {demos.num_episodes} episodes ({some(found)}) tremble up to "
                              f"{most.max():.2g} times as much for a while ({100 * rows:.0f}% of all rows)",
                  "cut those rows out, or --drop them", **s.at(firsts[k][np.argmax(of[k] > SHAKY)]))


def hesitating(s: Subject) -> Iterator[Finding]:
    """Rows in which an episode hardly gets anywhere before it moves on; coming to rest where episodes end, or balancing
    there, is none of these."""
    demos = s.demos
    long = np.flatnonzero(demos.lengths >= 3 * AHEAD)
    if not s.whole or demos.obs.dtype.kind != "f" or len(long) < FEWEST or not s.moves.any():
        return
    points = s.obs[:, s.moves] / s.scale[s.moves]
    finals = points[demos.episode_ends[long] - 1]
    shares, firsts = np.zeros(len(long)), np.zeros(len(long), np.int64)
    for k, e in enumerate(long):
        shares[k], firsts[k] = _still(points[demos.episode_starts[e]:demos.episode_ends[e]], finals)
    low, high = np.quantile(shares, (0.5, 0.8))
    found = np.flatnonzero(shares > high + SHARE + 2 * (high - low))
    if len(found):
        e = long[found[0]]
        yield Finding("hesitating", f"stands still in {100 * shares[found[0]]:.0f}% of its rows, most others in "
                                    f"{number(100 * low)}% ({len(found)} such: {some(long[found])})",
                      "a clone that hesitates stays there: cut those rows out",
                      episode=int(e), row=int(demos.episode_starts[e] + firsts[found[0]]))


def _still(points: Array, finals: Array) -> tuple[float, int]:
    """The share of rows that get nowhere, before the last that do, and far from where any episode ends; and the first
    of them."""
    away = np.sqrt(np.square(points[AHEAD:] - points[:-AHEAD]).sum(1))
    fast = np.quantile(away, 0.95)
    if fast <= 0:
        return 0.0, 0
    slow = np.flatnonzero(away[:int(np.flatnonzero(away >= FAST * fast)[-1])] < SLOW * fast)
    if len(slow):
        there, ends = points[slow], np.square(finals).sum(1)
        rest = (np.square(there).sum(1)[:, None] + ends - 2 * there @ finals.T).min(1)
        slow = slow[rest > fast**2 / 4]
    return float(len(slow) / len(points)), int(slow[0]) if len(slow) else 0
