"""Pictures of sets of any size: what is marked is seen, and no picture grows with the set."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.demos.judge import drawings
from puffer_il.demos.judge.page import html
from puffer_il.demos.judge.verdict import Verdict
from tests.support.demos import make_demos


@pytest.mark.parametrize("marked", [[], [3, 4_321]])
def test_of_many_episodes_the_marked_ones_are_drawn(marked):
    picture = drawings.bars("x", np.arange(5_000.0), marked, "steps")
    assert picture.count('class="bad"') == len(marked) and picture.count("<rect") <= drawings.POINTS + 2
    assert "5000 episodes, 0 to 4,999 steps" in picture


def test_constant_numbers_and_ranges_without_ends_are_drawn():
    assert "nan" not in drawings.bars("x", np.zeros(3), [], "")
    assert "nan" not in drawings.histogram("x", np.ones(9), -np.inf, np.inf)
    assert drawings.histogram("x", np.ones(9), -1, 1).count('class="edge"') == 2
    assert "nan" not in drawings.line("x", np.ones(1), [0])


@pytest.mark.parametrize("kwargs", [{"obs_shape": (8, 8, 3), "obs_dtype": "uint8"}, {"rewards": False},
                                    {"lengths": (1,)}])
def test_every_kind_of_set_has_a_page(kwargs):
    assert "<svg" in html(make_demos(**kwargs), Verdict("d.npz"))
