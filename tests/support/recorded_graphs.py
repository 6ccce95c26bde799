"""A stand-in for CUDA graphs that records and replays operations on the CPU, as strictly as a GPU does.

While it records, every operation is noted with the tensors that it read and wrote; a replay does the same operations on
the same memory, and no Python of the step runs again. So a number that the step has taken from Python, or a tensor that
lies elsewhere in the next call, is wrong in a replay, as it is on a GPU. What would wait for the device, or bring
numbers from Python's memory, cannot be recorded.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "_unique2", "bincount")
FROM_PYTHON = ("lift_fresh", "lift_fresh_copy")  # torch.tensor(…)
RANDOM = ("randint", "rand", "randn", "randperm", "normal_", "uniform_", "exponential_", "random_", "bernoulli_",
          "multinomial")  # of generators that no graph knows


TO_HOST = ("cpu", "numpy", "tolist")  # methods of tensors that do nothing to be noted where they are on the CPU


def waits(func: Any, args: tuple) -> bool:
    """Whether a GPU would be waited for."""
    name = func.overloadpacket.__name__
    by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
        t is not None and t.dtype == torch.bool for t in args[1])
    return name in WAITING or by_mask


def refused(tensor: Tensor, *_: Any) -> Any:
    raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


class Recorder(TorchDispatchMode):
    """Notes what is done."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, tuple, dict, list[Any]]] = []
        self._methods = {name: getattr(Tensor, name) for name in TO_HOST}

    def __enter__(self) -> Any:
        for name in TO_HOST:
            setattr(Tensor, name, refused)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for name, method in self._methods.items():
            setattr(Tensor, name, method)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func.overloadpacket.__name__
        if waits(func, args) or name in FROM_PYTHON or name in RANDOM:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}\nmore lines")
        result = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, tree_leaves(result)))
        return result


class Graph:
    """Stands for torch.cuda.CUDAGraph; `replays` counts."""

    def __init__(self) -> None:
        self.recorder, self.replays = Recorder(), 0

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, before in self.recorder.done:
                for mine, now in zip(before, tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(mine, Tensor) and mine.data_ptr() != now.data_ptr() and mine.numel():
                        mine.copy_(now)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Put it in the place of torch's, where there is no GPU; the graphs that are made."""
    made: list[Graph] = []
    if torch.cuda.is_available():
        return made

    def graph() -> Graph:
        made.append(Graph())
        return made[-1]

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool: graph.recorder)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda s: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    return made
