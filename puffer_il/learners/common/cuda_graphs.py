"""CUDA graphs: a whole step of a learner, recorded once and replayed without Python.

A graph reads and writes memory, not tensors: everything that a step needs must lie where it lay when it was recorded.
So minibatches are not copied into a graph: it is given which rows it is to read, and reads them where they lie.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from puffer_il.core.config import Config

WARM_UPS = 3  # runs before recording, in which libraries allocate and choose their kernels
MOST_GRAPHS = 16  # that are kept; the one that was recorded first makes way

Step = Callable[..., Tensor]
Tensors = Sequence[Tensor | None]
Key = tuple[object, ...]


def wanted(config: Config, device: torch.device) -> bool:
    """True if this run's learners are to replay their updates."""
    return config.train.cuda_graphs and device.type == "cuda"


class Graphs:
    """The steps of one kind, a graph for each way in which they differ.

    name       what the steps are, for the user: "PPO's minibatches"
    changing   gives the tensors that a step changes; they are put back after the runs that recording takes
    notices    where the user is told, once, if a step cannot be recorded; then all run without graphs
    """

    def __init__(self, name: str, device: torch.device, changing: Callable[[], Sequence[Tensor]],
                 notices: list[str]) -> None:
        self.name, self.device, self.changing, self.notices = name, device, changing, notices
        self.recorded: dict[Key, tuple[torch.cuda.CUDAGraph, list[Tensor | None], Tensor, Tensors]] = {}
        self.refused = False
        self._met: set[Key] = set()
        self._held: list[Tensor] = []
        self._pool: Any = None

    def __call__(self, step: Step, inputs: Tensors, sources: Tensors = (), options: Key = ()) -> Tensor:
        """What `step(*inputs)` gives, one tensor.

        inputs   small tensors that are others in each call, such as row numbers, on the device or in page-locked
                 memory: they are copied to the graph's own, and `step` is always given tensors on the device
        sources  what the step reads where it lies; elsewhere, or of another shape, is another graph
        options  what else decides which operations the step consists of
        """
        key = (options, tuple(map(_kind, inputs)), tuple(map(_place, sources)))
        if self.refused or (key not in self.recorded and not self._again(key)):
            return step(*self._here(inputs))
        if key not in self.recorded:
            try:
                entry = self._record(step, inputs, sources)
            except RuntimeError as error:
                self._refuse(error)
                return step(*self._here(inputs))
            if len(self.recorded) == MOST_GRAPHS:
                del self.recorded[next(iter(self.recorded))]
            self.recorded[key] = entry
        graph, own, result, _ = self.recorded[key]
        for mine, given in zip(own, inputs, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given, non_blocking=True)
        graph.replay()
        return result.clone()

    def hold(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same numbers where graphs find them: what lies elsewhere than at the last call is copied there."""
        if list(map(_kind, tensors)) != list(map(_kind, self._held)):
            self._held = list(tensors)
        for mine, given in zip(self._held, tensors, strict=True):
            if mine.data_ptr() != given.data_ptr():
                mine.copy_(given)
        return list(self._held)

    def _here(self, inputs: Tensors, copy: bool = False) -> list[Tensor | None]:
        return [None if t is None else t.to(self.device, non_blocking=True, copy=copy) for t in inputs]

    def _again(self, key: Key) -> bool:
        """Whether such a step has been asked for before: what comes once, an epoch's last rows say, is not recorded."""
        again = key in self._met
        self._met.add(key)
        return again

    def _record(self, step: Step, inputs: Tensors, sources: Tensors
                ) -> tuple[torch.cuda.CUDAGraph, list[Tensor | None], Tensor, Tensors]:
        """The graph, its own inputs and its result; it keeps `sources` alive."""
        own = self._here(inputs, copy=True)
        changing = list(self.changing())
        kept = [t.clone() for t in changing]
        try:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    step(*own)
            torch.cuda.current_stream().wait_stream(stream)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                result = step(*own)
        finally:
            for tensor, before in zip(changing, kept, strict=True):
                tensor.copy_(before)
        return graph, own, result, tuple(sources)

    def _refuse(self, error: RuntimeError) -> None:
        self.refused = True
        self.recorded.clear()
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        self.notices.append(f"train.cuda_graphs = true: {self.name} cannot be recorded as a CUDA graph ({reason}); "
                            "they run without one, more slowly")


def _kind(tensor: Tensor | None) -> Key:
    return () if tensor is None else (tuple(tensor.shape), tensor.dtype)


def _place(tensor: Tensor | None) -> Key:
    return () if tensor is None else (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype, tensor.stride())
