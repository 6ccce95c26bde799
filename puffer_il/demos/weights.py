"""Demonstrations weighted by their quality, episode by episode, from what they returned.

    return   w = exp((R − R_best) / (temperature · sd of R))
    rank     w = exp((r − 1) / temperature), r from 0 for the worst episode to 1 for the best, ties in the middle

A temperature of 0 adapts: it is WARMTH, or as much more as leaves the weights worth at least LEAST_EPISODES episodes
(half, where there are few) and LEAST_SHARE of them all. Without this, the outlier of a heavy tail would be all that is
learned from. What weights are worth is Kish's effective sample size, (Σ w)² / Σ w², which rises with the temperature.

The best episode counts 1. These are softmax weights up to a factor, which changes nothing: what weighs rows brings them
to mean 1, and what draws them to sum 1. An equal return is an equal weight, whatever the length.
"""

from dataclasses import replace

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos

KINDS = ("file", "none", "return", "rank")
WARMTH = 0.2
LEAST_EPISODES, LEAST_SHARE = 5, 0.05


def weigh(demos: Demos, kind: str, temperature: float) -> Demos:
    """The demonstrations with the weights of their file ("file"), with none, or with those by "return" or "rank".

    InputError if the episodes' returns are not known.
    """
    if kind == "file":
        return demos
    if kind == "none":
        return replace(demos, weights=None)
    if demos.returns is None:
        raise InputError(f"demos {demos.source}: no rewards are stored, so demos.weighting = {kind!r} cannot tell good "
                         "episodes from bad ones; set it to 'none', or give the file an array `weights`")
    temperature = temperature or adapted(demos.returns, kind)
    each = episode_weights(demos.returns, kind, temperature)
    note = (f"weighted by {kind}: worth {worth(each):.1f} of {demos.num_episodes} equally weighted episodes "
            f"(temperature {temperature:.2g})")
    return replace(demos, weights=np.repeat(each, demos.lengths).astype(np.float32), notes=(*demos.notes, note))


def worth(weights: Array) -> float:
    """How many equally weighted episodes tell as much as those of `weights` (episodes,) do (Kish 1965)."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def adapted(returns: Array, kind: str) -> float:
    """The temperature for the returns (episodes,) that a temperature of 0 stands for."""
    least = max(min(LEAST_EPISODES, len(returns) / 2), LEAST_SHARE * len(returns))
    low = high = WARMTH
    while worth(episode_weights(returns, kind, high)) < least:
        low, high = high, 2 * high
    for _ in range(20 if high > low else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if worth(episode_weights(returns, kind, middle)) >= least else (middle, high)
    return high


def spread(weights: Array, count: int, start: float = 0.5) -> Array:
    """(count,) row numbers in order, each row as often as its share of `weights` (n,) says, up to one: systematic
    sampling, from `start` in [0, 1)."""
    total = np.cumsum(weights, dtype=np.float64)
    return np.searchsorted(total / total[-1], (np.arange(count) + start) / count, side="right")


def episode_weights(returns: Array, kind: str, temperature: float) -> Array:
    """(episodes,) float64 in (0, 1] for the returns (episodes,), by "return" or "rank"; `temperature` > 0."""
    if np.ptp(returns) == 0:
        return np.ones(len(returns))
    if kind == "return":
        height = (returns - returns.max()) / returns.std()
    else:
        places = ranks(returns)
        height = (places - places.max()) / np.ptp(places)
    return np.exp(np.maximum(height / temperature, -80))  # not less: a float32 must not become 0


def ranks(values: Array) -> Array:
    """(n,) float64 places from 0 for the lowest of `values` (n,); equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    return (below + (counts - 1) / 2)[inverse]
