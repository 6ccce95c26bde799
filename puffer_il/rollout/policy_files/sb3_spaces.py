"""The spaces that a Stable-Baselines3 file was trained on, and its preprocessing of observations.

After `stable_baselines3.common.preprocessing`: images divided by 255, categories one-hot, all else as floats.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.spec import Array
from puffer_il.rollout.policy_files import pickled

KINDS = {"Box": "continuous", "Discrete": "discrete", "MultiDiscrete": "multi-discrete", "MultiBinary": "multi-binary",
         "Dict": "dict"}


@dataclass
class Space:
    """One space; `spaces` are those of a dict, in the order in which the policy concatenates them."""

    kind: str  # one of KINDS
    shape: tuple[int, ...] = ()
    dtype: str = ""
    low: Array = field(default_factory=lambda: np.zeros(0))
    high: Array = field(default_factory=lambda: np.zeros(0))
    nvec: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    spaces: dict[str, Space] = field(default_factory=dict)

    @property
    def image(self) -> bool:
        """Three axes of bytes from 0 to 255."""
        return (self.kind == "Box" and len(self.shape) == 3 and self.dtype == "uint8" and not self.low.any()
                and bool((self.high == 255).all()))

    @property
    def size(self) -> int:
        """Numbers that it becomes when it is flattened."""
        if self.kind == "Dict":
            return sum(space.size for space in self.spaces.values())
        return sum(self.nvec) if self.nvec else int(np.prod(self.shape))

    def __str__(self) -> str:
        if self.kind == "Dict":
            return f"Dict({', '.join(f'{key}: {space}' for key, space in self.spaces.items())})"
        numbers = ", ".join(map(str, self.nvec or self.shape))
        return f"{self.kind}({numbers})"


def read_space(entry: dict[str, Any]) -> Space:
    """A space in the JSON of a file of that library. pickled.Unreadable for any other space."""
    return _space(pickled.read(base64.b64decode(entry[":serialized:"])))


def _space(call: Any) -> Space:
    kind = getattr(call.name, "name", "")
    if kind not in KINDS or not isinstance(call.state, dict):
        raise pickled.Unreadable(f"the space {kind or type(call).__name__} is not one that Stable-Baselines3 has")
    state = call.state
    if kind == "Dict":
        inner = state["spaces"]
        members = inner.items if isinstance(inner, pickled.Call) else inner  # an OrderedDict in older files
        return Space(kind, spaces={key: _space(one) for key, one in members.items()})
    if kind == "Box":
        low, high = pickled.array(state["low"]), pickled.array(state["high"])
        return Space(kind, low.shape, str(low.dtype), low, high)
    if kind == "MultiBinary":
        shape = tuple(int(n) for n in np.atleast_1d(pickled.array(state["n"])))
        return Space(kind, shape)
    counts = pickled.array(state["n" if kind == "Discrete" else "nvec"])
    start = state.get("start")
    starts = () if start is None else tuple(int(n) for n in np.atleast_1d(pickled.array(start)).ravel())
    return Space(kind, counts.shape, nvec=tuple(int(n) for n in counts.ravel()),
                 start=starts if any(starts) else ())


def prepare(space: Space, obs: Any, scale_images: bool) -> Tensor:
    """n observations of one space (no dict) as the float32 tensor that enters the network; images channels first."""
    if space.nvec:
        numbers = torch.from_numpy(np.asarray(obs).reshape(len(obs), -1).astype(np.int64))
        blocks = [torch.nn.functional.one_hot(numbers[:, i], n) for i, n in enumerate(space.nvec)]
        return torch.cat(blocks, 1).float()
    array = np.asarray(obs)
    if space.image and array.shape[1:] != space.shape:
        array = array.transpose(0, 3, 1, 2)
    tensor = torch.from_numpy(np.ascontiguousarray(array)).float()
    return tensor / 255.0 if space.image and scale_images else tensor
