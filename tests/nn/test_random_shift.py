"""Pictures that are shifted at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.nn import RandomShift, make_shift
from tests.support.observations import structured_spec


def picture_spec(shape: tuple[int, ...]) -> EnvSpec:
    return EnvSpec("it", shape, np.dtype(np.uint8), ActionSpec(nvec=(2,)))


def crops(picture: torch.Tensor, pixels: int) -> list[torch.Tensor]:
    """(channels, height, width) → all that padding by repetition and cropping can make of it, as the paper does it."""
    height, width = picture.shape[1:]
    wide = pad(picture[None].float(), (pixels,) * 4, mode="replicate")[0].to(torch.uint8)
    return [wide[:, y:y + height, x:x + width] for y in range(2 * pixels + 1) for x in range(2 * pixels + 1)]


@pytest.mark.parametrize("shape", [(7, 6, 4), (4, 7, 6)])
def test_pictures_are_crops_of_padded_ones_all_equally_likely(shape):
    spec, rows = picture_spec(shape), torch.randint(0, 256, shape, dtype=torch.uint8)[None].repeat(4000, 1, 1, 1)
    shift = RandomShift("it", 2, spec, seed=1)
    shift.begin(0)
    first = (lambda x: x.permute(2, 0, 1)) if shape[2] == 4 else (lambda x: x)
    wanted = crops(first(rows[0]), 2)
    counts = np.zeros(len(wanted))
    for row in shift(rows):
        counts[next(k for k, crop in enumerate(wanted) if torch.equal(first(row), crop))] += 1
    assert counts.min() > 100 and counts.max() < 230  # of 160 each


def test_draws_follow_from_the_seed_and_the_number():
    rows = torch.randint(0, 256, (20, 8, 8, 3), dtype=torch.uint8)

    def drawn(seed: int, number: int) -> torch.Tensor:
        shift = RandomShift("it", 4, picture_spec((8, 8, 3)), seed)
        shift.begin(number)
        return shift(rows)

    assert torch.equal(drawn(1, 5), drawn(1, 5))
    assert not torch.equal(drawn(1, 5), drawn(2, 5)) and not torch.equal(drawn(1, 5), drawn(1, 6))


def test_rows_of_a_sequence_move_alike():
    picture = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    shift = RandomShift("it", 3, picture_spec((8, 8, 3)), seed=1)
    shift.begin(0)
    moved = shift(picture.repeat(40, 1, 1, 1), each=5).reshape(8, 5, -1)
    assert (moved == moved[:, :1]).all() and len(torch.unique(moved[:, 0], dim=0)) > 3


def test_other_leaves_stay():
    spec = structured_spec()
    rows = torch.randint(0, 256, (50, *spec.obs_shape), dtype=torch.uint8)
    shift = RandomShift("it", 2, spec, seed=1)
    shift.begin(0)
    picture, moved = spec.obs_fields[2], shift(rows)
    assert torch.equal(moved[:, :picture.offset], rows[:, :picture.offset])
    assert (moved[:, picture.offset:picture.end] != rows[:, picture.offset:picture.end]).any(1).float().mean() > 0.8


def test_without_pictures_it_is_refused():
    assert make_shift("bc.random_shift", 0, picture_spec((4,)), 1) is None
    with pytest.raises(InputError, match=r"bc\.random_shift = 4: it has no pictures"):
        make_shift("bc.random_shift", 4, picture_spec((4,)), 1)
