"""Action distributions as plain tensor functions: no objects are built and nothing is validated per step.

`params` is what the actor's last layer gives, (n, num_params); `actions` is (n, dim) as ActionSpec says. `counts`
(n, dim) bool tells which dimensions a likelihood is asked for, that of the others being left out; None counts all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec
from puffer_il.nn.observations import one_hot

LOG_2PI = math.log(2 * math.pi)
SQUASH_LIMIT = 1 - 1e-6  # float32 cannot tell tanh(u) from 1 beyond |u| of about 8
MIN_LOG_STD, MAX_LOG_STD = -5.0, 2.0  # of a spread that depends on the observation: a network may say anything there


@dataclass
class Noise:
    """Where the noise of actions comes from.

    On the CPU it is a function of (seed, step, row, dimension), Philox4x32-10 (Salmon et al. 2011), so that it does not
    matter who draws it, in which order or beside which rows; `step` counts vector steps. Elsewhere it is torch's
    `generator`.
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
        self.log_chance = -sum(map(math.log, action.nvec))  # of any action where all are as probable
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

    def log_prob(self, params: Tensor, actions: Tensor, counts: Tensor | None = None) -> Tensor:
        parts = [logits.log_softmax(-1).gather(-1, actions[..., k:k + 1].long())
                 for k, logits in enumerate(params.split(self.nvec, -1))]
        return parts[0].squeeze(-1) if len(parts) == 1 else total(torch.cat(parts, -1), counts)

    def log_prob_executed(self, params: Tensor, actions: Tensor) -> Tensor:
        """`log_prob`: what is chosen is what is done."""
        return self.log_prob(params, actions)

    def clipped(self, actions: Tensor) -> Tensor:
        """(n,) bool, none: see Gaussian.clipped."""
        return torch.zeros(len(actions), dtype=torch.bool, device=actions.device)

    def log_prob_entropy(self, params: Tensor, actions: Tensor,
                         counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logprob: Tensor | float = 0.0
        entropy: Tensor | float = 0.0
        for k, logits in enumerate(params.split(self.nvec, -1)):
            logp = logits.log_softmax(-1)
            chosen = logp.gather(-1, actions[..., k:k + 1].long()).squeeze(-1)
            logprob = logprob + (chosen if counts is None else chosen * counts[..., k])
            entropy = entropy - (logp.exp() * logp).sum(-1)
        return logprob, entropy  # type: ignore[return-value]

    def features(self, actions: Tensor) -> Tensor:
        """Actions (n, dim) as one-hot columns (n, sum(nvec)), the form that a discriminator sees."""
        return torch.cat([one_hot(actions[:, k], n) for k, n in enumerate(self.nvec)], 1)


class Continuous(nn.Module):
    """What distributions over continuous actions share: the unit of the action range, action = center + scale · unit.
    A range with less than two bounds is as it is, but for its center, which is within it."""

    center: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, action: ActionSpec) -> None:
        super().__init__()
        assert action.low is not None and action.high is not None
        self.finite = np.isfinite(action.low) & np.isfinite(action.high)
        low, high = np.where(self.finite, action.low, -1.0), np.where(self.finite, action.high, 1.0)
        self.dim = action.dim
        middle = np.where(self.finite, (low + high) / 2, np.clip(0.0, action.low, action.high))
        self.keep(center=middle, scale=(high - low) / 2, low=action.low, high=action.high)

    def keep(self, **numbers: Any) -> None:
        """Constants, on the module's device but not in checkpoints. They are made on the CPU, whatever torch's default
        is: networks of another size are looked at on the device "meta", which holds no numbers."""
        for name, values in numbers.items():
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32, device="cpu"), persistent=False)

    def unit(self, actions: Tensor) -> Tensor:
        """Actions (…, dim) in units of the range."""
        return (actions - self.center) / self.scale

    def from_unit(self, unit: Tensor) -> Tensor:
        return self.center + self.scale * unit

    def features(self, actions: Tensor) -> Tensor:
        """Actions as the environment executes them (clipped), scaled to [-1, 1] where the range is finite."""
        return (torch.clamp(actions, self.low, self.high) - self.center) / self.scale


class Gaussian(Continuous):
    """Diagonal Gaussian with a learned log standard deviation, in units of the action range.

    `params` are the means; with `state_std` they are the means and, beside them, what the observation adds to the log
    standard deviation, which is then kept between MIN_LOG_STD and MAX_LOG_STD.

    With `squash`, actions are tanh-squashed into the range and their density follows the change of variables
    (Haarnoja et al. 2018, appendix C); without, the environment clips.
    """

    nodes: Tensor
    weights: Tensor

    def __init__(self, action: ActionSpec, squash: bool, init_log_std: float, state_std: bool = False) -> None:
        super().__init__(action)
        if squash and not self.finite.all():
            raise InputError(f"policy.squash = True: the action range is unbounded ({action.low} to {action.high}); "
                             "set policy.squash to false")
        self.squash, self.state_std, self.num_params = squash, state_std, action.dim * (1 + state_std)
        self.log_std = nn.Parameter(torch.full((action.dim,), init_log_std))
        # log-density of uniform actions, in the units of `log_prob_executed`
        self.log_chance = -action.dim * math.log(2) - (float(self.scale.log().sum()) if squash else 0.0)
        self.kernel = make_kernel((), self.center.tolist(), self.scale.tolist(), squash, state_std)
        nodes, weights = np.polynomial.hermite_e.hermegauss(7)  # ∫ f(x) N(x; 0, 1) dx by quadrature
        self.keep(nodes=nodes, weights=weights / weights.sum())

    def sample(self, params: Tensor, noise: Noise | None = None, first_row: int = 0) -> tuple[Tensor, Tensor]:
        """Actions (n, dim) and their log-probabilities (n,); without `noise` from torch's global generator."""
        if noise is not None and self.kernel is not None and params.device.type == "cpu":
            return draw(self.kernel, self.log_std, params, noise, first_row, torch.float32)
        mean, log_std = self.moments(params)
        normal = torch.empty_like(mean).normal_(generator=noise.generator if noise else None)
        actions = self.from_unit(mean + log_std.exp() * normal)
        return actions, self.log_prob(params, actions)

    def sample_unit(self, params: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (n, dim) in units of the range and their log-densities (n,) there, as functions of `params` and of
        standard normal numbers (n, dim): reparametrised, so that gradients pass."""
        mean, log_std = self.moments(params)
        unit = mean + log_std.exp() * normal
        logprob = -0.5 * normal.square() - log_std - 0.5 * LOG_2PI
        if self.squash:
            return unit.tanh(), (logprob - _log_tanh_slope(unit)).sum(-1)
        return unit, logprob.sum(-1)

    def moments(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (…, dim) and log standard deviation, (dim,) or (…, dim), before the squashing."""
        if not self.state_std:
            return params, self.log_std
        mean, log_std = params.chunk(2, -1)
        return mean, (self.log_std + log_std).clamp(MIN_LOG_STD, MAX_LOG_STD)

    def mode(self, params: Tensor) -> Tensor:
        return self.from_unit(self.moments(params)[0])

    def log_prob(self, params: Tensor, actions: Tensor, counts: Tensor | None = None) -> Tensor:
        unit, correction = self.unit(actions), self.scale.log()
        if self.squash:
            correction = correction + _log_tanh_slope(unit)
        mean, log_std = self.moments(params)
        z = (unit - mean) * (-log_std).exp()
        return total(-0.5 * z.square() - log_std - 0.5 * LOG_2PI - correction, counts)

    def log_prob_executed(self, params: Tensor, actions: Tensor) -> Tensor:
        """log π (n,) of actions as the environment executes them, in units of the range.

        Actions beyond the range become its bound, which is as probable as all of them together: log Φ((low − μ)/σ), or
        log Φ((μ − high)/σ). By the density of the unclipped ones a policy has entropy for nothing: it can spread
        without end where it is clipped anyway.
        """
        if self.squash:
            return self.log_prob(params, actions)
        mean, log_std = self.moments(params)
        low, high, unit, std = self.unit(self.low), self.unit(self.high), self.unit(actions), log_std.exp()
        inside = -0.5 * ((unit - mean) / std).square() - log_std - 0.5 * LOG_2PI
        below, above = torch.special.log_ndtr((low - mean) / std), torch.special.log_ndtr((mean - high) / std)
        return torch.where(unit <= low, below, torch.where(unit >= high, above, inside)).sum(-1)

    def clipped(self, actions: Tensor) -> Tensor:
        """(n,) bool where the environment clips an action, or it is at the edge of the range."""
        if self.squash:
            return torch.zeros(len(actions), dtype=torch.bool, device=actions.device)
        return ((actions <= self.low) | (actions >= self.high)).any(1)

    def unit(self, actions: Tensor) -> Tensor:
        """Actions (…, dim) where they are Gaussian with mean `params`: in units of the range, before the squashing."""
        unit = super().unit(actions)
        return unit.clamp(-SQUASH_LIMIT, SQUASH_LIMIT).atanh() if self.squash else unit

    def from_unit(self, unit: Tensor) -> Tensor:
        return super().from_unit(unit.tanh().clamp(-SQUASH_LIMIT, SQUASH_LIMIT) if self.squash else unit)

    def divergence(self, params: Tensor, other: Gaussian, other_params: Tensor) -> Tensor:
        """KL(self ‖ other) (n,) in nats. Both squash or neither does, which leaves it as it is before that."""
        (mean, log_std), (other_mean, other_log_std) = self.moments(params), other.moments(other_params)
        square = (2 * log_std).exp() + (mean - other_mean).square()
        return (other_log_std - log_std + 0.5 * square * (-2 * other_log_std).exp() - 0.5).sum(-1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor,
                         counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.moments(params)
        entropy = (log_std + 0.5 * (1 + LOG_2PI) + self.scale.log()).sum(-1).expand(params.shape[:-1])
        if self.squash:
            # The expected log-slope of tanh has no closed form; quadrature is exact enough and needs no noise.
            points = mean.unsqueeze(-1) + log_std.exp().unsqueeze(-1) * self.nodes
            entropy = entropy + (_log_tanh_slope(points) @ self.weights).sum(-1)
        return self.log_prob(params, actions, counts), entropy


def total(terms: Tensor, counts: Tensor | None) -> Tensor:
    """(n,) sum over the dimensions (n, dim) that count."""
    return terms.sum(-1) if counts is None else (terms * counts).sum(-1)


def make_kernel(choices: tuple[int, ...], center: Sequence[float] = (), scale: Sequence[float] = (),
                squash: bool = False, state_std: bool = False) -> Any:
    """The C kernels' form of a distribution, None if it is larger than they are made for."""
    if not fits(len(choices) or len(center), sum(choices)):
        return None
    return kernels.Distribution(choices, tuple(center), tuple(scale), squash, state_std)


def fits(dims: int, parameters: int) -> bool:
    """True if the C kernels have room for a distribution of this size."""
    return bool(dims <= kernels.MAX_ACTION_DIMS and parameters <= kernels.MAX_ACTION_PARAMS)


def draw(kernel: Any, log_std: Tensor | None, params: Tensor, noise: Noise, first_row: int,
         dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Samples and log-probabilities in one pass."""
    params = params.float().contiguous()
    n = len(params)
    actions, logprobs = torch.empty((n, kernel.dims), dtype=dtype), torch.empty(n)
    kernels.sample(kernel, 0 if log_std is None else log_std.data_ptr(), params.data_ptr(), n, noise.seed, noise.step,
                   first_row, actions.data_ptr(), logprobs.data_ptr())
    return actions, logprobs


class Normals:
    """Standard normal numbers (n, dims), on the CPU the kernels' own, which a rollout in C draws too."""

    def __init__(self, dims: int) -> None:
        self.dims, self.kernel = dims, make_kernel((), (0.0,) * dims, (1.0,) * dims)
        self.log_std = torch.zeros(dims)

    def draw(self, params: Tensor, noise: Noise | None, first_row: int) -> Tensor:
        """For the rows of `params`, of which `first_row` is the place in the vector."""
        n, device = len(params), params.device
        if noise is None or self.kernel is None or device.type != "cpu":
            return torch.empty(n, self.dims, device=device).normal_(generator=noise.generator if noise else None)
        return draw(self.kernel, self.log_std, torch.zeros(n, self.dims), noise, first_row, torch.float32)[0]


def _log_tanh_slope(u: Tensor) -> Tensor:
    """log(1 − tanh²(u)), stable for large |u|."""
    return 2 * (math.log(2) - u - nn.functional.softplus(-2 * u))


def make_distribution(action: ActionSpec, squash: bool = False, init_log_std: float = 0.0,
                      state_std: bool = False) -> Categorical | Gaussian:
    """The distribution that fits an action space."""
    return Categorical(action) if action.discrete else Gaussian(action, squash, init_log_std, state_std)
