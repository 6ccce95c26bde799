"""Reading takes little more memory than what is read, and what is read part by part is the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.demos import read_demos, read_parts
from puffer_il.demos.grown import Grown, Precision
from tests.support.demos import same_demos
from tests.support.memory import STATUS
from tests.support.wide_files import TEXTS, WHOLE, WIDE, told

ROOT = Path(__file__).parents[2]
ROWS = 64_000_000  # bytes of observations as Demos holds them
BASE = 40_000_000  # bytes of the pieces in which files are read, whatever their size

PROGRAM = """
import sys
from puffer_il.demos import read_demos
from tests.support.memory import Watched

read_demos(sys.argv[1])
for source in sys.argv[2:]:
    with Watched() as watched:
        demos = read_demos(source)
    print("grew", watched.grew, demos.obs.nbytes)
    del demos
"""


def test_reading_takes_at_most_a_fifth_more_than_the_rows(tmp_path):
    if not STATUS.is_file():
        pytest.skip("needs Linux's /proc")
    (tmp_path / "small").mkdir()
    paths = {name: told(name, tmp_path, 40, 400, ROWS // (40 * 400 * 4)) for name in (*WIDE, *WHOLE)}
    paths |= {name: told(name, tmp_path, 10, 400, ROWS // (40 * 400 * 4)) for name in TEXTS}  # which take long to read
    warm = told("lerobot", tmp_path / "small", 2, 3, 4)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(warm), *map(str, paths.values())], capture_output=True,
                          text=True, check=True, cwd=ROOT)
    found = {name: [int(part) for part in line.split()[1:]] for name, line in zip(
        paths, done.stdout.splitlines(), strict=True)}
    assert all(rows > 0.9 * ROWS / (4 if name in TEXTS else 1) for name, (_, rows) in found.items())
    assert {name: grew for name, (grew, rows) in found.items() if grew > 1.2 * rows + BASE} == {}


@pytest.mark.parametrize("name", [*WIDE, *TEXTS])
def test_what_is_imported_part_by_part_is_what_is_read_at_once(tmp_path, monkeypatch, name):
    path = told(name, tmp_path, 5, 4, 3)
    whole = read_demos(path)
    monkeypatch.setattr("puffer_il.demos.read.PART_BYTES", 4 * 4 * 3)
    parts = list(read_parts(path))
    assert len(parts) > 2 and sum(part.num_episodes for part in parts) == 5
    assert main(["demos", "import", str(path), str(tmp_path / "d.shards")]) == 0
    same_demos(whole, read := read_demos(tmp_path / "d.shards"))
    assert read.notes == whole.notes and read.layout == whole.layout


def test_rows_that_grow_are_those_that_concatenate_gives():
    rng, parts, grown = np.random.default_rng(0), [], Grown()
    for k in range(50):
        parts.append(rng.integers(0, 9, (int(rng.integers(0, 9)), 2)).astype(np.int32 if k < 30 else np.float64))
        grown.append(parts[-1])
    expected = np.concatenate(parts)
    made = grown.array()
    assert made.dtype == expected.dtype and (made == expected).all() and made.flags.owndata
    with pytest.raises(ValueError, match=r"rows \(3,\) behind rows \(2,\)"):
        grown.append(np.zeros((1, 3)))


def test_columns_that_float32_flattens_are_named_in_whatever_parts_they_come():
    wide = np.stack([np.arange(2000.0), 1.7e9 + 0.01 * np.arange(2000)], 1)
    for cut in (2000, 130):
        precision = Precision()
        for first in range(0, 2000, cut):
            precision.add(wide[first:first + cut])
        assert precision.notes() == ["obs column 1 changes by less than float32 can tell near 1.7e+09; subtract its "
                                     "start"]
