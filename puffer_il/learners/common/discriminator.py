"""The discriminator that adversarial learners train, and the replay of policy rows that steadies it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.spec import EnvSpec
from puffer_il.learners.common.inputs import Inputs
from puffer_il.nn import fused
from puffer_il.nn.fused import FusedMLP, Layers, address
from puffer_il.nn.networks import mlp

REPLAY_KEEP = 0.01  # share of a rollout that enters the replay: old policies stay represented for a hundred iterations
PENALTIES = {"interpolated": 1, "zero_centred": 2}  # numbers of the kernels, as are those of the losses
LOSSES = {"bce": 0, "least_squares": 1, "wasserstein": 2}


class Discriminator(Inputs):
    """Rows of `Inputs` → score, the logit of "expert" where the loss is cross-entropy. High means expert."""

    def __init__(self, spec: EnvSpec, hidden: tuple[int, ...], activation: str, spectral_norm: bool,
                 kind: str = "state_action") -> None:
        super().__init__(spec, kind)
        self.net = mlp(self.features, hidden, 1, activation)
        self.spectral_norm: bool = spectral_norm
        if spectral_norm:
            for layer in self.net:
                if isinstance(layer, nn.Linear):
                    nn.utils.parametrizations.spectral_norm(layer)

    def logit(self) -> Logit:
        """What `forward` computes, as the kernels take it."""
        return Logit((Term(self, 0, self.width - 1, 1.0),), self.width)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (n,) of inputs made by `rows`; differentiable with respect to them."""
        return self.net(self.encode(rows)).squeeze(-1).float()

    def logits(self, obs: Tensor, beside: Tensor | None) -> Tensor | None:
        """Logits (n,) of all rows in a single call of the kernels; None if they do not cover it."""
        layers = self.kernel_layers()
        return None if layers is None else self.by_kernels(obs, beside, layers=layers)

    def kernel_layers(self) -> Layers | None:
        """The network's layers if it is nothing but a fused one whose weights are its parameters."""
        net = self.net
        if not isinstance(net, FusedMLP) or self.encoder.convs or self.spectral_norm:
            return None
        usable = fused.enabled() and not net.layers.refusal and not torch.is_autocast_enabled("cpu")
        return net.layers if usable and fused.readable(net) else None


class Term(NamedTuple):
    """weight · network(columns of a row), which reads those from `first` on and as its last input column `last`."""

    network: Discriminator
    first: int
    last: int
    weight: float


class Logit(NamedTuple):
    """A discriminator's logit of a row (width,): the sum of `terms`, less the number in column `offset` (-1: none)."""

    terms: tuple[Term, ...]
    width: int
    offset: int = -1


def discriminator_gradients(logit: Logit, expert: Tensor, policy: Tensor, *, loss: str, label_smoothing: float,
                            ent_coef: float, gp_coef: float, gp_kind: str, gp_target: float,
                            mix: Tensor | None) -> Tensor | None:
    """Put the gradients of the discriminator's loss into the parameters' `.grad`; what adversarial.DISC_METRICS names.
    None if the C kernels do not cover it.

    expert, policy (n, width) as the discriminator's `rows` makes them; `mix` (n,) are the expert's shares in the points
    of an interpolated penalty.
    """
    networks = list(dict.fromkeys(term.network for term in logit.terms))
    layers = [part for network in networks if (part := network.kernel_layers()) is not None]
    if len(layers) < len(networks):
        return None
    stats, expert, policy = np.zeros(7), expert.contiguous(), policy.contiguous()
    kernels.discriminator_step(tuple([(part.network, part.addresses(), part.gradients()) for part in layers]),
                               tuple([(networks.index(network), *rest) for network, *rest in logit.terms]),
                               logit.width, logit.offset, address(expert), address(policy), address(mix), len(expert),
                               label_smoothing, ent_coef, gp_coef, gp_target, PENALTIES[gp_kind] if gp_coef else 0,
                               LOSSES[loss], stats)
    return torch.tensor(stats, dtype=torch.float32)


class Replay:
    """A ring of rows from earlier rollouts, observations and what stands beside them, on the learner's device."""

    def __init__(self, size: int, spec: EnvSpec, device: torch.device, kind: str = "state_action") -> None:
        dtype = torch.from_numpy(np.zeros(0, spec.obs_dtype)).dtype
        self.obs = torch.zeros(size, *spec.obs_shape, dtype=dtype, device=device)
        self.beside: Tensor | None = None
        if kind == "state_action":
            self.beside = torch.zeros(size, spec.action.dim, device=device,
                                      dtype=torch.int32 if spec.action.discrete else torch.float32)
        elif kind != "state":
            self.beside = torch.zeros_like(self.obs)
        self.stored = 0

    def __len__(self) -> int:
        return min(self.stored, len(self.obs))

    def add(self, obs: Tensor, beside: Tensor | None, valid: Tensor | None, generator: torch.Generator) -> None:
        """Keep a random share of a rollout's (valid) rows, over the oldest ones once the ring is full."""
        if len(self.obs) == 0:
            return
        rows = len(obs) if valid is None else len(valid)
        count = min(len(self.obs), max(1, round(REPLAY_KEEP * rows)))
        index = torch.randint(rows, (count,), generator=generator, device=obs.device)
        index = index if valid is None else valid[index]
        slots = torch.arange(self.stored, self.stored + count, device=obs.device) % len(self.obs)
        self.obs[slots] = obs[index]
        if self.beside is not None:
            assert beside is not None
            self.beside[slots] = beside[index]
        self.stored += count

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"obs": self.obs, "stored": self.stored}
        return state if self.beside is None else state | {"beside": self.beside}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.obs.copy_(state["obs"])
        if self.beside is not None:
            self.beside.copy_(state["beside"])
        self.stored = state["stored"]
