"""How alike demonstrators act in like states of different episodes: what a clone has to go by.

    agreement = share of equal actions of a row and its nearest one in another episode, or for continuous actions
                1 − E|a − a'|² / (2 Var a), which is 0 where actions have nothing to do with the state

What is noisy, or seldom near, agrees less. Distances between images say nothing about what they show, so nothing is
measured there.
"""

from dataclasses import dataclass

import numpy as np

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.dataset import Demos

PROBES, NUMBERS = 1_000, 8_000_000  # rows asked for their neighbour; numbers of the rows that may be it
NEAREST = 0.1  # the share of the pairs that are nearest to each other, in which chance would show
CHANCE = 0.8  # agreement of those below which it is chance
SPREAD = 0.1  # difference of the halves' returns, by the largest return's size, that is worth a look
APART = 0.1  # by how much less the worse half agrees with the better one than that with itself, if it acts otherwise


@dataclass(frozen=True)
class Pairs:
    """n rows and the nearest row to each in another episode.

    mine, theirs  (n, dim) their actions
    distances     (n,) squared, in standard deviations of the observations
    variance      of all actions, summed over their dimensions
    """

    mine: Array
    theirs: Array
    distances: Array
    variance: float

    def agreement(self, discrete: bool) -> float:
        """At most 1; 0 or so by chance where actions are continuous."""
        if discrete:
            return float((self.mine == self.theirs).all(1).mean())
        error = np.square(self.mine - self.theirs).sum(1).mean()
        return float(1 - error / (2 * self.variance)) if self.variance > 0 else 1.0


def pairs_of(demos: Demos, spec: EnvSpec, asked: Array | None = None, answering: Array | None = None) -> Pairs | None:
    """Pairs from the episodes `asked` to the episodes `answering` (bool (num_episodes,), by default all); None where
    there are not two episodes, for images, and without actions.

    Some PROBES rows, drawn with a seed of their own, are compared with the nearest among as many rows as memory takes.
    """
    every = np.ones(demos.num_episodes, bool)
    asked, answering = every if asked is None else asked, every if answering is None else answering
    if demos.actions is None or demos.num_episodes < 2 or any(field.image for field in spec.obs_fields):
        return None
    rng, size = np.random.default_rng(0), int(np.prod(spec.obs_shape))
    known = _draw(rng, np.arange(len(demos)), max(PROBES, NUMBERS // size))
    episode = np.searchsorted(demos.episode_starts, known, side="right") - 1
    obs = demos.obs[known].reshape(len(known), -1).astype(np.float32)
    obs = (obs - obs.mean(0)) / (obs.std(0) + 1e-6)
    actions, squares = demos.actions[known].astype(np.float64), np.square(obs).sum(1)
    probes = _draw(rng, np.flatnonzero(asked[episode]), PROBES)
    silent = ~answering[episode]
    nearest, near = np.empty(len(probes), np.int64), np.empty(len(probes))
    for i, probe in enumerate(probes):
        distances = squares + squares[probe] - 2 * (obs @ obs[probe])
        distances[silent | (episode == episode[probe])] = np.inf
        nearest[i] = distances.argmin()
        near[i] = distances[nearest[i]]
    found = np.isfinite(near)
    if not found.any():
        return None
    return Pairs(actions[probes[found]], actions[nearest[found]], near[found], float(actions.var(0).sum()))


def agreement_of(demos: Demos, spec: EnvSpec) -> float | None:
    """See the top of this file; None where `pairs_of` finds none."""
    pairs = pairs_of(demos, spec)
    return None if pairs is None else pairs.agreement(spec.action.discrete)


def acts_by_chance(demos: Demos, spec: EnvSpec) -> bool:
    """True if discrete actions differ even in the states that are most alike, so that a greedy clone is not like it."""
    pairs = pairs_of(demos, spec) if spec.action.discrete else None
    if pairs is None:
        return False
    closest = pairs.distances <= np.quantile(pairs.distances, NEAREST)
    return Pairs(pairs.mine[closest], pairs.theirs[closest], pairs.distances[closest], 0.0).agreement(True) < CHANCE


def is_mixed(demos: Demos, spec: EnvSpec) -> bool:
    """True if returns are spread widely and the worse half of the episodes acts otherwise than the better half, which
    luck with the starting states does not."""
    returns = demos.returns
    if returns is None or demos.num_episodes < 4:
        return False
    better = returns > np.median(returns)
    if not better.any() or returns[better].mean() - returns[~better].mean() < SPREAD * np.abs(returns).max():
        return False
    own, other = pairs_of(demos, spec, better, better), pairs_of(demos, spec, better, ~better)
    discrete = spec.action.discrete
    return own is not None and other is not None and own.agreement(discrete) - other.agreement(discrete) > APART


def _draw(rng: np.random.Generator, rows: Array, count: int) -> Array:
    return rows if len(rows) <= count else rng.choice(rows, count, replace=False)
