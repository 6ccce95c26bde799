"""Minibatches of a replay on the learner's device, one after the other; as CUDA graphs, all at the same place."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from puffer_il.learners.common.cuda_graphs import Graphs, Key
from puffer_il.nn import Policy, RandomShift
from puffer_il.rollout.replay import FIELDS, Transitions


class TransitionBatch(NamedTuple):
    """Rows (n, …) as an engine takes them: `obs` and `next_obs` flat and normalised (n, Flatten.dim), `ends` (n,) bool
    where nothing follows but `end_value`."""

    obs: Tensor
    actions: Tensor
    rewards: Tensor
    next_obs: Tensor
    ends: Tensor


def load(policy: Policy, rows: Transitions, device: torch.device) -> TransitionBatch:
    """Rows (updates, n, …) on the device, flat and normalised as the policy does now. Images stay as they are: their
    floats would fill the memory."""
    loaded = TransitionBatch(*(torch.from_numpy(getattr(rows, name)).to(device, non_blocking=True)
                               for name in FIELDS))
    if policy.encoder.convs:
        return loaded
    obs, next_obs = (_prepare(policy, raw.flatten(0, 1)).reshape(*raw.shape[:2], -1)
                     for raw in (loaded.obs, loaded.next_obs))
    return loaded._replace(obs=obs, next_obs=next_obs)


def minibatches(policy: Policy, loaded: TransitionBatch, shift: RandomShift | None = None
                ) -> Iterator[TransitionBatch]:
    """Loaded rows, one minibatch (n, …) after the other, their pictures moved by `shift`: observations and successors
    each by themselves."""
    for batch in map(TransitionBatch._make, zip(*loaded, strict=True)):
        if shift is not None:
            batch = batch._replace(obs=shift(batch.obs), next_obs=shift(batch.next_obs))
        if policy.encoder.convs:
            batch = batch._replace(obs=_prepare(policy, batch.obs), next_obs=_prepare(policy, batch.next_obs))
        yield batch


def _prepare(policy: Policy, raw: Tensor) -> Tensor:
    return policy.encoder.prepare(policy.flatten(raw))


class GraphedUpdates:
    """The updates of one call of an engine as replays of one CUDA graph, each of which takes the next minibatch.

    All rows of a call are copied to the device once, to where those of the last call were; the graph reads them there.
    """

    def __init__(self, graphs: Graphs, policy: Policy, shift: RandomShift | None) -> None:
        self.graphs, self.policy, self.shift = graphs, policy, shift
        self.tensors: list[Tensor] = []  # (most updates, …)
        self.next = torch.zeros(1, dtype=torch.int64, device=graphs.device)
        self.end_value = torch.zeros((), device=graphs.device)
        changing = graphs.changing
        graphs.changing = lambda: [*changing(), self.next]

    def __call__(self, update: Callable[..., Tensor], rows: Transitions, end_value: float, *noise: Tensor,
                 options: Key = ()) -> Tensor:
        """The mean of what `update(batch, end_value, *noise)` gives for each minibatch of rows and noise
        (updates, n, …). `options` are all the numbers and choices in it that may be others in another call."""
        updates, size = rows.rewards.shape
        moves = [] if self.shift is None else [torch.stack([torch.stack((self.shift.draw(size), self.shift.draw(size)))
                                                            for _ in range(updates)])]
        self._put([*(torch.from_numpy(getattr(rows, name)) for name in FIELDS), *moves, *noise])
        self.next.zero_()
        self.end_value.fill_(end_value)

        def step() -> Tensor:
            parts = [tensor.index_select(0, self.next)[0] for tensor in self.tensors]
            self.next.add_(1).remainder_(len(self.tensors[0]))
            count = len(FIELDS)
            batch = self._prepared(TransitionBatch(*parts[:count]), *parts[count:count + len(moves)])
            return update(batch, self.end_value, *parts[count + len(moves):])

        return torch.stack([self.graphs(step, (), self.tensors, options) for _ in range(updates)]).mean(0)

    def _prepared(self, batch: TransitionBatch, *moves: Tensor) -> TransitionBatch:
        obs, next_obs = batch.obs, batch.next_obs
        if self.shift is not None:
            obs, next_obs = (self.shift.move(x, by) for x, by in zip((obs, next_obs), moves[0], strict=True))
        return batch._replace(obs=_prepare(self.policy, obs), next_obs=_prepare(self.policy, next_obs))

    def _put(self, given: Sequence[Tensor]) -> None:
        """Copy a call's rows to their place, which grows with the number of updates."""
        kinds = [(t.shape[1:], t.dtype) for t in given]
        if kinds != [(t.shape[1:], t.dtype) for t in self.tensors] or len(self.tensors[0]) < len(given[0]):
            self.tensors = [torch.empty(t.shape, dtype=t.dtype, device=self.graphs.device) for t in given]
        for place, tensor in zip(self.tensors, given, strict=True):
            place[:len(tensor)].copy_(tensor, non_blocking=True)
