"""Arrays in files from outside: read, or refused before memory is taken for them."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from puffer_il.core.npz import read_npy, read_npz


def with_header(path, header: bytes) -> None:
    """An .npy member with this header and eight bytes."""
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", data)
    path.with_suffix(".npy").write_bytes(data)


def test_arrays_are_those_that_were_saved(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(6).reshape(2, 3), y=np.float32(1.5))
    found = read_npz(tmp_path / "a.npz")
    assert found.keys() == {"x", "y"} and found["x"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["y"] == 1.5
    np.save(tmp_path / "b.npy", np.eye(2))
    assert read_npy(tmp_path / "b.npy").tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("header", [
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904,), }\n",
    b"{'descr': '<U1000000', 'fortran_order': False, 'shape': (9999,), }\n",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n",
    b"{'descr': [('a', 5)], 'fortran_order': False, 'shape': (1,), }\n", b"[" * 3000, b"\xff" * 20])
def test_a_crafted_header_is_refused_before_memory_is_taken(tmp_path, header):
    with_header(tmp_path / "x.npz", header)
    for read, name in ((read_npz, "x.npz"), (read_npy, "x.npy")):
        with pytest.raises(ValueError):
            read(tmp_path / name)


def test_an_archive_that_says_that_it_is_far_larger_is_not_unpacked(tmp_path):
    zeros = io.BytesIO()
    np.save(zeros, np.zeros(2**26, np.uint8))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(6):
            archive.writestr(f"{k}.npy", zeros.getvalue())
    with pytest.raises(ValueError, match="would unpack"):
        read_npz(tmp_path / "x.npz")
