"""The discriminator that adversarial learners train, and its gradients by the C kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.spec import EnvSpec
from puffer_il.learners.common.inputs import Inputs, passes
from puffer_il.nn import FusedMLP, Layers, address, fused, mlp

PENALTIES = {"interpolated": 1, "zero_centred": 2}  # numbers of the kernels, as are those of the losses
LOSSES = {"bce": 0, "least_squares": 1, "wasserstein": 2}
SPECTRAL_TIMES = 3  # as long as the kernels a loop takes whose discriminator torch trains, measured by bench cliffs


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

    @torch.no_grad()
    def logits(self, obs: Tensor, paired: Tensor | None) -> Tensor:
        """Logits (n,) of all raw rows and what they are paired with."""
        layers = self.kernel_layers()
        found = None if layers is None else self.by_kernels(*self.seen(obs, paired), layers=layers)
        if found is not None:
            return found
        parts = [(obs[part], None if paired is None else paired[part]) for part in passes(len(obs), self.flatten.spec)]
        return torch.cat([self.net(self.encoded(*part)).squeeze(-1).float() for part in parts])

    def kernel_layers(self) -> Layers | None:
        """The network's layers if it is nothing but a fused one whose weights are its parameters."""
        net = self.net
        if self.spectral_norm and fused.enabled() and fused.readable(net):
            fused.fall_back("spectral_norm = true", SPECTRAL_TIMES)
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
    if len(layers) < len(networks) or loss not in LOSSES:
        return None
    stats, expert, policy = np.zeros(7), expert.contiguous(), policy.contiguous()
    kernels.discriminator_step(tuple([(part.network, part.addresses(), part.gradients()) for part in layers]),
                               tuple([(networks.index(network), *rest) for network, *rest in logit.terms]),
                               logit.width, logit.offset, address(expert), address(policy), address(mix), len(expert),
                               label_smoothing, ent_coef, gp_coef, gp_target, PENALTIES[gp_kind] if gp_coef else 0,
                               LOSSES[loss], stats)
    return torch.tensor(stats, dtype=torch.float32)
