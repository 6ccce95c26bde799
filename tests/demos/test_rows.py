"""Rows drawn by their numbers."""

import numpy as np
import pytest

from puffer_il.demos.rows import take

PAST_CACHES = 4 << 20  # bytes in all, from which on wide rows are written past the caches


@pytest.mark.parametrize("width", [1, 8, 100, 2047, 2048, 2049, 4096, 4112, 5 * 1024 + 256 + 16, 12_288])
@pytest.mark.parametrize("count", [0, 1, 3, 700])
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


def test_the_widest_of_these_are_written_past_the_caches():
    assert 700 * 12_288 > PAST_CACHES > 3 * 12_288
