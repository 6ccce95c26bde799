"""Random shifts of pictures that are learned from (DrQ, Kostrikov et al. 2020, arXiv:2004.13649)."""

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec


class RandomShift:
    """Rows whose pictures are moved by up to `pixels` in either direction, all places equally likely; their edges are
    repeated into what becomes free. All channels of a picture move together, stacked ones too; other leaves stay.

    `begin` sets where the draws begin, so that nothing of it needs to be saved. InputError, which names `key`, where
    there are no pictures.
    """

    def __init__(self, key: str, pixels: int, spec: EnvSpec, seed: int) -> None:
        self.pixels, self.seed = pixels, seed
        self.images = [field for field in spec.obs_fields if field.image]
        if not self.images:
            raise InputError(f"{key} = {pixels}: {spec.name} has no pictures to shift; set it to 0")
        self.generator = torch.Generator()

    def begin(self, number: int) -> None:
        """Draw as from (seed, number) on."""
        state = np.random.SeedSequence((self.seed, 4, number)).generate_state(1, np.uint64)[0]
        self.generator.manual_seed(int(state >> np.uint64(1)))

    def __call__(self, rows: Tensor, each: int = 1) -> Tensor:
        """Raw rows (n, *obs_shape) → the same, shifted; `each` so many that follow one another move alike."""
        return self.move(rows, self.draw(len(rows) // each).to(rows.device), each)

    def draw(self, count: int) -> Tensor:
        """(pictures of a row, 2, count) int64 on the CPU: how far each picture moves, down and to the right."""
        return torch.stack([torch.randint(-self.pixels, self.pixels + 1, (2, count), generator=self.generator)
                            for _ in self.images])

    def move(self, rows: Tensor, moves: Tensor, each: int = 1) -> Tensor:
        """The rows, moved as `draw` has said, on their device."""
        count = len(rows)
        flat = rows.reshape(count, -1).view(torch.uint8).clone()
        for field, moved in zip(self.images, moves, strict=True):
            down, right = moved.repeat_interleave(each, 1)
            pictures = flat[:, field.offset:field.end].reshape(count, *field.shape)
            pictures = pictures if field.channels_last else pictures.permute(0, 2, 3, 1)
            height, width = pictures.shape[1:3]
            y = (torch.arange(height, device=rows.device) + down[:, None]).clamp(0, height - 1)
            x = (torch.arange(width, device=rows.device) + right[:, None]).clamp(0, width - 1)
            n = torch.arange(count, device=rows.device)
            pictures = pictures[n[:, None, None], y[:, :, None], x[:, None, :]]
            pictures = pictures if field.channels_last else pictures.permute(0, 3, 1, 2)
            flat[:, field.offset:field.end] = pictures.reshape(count, -1)
        return flat.view(rows.dtype).reshape(rows.shape)


def make_shift(key: str, pixels: int, spec: EnvSpec, seed: int) -> RandomShift | None:
    """None for no pixels."""
    return RandomShift(key, pixels, spec, seed) if pixels else None
