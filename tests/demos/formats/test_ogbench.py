"""OGBench's npz: what its own loader makes of the files is what is read."""

import numpy as np
import pytest

from puffer_il.demos import read_demos

OBS = np.array([[e, k] for e, n in ((0, 4), (1, 3)) for k in range(n)], np.float32)  # T + 1 rows each
ENDS = np.array([0, 0, 0, 1, 0, 0, 1])


def save(tmp_path, **changes):
    arrays = {"observations": OBS, "actions": np.arange(14.0).reshape(7, 2), "terminals": ENDS} | changes
    np.savez(tmp_path / "d.npz", **{key: array for key, array in arrays.items() if array is not None})
    return tmp_path / "d.npz"


def test_terminals_end_trajectories_and_the_last_action_is_not_taken(tmp_path):
    demos = read_demos(save(tmp_path, qpos=np.zeros((7, 3))))
    assert demos.obs.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]] and demos.next_obs[:, 1].tolist() == [
        1, 2, 3, 1, 2]
    assert demos.actions[:, 0].tolist() == [0, 2, 4, 8, 10] and demos.episode_starts.tolist() == [0, 3]
    assert demos.truncated.all() and not demos.terminated.any()
    assert demos.notes[0].startswith("terminals end trajectories, as in OGBench: none counts as a termination")
    assert demos.notes[1] == "ignored qpos: not part of the observations"


def test_masks_say_where_the_task_was_done(tmp_path):
    demos = read_demos(save(tmp_path, masks=np.array([1, 0, 1, 1, 1, 0, 1]), rewards=-np.ones(7)))
    assert demos.terminated.tolist() == [False, True] and demos.truncated.tolist() == [True, False]
    assert demos.notes[0] == "masks say in 1 rows that the task was done, after which the trajectory goes on"
    assert demos.rewards.tolist() == [-1] * 5


def test_compact_and_regular_data_sets_give_the_same_transitions(tmp_path):
    raw = read_demos(save(tmp_path))
    compact = read_demos(save(tmp_path, terminals=np.array([0, 0, 1, 1, 0, 1, 1]), valids=1 - ENDS))
    keep = ENDS == 0
    regular = read_demos(save(tmp_path, observations=OBS[keep], next_observations=OBS[1:][keep[:-1]], actions=np.arange(
        14.0).reshape(7, 2)[keep], terminals=np.array([0, 0, 1, 0, 1]), masks=np.ones(5)))
    for other in (compact, regular):
        np.testing.assert_array_equal(other.obs, raw.obs)
        np.testing.assert_array_equal(other.next_obs, raw.next_obs)
        np.testing.assert_array_equal(other.actions, raw.actions)
        assert other.truncated.all()


def test_rewards_without_masks_are_d4rls(tmp_path):
    demos = read_demos(save(tmp_path, rewards=np.ones(7), next_observations=OBS + 1))
    assert len(demos) == 7 and demos.terminated.all()
    assert len(read_demos(save(tmp_path, next_observations=OBS + 1), format="d4rl")) == 7


@pytest.mark.parametrize("compact", [False, True])
def test_ogbenchs_own_loader_gives_the_same(tmp_path, compact):
    utils = pytest.importorskip("ogbench.utils", reason="needs ogbench")
    path = save(tmp_path)
    own, demos = utils.load_dataset(str(path), compact_dataset=compact), read_demos(path)
    rows = own["valids"] > 0 if compact else np.ones(len(own["observations"]), bool)
    np.testing.assert_array_equal(demos.obs, own["observations"][rows])
    np.testing.assert_array_equal(demos.actions, own["actions"][rows])
    if not compact:
        np.testing.assert_array_equal(demos.next_obs, own["next_observations"])
