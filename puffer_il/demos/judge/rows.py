"""Single rows that do not belong: spikes, rows of zeros, jumps, rows in disorder."""

from collections.abc import Iterator

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject, runs

FEWEST = 100  # rows
SPIKE = 10.0  # times what 95% of the rows stay below, there and back again
JUMP = 4.0  # times what 99% of the steps stay below
SLOW = 0.2  # standard deviations that 99% of the steps of a slow number stay below
DISORDER = 0.7  # share of the variance that a shuffled recording would have from row to row
IDLE = 20  # rows
STILL = 0.02  # of the step that a tenth of the rows exceed
PADDED = 2  # episodes, from which on zeros at their ends are filling


def spikes(s: Subject) -> Iterator[Finding]:
    """A number that leaves its neighbours for one row and comes back: a bad reading, or a code for "missing"."""
    rows = s.inner[np.isin(s.inner + 1, s.inner)] + 1 if len(s.inner) else s.inner
    if len(rows) < FEWEST or not s.obs.shape[1]:
        return
    before, here, after = s.obs[rows - 1], s.obs[rows], s.obs[rows + 1]
    off, back = np.abs(here - (before + after) / 2), np.abs(after - before)
    usual = np.quantile(off, 0.95, axis=0)
    wrong = (off > SPIKE * usual) & (off > s.scale) & (back < off / 5) & (usual > 0)
    low, high = (end(here, 0, where=~wrong, initial=start) for end, start in ((np.min, np.inf), (np.max, -np.inf)))
    wrong &= (here < low) | (here > high)  # within its range it may well jump, such as to another car ahead
    for column in map(int, np.flatnonzero(wrong.any(0))):
        found = np.flatnonzero(wrong[:, column])
        row = rows[found[0]]
        yield Finding("spike", f"obs column {s.named([column])} jumps to {s.obs[row, column]:.4g} from "
                               f"{s.obs[row - 1, column]:.4g} and back (rows: {len(found)})",
                      "fill it from its neighbours, or leave the episode out (demos edit --drop)",
                      **s.at(row), columns=(int(column),))


def zeros(s: Subject) -> Iterator[Finding]:
    """Rows in which all numbers are 0: a sensor that was off, or an array that was filled up to the longest episode."""
    if s.obs.shape[1] < 2 or s.demos.obs.dtype.kind != "f" or s.moves.sum() < 2:
        return
    flags = (s.obs == 0).all(1)
    flags[s.demos.episode_starts] = False
    if not flags.any() or flags.mean() > 0.9:
        return
    stretches = runs(flags, s.episode)
    at_end = np.isin(stretches[:, 1], s.demos.episode_ends) & (stretches[:, 1] - stretches[:, 0] >= PADDED)
    first = stretches[0, 0]
    if at_end.sum() >= PADDED or (at_end.all() and len(stretches)):
        first = stretches[at_end][0, 0]
        yield Finding("padding", f"{at_end.sum()} episodes end in rows of zeros ({flags.sum()} rows), as filled-up "
                                 "arrays do",
                      "cut them off (demos edit --cut-idle), or give the true lengths", **s.at(first))
        return
    yield Finding("zeros", f"all observation columns are 0 (rows: {flags.sum()})",
                  "leave those episodes out (demos edit --drop), or repair the recording", **s.at(first))


def jumps(s: Subject) -> Iterator[Finding]:
    """Steps of slow numbers, such as positions, that are far larger than all others: in most of them at once, as where
    rows are missing, or to where episodes begin, as where two of them are one. A wall stops a single number."""
    if len(s.inner) < FEWEST or s.moves.sum() < 2:
        return
    sizes = np.abs(s.steps)
    usual = np.quantile(sizes, 0.99, axis=0)
    slow = (usual > 0) & (usual < SLOW)
    if not slow.any():
        return
    times = sizes[:, slow] / usual[slow]
    firsts = s.obs[s.demos.episode_starts]
    room = 0.1 * np.ptp(firsts, axis=0) + 1e-6 * s.scale
    begins = ((s.obs[s.inner + 1] >= firsts.min(0) - room) & (s.obs[s.inner + 1] <= firsts.max(0) + room)).all(1)
    far = times.max(1) > 3 * JUMP
    most = ((times > JUMP).mean(1) > 0.5) | (far & ((times > JUMP / 2).mean(1) >= 0.75))
    found = s.inner[(begins & far) | (most & (slow.sum() >= 2))]
    if len(found):
        yield Finding("jump", f"obs jumps by over {JUMP:g} times its largest usual step (rows: {len(found)})",
                      f"rows are missing, or two episodes are one: split them (demos edit --cut-at {found[0] + 1})",
                      **s.at(found[0]))


def disorder(s: Subject) -> Iterator[Finding]:
    """Rows that are no nearer to the next than to any other."""
    if len(s.inner) < FEWEST or s.demos.obs.dtype.kind != "f" or s.moves.sum() < 2:
        return
    share = np.square(s.steps[:, s.moves]).mean(0) / 2
    if np.median(share) < DISORDER or share.min() < DISORDER / 2 or _restless(s):
        return
    yield Finding("disorder", "rows are no nearer to the next row than to any other: the order of time is lost",
                  "record the rows in their order, episode by episode")


def _restless(s: Subject) -> bool:
    """Whether the environment itself is like that."""
    if s.world is None:
        return False
    own = s.world.practice(500)
    before, after = s.numbers(own.obs)[:, s.moves], s.numbers(own.next_obs)[:, s.moves]
    return bool(np.median(np.square(after - before).mean(0) / (2 * before.var(0) + 1e-12)) >= DISORDER / 2)


def idle(s: Subject) -> Iterator[Finding]:
    """Stretches in which nothing moves and the action stays. Standing still that is rewarded is no idleness."""
    flags = still(s)
    if flags.sum() < IDLE:
        return
    found = [(a, b) for a, b in runs(flags, s.episode) if b - a >= IDLE and not _pays(s, a, b)]
    if found:
        total, longest = sum(b - a for a, b in found), max(b - a for a, b in found)
        yield Finding("idle", f"nothing moves in {total} of {len(s.demos)} rows ({len(found)} stretches, up to "
                              f"{longest} rows)",
                      "a clone that stands still stays so: cut off idle ends (demos edit --cut-idle)",
                      **s.at(found[0][0]))


def still(s: Subject) -> Array:
    """(n,) bool, rows after which nothing has moved, and the action is the same."""
    actions, flags = s.demos.actions, np.zeros(len(s.demos), bool)
    if len(s.inner) < FEWEST or not s.moves.any() or actions is None:
        return flags
    sizes = np.abs(s.steps[:, s.moves])
    busy = np.quantile(sizes, 0.9, axis=0)
    held = np.abs(actions[s.inner + 1] - actions[s.inner]).max(1) <= 1e-3 * (1 + np.ptp(actions))
    flags[s.inner] = (sizes <= STILL * busy).all(1) & held
    return flags


def _pays(s: Subject, first: int, last: int) -> bool:
    rewards = s.demos.rewards
    if rewards is None or np.ptp(rewards) == 0:
        return False
    own = rewards[s.episode == s.episode[first]]
    return bool(rewards[first:last].mean() >= own.mean() and np.ptp(own) > 0)
