"""Actuators that go numb: a column of actions that hardly trembles for a while in which the others move.

A stuck joint, or a channel that is mapped wrongly in one phase of a task, is commanded next to nothing there; the loss
falls all the same, because nothing is easy to learn. What is held at one value to the bit is meant to be, as a gripper
is, and what comes to rest gently passes through all sizes of change on its way, so that there is no gap between numb
and alive.
"""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject

WINDOW = 10  # rows, over which trembling is measured
LITTLE = 0.05  # of the column's standard deviation
GAP = 4.0  # times what it trembles while numb, below which it hardly ever trembles else
NARROW = 4.0  # times the numbest tenth of those windows tremble the least numb tenth: a floor of noise, and no decay
BETWEEN = 0.35  # as many windows as are numb may lie in the gap: those into which the beginning or the end falls
EPISODES, ROWS = 0.5, 0.05  # shares of them in which it must be numb: a rest of one's own is no fault
FEWEST = 8  # episodes


def numb(s: Subject) -> Iterator[Finding]:
    if not s.continuous or not s.whole or s.demos.num_episodes < FEWEST:
        return
    windows = _windows(s)
    if len(windows) < 2 * FEWEST:
        return
    spread = s.acted.std(0)
    tremble = s.acted[windows[:, None] + np.arange(WINDOW)].std(1)
    for column in map(int, np.flatnonzero(spread > 0)):
        own, others = tremble[:, column], np.delete(tremble / (spread + 1e-12), column, 1)
        seeds = own[(own < LITTLE * spread[column]) & (own > 1e-7 * spread[column])]
        if not len(seeds) or not others.shape[1] or (own == 0).mean() > ROWS:
            continue
        usual = float(np.median(seeds))
        few, alive = own < 2 * usual, own >= GAP * usual
        least, most = np.quantile(own[few], (0.1, 0.9))
        moving = (others[few].max(1) > LITTLE).mean() > 0.9
        where = np.unique(s.episode[windows[few]])
        if (moving and len(where) >= EPISODES * s.demos.num_episodes and few.mean() >= ROWS and most <= NARROW * least
                and alive.any() and len(own) - few.sum() - alive.sum() <= BETWEEN * few.sum()):
            row = windows[few][0]
            yield Finding("numb-action", f"action column {column} hardly moves in {100 * few.mean():.0f}% of the rows "
                                         f"({np.median(own[few]):.2g}, else {np.median(own[alive]):.2g}), while "
                                         f"others do ({len(where)} episodes)",
                          "was that actuator stuck, or mapped wrongly?", **s.at(row),
                          columns=(column,))


def _windows(s: Subject) -> Array:
    """The first row of each stretch of WINDOW rows within an episode, one after the other."""
    found = [np.arange(first, last - WINDOW + 1, WINDOW // 2) for first, last in
             zip(s.demos.episode_starts, s.demos.episode_ends, strict=True)]
    return np.concatenate(found)
