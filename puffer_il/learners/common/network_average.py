"""The average of a network over the iterations of a run: what is kept of one that never comes to rest.

Two networks that learn from each other go round their goal instead of reaching it; the average of their way is nearer
to it than any point of it (Yazıcı et al. 2019, arXiv:1806.04498).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from puffer_il.core.checkpoint import Stateful


class NetworkAverage(Stateful):
    """Every `add` counts as much as any of the last `memory` ones, and older ones fade exponentially; before that many
    it is the plain mean. Parameters and running statistics are averaged alike, in double precision.

    network   the one that is averaged
    """

    saved = ("mean", "count")

    def __init__(self, network: nn.Module, memory: int) -> None:
        self.network, self.memory, self.count = network, memory, 0
        self.mean = {name: x.to(torch.float64, copy=True) for name, x in network.state_dict().items()}

    @torch.no_grad()
    def add(self) -> None:
        """Take in the network as it is now."""
        self.count += 1
        for name, value in self.network.state_dict().items():
            self.mean[name].lerp_(value.double(), 1 / min(self.count, self.memory))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with its average weights, and with its own again afterwards."""
        own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self._put(self.mean)
        try:
            yield
        finally:
            self._put(own)

    def load_state_dict(self, state: dict[str, object]) -> None:
        """As any, but that the averages stay on their device."""
        device = {name: value.device for name, value in self.mean.items()}
        super().load_state_dict(state)
        self.mean = {name: value.to(device[name], copy=True) for name, value in self.mean.items()}

    @torch.no_grad()
    def _put(self, state: dict[str, Tensor]) -> None:
        for name, value in self.network.state_dict().items():
            value.copy_(state[name])
