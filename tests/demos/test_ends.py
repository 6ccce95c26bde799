"""One flag for both kinds of end: a time limit is told from a termination by the length."""

import pytest

from puffer_il.demos import read_demos
from tests.support.demos import write_imitation


@pytest.mark.parametrize(("lengths", "limit", "truncated"), [
    ([100, 100, 40], None, 2),  # the file shows a limit
    ([100, 40, 60], None, 0),  # a single one proves nothing
    ([100, 40, 60], 100, 1),  # unless the caller knows
    ([93, 93, 40], None, 0),  # no round number
    ([93, 93, 40], 93, 2),
    ([100, 100, 140], None, 0),  # longer ones exist
    ([100] * 2 + [5] * 19, None, 0),  # too few reach it
    ([100, 100, 40], 500, 2),  # recorded under a shorter limit than the environment's
    ([150, 150, 100], 100, 3),
])
def test_time_limits_become_truncations(tmp_path, lengths, limit, truncated):
    demos = read_demos(write_imitation(tmp_path / "x.npz", lengths, infos=None), limit)
    assert demos.truncated.sum() == truncated
    assert demos.terminated.sum() == len(lengths) - truncated
    assert bool(demos.notes) == bool(truncated)
    assert "truncated" in "".join(demos.notes) or not truncated


def test_unfinished_episodes_stay_open_and_the_limit_counts_whatever_the_flag(tmp_path):
    demos = read_demos(write_imitation(tmp_path / "x.npz", [7, 5], [False, False], infos=None), 7)
    assert demos.terminated.tolist() == [False, False]
    assert demos.truncated.tolist() == [True, False]
