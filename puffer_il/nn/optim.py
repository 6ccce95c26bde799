"""Adam over one flat parameter buffer."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.checkpoint import Stateful


class FlatAdam(Stateful):
    """AdamW (Kingma and Ba 2015; decoupled decay, Loshchilov and Hutter 2019) with the gradient's norm clipped before.

    Parameters and their gradients become views of two flat buffers, so that a step is one pass over memory: a C kernel
    on the CPU, a handful of operations without a synchronisation on other devices. torch's own Adam gives the same
    numbers (tests/nn/test_optim.py).

    parameters      float32 on one device; their storage is replaced unless they already lie one after the other
    max_grad_norm   0 does not clip
    slowed          times which every learning rate that is set counts, once a run has gone back
    """

    saved = ("mean", "square", "steps")

    def __init__(self, parameters: Iterable[nn.Parameter], *, learning_rate: float, eps: float = 1e-8,
                 weight_decay: float = 0.0, max_grad_norm: float = 0.0,
                 betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.flat, self.grad = flatten(list(parameters))
        self.mean, self.square = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.slowed = 1.0
        self.learning_rate, self.eps, self.betas = learning_rate, eps, betas
        self.weight_decay, self.max_grad_norm = weight_decay, max_grad_norm
        self.steps = torch.zeros((), dtype=torch.float64, device=self.flat.device)
        self.rate = torch.zeros((), device=self.flat.device)  # where captured graphs read the learning rate
        self.kernel = None
        if self.flat.device.type == "cpu":
            self.kernel = kernels.Adam(len(self.flat), *(t.data_ptr() for t in (self.flat, self.grad, self.mean,
                                                                                self.square)))
        self.prepare()

    @property
    def learning_rate(self) -> float:
        """Of the next steps, once they are prepared: what was set, times `slowed`."""
        return self._set_rate * self.slowed

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._set_rate = value

    def zero_grad(self) -> None:
        self.grad.zero_()

    def prepare(self) -> None:
        """Bring the settings to where `step` reads them; not part of a captured graph."""
        if self.kernel is not None:
            self.kernel.set(float(self.steps), self.learning_rate, *self.betas, self.eps, self.weight_decay,
                            self.max_grad_norm)
        else:
            self.rate.fill_(self.learning_rate)

    @torch.no_grad()
    def step(self) -> Tensor:
        """One step by what is in `grad`; its norm before clipping, still on the device."""
        self.steps += 1
        if self.kernel is not None:
            return torch.tensor(self.kernel.step(), dtype=torch.float32)
        norm = torch.linalg.vector_norm(self.grad)
        grad = self.grad
        if self.max_grad_norm:
            grad = grad * (self.max_grad_norm / (norm + 1e-6)).clamp_max(1.0)
        beta1, beta2 = self.betas
        self.mean.lerp_(grad, 1 - beta1)
        self.square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        scale = (self.rate / (1 - beta1 ** self.steps)).float()
        spread = self.square.sqrt() / (1 - beta2 ** self.steps).sqrt().float() + self.eps
        self.flat.mul_(1 - self.rate * self.weight_decay)
        self.flat.sub_(self.mean / spread * scale)
        return norm

    def changing(self) -> list[Tensor]:
        """All that a step changes."""
        return [self.flat, self.mean, self.square, self.steps]


def flatten(parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """All parameters and all gradients as two flat tensors, of which `p.data` and `p.grad` are views from now on.

    Parameters that already are such views, one behind the other, stay where they are (part of a larger buffer, say).
    """
    sizes = [p.numel() for p in parameters]
    if _in_one_piece(parameters) and _in_one_piece([p.grad for p in parameters]):
        first, grad = parameters[0], parameters[0].grad
        assert grad is not None
        return tuple(t.detach().as_strided((sum(sizes),), (1,)) for t in (first, grad))  # type: ignore[return-value]
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    grad = torch.zeros_like(flat)
    for p, data, gradient in zip(parameters, flat.split(sizes), grad.split(sizes), strict=True):
        p.data, p.grad = data.view_as(p), gradient.view_as(p)
    return flat, grad


def _in_one_piece(tensors: list[Any]) -> bool:
    if any(t is None or not t.is_contiguous() for t in tensors):
        return False
    return len(tensors) > 1 and all(a.data_ptr() + a.nbytes == b.data_ptr() and
                                    a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
                                    for a, b in pairwise(tensors))
