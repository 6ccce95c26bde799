"""Some episodes of demonstrations, and some of their rows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.demos.dataset import PER_EPISODE, PER_ROW, Demos


def first_episodes(demos: Demos, count: int) -> Demos:
    """The first `count` episodes; if there are no more, all of them, with a note."""
    if count >= demos.num_episodes:
        fewer = (f"asked for {count} episodes, found {demos.num_episodes}",) if count > demos.num_episodes else ()
        return replace(demos, notes=demos.notes + fewer)
    return some_episodes(demos, 0, count)


def some_episodes(demos: Demos, first: int, last: int) -> Demos:
    """Those from number `first` to before number `last`."""
    rows = slice(demos.episode_starts[first], demos.episode_ends[last - 1])
    starts = demos.episode_starts[first:last] - rows.start
    return replace(demos, **_some(demos, PER_ROW, rows), **_some(demos, tuple(PER_EPISODE), slice(first, last)),
                   episode_starts=starts)


def stretches(demos: Demos, rows: float) -> Iterator[tuple[int, int]]:
    """Numbers (first, last), as of `some_episodes`, of episodes that hold at most so many rows together, or of a single
    longer one; all of them one after the other."""
    first, ends = 0, demos.episode_ends
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, demos.episode_starts[first] + rows, side="right")))
        yield first, last
        first = last


def first_rows(demos: Demos, count: int) -> Demos:
    """The first `count` transitions, unweighted, the last of them wherever its episode then is."""
    begun = demos.episode_starts < count
    return replace(demos, **{**_some(demos, PER_ROW, slice(count)), "weights": None},
                   **_some(demos, ("episode_starts", *PER_EPISODE), begun))


def subsample_rows(demos: Demos, every: int, seed: int | np.random.Generator = 0) -> Demos:
    """Every `every`-th transition of each episode from a random offset, as Ho & Ermon (2016) subsample theirs.

    A kept row stays a transition of its own with its true successor and its own end flag, so an end is flagged only
    where the last row was kept; whole returns, lengths and terminations are kept beside. An episode shorter than the
    offset would be lost, so offsets are drawn below its length.
    """
    rng = np.random.default_rng(seed)
    offsets = rng.integers(np.minimum(every, demos.lengths))
    kept = [np.arange(start + offset, end, every) for start, offset, end in
            zip(demos.episode_starts, offsets, demos.episode_ends, strict=True)]
    counts = np.array([len(rows) for rows in kept])
    note = f"every {every}th transition: {counts.sum()} of {len(demos)}"
    return replace(demos, **_some(demos, PER_ROW, np.concatenate(kept)), episode_starts=np.cumsum(counts) - counts,
                   episode_returns=demos.returns, episode_lengths=demos.whole_lengths,
                   episode_terminations=demos.terminated, episode_truncations=demos.truncated,
                   notes=(*demos.notes, note))


def _some(demos: Demos, names: tuple[str, ...], index: Array | slice) -> dict[str, Any]:
    """Some rows of the arrays `names`, None where there is none."""
    arrays = {name: getattr(demos, name) for name in names}
    return {name: None if array is None else array[index] for name, array in arrays.items()}
