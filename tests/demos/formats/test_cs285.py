"""The npz of CS 285."""

import numpy as np
import pytest

from puffer_il.demos import read_demos
from tests.support.demos import write_cs285


def test_cs285_has_its_own_successors(tmp_path):
    demos = read_demos(write_cs285(tmp_path / "x.npz", [3, 4], action=np.full((7, 1), 0.5)), 4)
    np.testing.assert_array_equal(demos.next_obs, demos.obs + 2)
    assert demos.truncated.tolist() == [False, True]
    assert demos.terminated.tolist() == [True, False]
    assert demos.actions.dtype == np.float32


def test_cs285_episodes_may_begin_after_each_terminal(tmp_path):
    demos = read_demos(write_cs285(tmp_path / "x.npz", [3, 4], episode_starts=None))
    assert demos.episode_starts.tolist() == [0, 3]


@pytest.mark.parametrize(("name", "returns", "columns"), [("HalfCheetah", (4067.7, 4001.9), 17),
                                                          ("Hopper", (3717.2, 3717.9), 11)])
def test_the_real_cs285_files(test_data, name, returns, columns):
    demos = read_demos(test_data / "cs285_mujoco_v4" / f"{name}-v4.npz")
    assert demos.returns == pytest.approx(returns, abs=0.05)
    assert demos.truncated.tolist() == [True, True]
    assert demos.obs.shape == (2000, columns)
    inner = np.delete(np.arange(2000), [999, 1999])
    np.testing.assert_array_equal(demos.next_obs[inner], demos.obs[inner + 1])
