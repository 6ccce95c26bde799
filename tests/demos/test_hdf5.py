"""The door to HDF5: what is there is found in order, what leads out of the file or is larger than it is refused."""

import sys

import h5py
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.demos.hdf5 import Hdf5, in_order
from tests.support.hdf5 import write_d3rlpy1, write_hdf5, write_robomimic


def refused(path) -> str:
    with pytest.raises(InputError) as error:
        read_demos(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_members_are_in_the_order_of_their_numbers(tmp_path):
    path = write_hdf5(tmp_path / "x.hdf5", {f"data/demo_{k}/a": np.zeros(1) for k in (10, 9, 2)} | {"data/other": [1]})
    with Hdf5(path) as file:
        assert file.numbered("demo_*", "data") == ["data/demo_2", "data/demo_9", "data/demo_10"]
        assert file.find("data/demo_*/a") == "data/demo_2/a" and file.find("data/demo_*/b") is None
        assert "data/demo_9/a" in file and "data/demo_9/b" not in file and "data/other/b" not in file
        assert file.listing() == "data/demo_*/a, data/other"
    assert sorted(["a10b", "a9b", "a9", "b"], key=in_order) == ["a9", "a9b", "a10b", "b"]


def test_attributes_are_numbers_and_texts_alone(tmp_path):
    given = {"n": 3, "text": "{}", "bytes": np.bytes_("x"), "many": np.arange(3), "objects": np.array(["a", "b"], "O")}
    with Hdf5(write_hdf5(tmp_path / "x.hdf5", {"data/a": [1]}, {"data": given})) as file:
        read = {name: file.attribute("data", name) for name in (*given, "absent")}
    assert read.pop("many").tolist() == [0, 1, 2]
    assert read == {"n": 3, "text": "{}", "bytes": "x", "objects": None, "absent": None}


def linked(file, other):
    file["observations"] = h5py.SoftLink("/data")


def linked_out(file, other):
    file["observations"] = h5py.ExternalLink(str(other), "observations")


def virtual(file, other):
    layout = h5py.VirtualLayout((5, 1), "f8")
    layout[:] = h5py.VirtualSource(str(other), "observations", (5, 1))
    file.create_virtual_dataset("observations", layout)


def beside(file, other):
    file.create_dataset("observations", (5, 1), "f8", external=[(str(other), 0, 40)])


@pytest.mark.parametrize(("change", "says"), [(linked, "is a link"), (linked_out, "is a link"),
                                              (virtual, "lies in other files"), (beside, "lies in other files")])
def test_nothing_outside_the_file_is_read(tmp_path, change, says):
    other, path = write_d3rlpy1(tmp_path / "other.h5"), write_d3rlpy1(tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        del file["observations"]
        change(file, other)
    assert says in refused(path)


def test_what_is_far_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path):
    path = write_d3rlpy1(tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", (2**40, 64), "f8", chunks=(2**10, 64))
    assert "more than 100 times" in refused(path)


def test_more_chunks_than_the_file_can_hold_are_refused_before_memory_is_taken(tmp_path):
    path = write_d3rlpy1(tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", (2**24, 3), "f4", chunks=(16, 3))
    assert "cut into 1,048,576 chunks" in refused(path)


@pytest.mark.parametrize(("name", "array", "says"), [
    ("observations", np.array(["a"] * 5, "O"), "has dtype object; save plain numbers"),
    ("observations", np.zeros(5, [("a", "f4")]), "save plain numbers"),
    ("observations", 3.0, "is a single number"),
    ("actions", np.array([0, 1, 0, np.nan, 1]), "actions is NaN or infinite in row"),
    ("rewards", np.ones(4), "rewards has 4 rows but there are 5 observations"),
])
def test_what_are_no_rows_of_numbers_is_refused_by_name(tmp_path, name, array, says):
    assert says in refused(write_d3rlpy1(tmp_path / "x.h5", **{name: array}))


def test_a_filter_that_is_not_there_is_named_with_the_way_to_do_without(tmp_path):
    path = write_d3rlpy1(tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", data=np.arange(5.0)[:, None], compression="gzip")
    data = bytearray(path.read_bytes())
    at = data.index(b"deflate\0")
    assert data[at - 8:at - 6] == b"\1\0", "the filter's number, which stands before its name"
    data[at - 8:at - 6] = (32001).to_bytes(2, "little")
    path.write_bytes(data)
    assert "compressed with filter 32001 (deflate), which h5py does not have" in refused(path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off_gives_one_line(tmp_path, kept):
    path = write_robomimic(tmp_path / "x.hdf5", [30, 40])
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * kept)])
    refused(path)


def test_groups_that_hold_themselves_end(tmp_path):
    path = write_robomimic(tmp_path / "x.hdf5", [3])
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs/again"] = file["data/demo_0/obs"]
    assert "groups deep" in refused(path)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = write_d3rlpy1(tmp_path / "x.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'puffer-il[hdf5]'" in refused(path)
