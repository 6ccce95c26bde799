"""Ends of episodes, and totals that a file tells of itself beside its rows."""

import math
from collections.abc import Iterator

import numpy as np

from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject, some
from puffer_il.demos.rows import Successors

LEAK = 4.0  # times what 99% of the steps stay below
MOST = 0.5  # of the episodes


def flags(s: Subject) -> Iterator[Finding]:
    demos = s.demos
    open_ones = np.flatnonzero(~(demos.terminated | demos.truncated))
    if len(open_ones):
        yield Finding("open", f"{len(open_ones)} of {demos.num_episodes} episodes neither terminate nor are truncated "
                              f"({some(open_ones)})", "they count as cut off; flag their ends if they terminated")
    lengths = demos.whole_lengths[demos.terminated]
    if len(lengths) > 2 and len(set(lengths.tolist())) == 1:
        yield Finding("time-limit", f"all {len(lengths)} terminated episodes are {lengths[0]} steps long",
                      f"a time limit makes truncations: name it with demos import --time-limit {lengths[0]}",
                      episode=int(np.flatnonzero(demos.terminated)[0]))


def successors(s: Subject) -> Iterator[Finding]:
    """Subsampled rows do not follow on one another, so they are left alone."""
    demos = s.demos
    if not s.whole or isinstance(demos.next_obs, Successors):
        return
    differ = demos.next_obs[s.inner] != demos.obs[s.inner + 1]
    broken = s.inner[differ.reshape(len(s.inner), math.prod(differ.shape[1:])).any(1)]
    if len(broken):
        yield Finding("successors", f"next_obs differs from the next row's obs in {len(broken)} rows, first in row "
                                    f"{broken[0]}", "episodes are split wrongly, or rows are missing",
                      **s.at(broken[0]))


def finals(s: Subject) -> Iterator[Finding]:
    """Last successors that are none: the first observation of the next episode, or the last observation again."""
    demos = s.demos
    if not s.whole or demos.num_episodes < 3 or not s.moves.any() or not len(s.inner):
        return
    last = demos.episode_ends - 1
    usual = np.quantile(np.abs(s.steps), 0.99, axis=0) + 1e-9
    sizes = (np.abs(s.next_obs[last] - s.obs[last]) / s.scale / usual)[:, s.moves]
    again = (sizes == 0).all(1)
    if again.mean() > MOST and (np.abs(s.steps).max(1) > 0).mean() > 1 - MOST / 10:
        yield Finding("final-again", f"{again.sum()} of {demos.num_episodes} episodes end with their last row's "
                                     "observation once more", "the true final one is missing: record what the last "
                      "step returned", **s.at(last[again][0]))
    leaks = (s.next_obs[last[:-1]] == s.obs[demos.episode_starts[1:]]).all(1) & (sizes[:-1].max(1) > LEAK)
    if leaks.mean() > MOST:
        yield Finding("reset-leak", f"{leaks.sum()} of {demos.num_episodes} episodes end with the first observation of "
                                    "the next", "the recorder reset too soon: record the final one, "
                                                "info['final_obs']", **s.at(last[:-1][leaks][0]))


def totals(s: Subject) -> Iterator[Finding]:
    """Lengths, returns and ends told for whole episodes, against the rows."""
    demos = s.demos
    if demos.episode_lengths is not None:
        less = np.flatnonzero(demos.episode_lengths < demos.lengths)
        if len(less):
            e = int(less[0])
            yield Finding("totals", f"episode_lengths says {demos.episode_lengths[e]} steps, but there are "
                                    f"{demos.lengths[e]} rows ({len(less)} episodes)",
                          "the rows count: correct episode_lengths, or leave it out", episode=e,
                          row=int(demos.episode_starts[e]))
    if demos.episode_returns is not None and demos.rewards is not None:
        sums = np.add.reduceat(demos.rewards, demos.episode_starts, dtype=np.float64)
        ended = demos.terminated | demos.truncated  # of the others the last rows may not be in the file
        whole = ended & (demos.lengths == demos.whole_lengths)
        # Logs lose the last row of an episode that is cut off, and with it one reward.
        slack = 1e-3 * (1 + np.abs(sums)) + np.where(demos.truncated, np.abs(demos.rewards).max(), 0)
        off = np.flatnonzero(whole & (np.abs(sums - demos.episode_returns) > slack))
        if len(off):
            e = int(off[0])
            yield Finding("totals", f"episode_returns says {demos.episode_returns[e]:.6g}, but its rewards add up to "
                                    f"{sums[e]:.6g} ({len(off)} episodes)",
                          "the rows count: correct episode_returns, or leave it out", episode=e,
                          row=int(demos.episode_starts[e]))
    for name, rows in (("episode_terminations", demos.terminations), ("episode_truncations", demos.truncations)):
        told = getattr(demos, name)
        if told is not None:
            off = np.flatnonzero(np.logical_or.reduceat(rows, demos.episode_starts) & ~told)
            if len(off):
                yield Finding("totals", f"{name} says that it does not end so, but a row does ({len(off)} episodes)",
                              f"the rows count: correct {name}, or leave it out", episode=int(off[0]),
                              row=int(demos.episode_ends[off[0]] - 1))


def rewards(s: Subject) -> Iterator[Finding]:
    demos = s.demos
    if demos.returns is None:
        yield Finding("no-rewards", "no rewards are stored", "a policy cannot be compared with the demonstrator's "
                                                             "return; demos edit --rewards env may add them")
    elif demos.rewards is not None and not demos.rewards.any():
        yield Finding("zero-rewards", f"all {len(demos)} rewards are 0", "a policy cannot be compared with the "
                      "demonstrator's return; demos edit --rewards env may give them")


def weights(s: Subject) -> Iterator[Finding]:
    from puffer_il.demos.weights import LEAST_EPISODES, worth

    demos = s.demos
    if demos.weights is None or demos.num_episodes < LEAST_EPISODES:
        return
    left = worth(demos.episode_weights)
    if left < LEAST_EPISODES / 2:
        yield Finding("weights", f"the weights leave {left:.1f} of {demos.num_episodes} equally weighted episodes",
                      "weigh less sharply, or ignore them with --demos.weighting none",
                      episode=int(demos.episode_weights.argmax()))
