"""Other people's formats, on small files of our own and on the real ones."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos


def write_imitation(path, lengths, terminal=None, **changes):
    """A file as `imitation` writes it: observation k of episode e is e + k / 1000."""
    obs = np.concatenate([e + np.arange(n + 1) / 1000 for e, n in enumerate(lengths)])[:, None]
    n = sum(lengths)
    arrays = {"obs": obs, "acts": np.arange(n) % 2, "rews": np.ones(n), "indices": np.cumsum(lengths)[:-1],
              "terminal": np.ones(len(lengths), bool) if terminal is None else np.array(terminal),
              "infos": np.array([{}] * n, dtype=object)}
    np.savez(path, **{key: array for key, array in (arrays | changes).items() if array is not None})
    return path


def write_ours(path, lengths):
    n, starts = sum(lengths), np.cumsum([0, *lengths[:-1]])
    ends = np.zeros(n, bool)
    ends[-1] = True
    np.savez(path, obs=np.zeros((n, 2)), actions=np.zeros(n, int), final_obs=np.zeros((len(lengths), 2)), meta="{}",
             terminations=ends, truncations=~ends & False, episode_starts=starts, rewards=np.zeros(n),
             episode_returns=np.zeros(2), episode_lengths=np.array(lengths))
    return path


def write_cs285(path, lengths, **changes):
    n = sum(lengths)
    terminal = np.zeros(n, bool)
    terminal[np.cumsum(lengths) - 1] = True
    arrays = {"observation": np.arange(n * 2.0).reshape(n, 2), "action": np.zeros((n, 1)), "reward": np.ones(n),
              "next_observation": np.arange(n * 2.0).reshape(n, 2) + 2, "terminal": terminal,
              "episode_starts": np.cumsum([0, *lengths[:-1]])}
    np.savez(path, **{key: array for key, array in (arrays | changes).items() if array is not None})
    return path


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


def test_cs285_has_its_own_successors(tmp_path):
    demos = read_demos(write_cs285(tmp_path / "x.npz", [3, 4], action=np.full((7, 1), 0.5)), 4)
    np.testing.assert_array_equal(demos.next_obs, demos.obs + 2)
    assert demos.truncated.tolist() == [False, True]
    assert demos.terminated.tolist() == [True, False]
    assert demos.actions.dtype == np.float32


def test_cs285_episodes_may_begin_after_each_terminal(tmp_path):
    demos = read_demos(write_cs285(tmp_path / "x.npz", [3, 4], episode_starts=None))
    assert demos.episode_starts.tolist() == [0, 3]


@pytest.mark.parametrize(("writer", "changes", "message"), [
    (write_imitation, {"obs": np.zeros((7, 1))}, "obs has 7 rows .* need 8"),
    (write_imitation, {"terminal": np.ones(3, bool)}, "terminal 3"),
    (write_imitation, {"indices": np.array([9])}, "indices must rise between 0 and 6"),
    (write_imitation, {"indices": np.array([0.5])}, "indices must rise"),
    (write_imitation, {"indices": None}, "no array 'indices'"),
    (write_imitation, {"acts": np.zeros(6) * np.nan}, "actions is NaN"),
    (write_imitation, {"acts": np.float32(0)}, "acts is a single number"),
    (write_cs285, {"terminal": np.eye(1, 6, 2, bool)[0]}, "terminal is set in row 2, in the middle"),
    (write_cs285, {"episode_starts": np.array([0, 9])}, "episode_starts must rise"),
    (write_cs285, {"episode_starts": np.array([0, 4, 2])}, "episode_starts must rise"),
    (write_cs285, {"episode_starts": np.array([], int)}, "episode_starts must rise"),
    (write_cs285, {"terminal": np.array([], bool), "episode_starts": None}, "holds no transitions"),
    (write_imitation, {"acts": np.zeros(0), "obs": np.zeros((1, 1)), "terminal": np.ones(1),
                       "indices": np.zeros(0, int)}, "holds no transitions"),
    (write_cs285, {"next_observation": np.zeros((6, 3))}, r"next_obs has shape \(6, 3\) but obs \(6, 2\)"),
    (write_cs285, {"reward": np.zeros(5)}, "rewards has 5 rows but obs has 6"),
])
def test_inconsistent_files_are_refused(tmp_path, writer, changes, message):
    with pytest.raises(InputError, match=message) as error:
        read_demos(writer(tmp_path / "x.npz", [2, 4], **changes))
    assert "\n" not in str(error.value)


STRANGE = [np.array(3), np.array("x"), np.zeros(0), np.zeros((0, 2)), np.zeros((6, 0)), np.zeros((6, 2, 2)),
           np.arange(6), -np.arange(6), np.arange(6) * 1e300, np.full(6, 2**63, np.uint64), np.zeros(6, complex),
           np.array(["a"] * 6), np.zeros(6, "datetime64[s]"), np.zeros(6, [("a", "f4")]), np.ones(6, bool),
           np.zeros(6, np.float16), np.array([0, 2]), np.array([2, 0]), np.array([[0], [2]]), np.array([[0, 2]] * 6),
           np.array([0, np.nan])]


@pytest.mark.parametrize("writer", [write_imitation, write_cs285, write_ours])
def test_strange_arrays_give_one_line_or_demonstrations(tmp_path, writer):
    """Whatever one key of a file holds, the outcome is sound demonstrations or an InputError of one line."""
    with np.load(writer(tmp_path / "x.npz", [2, 4]), allow_pickle=True) as file:
        whole = {key: file[key] for key in file.files if key != "infos"}
    outcomes = []
    for key in whole:
        for strange in STRANGE:
            np.savez(tmp_path / "y.npz", **(whole | {key: strange}))
            try:
                demos = read_demos(tmp_path / "y.npz")
            except InputError as error:
                assert "\n" not in str(error)
                assert "y.npz" in str(error)
                outcomes.append(False)
            else:
                assert len(demos) == 6
                assert demos.lengths.sum() == 6
                assert np.isfinite(demos.actions).all()
                outcomes.append(True)
    assert any(outcomes)
    assert not all(outcomes)


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


@pytest.mark.parametrize(("name", "returns", "columns"), [("HalfCheetah", (4067.7, 4001.9), 17),
                                                          ("Hopper", (3717.2, 3717.9), 11)])
def test_the_real_cs285_files(test_data, name, returns, columns):
    demos = read_demos(test_data / "cs285_mujoco_v4" / f"{name}-v4.npz")
    assert demos.returns == pytest.approx(returns, abs=0.05)
    assert demos.truncated.tolist() == [True, True]
    assert demos.obs.shape == (2000, columns)
    inner = np.delete(np.arange(2000), [999, 1999])
    np.testing.assert_array_equal(demos.next_obs[inner], demos.obs[inner + 1])
