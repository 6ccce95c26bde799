"""The ring of policy rows from earlier rollouts."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from puffer_il.learners.common.row_ring import RowRing

NONE = torch.zeros(0, 1)


class Both(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_ring_keeps_a_share_of_each_rollout_and_forgets_the_oldest():
    ring, draw = RowRing(25, 0.01, NONE, None), generator()
    assert len(ring) == 0
    for k in range(6):
        ring.add(torch.full((1000, 1), float(k)), None, None, draw)
    assert len(ring) == 25
    values, counts = ring.obs.unique(return_counts=True)
    assert values.tolist() == [3.0, 4.0, 5.0] and counts.tolist() == [5, 10, 10]


@pytest.mark.parametrize("make", [lambda x: None, lambda x: x + 0.5, lambda x: Both(x + 0.5, x[:, 0].int())])
def test_what_stands_beside_stays_with_its_row_and_is_part_of_the_state(make):
    obs = torch.arange(2000.0).unsqueeze(1)
    ring, again = (RowRing(30, 0.01, obs, make(obs)) for _ in range(2))
    ring.add(obs, make(obs), None, generator())
    place = again.obs
    again.load_state_dict(ring.state_dict())
    assert again.obs is place  # on its device
    assert len(again) == 20 and len(again.obs[:20].unique()) > 15 and torch.equal(again.obs, ring.obs)
    kept, expected = again.paired, make(again.obs)
    assert type(kept) is type(expected)
    for x, y in zip(*((), ()) if kept is None else ([kept], [expected]) if isinstance(kept, torch.Tensor)
                    else (kept, expected), strict=True):
        assert x.dtype == y.dtype and torch.equal(x[:20], y[:20])


def test_only_valid_rows_enter_the_ring():
    ring, obs = RowRing(50, 0.01, NONE, None), torch.arange(2000.0).unsqueeze(1)
    ring.add(obs, None, torch.arange(0, 2000, 2), generator())
    kept = ring.obs[:len(ring), 0]
    assert len(kept) == 10 and (kept % 2 == 0).all()


def test_a_ring_of_no_size_keeps_nothing_and_draws_nothing():
    ring, draw = RowRing(0, 0.01, NONE, None), generator()
    ring.add(torch.ones(100, 1), None, None, draw)
    assert len(ring) == 0 and torch.equal(draw.get_state(), generator().get_state())


def test_an_even_ring_holds_all_rollouts_alike_for_ever():
    ring, draw = RowRing(400, 0.1, NONE, None, even=True), generator()
    for k in range(30):
        ring.add(torch.full((1000, 1), float(k)), None, None, draw)
    assert len(ring) == 400 and ring.stored == 3000
    thirds = torch.histc(ring.obs[:, 0], 3, 0, 29)
    assert (thirds - 400 / 3).abs().max() < 45  # of the first ten rollouts, the next, and the last


def test_an_even_ring_that_fills_up_within_a_rollout_has_no_gap():
    ring, draw = RowRing(150, 0.1, NONE, None, even=True), generator()
    for k in (1, 2):
        ring.add(torch.full((1000, 1), float(k)), None, None, draw)
    assert len(ring) == 150 and (ring.obs > 0).all()
