"""How close to the expert, and how sure: the interquartile mean, bootstrap intervals, normalised scores."""

from collections.abc import Callable

import numpy as np

from puffer_il.core.spec import Array

MAX_DRAWN = 1 << 20  # numbers resampled at a time, which bounds the memory

Statistic = Callable[..., Array]  # (array, axis) → the array without that axis, as np.mean


def iqm(scores: Array, axis: int | None = None) -> Array:
    """Mean of the middle half: the lowest and highest quarter, rounded down, are left out.

    Less noisy than the median, less swayed by outliers than the mean (Agarwal et al. 2021, arXiv:2108.13264).
    """
    ordered = np.sort(np.ravel(scores) if axis is None else np.moveaxis(np.asarray(scores), axis, -1))
    cut = ordered.shape[-1] // 4
    return ordered[..., cut:ordered.shape[-1] - cut].mean(-1)


def bootstrap_ci(values: Array, statistic: Statistic = np.mean, confidence: float = 0.95, samples: int = 2000,
                 rng: np.random.Generator | None = None) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic` over independent `values` (n,) (Efron 1979).

    Without `rng` the resampling is always the same, and so is the interval.
    """
    return stratified_bootstrap_ci(np.reshape(values, (-1, 1)), statistic, confidence, samples, rng)


def stratified_bootstrap_ci(scores: Array, statistic: Statistic = iqm, confidence: float = 0.95, samples: int = 2000,
                            rng: np.random.Generator | None = None) -> tuple[float, float]:
    """The same over `scores` (runs, tasks): runs are resampled within each task, the statistic taken over all of them.

    So the interval says how much the number would differ with other seeds on these tasks (Agarwal et al. 2021).
    """
    scores = np.asarray(scores, np.float64)
    rng = np.random.default_rng(0) if rng is None else rng
    chunk = max(1, MAX_DRAWN // scores.size)
    estimates = [statistic(_resample(scores, min(chunk, samples - done), rng), axis=1)
                 for done in range(0, samples, chunk)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(estimates), (tail, 1 - tail))
    return float(low), float(high)


def normalized(value: float, random: float | None, expert: float | None) -> float | None:
    """(value − random) / (expert − random): 0 plays like random, 1 like the expert.

    None where either is unknown or both are equal, since such a score would say nothing.
    """
    if random is None or expert is None or expert == random:
        return None
    return (value - random) / (expert - random)


def _resample(scores: Array, samples: int, rng: np.random.Generator) -> Array:
    """(samples, runs · tasks): each task's runs drawn with replacement."""
    drawn = rng.integers(len(scores), size=(samples, *scores.shape))
    return np.take_along_axis(scores[None], drawn, axis=1).reshape(samples, -1)
