"""The npz of the `imitation` package: what we read of it, and what it reads of ours."""

import numpy as np
import pytest

from puffer_il.demos import read_demos
from puffer_il.demos.formats import imitation
from tests.support.demos import make_demos, same_demos, write_imitation


def test_imitation_splits_off_the_final_observations(tmp_path):
    demos = read_demos(write_imitation(tmp_path / "x.npz", [3, 1, 2]))
    np.testing.assert_allclose(demos.obs[:, 0], [0, 0.001, 0.002, 1, 2, 2.001])
    np.testing.assert_allclose(demos.next_obs[:, 0], [0.001, 0.002, 0.003, 1.001, 2.001, 2.002])
    assert demos.episode_starts.tolist() == [0, 3, 4]
    assert demos.terminations.tolist() == [False, False, True, True, False, True]
    assert demos.actions.dtype == np.int32
    assert demos.actions[:, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert demos.returns.tolist() == [3, 1, 2]
    assert demos.notes == ("skipped infos, which would need unpickling",)


def test_imitation_without_rewards_and_with_an_empty_episode(tmp_path):
    demos = read_demos(write_imitation(tmp_path / "x.npz", [2, 0, 3], rews=None, infos=None))
    assert demos.rewards is None
    assert demos.lengths.tolist() == [2, 3]
    assert demos.obs[2, 0] == 2
    assert demos.notes == ("skipped 1 episodes without a step",)


@pytest.mark.parametrize("limit", [None, 500])
def test_the_real_cartpole_file(test_data, limit):
    demos = read_demos(test_data / "imitation_testdata" / "cartpole_0_final.npz", limit)
    assert (demos.num_episodes, len(demos)) == (57, 26964)
    assert demos.returns.mean() == pytest.approx(473.1, abs=0.05)
    assert (demos.returns.min(), demos.returns.max()) == (393, 500)
    assert (demos.terminated.sum(), demos.truncated.sum()) == (42, 15)
    # CartPole's own rule (|x| > 2.4, |θ| > 12°) agrees with what we took for a termination.
    final = demos.next_obs[demos.episode_ends - 1]
    fallen = (np.abs(final[:, 0]) > 2.4) | (np.abs(final[:, 2]) > np.deg2rad(12))
    np.testing.assert_array_equal(fallen, demos.terminated)
    assert any("infos" in note for note in demos.notes)
    assert any("15 of 57 episodes are 500 steps long" in note for note in demos.notes)


def test_the_real_pendulum_file(test_data):
    demos = read_demos(test_data / "imitation_testdata" / "pendulum_0_final.npz")
    assert demos.lengths.tolist() == [200] * 56
    assert demos.truncated.all()
    assert demos.returns.mean() == pytest.approx(-189.4, abs=0.05)
    assert demos.returns.std() == pytest.approx(129.6, abs=0.05)
    assert demos.actions.shape == (11200, 1)


def test_imitation_reads_its_own_format(tmp_path):
    demos = make_demos([3, 1, 4])
    imitation.write(tmp_path / "x.npz", demos)
    with np.load(tmp_path / "x.npz", allow_pickle=True) as data:  # as imitation.data.serialize.load does
        trajectories = len(data["indices"])
        obs = np.split(data["obs"], data["indices"] + np.arange(trajectories) + 1)
        acts, infos, rews = (np.split(data[key], data["indices"]) for key in ("acts", "infos", "rews"))
        terminal = data["terminal"]
    assert terminal.tolist() == [True, False, True]
    for i, (start, end) in enumerate(zip(demos.episode_starts, demos.episode_ends, strict=True)):
        np.testing.assert_array_equal(obs[i][:-1], demos.obs[start:end])
        np.testing.assert_array_equal(obs[i][1:], demos.next_obs[start:end])
        np.testing.assert_array_equal(acts[i], demos.actions[start:end, 0])
        np.testing.assert_array_equal(rews[i], demos.rewards[start:end])
        assert infos[i].tolist() == [{}] * (end - start)


@pytest.mark.parametrize("shape", [{}, {"continuous": True, "columns": 2}, {"columns": 3}, {"rewards": False}])
def test_imitation_gives_back_what_was_written(tmp_path, shape):
    demos = make_demos(ends="terminated", **shape)
    imitation.write(tmp_path / "x.npz", demos)
    same_demos(read_demos(tmp_path / "x.npz"), demos)


def test_the_real_cartpole_file_survives_a_round_trip(tmp_path, test_data):
    demos = read_demos(test_data / "imitation_testdata" / "cartpole_0_final.npz")
    imitation.write(tmp_path / "x.npz", demos)
    same_demos(read_demos(tmp_path / "x.npz"), demos)
