"""Rows drawn by number, and successors that are stored once."""

import numpy as np
import pytest

from puffer_il.demos.build import build_demos, split_off
from puffer_il.demos.rows import Successors, blocks, successors, take

STARTS = np.array([0, 3, 4])
OBS = np.arange(14, dtype=np.float32).reshape(7, 2)
NEXT = np.concatenate((OBS[1:], OBS[:1])) + np.isin(np.arange(7), [2, 3, 6])[:, None] * np.float32(100)


def stored() -> Successors:
    found = successors(OBS, NEXT, STARTS)
    assert isinstance(found, Successors)
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 5), (2, 3, 7)])
def test_rows_of_any_dtype_and_shape_are_those_that_numpy_takes(dtype, shape):
    rows = np.random.default_rng(0).integers(0, 2 if dtype is bool else 200, (50, *shape)).astype(dtype)
    index = np.random.default_rng(1).integers(0, 50, 80)
    out = np.empty((80, *shape), dtype)
    np.testing.assert_array_equal(take(rows, index), rows[index])
    assert take(rows[::2], index // 2).tolist() == rows[::2][index // 2].tolist()
    assert take(rows, index, out) is out and (out == rows[index]).all()
    assert len(take(rows, index[:0])) == 0


@pytest.mark.parametrize("wrong", [-1, 7, 2**40])
def test_a_number_that_is_no_row_is_named_before_memory_is_touched(wrong):
    with pytest.raises(IndexError, match=f"row {wrong} is asked for, but there are 7"):
        take(OBS, np.array([0, wrong, 1]))


@pytest.mark.parametrize("key", [
    slice(None), slice(2, 5), slice(0, 2), slice(3, 4), slice(5, None), slice(None, None, -1), slice(4, 4), 3, -1,
    np.array([6, 0, 2, 2]), np.array([-1, 3]), np.arange(7) % 2 == 0, (slice(None), 1), np.array([], np.int64)])
def test_successors_answer_as_the_array_that_they_stand_for(key):
    np.testing.assert_array_equal(np.asarray(stored()[key]), NEXT[key])


def test_successors_take_no_memory_but_for_the_final_ones_and_pieces_of_them_neither():
    piece = stored()[1:6]
    assert isinstance(piece, Successors) and np.shares_memory(piece.obs, OBS) and len(piece.finals) == 3
    assert stored().mean() == NEXT.mean() and ((stored() - OBS) == NEXT - OBS).all()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (5, 1)])
def test_rows_that_do_not_follow_on_one_another_stay_as_they_are(row, column):
    other = NEXT.copy()
    other[row, column] += 1
    assert successors(OBS, other, STARTS) is other
    assert successors(OBS, -NEXT * 0, STARTS) is not None  # −0 is no 0: bytes are compared
    zeros = np.zeros((4, 1), np.float32)
    assert not isinstance(successors(zeros, -zeros, np.array([0])), Successors)


def test_a_readers_successors_are_stored_once():
    ends = np.isin(np.arange(7), [2, 3, 6])
    demos = build_demos("x", obs=OBS.copy(), actions=np.zeros((7, 1), np.int64), next_obs=NEXT.copy(),
                        terminations=ends, truncations=~ends & False, episode_starts=STARTS)
    assert isinstance(demos.next_obs, Successors) and demos.final_obs.tolist() == NEXT[[2, 3, 6]].tolist()


def test_final_observations_are_split_off_in_place():
    frames = np.arange(18, dtype=np.float32).reshape(9, 2)
    made = split_off(given := frames.copy(), np.array([3, 0, 1, 1]))
    assert np.shares_memory(made.obs, given)
    assert made.obs.tolist() == frames[[0, 1, 2, 5, 7]].tolist()
    np.testing.assert_array_equal(np.asarray(made), frames[[1, 2, 3, 6, 8]])
    assert made.starts.tolist() == [0, 3, 4]


@pytest.mark.parametrize("width", [1, 8, 100, 2047, 2048, 2049, 4096, 4112, 5 * 1024 + 256 + 16, 12_288])
@pytest.mark.parametrize("count", [0, 1, 3, 700])  # the most are written past the caches, from 4 MiB in all on
@pytest.mark.parametrize("shift", [0, 1, 16])
def test_rows_of_any_width_are_those_that_numpy_takes(width, count, shift):
    rng = np.random.default_rng(width + count)
    source = rng.integers(0, 256, (40, width), np.uint8)
    index = rng.integers(0, len(source), count)
    memory = np.full(count * width + 64, 7, np.uint8)
    out = memory[shift:shift + count * width].reshape(count, width)
    assert take(source, index, out) is out
    np.testing.assert_array_equal(out, source[index])
    assert (memory[:shift] == 7).all() and (memory[shift + count * width:] == 7).all(), "written beside the rows"


def test_rows_that_were_changed_in_a_private_mapping_are_not_forgotten(tmp_path):
    np.zeros((4096, 512), np.float32).tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "c", shape=(4096, 512))
    mapped[:] = 3
    assert sum(float(mapped[part].sum()) for part in blocks(mapped)) == float(mapped.sum()) == 3 * mapped.size
