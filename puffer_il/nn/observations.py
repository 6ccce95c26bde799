"""Raw observations as networks read them: flat, normalised by a running mean and variance; in torch and in C."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.spec import EnvSpec, ObsField
from puffer_il.nn import fused
from puffer_il.nn.fused import address

OBS_CLIP = 10.0  # standard deviations; keeps a never-seen state from saturating the network
PASSED_NUMBERS = 2**22  # of a mapped file that are looked at between two times that its pages are let go of
MOST_COLUMNS = 65_536  # of the kernels: a row has to fit a thread's stack
_TORCH_DTYPES = {"f4": torch.float32, "f8": torch.float64, "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8,
                 "i1": torch.int8, "i2": torch.int16, "b1": torch.bool}


def one_hot(numbers: Tensor, n: int) -> Tensor:
    """Whole numbers (m,) in [0, n) → float32 (m, n). torch's own looks at the values first, which waits for them."""
    return (numbers.unsqueeze(1) == torch.arange(n, device=numbers.device)).float()


def _scaled(pixels: Tensor, field: ObsField) -> Tensor:
    """Pixels of any dtype → float32, 0 for the lowest declared value and 1 for the highest."""
    shifted = pixels.float() if field.low == 0 else pixels.float() - field.low
    return shifted / ((field.high - field.low) or 1.0)


class Flatten:
    """Raw rows (n, *obs_shape) → float32 (n, dim): numeric columns, then one-hot ones, then pixels in [0, 1], which is
    the range that an image's space declares.

    Cuts the flat rows of Dict, Tuple and Discrete observations into their leaves. Which actions may be taken is left
    out or, `with_mask`, comes last, in columns that `dim` does not count: 0 or 1 for each of `num_masked` choices.
    `covered` is true if the C kernels can read the rows.
    """

    def __init__(self, spec: EnvSpec, with_mask: bool = False) -> None:
        self.spec = spec
        fields = [f for f in spec.obs_fields if not f.mask]
        self.mask = spec.mask if with_mask else None
        self.num_masked = self.mask.size if self.mask is not None else 0
        self.images = [f for f in fields if f.image]
        self.numeric = [f for f in fields if not f.image and not f.categories]
        self.categorical = [f for f in fields if f.categories]
        self.num_numeric = sum(math.prod(f.shape) for f in self.numeric)
        self.num_onehot = sum(f.categories for f in self.categorical)
        self.dim = self.num_numeric + self.num_onehot + sum(math.prod(f.shape) for f in self.images)
        self.plain = not spec.structured and not self.images and spec.mask is None
        # Numbers and, behind them, the 0 or 1 of each choice that stand beside an observation.
        bare = replace(spec, obs_fields=tuple(replace(field, mask=False) for field in spec.obs_fields))
        self.beside = spec.mask is not None and spec.mask.path is None and not (self.images or bare.structured)
        self.covered = self.plain and spec.obs_dtype.name in kernels.DTYPES and self.dim <= MOST_COLUMNS

    def __call__(self, obs: Tensor) -> Tensor:
        if self.plain:
            return obs.reshape(-1, self.dim).float()
        if self.beside:
            return obs.reshape(-1, math.prod(self.spec.obs_shape))[:, :self.dim + self.num_masked].float()
        if not self.spec.structured:
            return _scaled(obs.reshape(-1, self.dim), self.images[0])
        raw = self.in_bytes(obs)
        before, behind = self.beside_pictures(obs)
        pixels = [_scaled(self._leaf(raw, f), f) for f in self.images]
        return torch.cat([part for part in (before, *pixels, behind) if part is not None], dim=1)

    def in_bytes(self, obs: Tensor) -> Tensor:
        """Rows (n, *obs_shape) as they lie in memory: (n, bytes) uint8."""
        return obs.reshape(-1, math.prod(self.spec.obs_shape)).contiguous().view(torch.uint8)

    def beside_pictures(self, obs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The columns before the pixels and those behind, None where there are none."""
        raw = self.in_bytes(obs)
        before = [self._leaf(raw, f).float() for f in self.numeric]
        before += [one_hot(self._leaf(raw, f)[:, 0] - f.first, f.categories) for f in self.categorical]
        return torch.cat(before, dim=1) if before else None, None if self.mask is None else self.allowed(obs).float()

    def numbers(self, obs: Tensor) -> Tensor:
        """The numeric columns alone (n, num_numeric), without floats of the pixels beside them."""
        if not (self.spec.structured and self.images):
            return self(obs)[:, :self.num_numeric]
        raw = self.in_bytes(obs)
        return torch.cat([self._leaf(raw, f).float() for f in self.numeric], dim=1)

    def allowed(self, obs: Tensor) -> Tensor:
        """(n, num_masked) bool, which choices raw rows say may be taken."""
        assert self.mask is not None
        return self._leaf(self.in_bytes(obs), self.mask) != 0

    def for_kernels(self, norm: RunningNorm | None = None) -> kernels.Observations:
        """The same for the kernels, normalised by the present statistics of `norm`."""
        mean, scale = None, None
        if norm is not None:
            mean, scale = (np.tile(x.numpy(), kernels.BLOCK_ROWS)
                           for x in (norm.mean, torch.rsqrt(norm.var + norm.EPS)))
        dtype = self.spec.obs_dtype
        return kernels.Observations(dtype.name, dtype.itemsize, self.dim, OBS_CLIP, mean, scale)

    @staticmethod
    def _leaf(raw: Tensor, field: ObsField) -> Tensor:
        width = math.prod(field.shape)
        dtype = _TORCH_DTYPES[field.dtype.str[1:]]
        stop = field.offset + width * field.dtype.itemsize
        return raw[:, field.offset:stop].contiguous().view(dtype).reshape(len(raw), width)


class RunningNorm(nn.Module):
    """Normalises columns by a running mean and variance (Chan et al. 1979), which only `update` moves.

    `forward` is therefore frozen within an iteration; all state is in buffers, so checkpoints hold it.
    """

    EPS: Final = 1e-8

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, mean: Tensor, var: Tensor, count: float | Tensor) -> None:
        """Merge the moments of a batch of `count` rows."""
        total = self.count + count
        share = (count / total).float()
        delta = mean - self.mean
        self.var.copy_(torch.where(self.count > 0, (1 - share) * self.var + share * var
                                   + share * (1 - share) * delta.square(), var))
        self.mean.add_(share * delta)
        self.count.copy_(total)

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) * torch.rsqrt(self.var + self.EPS)).clamp(-OBS_CLIP, OBS_CLIP)


def moments(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Column mean and variance of (n, dim); rows count by `weight` (n,) if given."""
    if x.shape[1] == 0:  # pixels and categories are not normalised
        return x.new_zeros(0), x.new_zeros(0)
    if weight is None:
        return x.mean(0), x.var(0, unbiased=False)
    w = (weight / weight.sum()).unsqueeze(1)
    mean = (w * x).sum(0)
    return mean, (w * (x - mean).square()).sum(0)


def _numbers(flatten: Flatten, obs: Tensor, index: Tensor | None, mapped: int) -> Tensor:
    """(n, num_numeric) of all rows or those that `index` lists; of a mapped file some after the others."""
    if not mapped:
        return flatten.numbers(obs if index is None else obs[index])
    made, rows = [], torch.arange(len(obs)) if index is None else index
    for some in rows.split(max(1, PASSED_NUMBERS // max(1, obs[0].numel()))):
        made.append(flatten.numbers(obs[some]))
        kernels.let_go(address(obs), mapped)
    return torch.cat(made)


def obs_moments(flatten: Flatten, obs: Tensor, valid: Tensor | None = None, index: Tensor | None = None,
                mapped: int = 0) -> tuple[Tensor, Tensor, float | Tensor]:
    """Mean and variance (num_numeric,) of the numeric columns of raw rows (n, *obs_shape), and how many rows count.

    `valid` (n,) bool leaves rows out; `index` (m,) int64 takes these rows alone. The first `mapped` bytes of `obs` lie
    in a mapped file, of which nothing stays resident; the moments are the same to the bit.
    """
    covered = fused.enabled() and flatten.covered and obs.device.type == "cpu"
    if covered and obs.is_contiguous() and obs.numel():
        mean, variance = torch.empty(flatten.dim), torch.empty(flatten.dim)
        rows = obs.numel() // flatten.dim if index is None else len(index)
        count = kernels.moments(flatten.for_kernels(), address(obs), address(index), address(valid), rows, mean.numpy(),
                                variance.numpy(), mapped)
        return mean, variance, count
    weight = None if valid is None else valid.float()
    if flatten.num_numeric == 0:  # images and categories: floats of all their pixels would fill the memory for nothing
        rows = obs.numel() // math.prod(flatten.spec.obs_shape) if index is None else len(index)
        numeric = torch.zeros((rows, 0), device=obs.device)
    else:
        numeric = _numbers(flatten, obs, index, mapped)
    return *moments(numeric, weight), len(numeric) if weight is None else weight.sum().double()
