"""What is read: the format is told from the content, in a file and in memory."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import load_demos, read_demos
from puffer_il.demos.formats import formats


def test_every_module_of_the_folder_is_a_format_with_keys_of_its_own():
    assert set(formats()) == {"cs285", "imitation", "minari", "puffer_il"}
    marks = [set(keys) for module in formats().values() for keys in module.MARKS]
    assert not any(a < b for a in marks for b in marks)
    assert all(callable(module.read) for module in formats().values())


def test_named_arrays_are_read_like_a_file(tmp_path, make_demos, same):
    demos = make_demos(continuous=True)
    demos.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        arrays = {key: file[key] for key in file.files}
    read = read_demos(arrays)
    same(read, demos)
    assert read.source == "arrays"
    assert arrays["terminations"].flags.writeable, "the caller's own arrays stay theirs"


def test_a_tuple_of_columns_is_cut_into_episodes_after_each_end(make_demos, same):
    demos = make_demos()
    columns = (demos.obs, demos.actions, demos.next_obs, demos.terminations, demos.truncations, demos.rewards)
    read = read_demos(columns)
    assert np.array_equal(read.episode_starts, demos.episode_starts) and len(read.episode_starts) > 1
    same(read, demos)
    assert read_demos(columns[:5]).rewards is None


def test_lists_and_other_formats_in_memory_are_read_too():
    demos = read_demos({"obs": [[0.0], [1.0], [2.0], [5.0], [6.0]], "acts": [0, 1, 1], "indices": [2],
                        "terminal": [True, False]})
    assert demos.lengths.tolist() == [2, 1] and demos.next_obs[:, 0].tolist() == [1, 2, 6]


def test_demos_are_their_own_source(make_demos, discrete_spec):
    demos = make_demos()
    assert read_demos(demos) is demos
    assert load_demos(demos, discrete_spec, episodes=2).num_episodes == 2


@pytest.mark.parametrize(("arrays", "message"), [
    ({}, "demos arrays: holds nothing, which matches no known format"),
    ({"obs": [[1, 2], [3]], "actions": [0, 1]}, "demos arrays: obs is not an array"),
    ({"obs": [[1, 2], [3, 4]], "actions": [0, 1]}, "demos arrays: has no array 'terminations', only actions, obs"),
    (([[1.0]], [0], [[2.0]]), "demos arrays: has no array 'terminations', only actions, next_obs, obs"),
    (([[1.0]], [0], [[2.0]], [True, False], [False]), "terminations has 2 rows but obs has 1"),
    ({"obs": [[1, 2]], "episode_starts": ["a"]}, "episode_starts has dtype <U1"),
])
def test_arrays_that_are_no_demonstrations_are_refused_by_name(arrays, message):
    with pytest.raises(InputError, match=message) as error:
        read_demos(arrays)
    assert "\n" not in str(error.value)
