"""Action distributions as plain tensor functions: no objects are built and nothing is validated per step.

`params` is what the actor's last layer gives, (n, num_params); `actions` is (n, dim) as ActionSpec says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il._kernels as kernels
from puffer_il.networks import one_hot
from puffer_il.types import ActionSpec, InputError

LOG_2PI = math.log(2 * math.pi)
SQUASH_LIMIT = 1 - 1e-6  # float32 cannot tell tanh(u) from 1 beyond |u| of about 8


@dataclass
class Noise:
    """Where the noise of actions comes from.

    On the CPU it is a function of (seed, step, row, dimension), Philox4x32-10 (Salmon et al. 2011), so that it does not
    matter who draws it, in which order or beside which rows; `step` counts vector steps. Elsewhere, and for squashed
    actions, it is torch's `generator`.
    """

    seed: int
    generator: torch.Generator
    step: int = 0

    @classmethod
    def on(cls, device: torch.device, seed: int) -> Noise:
        return cls(seed, torch.Generator(device).manual_seed(seed))


class Categorical(nn.Module):
    """One softmax per action dimension (discrete and multi-discrete); `params` are their logits side by side."""

    def __init__(self, action: ActionSpec) -> None:
        super().__init__()
        self.nvec = action.nvec
        self.num_params = sum(action.nvec)
        self.kernel = make_kernel(self.nvec)

    def sample(self, params: Tensor, noise: Noise | None = None, first_row: int = 0) -> tuple[Tensor, Tensor]:
        """Actions (n, dim) and their log-probabilities (n,); without `noise` from torch's global generator."""
        if noise is not None and self.kernel is not None and params.device.type == "cpu":
            return draw(self.kernel, None, params, noise, first_row, torch.int32)
        # Gumbel-max: the argmax of logits plus Gumbel noise is a sample of the softmax.
        gumbel = torch.empty_like(params).exponential_(generator=noise.generator if noise else None).log_()
        actions = self.mode(params - gumbel)
        return actions, self.log_prob(params, actions)

    def mode(self, params: Tensor) -> Tensor:
        return torch.stack([part.argmax(-1) for part in params.split(self.nvec, -1)], -1).int()

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        parts = [logits.log_softmax(-1).gather(-1, actions[..., k:k + 1].long())
                 for k, logits in enumerate(params.split(self.nvec, -1))]
        return parts[0].squeeze(-1) if len(parts) == 1 else torch.cat(parts, -1).sum(-1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        logprob: Tensor | float = 0.0
        entropy: Tensor | float = 0.0
        for k, logits in enumerate(params.split(self.nvec, -1)):
            logp = logits.log_softmax(-1)
            logprob = logprob + logp.gather(-1, actions[..., k:k + 1].long()).squeeze(-1)
            entropy = entropy - (logp.exp() * logp).sum(-1)
        return logprob, entropy  # type: ignore[return-value]

    def features(self, actions: Tensor) -> Tensor:
        """Actions (n, dim) as one-hot columns (n, sum(nvec)), the form that a discriminator sees."""
        return torch.cat([one_hot(actions[:, k], n) for k, n in enumerate(self.nvec)], 1)


class Gaussian(nn.Module):
    """Diagonal Gaussian with a learned, state-independent log standard deviation, in units of the action range.

    With `squash`, actions are tanh-squashed into the range and their density follows the change of variables
    (Haarnoja et al. 2018, appendix C); without, the environment clips.
    """

    center: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    nodes: Tensor
    weights: Tensor

    def __init__(self, action: ActionSpec, squash: bool, init_log_std: float) -> None:
        super().__init__()
        assert action.low is not None and action.high is not None
        finite = np.isfinite(action.low) & np.isfinite(action.high)
        if squash and not finite.all():
            raise InputError(f"policy.squash = True: the action range is unbounded ({action.low} to {action.high}); "
                             "set policy.squash to false")
        low, high = np.where(finite, action.low, -1.0), np.where(finite, action.high, 1.0)
        self.squash, self.num_params = squash, action.dim
        self.log_std = nn.Parameter(torch.full((action.dim,), init_log_std))
        self.register_buffer("center", torch.as_tensor((low + high) / 2, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.as_tensor((high - low) / 2, dtype=torch.float32), persistent=False)
        self.kernel = None if squash else make_kernel((), ((low + high) / 2).tolist(), ((high - low) / 2).tolist())
        self.register_buffer("low", torch.as_tensor(action.low), persistent=False)
        self.register_buffer("high", torch.as_tensor(action.high), persistent=False)
        nodes, weights = np.polynomial.hermite_e.hermegauss(7)  # ∫ f(x) N(x; 0, 1) dx by quadrature
        self.register_buffer("nodes", torch.as_tensor(nodes, dtype=torch.float32), persistent=False)
        self.register_buffer("weights", torch.as_tensor(weights / weights.sum(), dtype=torch.float32), persistent=False)

    def sample(self, params: Tensor, noise: Noise | None = None, first_row: int = 0) -> tuple[Tensor, Tensor]:
        """Actions (n, dim) and their log-probabilities (n,); without `noise` from torch's global generator."""
        if noise is not None and self.kernel is not None and params.device.type == "cpu":
            return draw(self.kernel, self.log_std, params, noise, first_row, torch.float32)
        normal = torch.empty_like(params).normal_(generator=noise.generator if noise else None)
        actions = self._to_action(params + self.log_std.exp() * normal)
        return actions, self.log_prob(params, actions)

    def mode(self, params: Tensor) -> Tensor:
        return self._to_action(params)

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        unit = (actions - self.center) / self.scale
        correction = self.scale.log()
        if self.squash:
            unit = unit.clamp(-SQUASH_LIMIT, SQUASH_LIMIT).atanh()
            correction = correction + _log_tanh_slope(unit)
        z = (unit - params) * (-self.log_std).exp()
        return (-0.5 * z.square() - self.log_std - 0.5 * LOG_2PI - correction).sum(-1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        entropy = (self.log_std + 0.5 * (1 + LOG_2PI) + self.scale.log()).sum().expand(params.shape[:-1])
        if self.squash:
            # The expected log-slope of tanh has no closed form; quadrature is exact enough and needs no noise.
            points = params.unsqueeze(-1) + self.log_std.exp().unsqueeze(-1) * self.nodes
            entropy = entropy + (_log_tanh_slope(points) @ self.weights).sum(-1)
        return self.log_prob(params, actions), entropy

    def features(self, actions: Tensor) -> Tensor:
        """Actions as the environment executes them (clipped), scaled to [-1, 1] where the range is finite."""
        return (torch.clamp(actions, self.low, self.high) - self.center) / self.scale

    def _to_action(self, unit: Tensor) -> Tensor:
        if self.squash:
            unit = unit.tanh().clamp(-SQUASH_LIMIT, SQUASH_LIMIT)
        return self.center + self.scale * unit


def make_kernel(choices: tuple[int, ...], center: Sequence[float] = (), scale: Sequence[float] = ()) -> Any:
    """The C kernels' form of a distribution, None if it is larger than they are made for."""
    dims = len(choices) or len(center)
    if dims > kernels.MAX_ACTION_DIMS or sum(choices) > kernels.MAX_ACTION_PARAMS:
        return None
    return kernels.Distribution(choices, tuple(center), tuple(scale))


def draw(kernel: Any, log_std: Tensor | None, params: Tensor, noise: Noise, first_row: int,
         dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Samples and log-probabilities in one pass."""
    params = params.float().contiguous()
    n = len(params)
    actions, logprobs = torch.empty((n, kernel.dims), dtype=dtype), torch.empty(n)
    kernels.sample(kernel, 0 if log_std is None else log_std.data_ptr(), params.data_ptr(), n, noise.seed, noise.step,
                   first_row, actions.data_ptr(), logprobs.data_ptr())
    return actions, logprobs


def _log_tanh_slope(u: Tensor) -> Tensor:
    """log(1 − tanh²(u)), stable for large |u|."""
    return 2 * (math.log(2) - u - nn.functional.softplus(-2 * u))


def make_distribution(action: ActionSpec, squash: bool = False, init_log_std: float = 0.0) -> Categorical | Gaussian:
    """The distribution that fits an action space."""
    return Categorical(action) if action.discrete else Gaussian(action, squash, init_log_std)
