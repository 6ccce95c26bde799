"""CUDA graphs: a whole step of the learner, recorded once and replayed without Python."""

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from puffer_il.nn.optim import FlatAdam
from puffer_il.rollout.tensors import Minibatch

WARM_UPS = 3  # runs before recording, in which libraries allocate and choose their kernels

Step = Callable[[Minibatch, Tensor], Tensor]


class GraphedStep:
    """`step(minibatch, moments)` as a graph for each shape of minibatch that it meets.

    Inputs are copied into memory of the graph's own. The optimiser's step is part of the graph; its state is put back
    after the runs that recording takes.
    """

    def __init__(self, step: Step, optimizer: FlatAdam) -> None:
        self.step, self.optimizer = step, optimizer
        self.recorded: dict[tuple, tuple[torch.cuda.CUDAGraph, Minibatch, Tensor, Tensor]] = {}

    def __call__(self, batch: Minibatch, moments: Tensor) -> Tensor:
        key = tuple(None if t is None else (tuple(t.shape), t.dtype) for t in _tensors(batch))
        if key not in self.recorded:
            self.recorded[key] = self._record(batch, moments)
        graph, inputs, held_moments, result = self.recorded[key]
        for mine, given in zip(_tensors(inputs), _tensors(batch), strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        held_moments.copy_(moments)
        graph.replay()
        return result.clone()

    def _record(self, batch: Minibatch, moments: Tensor) -> tuple[torch.cuda.CUDAGraph, Minibatch, Tensor, Tensor]:
        inputs = replace(batch, **{f.name: t.clone() for f, t in zip(fields(batch), _tensors(batch), strict=True)
                                   if t is not None})
        held_moments = moments.clone()
        kept = [t.clone() for t in self.optimizer.changing()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.step(inputs, held_moments)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.step(inputs, held_moments)
        for tensor, before in zip(self.optimizer.changing(), kept, strict=True):
            tensor.copy_(before)
        return graph, inputs, held_moments, result


def _tensors(batch: Minibatch) -> list[Tensor | None]:
    return [getattr(batch, f.name) for f in fields(batch)]
