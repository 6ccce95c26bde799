"""A ring of policy rows from earlier rollouts, on the learner's device, so that a discriminator remembers them."""

from typing import Any

import torch
from torch import Tensor

from puffer_il.core.checkpoint import Stateful


class RowRing(Stateful):
    """Up to `size` observations and what they are paired with. Each rollout offers a random share `keep` of its rows.
    Once the ring is full they take the place of the oldest ones, so that it holds the latest policies, or with `even`
    of any others and only as many that it always holds all policies so far alike (reservoir sampling).

    obs, paired  what the rows are like: observations (n, …), and None, a tensor (n, …) or a NamedTuple of them
    """

    saved = ("tensors", "stored")

    def __init__(self, size: int, keep: float, obs: Tensor, paired: Any, even: bool = False) -> None:
        self.size, self.keep, self.kind, self.even, self.stored = size, keep, type(paired), even, 0
        self.tensors = [x.new_zeros(size, *x.shape[1:]) for x in (obs, *parts_of(paired))]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As any, but that the tensors stay on their device."""
        super().load_state_dict(state | {"tensors": self.tensors})
        for kept, stored in zip(self.tensors, state["tensors"], strict=True):
            kept.copy_(stored)

    def __len__(self) -> int:
        return min(self.stored, self.size)

    @property
    def obs(self) -> Tensor:
        return self.tensors[0]

    @property
    def paired(self) -> Any:
        if self.kind is type(None):
            return None
        return self.tensors[1] if self.kind is Tensor else self.kind(*self.tensors[1:])

    def add(self, obs: Tensor, paired: Any, valid: Tensor | None, generator: torch.Generator) -> None:
        """Keep some of a rollout's rows (n, …), of those that `valid` numbers if it is given."""
        if self.size == 0:
            return
        rows = len(obs) if valid is None else len(valid)
        count = min(self.size, max(1, round(self.keep * rows)))
        index = torch.randint(rows, (count,), generator=generator, device=obs.device)
        index = index if valid is None else valid[index]
        slots = torch.arange(self.stored, self.stored + count, device=obs.device) % self.size
        if self.even and self.stored + count > self.size:
            slots = self._slots(count, generator)
            index = index[:len(slots)]
        for kept, fresh in zip(self.tensors, (obs, *parts_of(paired)), strict=True):
            # x[index] wakes torch's threads, which then keep the kernels' from their cores for a while.
            kept.index_copy_(0, slots, fresh.index_select(0, index))
        self.stored += count

    def _slots(self, count: int, generator: torch.Generator) -> Tensor:
        """Where rows of a rollout that offers `count` go: the free places, and a share of the others that leaves to
        each earlier row the same chance to be there."""
        free = max(0, self.size - self.stored)
        taken = round((count - free) * self.size / (self.stored + count))
        device = self.tensors[0].device
        places = torch.randperm(self.size - free, generator=generator, device=device)[:taken]
        return torch.cat((torch.arange(self.size - free, self.size, device=device), places))


def parts_of(paired: Any) -> tuple[Any, ...]:
    """What observations are paired with: none, one or several arrays."""
    return () if paired is None else tuple(paired) if isinstance(paired, tuple) else (paired,)
