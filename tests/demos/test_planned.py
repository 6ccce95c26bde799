"""Rows that a reader arranged by their numbers: at once and part by part they are the rows of the file, in whatever
pieces that is read."""

import numpy as np
import pytest

from puffer_il.demos.build import build_demos
from puffer_il.demos.planned import Planned, numbers_of
from puffer_il.demos.rows import Lazy, Successors

LENGTHS = (4, 2, 5, 3)  # rows of episodes in the file, the final observation of each among them
N = sum(LENGTHS)
ROWS = np.stack([np.arange(N), 100 + np.arange(N)], 1).astype(np.float32)


def lazy(rows, piece):
    return Lazy(rows.shape, rows.dtype, lambda: (rows[k:k + piece] for k in range(0, len(rows), piece)))


def planned(order, piece, own_successors):
    ends = np.cumsum(LENGTHS)
    episodes = [np.arange(ends[k] - LENGTHS[k], ends[k]) for k in order]
    obs, following = (np.concatenate([one[part] for one in episodes])
                      for part in (slice(None, -1), slice(1, None)))
    last = np.cumsum([len(one) - 1 for one in episodes]) - 1
    ended = np.isin(np.arange(len(obs)), last)
    plan = build_demos("x", obs=numbers_of(N)[obs], next_obs=numbers_of(N, N)[obs] if own_successors else numbers_of(
        N)[following], actions=np.zeros((len(obs), 1), np.int32), terminations=ended, truncations=~ended & False,
        episode_starts=np.append(0, last[:-1] + 1))
    after = -ROWS if own_successors else None
    return (Planned(plan, lazy(ROWS, piece), None if after is None else lazy(after, piece)), ROWS[obs],
            ROWS[following] if after is None else after[obs])


@pytest.mark.parametrize("own_successors", [False, True])
@pytest.mark.parametrize("piece", [1, 3, 100])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_rows_are_those_of_the_file_at_once_and_part_by_part(order, piece, own_successors):
    found, obs, following = planned(order, piece, own_successors)
    whole, parts = found.whole(), list(found.parts(4 * ROWS[:1].nbytes))
    assert len(parts) == (3 if order == (0, 1, 2, 3) else 1)
    assert isinstance(whole.next_obs, Successors) != own_successors
    for made in ([whole], parts):
        np.testing.assert_array_equal(np.concatenate([one.obs for one in made]), obs)
        np.testing.assert_array_equal(np.concatenate([np.asarray(one.next_obs) for one in made]), following)
    assert [one.lengths.tolist() for one in parts] == (
        [[3, 1], [4], [2]] if len(parts) == 3 else [[LENGTHS[k] - 1 for k in order]])
