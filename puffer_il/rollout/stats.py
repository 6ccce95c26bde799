"""How close to the expert, and how sure: the interquartile mean, bootstrap intervals, normalised scores."""

from collections.abc import Callable

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.core.text import number

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


def mean_ci(values: Array, clusters: Array | None = None) -> tuple[float, float] | None:
    """95% interval of the mean of `values` (n,), those of one of the `clusters` (n,) int depending on each other, as
    agents of one episode do: whole clusters are drawn (Davison and Hinkley 1997, section 3.8). Values are independent
    without `clusters`. None where a single one tells nothing of the spread.
    """
    if clusters is None:
        return bootstrap_ci(values) if len(values) > 1 else None
    _, which = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    if len(sums) < 2:
        return None
    if (counts == counts[0]).all():
        return bootstrap_ci(sums / counts)

    def mean(drawn: Array, axis: int) -> Array:
        drawn = drawn.astype(np.int64)
        return sums[drawn].sum(axis) / counts[drawn].sum(axis)

    return bootstrap_ci(np.arange(len(sums)), mean)


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

    None where either is unknown, and where the expert is not better than random: such a score would say nothing, or
    the contrary (see `unscored`).
    """
    if random is None or expert is None or expert <= random:
        return None
    return (value - random) / (expert - random)


def unscored(random: float | None, expert: float | None) -> str:
    """Why there is no normalised score although both returns are known, a line; "" otherwise."""
    if random is None or expert is None or expert > random:
        return ""
    than = "the same as" if expert == random else "less than"
    return (f"no normalised score: the expert returns {number(expert)}, {than} a random policy ({number(random)}), so "
            "that 0 and 1 have no meaning; compare returns")


def _resample(scores: Array, samples: int, rng: np.random.Generator) -> Array:
    """(samples, runs · tasks): each task's runs drawn with replacement."""
    drawn = rng.integers(len(scores), size=(samples, *scores.shape))
    return np.take_along_axis(scores[None], drawn, axis=1).reshape(samples, -1)
