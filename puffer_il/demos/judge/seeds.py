"""Episodes whose seeds are stored: the environment is reset with them and given the recorded actions, one after the
other. That needs no state, and works in any environment that draws its chance from its seed.

Small differences grow from step to step, so only the first steps count; another version of the environment may begin
elsewhere, of which nothing is said.
"""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject

EPISODES, STEPS = 20, 20  # that are played
FEWEST = 3  # steps that must have been played of an episode
NEAR = 1e-2  # of the usual change of a number from row to row
MOST = 0.9  # of the rows that must be explained


def repeated(s: Subject) -> Iterator[Finding]:
    demos, spec, world = s.demos, s.spec, s.world
    if world is None or spec is None or demos.episode_seeds is None or demos.actions is None or not s.whole:
        return
    if demos.obs.shape[1:] != spec.obs_shape or not s.obs.shape[1]:
        return
    if demos.actions.shape[1] not in (spec.action.dim, spec.action.width):
        return
    actions = spec.action.chosen(demos.actions)
    own, late, early, firsts = list[float](), list[float](), list[float](), list[int]()
    for e in range(min(demos.num_episodes, EPISODES)):
        first, last = int(demos.episode_starts[e]), int(min(demos.episode_ends[e], demos.episode_starts[e] + STEPS))
        rows, seed = np.arange(first, last), int(demos.episode_seeds[e])
        played, again = (world.from_seed(seed, actions[rows]) for _ in range(2))
        if played is None or again is None or not np.array_equal(played, again):
            return  # it cannot be asked, or is random beyond its seed
        shown = s.numbers(played)
        count = min(len(shown), len(rows))
        if count < FEWEST:
            continue
        own.append(_same(s, rows[1:count], shown[1:count]))
        late.append(_same(s, rows[2:count], shown[1:count - 1]))
        ahead = world.from_seed(seed, actions[rows[1:]])
        early.append(0.0 if ahead is None else _same(s, rows[1:count], s.numbers(ahead)[1:count]))
        firsts.append(first if _same(s, rows[:1], shown[:1]) else -1)
    if not own or np.mean(own) >= MOST:
        return
    where = s.at(max(firsts[0], 0))
    if np.mean(late) >= MOST:
        yield Finding("late-frames", "played from its seed, an episode is a row ahead "
                                     f"({100 * np.mean(late):.0f}% of the rows): observations come one row late",
                      "pair them anew with demos edit --shift 1", **where)
    elif np.mean(early) >= MOST:
        yield Finding("early-frames", "played from its seed, an episode is a row behind "
                                      f"({100 * np.mean(early):.0f}% of the rows): actions come one row late",
                      "pair them anew with demos edit --shift -1", **where)
    elif np.mean(np.array(firsts) >= 0) >= MOST:  # the same environment, as it begins where it has begun
        worst = int(np.argmin(own))
        yield Finding("unrepeated", "played from its seed, an episode goes elsewhere "
                                    f"({100 * (1 - np.mean(own)):.0f}% of its first {STEPS} rows)",
                      "of other episodes, or of other parameters: give --env.kwargs",
                      **s.at(int(demos.episode_starts[worst])))


def _same(s: Subject, rows: Array, shown: Array) -> float:
    """Share of rows whose observation is `shown` (k, columns), as far as that goes."""
    count = min(len(rows), len(shown))
    if not count:
        return 0.0
    usual = np.abs(s.next_obs - s.obs).mean(0)
    slack = NEAR * usual + 1e-5 * np.abs(s.obs).max(0) + 1e-7
    return float((np.abs(s.obs[rows[:count]] - shown[:count]) <= slack).all(1).mean())
