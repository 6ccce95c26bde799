"""What a network that judges steps is shown of them: rows of its inputs, made by torch or by the C kernels."""

from typing import Any

import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.spec import EnvSpec
from puffer_il.nn import Encoder, Flatten, Layers, address, fused, make_distribution, one_hot

PASS_ROWS = 65_536  # of one forward pass: enough to fill the cores, small enough to stay in memory
LEAST_PASS, PASS_NUMBERS = 64, 2**22  # of pictures as many rows as have so many numbers, which then fit the memory
INPUTS = ("state_action", "state_next_state", "state", "next_state")


def paired_with(kind: str, actions: Any, next_obs: Any) -> Any:
    """What observations are paired with in rows of this kind: actions, true successors, or nothing (None)."""
    return {"state_action": actions, "state": None}.get(kind, next_obs)


def pass_rows(spec: EnvSpec) -> int:
    """Rows of one forward pass."""
    pixels = sum(field.size for field in spec.obs_fields if field.image)
    return max(LEAST_PASS, min(PASS_ROWS, PASS_NUMBERS // pixels)) if pixels else PASS_ROWS


def passes(rows: int, spec: EnvSpec) -> list[slice]:
    """All rows, as many at a time as one forward pass takes."""
    most = pass_rows(spec)
    return [slice(first, first + most) for first in range(0, rows, most)]


class Inputs(nn.Module):
    """Rows (n, width) that a network judges: (s, a), (s, s′), s or s′ alone, with an absorbing flag in the last column.

        state_action        observation, action features, flag
        state_next_state    observation, successor, flag
        state               observation, flag
        next_state          successor, flag

    Numeric columns are normalised by the observations' running statistics. An absorbing row has the flag one and
    everything else zero (Kostrikov et al. 2019), set after normalisation. Where an episode terminates, s′ is the true
    last observation, and the absorbing row stands for all that follows: the step from there into the absorbing state
    would only say again that s′ was the last. No state is left after it, so that s alone never shows it: what
    episodes end in, goals or pits, can be told apart by s′.
    """

    absorbing: Tensor

    def __init__(self, spec: EnvSpec, kind: str = "state_action") -> None:
        super().__init__()
        if kind not in INPUTS:
            raise ValueError(f"inputs {kind!r}: choose {', '.join(INPUTS)}")
        self.kind = kind
        self.flatten = Flatten(spec)
        self.encoder = Encoder(self.flatten, normalise=True)
        self.actions: Any = None
        self.num_paired, features_paired = 0, 0
        if kind == "state_action":
            self.actions = make_distribution(spec.action)
            for parameter in self.actions.parameters():
                parameter.requires_grad_(False)  # only its action features are used
            self.num_paired = features_paired = sum(spec.action.nvec) or spec.action.dim
        elif kind == "state_next_state":
            self.num_paired, features_paired = self.flatten.dim, self.encoder.dim
        self.width = self.flatten.dim + self.num_paired + 1
        self.register_buffer("absorbing", one_hot(torch.tensor([self.width - 1]), self.width), persistent=False)
        self.features = self.encoder.dim + features_paired + 1  # of a row once its pixels are convolved

    def update_norm(self, mean: Tensor, var: Tensor, count: float | Tensor) -> None:
        """Merge the moments of `count` rows' observations into the running statistics."""
        self.encoder.update_norm(mean, var, count)

    @torch.no_grad()
    def rows(self, obs: Tensor, paired: Tensor | None = None, index: Tensor | None = None,
             out: Tensor | None = None) -> Tensor:
        """Raw rows (n, *obs_shape) and what they are paired with, actions (n, dim) or successors (n, *obs_shape), only
        those of `index` → inputs (n, width), in `out` if given, whose last dimension is contiguous."""
        obs, paired = self.seen(obs, paired)
        made = self.by_kernels(obs, paired, index, out)
        if made is not None:
            return made
        n = len(obs) if index is None else len(index)
        parts = passes(n, self.flatten.spec)
        if len(parts) < 2:
            return self._rows(obs, paired, index, out)
        out = torch.empty((n, self.width), device=obs.device) if out is None else out
        for part in parts:
            if index is not None:
                self._rows(obs, paired, index[part], out[part])
            else:
                self._rows(obs[part], None if paired is None else paired[part], None, out[part])
        return out

    def _rows(self, obs: Tensor, paired: Tensor | None, index: Tensor | None, out: Tensor | None) -> Tensor:
        """`rows` by torch, of what `seen` gave."""
        if index is not None:
            obs, paired = obs[index], None if paired is None else paired[index]
        parts = [self.encoder.prepare(self.flatten(obs))]
        if self.kind == "state_action":
            parts.append(self.actions.features(paired))
        elif self.kind == "state_next_state":
            assert paired is not None
            parts.append(self.encoder.prepare(self.flatten(paired)))
        return torch.cat((*parts, parts[0].new_zeros(len(obs), 1)), 1, out=out)

    def seen(self, obs: Tensor, paired: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Of both what rows are made of: of s′ alone the successors are the observations."""
        if self.kind != "next_state":
            return obs, paired
        assert paired is not None
        return paired, None

    def by_kernels(self, obs: Tensor, paired: Tensor | None, index: Tensor | None = None, out: Tensor | None = None,
                   layers: Layers | None = None) -> Tensor | None:
        """`rows` of what `seen` gave in a single call of the C kernels, or what a network of these layers says of them
        (n,); None if they do not cover it."""
        spec = self.flatten.spec
        covered = fused.enabled() and obs.device.type == "cpu" and self.flatten.covered
        if not covered or (self.kind == "state_action" and self.actions.kernel is None):
            return None
        obs, actions, following = obs.contiguous(), None, None
        if paired is not None and self.kind == "state_action":
            paired = paired.to(torch.int32 if spec.action.discrete else torch.float32).contiguous()
            bounds = (None, None) if spec.action.discrete else (self.actions.low, self.actions.high)
            actions = (self.actions.kernel, address(paired), *map(address, bounds))
        elif paired is not None:
            following = paired.contiguous()
        index = None if index is None else index.contiguous()
        n = len(obs) if index is None else len(index)
        if out is None:
            out = torch.empty((n, self.width) if layers is None else (n,))
        network = () if layers is None else (layers.network, layers.addresses())
        kernels.pairs(self.flatten.for_kernels(self.encoder.norm), address(obs), actions, address(following),
                      address(index), n, self.width, address(out), out.stride(0), *network)
        return out

    def absorbing_rows(self, n: int) -> Tensor:
        return self.absorbing.repeat(n, 1)

    def encoded(self, obs: Tensor, paired: Tensor | None) -> Tensor:
        """`encode` of `rows`, without floats of pixels where the C kernels read those from raw rows."""
        obs, paired = self.seen(obs, paired)
        parts = [self.encoder.observe(self.flatten, obs)]
        if self.kind == "state_action":
            parts.append(self.actions.features(paired))
        elif self.kind == "state_next_state":
            assert paired is not None
            parts.append(self.encoder.observe(self.flatten, paired))
        return torch.cat((*parts, parts[0].new_zeros(len(obs), 1)), 1)

    def encode(self, rows: Tensor) -> Tensor:
        """Rows with their pixels convolved: (n, features)."""
        if not self.encoder.convs:
            return rows
        dims = [self.flatten.dim] * (2 if self.kind == "state_next_state" else 1)
        *states, rest = rows.split([*dims, rows.shape[1] - sum(dims)], 1)
        return torch.cat((*map(self.encoder.encode, states), rest), 1)
