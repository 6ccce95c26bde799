"""Files as NumPy and other packages write them: numbers of every width and order are read, the others are refused."""

import json
import pickle

import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.core.errors import InputError
from tests.support import field

LAYOUTS = {
    "big endian": lambda x: x.astype(x.dtype.newbyteorder(">")), "Fortran's order": np.asfortranarray,
    "long double": lambda x: x.astype(np.longdouble), "half": lambda x: x.astype(np.float16),
    "reversed twice": lambda x: x[::-1].copy()[::-1], "masked": np.ma.masked_array}
SMALL = {"actions": np.int8, "terminations": np.float32, "truncations": np.int64, "episode_starts": np.uint8}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_are_read_however_they_lie(tmp_path, layout):
    arrays = field.recorded()
    np.savez_compressed(tmp_path / "d.npz", **{k: LAYOUTS[layout](v) if v.dtype.kind == "f" else v
                                              for k, v in arrays.items()})
    demos = puffer_il.load_demos(str(tmp_path / "d.npz"))
    np.testing.assert_allclose(demos.obs, arrays["obs"], atol=2e-3 if layout == "half" else 0)


def test_numbers_are_read_in_any_width(tmp_path):
    arrays = field.recorded()
    np.savez(tmp_path / "d.npz", **{k: v.astype(SMALL.get(k, v.dtype)) for k, v in arrays.items()})
    demos = puffer_il.load_demos(str(tmp_path / "d.npz"))
    assert demos.actions is not None and (demos.actions[:, 0] == arrays["actions"]).all()
    assert demos.lengths.tolist() == [20] * 4 and (demos.truncations == arrays["truncations"]).all()


@pytest.mark.parametrize(("change", "dtype"), [
    ({"obs": np.ones((80, 3), complex)}, "complex128"), ({"actions": np.array(["left", "right"] * 40)}, "<U5"),
    ({"rewards": np.arange(80).astype("datetime64[s]")}, r"datetime64\[s\]"),
    ({"obs": np.zeros(80, [("x", "f4"), ("y", "f4")])}, r"\[\('x', '<f4'\)"),
])
def test_what_is_no_plain_number_is_refused_by_its_dtype(tmp_path, change, dtype):
    np.savez(tmp_path / "d.npz", **field.recorded(**change))
    with pytest.raises(InputError, match=rf"has dtype {dtype}.*; save plain numbers"):
        puffer_il.load_demos(str(tmp_path / "d.npz"))


def _torch(path):
    torch.save({"obs": torch.zeros(4, 2)}, path)


@pytest.mark.parametrize(("name", "write"), [
    ("d.hdf5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))),
    ("d.parquet", lambda path: path.write_bytes(b"PAR1" + bytes(64) + b"PAR1")),
    ("d.csv", lambda path: path.write_text("x,y\n1,2\n")), ("d.json", lambda path: path.write_text(json.dumps([1, 2]))),
    ("d.tfrecord", lambda path: path.write_bytes(bytes(16))),
    ("d.pkl", lambda path: path.write_bytes(pickle.dumps([1, 2]))), ("d.pt", _torch),
    ("d.npy", lambda path: np.save(path, np.zeros(3))),
])
def test_files_of_other_kinds_are_refused_in_one_line(tmp_path, name, write):
    write(tmp_path / name)
    with pytest.raises(InputError, match=f"demos .*{name}: ") as error:
        puffer_il.load_demos(str(tmp_path / name))
    assert "\n" not in str(error.value)
