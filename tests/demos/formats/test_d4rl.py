"""D4RL's keys in an .npz, and Stable-Baselines 2's expert files, which have no final observations."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos

LENGTHS = (3, 1, 4)
STARTS, N = np.array([0, 3, 4]), 8
OBS = np.arange(N, dtype=np.float64)[:, None] * 2
LAST = np.array([2, 3, 7])


def flags(*rows):
    array = np.zeros(N, bool)
    array[list(rows)] = True
    return array


def write(path, **changes):
    arrays = {"observations": OBS, "actions": np.arange(N) % 2, "next_observations": OBS + 1, "rewards": np.ones(N),
              "terminals": flags(2), "timeouts": flags(3, 7)}
    np.savez(path, **{key: array for key, array in (arrays | changes).items() if array is not None})
    return path


def test_d4rl_tells_both_ends_apart(tmp_path):
    demos = read_demos(write(tmp_path / "d.npz"))
    assert demos.episode_starts.tolist() == [0, 3, 4] and demos.returns.tolist() == [3, 1, 4]
    assert demos.terminated.tolist() == [True, False, False] and demos.truncated.tolist() == [False, True, True]
    np.testing.assert_array_equal(demos.next_obs, demos.obs + 1)


def test_minaris_words_are_read_and_a_termination_goes_before_a_time_limit(tmp_path):
    demos = read_demos(write(tmp_path / "d.npz", terminals=None, timeouts=None, terminations=flags(2, 7),
                             truncations=flags(3, 7), info=np.zeros(N)))
    assert demos.terminated.tolist() == [True, False, True] and demos.truncated.tolist() == [False, True, False]
    assert demos.notes == ("ignored info: not part of the format",)


def test_one_flag_may_mean_a_time_limit(tmp_path):
    demos = read_demos(write(tmp_path / "d.npz", terminals=None, timeouts=None, dones=flags(2, 3, 7)), 4)
    assert demos.terminated.tolist() == [True, True, False] and demos.truncated.tolist() == [False, False, True]


def test_without_successors_the_last_row_of_an_episode_is_left_out(tmp_path):
    demos = read_demos(write(tmp_path / "d.npz", next_observations=None))
    assert demos.obs[:, 0].tolist() == [0, 2, 8, 10, 12] and demos.next_obs[:, 0].tolist() == [2, 4, 10, 12, 14]
    assert demos.episode_starts.tolist() == [0, 2] and demos.returns.tolist() == [3, 4]
    assert not (demos.terminations | demos.truncations).any()
    assert "the last row of each of 3 episodes is left out" in demos.notes[-1]


@pytest.mark.parametrize(("changes", "message"), [
    ({"terminals": None, "timeouts": None}, "its 8 rows cannot be told apart into episodes"),
    ({"terminals": flags(2)[:5]}, "terminals has 5 rows but there are 8 observations"),
    ({"next_observations": None, "rewards": np.ones(3)}, "rewards has 3 rows but there are 8"),
    ({"next_observations": None, "terminals": np.ones(N, bool)}, "every episode is one step long"),
])
def test_what_is_missing_is_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_demos(write(tmp_path / "d.npz", **changes))


def sb2(path, **changes):
    arrays = {"obs": OBS, "actions": np.arange(N)[:, None] % 2, "rewards": np.ones(N),
              "episode_starts": flags(*STARTS), "episode_returns": np.array([3.0, 1.0, 4.0])}
    np.savez(path, **(arrays | changes))
    return path


def test_stable_baselines_2_flags_the_first_row_of_each_episode(tmp_path):
    demos = read_demos(sb2(tmp_path / "d.npz"))
    assert demos.obs[:, 0].tolist() == [0, 2, 8, 10, 12] and demos.next_obs[:, 0].tolist() == [2, 4, 10, 12, 14]
    assert demos.episode_starts.tolist() == [0, 2] and demos.returns.tolist() == [3, 4]
    assert demos.notes[0] == "the file does not say how episodes end"


def test_flags_may_tell_where_episodes_of_our_own_format_begin(tmp_path):
    np.savez(tmp_path / "d.npz", obs=OBS, actions=np.arange(N) % 2, next_obs=OBS + 1, terminations=flags(2),
             truncations=flags(3, 7), episode_starts=flags(*STARTS))
    assert read_demos(tmp_path / "d.npz").episode_starts.tolist() == [0, 3, 4]
