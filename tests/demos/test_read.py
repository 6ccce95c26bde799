"""What is read: the format is told from the content, in a file and in memory."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import load_demos, read_demos
from puffer_il.demos.formats import formats
from puffer_il.demos.kinds import KINDS, kinds_of
from tests.support.demos import make_demos, same_demos, write_cs285, write_imitation, write_ours


def test_every_module_of_the_folder_is_a_format_with_keys_of_its_own():
    assert set(formats()) >= {"cs285", "d4rl", "imitation", "imitation_folder", "minari", "puffer_il",
                              "stable_baselines2"}
    assert not any(module.MARKS and kinds_of(module) for module in formats().values())
    assert all(set(kinds_of(module)) <= set(KINDS) for module in formats().values())
    assert all(hasattr(module, "fits") or hasattr(module, "FOLDER") for module in formats().values()
               if kinds_of(module))
    marks = [(set(keys), module) for module in formats().values() for keys in module.MARKS]
    assert not any(a == b and one is not other for a, one in marks for b, other in marks)  # the longest is taken
    assert all(callable(module.read) for module in formats().values())


def test_named_arrays_are_read_like_a_file(tmp_path):
    demos = make_demos(continuous=True)
    demos.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        arrays = {key: file[key] for key in file.files}
    read = read_demos(arrays)
    same_demos(read, demos)
    assert read.source == "arrays"
    assert arrays["terminations"].flags.writeable, "the caller's own arrays stay theirs"


def test_a_tuple_of_columns_is_cut_into_episodes_after_each_end():
    demos = make_demos()
    columns = (demos.obs, demos.actions, demos.next_obs, demos.terminations, demos.truncations, demos.rewards)
    read = read_demos(columns)
    assert np.array_equal(read.episode_starts, demos.episode_starts) and len(read.episode_starts) > 1
    same_demos(read, demos)
    assert read_demos(columns[:5]).rewards is None


def test_lists_and_other_formats_in_memory_are_read_too():
    demos = read_demos({"obs": [[0.0], [1.0], [2.0], [5.0], [6.0]], "acts": [0, 1, 1], "indices": [2],
                        "terminal": [True, False]})
    assert demos.lengths.tolist() == [2, 1] and demos.next_obs[:, 0].tolist() == [1, 2, 6]


def test_demos_are_their_own_source(discrete_spec):
    demos = make_demos()
    assert read_demos(demos) is demos
    assert load_demos(demos, discrete_spec, episodes=2).num_episodes == 2


@pytest.mark.parametrize(("arrays", "message"), [
    ({}, "demos arrays: holds nothing, which matches no known format"),
    ({"obs": [[1, 2], [3]], "actions": [0, 1]}, "demos arrays: obs is not an array"),
    ({"obs": [[1, 2], [3, 4]], "actions": [0, 1]}, "demos arrays: its 2 rows cannot be told apart"),
    (([[1.0]], [0], [[2.0]]), "demos arrays: its 1 rows cannot be told apart"),
    (([[1.0]], [0], [[2.0]], [True, False], [False]), "terminations has 2 rows but obs has 1"),
    ({"obs": [[1, 2]], "episode_starts": ["a"]}, "episode_starts has dtype <U1"),
    (([[]], [0], [[]], [True], [False]), r"obs has shape \(1, 0\): its rows hold no numbers"),
])
def test_arrays_that_are_no_demonstrations_are_refused_by_name(arrays, message):
    with pytest.raises(InputError, match=message) as error:
        read_demos(arrays)
    assert "\n" not in str(error.value)


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
def test_inconsistent_files_of_others_are_refused(tmp_path, writer, changes, message):
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
