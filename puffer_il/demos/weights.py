"""Demonstrations weighted by their quality, episode by episode, from what they returned.

    return   w = exp((R − R_best) / (temperature · sd of R))
    rank     w = exp((r − 1) / temperature), r from 0 for the worst episode to 1 for the best, ties in the middle

The best episode counts 1. These are softmax weights up to a factor, which changes nothing: what weighs rows brings them
to mean 1, and what draws them to sum 1. An equal return is an equal weight, whatever the length.
"""

from dataclasses import replace

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos

KINDS = ("file", "none", "return", "rank")


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
    each = episode_weights(demos.returns, kind, temperature)
    share = each.sum() ** 2 / np.square(each).sum()
    note = f"weighted by {kind}: worth {share:.1f} of {demos.num_episodes} equally weighted episodes"
    return replace(demos, weights=np.repeat(each, demos.lengths).astype(np.float32), notes=(*demos.notes, note))


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
