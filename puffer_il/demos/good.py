"""Good demonstrations among mixed ones: which are known to be good, and which rows count once a classifier has said of
every row how much it is like them.

Positive-unlabelled learning (Elkan and Noto 2008; for imitation Xu et al. 2022, arXiv:2207.10050, whose discriminator
weighs rows of mixed demonstrations): some episodes are known to be good, and of the others nobody knows. The
classifier's logit is log p_good(s, a) − log p_rest(s, a); one row says little, since good and bad policies share most
states, so that logits are averaged over the `WINDOW` steps around each, and a row counts where that is above 0.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import PER_EPISODE, PER_ROW, WHOLE, Demos

WINDOW = 101  # steps; who acts, and how well, seldom changes within them
Score = Callable[[Demos, Array], Array]  # demonstrations, (episodes,) bool: known to be good → logits (n,)


def mark_good(demos: Demos, good: Demos | None, share: float) -> tuple[Demos, Array]:
    """The demonstrations, behind `good` ones if those are given; and (episodes,) bool, which are known to be good:
    these, or else the share of the episodes with the highest returns, at least one. InputError without returns."""
    if good is not None:
        both = join(good, demos)
        return both, np.arange(both.num_episodes) < good.num_episodes
    if demos.returns is None:
        raise InputError(f"demos {demos.source}: no rewards are stored, so demos.weighting = 'classifier' knows no "
                         "good episodes; name a file of some in demos.good")
    known = np.zeros(demos.num_episodes, bool)
    known[np.argsort(-demos.returns, kind="stable")[:max(1, round(share * demos.num_episodes))]] = True
    return demos, known


def weigh_by_score(demos: Demos, known: Array, score: Score) -> Demos:
    """Weight 1 for the rows of episodes known (episodes,) to be good and for those that `score` finds like them, 0 for
    the others; episodes without any such row are left out."""
    if known.all():
        return replace(demos, notes=(*demos.notes, "weighted by classifier: all episodes are known to be good"))
    logits = smooth(score(demos, known), demos.episode_starts, demos.episode_ends)
    weights = (np.repeat(known, demos.lengths) | (logits > 0)).astype(np.float32)
    some = np.add.reduceat(weights, demos.episode_starts) > 0
    note = (f"weighted by classifier: {known.sum()} episodes are known to be good, and {int(weights.sum()):,} of "
            f"{len(demos):,} transitions count, of {some.sum()} of {demos.num_episodes} episodes")
    kept = take_episodes(replace(demos, weights=weights, notes=(*demos.notes, note)), some)
    assert kept.weights is not None
    return replace(kept, weights=None) if kept.weights.all() else kept


def smooth(values: Array, starts: Array, ends: Array) -> Array:
    """(n,) the mean of `values` (n,) over the WINDOW rows around each, as far as its episode goes."""
    half, out = WINDOW // 2, np.empty(len(values))
    for start, end in zip(starts, ends, strict=True):
        total, step = np.concatenate(([0.0], np.cumsum(values[start:end]))), np.arange(end - start)
        low, high = np.maximum(0, step - half), np.minimum(end - start, step + half + 1)
        out[start:end] = (total[high] - total[low]) / (high - low)
    return out


def take_episodes(demos: Demos, chosen: Array) -> Demos:
    """Only the episodes `chosen` (episodes,) bool."""
    rows, lengths = np.repeat(chosen, demos.lengths), demos.lengths[chosen]
    arrays = {name: array[rows] for name in PER_ROW if (array := getattr(demos, name)) is not None}
    whole = {name: array[chosen] for name in PER_EPISODE if (array := getattr(demos, name)) is not None}
    return replace(demos, **arrays, **whole, episode_starts=np.cumsum(lengths) - lengths)


def join(first: Demos, second: Demos) -> Demos:
    """The episodes of both, without what only one of them holds; InputError if their rows differ in kind."""
    arrays: dict[str, Any] = {}
    for name in PER_ROW:
        a, b = getattr(first, name), getattr(second, name)
        if a is not None and b is not None and (a.shape[1:] != b.shape[1:] or a.dtype != b.dtype):
            raise InputError(f"demos {first.source} and {second.source}: {name} are {a.dtype} {a.shape[1:]} and "
                             f"{b.dtype} {b.shape[1:]}; give demonstrations of the same environment")
        arrays[name] = None if a is None or b is None else np.concatenate((a, b))
    if first.episode_lengths is not None or second.episode_lengths is not None:
        for name, whole in zip(WHOLE, ("returns", "whole_lengths", "terminated", "truncated"), strict=True):
            a, b = getattr(first, whole), getattr(second, whole)
            arrays[name] = None if a is None or b is None else np.concatenate((a, b))
    if first.episode_seeds is not None and second.episode_seeds is not None:
        arrays["episode_seeds"] = np.concatenate((first.episode_seeds, second.episode_seeds))
    starts = np.concatenate((first.episode_starts, second.episode_starts + len(first)))
    return Demos(**arrays, episode_starts=starts, source=f"{first.source} and {second.source}",
                 pictures=first.pictures, notes=(*first.notes, *second.notes))
