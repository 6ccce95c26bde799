"""Do observations stand in the rows of the actions that were taken in them? What recorders get wrong is a frame that
comes one row late.

An action shows in the change that follows it. Where the change of some column is explained clearly better by the action
of the row before than by the row's own, and no column is the other way round, observations are likely late. "Explained"
is by a line (least squares), together with the observation itself.
"""

import math
from collections.abc import Iterator

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.rows import Successors

FEWEST, MOST = 100, 20_000  # rows that are looked at
CHOICES, COLUMNS = 32, 512  # more choices count as a number; wider observations (images) are left alone
CLEARLY = 0.5  # of the squared error that the other action leaves


def odd_timing(demos: Demos) -> Iterator[str]:
    """What looks late, a line each. Subsampled rows do not follow on one another, so they are left alone."""
    if demos.episode_lengths is not None:
        return
    first, before = demos.obs[demos.episode_starts[1:]], demos.final_obs[:-1]
    carried = (first == before).reshape(len(first), math.prod(first.shape[1:])).all(1)
    if len(first) > 1 and carried.mean() > 0.5 and (first != first[0]).any():
        yield (f"{carried.sum()} of {demos.num_episodes} episodes begin with the observation in which the one before "
               "ended; either they are pieces of one episode, or observations come one row late")
    if demos.actions is None:
        return
    own, previous = _errors(demos.obs, demos.next_obs, demos.actions, demos.episode_starts)
    late = np.flatnonzero(previous < CLEARLY * own)
    if len(late) and not (own < CLEARLY * previous).any():
        yield (f"the change of {len(late)} observation columns follows the action of the row before, not the row's "
               "own; observations come one row late, or actions take effect with a delay")


def _errors(obs: Array, next_obs: Array | Successors, actions: Array, starts: Array) -> tuple[Array, Array]:
    """(columns that move,) mean squared errors of the change, from the row's own action and from the one before."""
    if math.prod(obs.shape[1:]) > COLUMNS:
        return np.zeros(0), np.zeros(0)
    rows = np.setdiff1d(np.arange(min(len(obs), MOST)), starts)
    width = math.prod(obs.shape[1:])
    obs, next_obs = (array[rows].reshape(len(rows), width).astype(np.float64) for array in (obs, next_obs))
    change, scale = next_obs - obs, (next_obs - obs).std(0) if len(rows) else np.zeros(obs.shape[1])
    moves = scale > 1e-6 * np.abs(obs).max(initial=0)
    if len(rows) < FEWEST or not moves.any():
        return np.zeros(0), np.zeros(0)
    change = change[:, moves] / scale[moves]
    known = np.column_stack([np.ones(len(rows)), (obs - obs.mean(0)) / (obs.std(0) + 1e-9)])
    acted = _numbers(actions)

    def error(of: Array) -> Array:
        given = np.column_stack([known, acted[of]])
        return ((change - given @ np.linalg.lstsq(given, change, rcond=None)[0]) ** 2).mean(0)

    return error(rows), error(rows - 1)


def _numbers(actions: Array) -> Array:
    """Few choices one-hot, all else as it is."""
    if actions.dtype.kind == "f" or actions.min() < 0 or actions.max() >= CHOICES:
        return actions.astype(np.float64)
    return np.concatenate([np.eye(column.max() + 1)[column] for column in actions.T], 1)
