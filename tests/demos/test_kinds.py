"""A source's kind and format are told from its content; where that does not tell, the message says what would."""

import json

import h5py
import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.demos import load_demos, read_demos
from puffer_il.demos.kinds import kind_of
from tests.support.hdf5 import write_d3rlpy1, write_hdf5, write_robomimic


@pytest.mark.parametrize(("content", "kind"), [
    (b"PAR1\x15\x00", "parquet"), (b"\x93NUMPY\x01\x00v", "npy"), (b"\xef\xbb\xbfx,y\n1,2\n", "csv"),
    (b"t\tx\n0\t1\n", "csv"), (b'\n {"type": "SampleBatch"}\n', "json"), (b"[1, 2]", "json"), (b"PK\x03\x04", None),
    (b"\x80\x04\x95", None), (b"", None), (b"hello", None), ("é;x\n".encode("latin-1"), "csv"), (b"a,b\x00\n", None),
])
def test_the_content_tells_the_kind(tmp_path, content, kind):
    path = tmp_path / "x.hdf5"
    path.write_bytes(content)
    assert kind_of(path) == kind


def test_folders_and_hdf5_are_told_by_content_and_what_is_not_there_is_nothing(tmp_path):
    assert kind_of(tmp_path) == "folder" and kind_of(tmp_path / "absent") is None
    assert kind_of(write_d3rlpy1(tmp_path / "x.npz")) == "hdf5"
    with h5py.File(tmp_path / "y", "w", userblock_size=512):
        pass
    assert kind_of(tmp_path / "y") == "hdf5"


def both(path):
    """A file that two formats fit."""
    write_robomimic(path, [3, 2])
    with h5py.File(path, "a") as file, h5py.File(write_d3rlpy1(path.with_name("flat.h5"))) as flat:
        for name in flat:
            flat.copy(name, file)
    return path


def test_a_file_of_two_formats_asks_for_the_key_and_is_read_by_it(tmp_path, capsys):
    path = both(tmp_path / "x.h5")
    with pytest.raises(InputError, match=r"of the formats d3rlpy1 or robomimic; say which with --demos.format d3"):
        read_demos(path)
    assert read_demos(path, format="robomimic").lengths.tolist() == [3, 2]
    assert load_demos(path, None, format="d3rlpy1").lengths.tolist() == [2, 1]
    assert main(["demos", "info", str(path), "--json", "--demos.format", "d3rlpy1"]) == 0
    assert json.loads(capsys.readouterr().out)["transitions"] == 3
    assert main(["demos", "import", str(path), str(tmp_path / "o.npz"), "--demos.format", "robomimic"]) == 0
    assert read_demos(tmp_path / "o.npz").lengths.tolist() == [3, 2]


@pytest.mark.parametrize(("format", "says"), [
    ("robomimik", r"unknown demos.format 'robomimik'; did you mean 'robomimic'"),
    ("imitation", r"an HDF5 file, and demos.format = 'imitation' is not a format of those; choose one of .*robomimic"),
    ("d3rlpy1", "has no 'observations', only data/demo_"),
])
def test_a_format_that_is_not_the_files_is_refused(tmp_path, format, says):
    with pytest.raises(InputError, match=says):
        read_demos(write_robomimic(tmp_path / "x.h5", [3]), format=format)


def test_a_named_format_of_arrays_is_taken_although_another_says_more_of_the_keys(tmp_path):
    arrays = {"obs": np.arange(3.0), "acts": [0, 1], "indices": np.zeros(0, int), "terminal": [True]}
    assert read_demos(arrays, format="imitation").lengths.tolist() == [2]
    with pytest.raises(InputError, match=r"'robomimic' is not a format of those; choose one of .*imitation"):
        read_demos(arrays, format="robomimic")


def test_a_file_that_nothing_fits_says_what_it_holds_and_what_near_formats_miss(tmp_path):
    path = write_hdf5(tmp_path / "x.h5", {"rewards": np.zeros(3), "terminals": np.zeros(3), "log/t": [1]})
    with pytest.raises(InputError, match="holds log/t, rewards, terminals, which matches no known format") as error:
        read_demos(path)
    assert "d3rlpy1 also has observations and actions and episode_terminals" in str(error.value)
    assert "robomimic also" not in str(error.value)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"that holds state.json, .*imitation_folder also has dataset_info.json"):
        read_demos(tmp_path / "d")
