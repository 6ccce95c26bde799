"""Do observations stand in the rows of the actions that were taken in them? What recorders get wrong is a frame that
comes one row late.

An action shows in the change that follows it. Where the change of some column is explained clearly better by the action
of the row before than by the row's own, and no column is the other way round, observations are likely late; and the
other way round actions are. "Explained" is by a line (least squares), together with the observation itself. An
environment that is at hand says under random actions how they act, and then the line is drawn through its own steps: a
demonstrator's action follows from what it sees, and says less.
"""

import math
from collections.abc import Iterator

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject, one_hot

FEWEST, MOST = 100, 20_000  # rows that are looked at
CLEARLY = 0.5  # of the squared error that the other action leaves
PRACTICE = 2_000  # steps of the environment
TOLD = 0.9  # of the variance of a change, under random actions, that a line has to tell to be asked about others


def carried(s: Subject) -> Iterator[Finding]:
    """Episodes that begin where the one before ended."""
    demos = s.demos
    first, before = demos.obs[demos.episode_starts[1:]], demos.final_obs[:-1]
    same = (first == before).reshape(len(first), math.prod(first.shape[1:])).all(1)
    if s.whole and len(first) > 1 and same.mean() > 0.5 and (first != first[0]).any():
        yield Finding("carried", f"{same.sum()} of {demos.num_episodes} episodes begin where the one before ended",
                      "they are pieces of one episode, or observations come one row late (demos edit --shift 1)",
                      **s.at(demos.episode_starts[1:][same][0]))


def odd_timing(s: Subject) -> Iterator[Finding]:
    """Subsampled rows do not follow on one another, so they are left alone."""
    rows = s.inner[np.isin(s.inner - 1, s.inner)][:MOST]
    if len(rows) < FEWEST or not s.obs.shape[1] or not s.acted.shape[1]:
        return
    change = s.next_obs[rows] - s.obs[rows]
    moves = change.std(0) > 1e-6 * np.abs(s.obs).max(initial=0)
    if not moves.any():
        return
    change = (change / np.where(moves, change.std(0), 1))[:, moves]
    known = np.column_stack([np.ones(len(rows)), (s.obs[rows] - s.obs.mean(0)) / s.scale])

    def error(of: Array) -> Array:
        given = np.column_stack([known, s.acted[of]])
        return ((change - given @ np.linalg.lstsq(given, change, rcond=None)[0]) ** 2).mean(0)

    before, own = error(rows - 1), error(rows)
    place = s.at(rows[0])
    if (late := before < CLEARLY * own).any() and not (own < CLEARLY * before).any():
        yield Finding("late-frames", "observations follow the action of the row before, not their own "
                                     f"(columns: {late.sum()})",
                      "late by a row? demos edit --shift 1, unless actions act late", **place)
    elif s.world is not None and s.spec is not None and s.demos.obs.shape[1:] == s.spec.obs_shape:
        yield from _against(s, rows)


def _against(s: Subject, rows: Array) -> Iterator[Finding]:
    """The same with a line through the environment's own steps."""
    assert s.world is not None
    own = s.world.practice(PRACTICE)
    if len(own.obs) < FEWEST:
        return
    obs, change = s.numbers(own.obs), s.numbers(own.next_obs) - s.numbers(own.obs)
    acted = one_hot(np.concatenate([own.actions, s.demos.actions]))
    theirs, acted = acted[len(own.actions):], acted[:len(own.actions)]
    middle, scale = obs.mean(0), obs.std(0) + 1e-9

    def given(seen: Array, does: Array) -> Array:
        seen = (seen - middle) / scale
        return np.column_stack([np.ones(len(seen)), seen, does])

    line = np.linalg.lstsq(given(obs, acted), change, rcond=None)[0]
    left = np.square(change - given(obs, acted) @ line).mean(0) / (change.var(0) + 1e-12)
    fine = (left < 1 - TOLD) & (change.std(0) > 1e-9)
    if not fine.any():
        return
    recorded = (s.next_obs[rows] - s.obs[rows])[:, fine]
    errors = [np.square(recorded - (given(s.obs[rows], theirs[rows + lag]) @ line)[:, fine]).mean(0)
              for lag in (-1, 0, 1)]
    for lag, kind, what, remedy in (
            (0, "late-frames", "the row before's", "observations come one row late: demos edit --shift 1"),
            (2, "early-frames", "the next row's", "actions come one row late: demos edit --shift -1")):
        better = errors[lag] < CLEARLY * errors[1]
        if better.any() and not (errors[1] < CLEARLY * errors[lag]).any():
            yield Finding(kind, f"{better.sum()} obs columns follow {what} action, in the environment the row's own",
                          remedy, **s.at(rows[0]))
            return
