"""A mixture of diagonal Gaussians: several things that may be done, where their mean would be none of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from puffer_il.core.spec import ActionSpec
from puffer_il.nn.distributions import (
    LOG_2PI,
    MAX_LOG_STD,
    MIN_LOG_STD,
    Continuous,
    Noise,
    Normals,
    draw,
    make_kernel,
    total,
)

CHOICE_SEED = 0x9E3779B97F4A7C15  # as in csrc/kernels/chunks.h


class Mixture(Continuous):
    """π(a|s) = Σ_k w_k(s) N(a; μ_k(s), σ_k)  (Bishop 1994; Mandlekar et al. 2021, arXiv:2108.03298), in units of the
    action range. The environment clips.

    `params` are K logits of the weights, then K means of dim numbers each; with `state_std`, K · dim numbers more,
    which the observation adds to the log standard deviations. These are kept between MIN_LOG_STD and MAX_LOG_STD.

    All dimensions of an action, which may be a chunk of several steps, come from one component.
    """

    def __init__(self, action: ActionSpec, components: int, init_log_std: float, state_std: bool = False) -> None:
        super().__init__(action)
        self.components, self.state_std = components, state_std
        self.num_params = components * (1 + self.dim * (1 + state_std))
        # K times narrower than one Gaussian: wide ones overlap, and then one of them takes all.
        self.log_std = nn.Parameter(torch.full((components, self.dim), init_log_std - math.log(components)))
        self.normals = Normals(self.dim)
        self.choice = make_kernel((components,))
        self.kernel: Any = None if state_std else self.normals.kernel

    @torch.no_grad()
    def spread(self, layer: nn.Linear, steps: int = 1) -> None:
        """Begin with components that differ, or they would all learn the same: the biases of the means, in the actor's
        last layer, are drawn within the range, for each component and dimension one for all `steps` of a chunk."""
        means = torch.empty(self.components, 1, self.dim // steps).uniform_(-1, 1).expand(-1, steps, -1)
        layer.bias[self.components:self.components * (1 + self.dim)] = means.reshape(-1)

    def sample(self, params: Tensor, noise: Noise | None = None, first_row: int = 0) -> tuple[Tensor, Tensor]:
        """Actions (n, dim) and their log-probabilities (n,); without `noise` from torch's global generator."""
        logits, mean, log_std = self.moments(params)
        chosen = self._choose(logits, noise, first_row)
        rows = torch.arange(len(params), device=params.device)
        std = (log_std[rows, chosen] if self.state_std else log_std[chosen]).exp()
        normal = self.normals.draw(params, noise, first_row)
        actions = self.from_unit(mean[rows, chosen] + std * normal)
        return actions, self.log_prob(params, actions)

    def _choose(self, logits: Tensor, noise: Noise | None, first_row: int) -> Tensor:
        """(n,) a component for each row."""
        if noise is not None and self.choice is not None and logits.device.type == "cpu":
            apart = Noise(noise.seed ^ CHOICE_SEED, noise.generator, noise.step)  # from the noise of the normals
            return draw(self.choice, None, logits, apart, first_row, torch.int32)[0][:, 0].long()
        gumbel = torch.empty_like(logits).exponential_(generator=noise.generator if noise else None).log_()
        return (logits - gumbel).argmax(-1)

    def mode(self, params: Tensor) -> Tensor:
        """The mean of the component with the largest weight."""
        logits, mean, _ = self.moments(params)
        return self.from_unit(mean[torch.arange(len(params), device=params.device), logits.argmax(-1)])

    def log_prob(self, params: Tensor, actions: Tensor, counts: Tensor | None = None) -> Tensor:
        logits, mean, log_std = self.moments(params)
        z = (self.unit(actions).unsqueeze(-2) - mean) * (-log_std).exp()
        terms = -0.5 * z.square() - log_std - 0.5 * LOG_2PI - self.scale.log()
        within = total(terms, None if counts is None else counts.unsqueeze(-2))
        return torch.logsumexp(logits.log_softmax(-1) + within, -1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor,
                         counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The entropy has no closed form. This is its upper bound Σ_k w_k (H_k − log w_k), which it reaches where the
        components do not overlap (Huber et al. 2008)."""
        logits, _, log_std = self.moments(params)
        logp = logits.log_softmax(-1)
        inner = (log_std + 0.5 * (1 + LOG_2PI) + self.scale.log()).sum(-1)
        return self.log_prob(params, actions, counts), (logp.exp() * (inner - logp)).sum(-1)

    def moments(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (n, K), means (n, K, dim), and log standard deviations (K, dim) or (n, K, dim)."""
        logits, rest = params[..., :self.components], params[..., self.components:]
        rest = rest.unflatten(-1, (-1, self.components, self.dim))
        log_std = self.log_std + rest[..., 1, :, :] if self.state_std else self.log_std
        return logits, rest[..., 0, :, :], log_std.clamp(MIN_LOG_STD, MAX_LOG_STD)
