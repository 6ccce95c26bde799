"""A flow from noise to actions: any distribution of them, along lines that are learned (Lipman et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from puffer_il.core.spec import ActionSpec
from puffer_il.nn.distributions import Continuous, Noise, Normals, total
from puffer_il.nn.networks import mlp

LEAST_SCALE = 1e-3  # of half the action range, for a dimension in which nothing varies


class Flow(Continuous):
    """Conditional flow matching along straight lines (Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023,
    arXiv:2209.03003), in units in which the demonstrated actions have mean 0 and variance 1, as the noise has. The
    environment clips.

        x_t = (1 − t) x₀ + t x₁,  x₀ ~ N(0, 1), x₁ the action, t ~ U[0, 1]
        a = x_1 of  x_{t + 1/steps} = x_t + v(x_t, t, s) / steps                  (Euler)

    v is E[x₁ − x₀ | x_t, s]. The network says where the line ends, which takes far less training to tell than noise:
    v = (x̂₁(x_t, t, s) − x_t) / (1 − t) and L = ‖x̂₁ − x₁‖², which is least at the same v.

    `params` are the features of the observation themselves; the network is `end`, of the features, x_t and t.
    Likelihoods are not known. The mode is what becomes of `begin`, which is always the same and near the middle of the
    noise: the middle itself could be led between two ways.
    """

    begin: Tensor
    measured: Tensor

    def __init__(self, action: ActionSpec, features: int, hidden: tuple[int, ...], activation: str,
                 steps: int) -> None:
        super().__init__(action)
        self.num_params, self.steps = features, steps
        self.end = mlp(features + self.dim + 1, hidden, self.dim, activation, 0.01)
        self.register_buffer("begin", 0.1 * torch.randn(self.dim, generator=torch.Generator().manual_seed(0)))
        # Of the demonstrations, and therefore in checkpoints; until they are seen, those of the action range.
        for name, values in (("center", self.center), ("scale", self.scale), ("measured", torch.tensor(False))):
            self.register_buffer(name, values)
        self.normals = Normals(self.dim)
        self.kernel: Any = self.normals.kernel

    @torch.no_grad()
    def measure(self, actions: Tensor, counts: Tensor | None = None) -> None:
        """Take the units from these actions (n, dim), the first time: later they would not be those of the network."""
        if self.measured:
            return
        weight = torch.ones_like(actions) if counts is None else counts.float()
        mean = (actions * weight).sum(0) / weight.sum(0).clamp_min(1)
        std = ((actions - mean).square() * weight).sum(0).div(weight.sum(0).clamp_min(1)).sqrt()
        self.scale.copy_(torch.maximum(std, LEAST_SCALE * self.scale))
        self.center.copy_(mean)
        self.measured.fill_(True)

    def sample(self, params: Tensor, noise: Noise | None = None, first_row: int = 0) -> tuple[Tensor, Tensor]:
        """Actions (n, dim), and zeros in place of their log-probabilities; without `noise` from torch's global
        generator."""
        start = self.normals.draw(params, noise, first_row)
        return self.carry(params, start), torch.zeros(len(params), device=params.device)

    def mode(self, params: Tensor) -> Tensor:
        return self.carry(params, self.begin.expand(len(params), -1))

    def carry(self, params: Tensor, x: Tensor) -> Tensor:
        """The actions that noise x (n, dim) becomes."""
        for step in range(self.steps):
            t = x.new_full((len(x), 1), step / self.steps)
            # dt / (1 - t) = 1 / the number of steps that are left
            x = x + (self.end(torch.cat((params, x, t), 1)).float() - x) / (self.steps - step)
        return self.from_unit(x)

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        """(n,) zeros: they are not known."""
        return torch.zeros(len(params), device=params.device)

    def loss(self, params: Tensor, actions: Tensor, counts: Tensor | None, generator: torch.Generator) -> Tensor:
        """(n,) L for one draw of noise and time in each row."""
        n, device = len(params), params.device
        start = torch.randn(n, self.dim, device=device, generator=generator)
        t = torch.rand(n, 1, device=device, generator=generator)
        end = self.unit(actions)
        said = self.end(torch.cat((params, (1 - t) * start + t * end, t), 1)).float()
        return total((said - end).square(), counts)
