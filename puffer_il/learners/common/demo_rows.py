"""Demonstrated transitions on the learner's device: rows by themselves, or sequences for a memory."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.spec import Array
from puffer_il.demos.rows import Joined, Successors, advise, check_room, is_mapped, mapped_bytes, take
from puffer_il.learners.common.cloning import ShownSequences, TwoPlaces, follow_sequences
from puffer_il.nn import Flatten, Policy, RandomShift, obs_moments, targets
from puffer_il.nn.masks import mask_logits
from puffer_il.nn.page_locked import sent

# Of each row: parameters of the distribution (n, num_params), actions (n, dim), weights (n,) or None, and which
# dimensions count (n, dim), None if all do.
Examples = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def load_rows(obs: Array, actions: Array, weights: Array | None, episodes: Array, length: int, device: torch.device,
              chunk: int = 1, allowed: Array | None = None, rows: Array | None = None) -> DemoRows:
    """Single rows or, with a `length`, sequences of that many steps; `weights` are brought to mean 1. With `chunk`, the
    actions of a row are that many, its own and those after it, as far as the episode goes; `allowed` are then the
    choices of each, which the policy itself knows of the first one only.

    obs (n, *obs_shape), actions (n, dim), weights (n,) or None, episodes (n,): what belongs together, in order;
    allowed (n, choices) bool, or None; rows (m,) int64: only these, whole episodes where steps belong together
    """
    if weights is not None:
        chosen = weights if rows is None else weights[rows]
        mean = chosen.mean() if len(chosen) and chosen.max() > 0 else 1.0
        weights = (weights / mean).astype(np.float32)
    counts = None
    if chunk > 1:
        dim = actions.shape[1]
        actions, inside = targets(actions, episodes, chunk)
        counts = np.repeat(inside, dim, 1)
        allowed = None if allowed is None else targets(allowed, episodes, chunk)[0]
    if not length:
        return DemoRows(obs, actions, device, weights, counts, allowed, rows)
    return DemoSequences(obs, actions, episodes, length, device, weights, counts, allowed, rows)


def on_device(array: Any, device: torch.device) -> Tensor:
    """An array of demonstrations, or what stands for one, as a tensor that nothing writes into: on the CPU the same
    memory, or the same mapped file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is read-only
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def successors_on(next_obs: Any, device: torch.device) -> Any:
    """The successors of demonstrated rows: a tensor on the device or, on the CPU where they are stored as the rows
    after them, what can be asked for some of them as a tensor can."""
    stored = isinstance(next_obs, Successors) and device.type == "cpu"
    return StoredOnce(next_obs) if stored else on_device(next_obs, device)


@dataclass(frozen=True)
class StoredOnce:
    """Successors of which no more are copied than are asked for."""

    rows: Successors

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        return torch.from_numpy(self.rows.take(index.numpy()))


def rows_on(obs: Array | Joined, device: torch.device) -> Tensor | TwoPlaces:
    """Observations on the device, or on the CPU where they lie in a mapped file: what is larger than memory is larger
    than a GPU's, and minibatches are taken there."""
    cpu = torch.device("cpu")
    if isinstance(obs, Joined):
        if is_mapped(obs.first) or device == cpu:
            return TwoPlaces(on_device(obs.first, cpu), on_device(obs.second, cpu))
        obs = np.concatenate((obs.first, obs.second))
    return on_device(obs, cpu if is_mapped(obs) else device)


def moments_of(flatten: Flatten, obs: Array, held: Tensor) -> tuple[Tensor, Tensor, float | Tensor]:
    """`obs_moments` of demonstrated observations, which `held` has by `on_device`; none of a mapped file stay
    resident."""
    return obs_moments(flatten, held, mapped=mapped_bytes(obs) if held.device.type == "cpu" else 0)


class DemoRows:
    """Demonstrated transitions, each an example of its own. They are not copied, but drawn where they lie.

    obs, actions  (n, …) of all rows that were given
    index         (m,) int64 which of them these examples are, or None: all
    weights       (n,) float32, of mean 1 over these; or None
    counts        (n, dim) bool tells which numbers of the actions do, None if all do
    allowed       (n, choices of a chunk) bool, None where the policy itself knows or all may be taken
    steps         how many rows an example is
    """

    steps = 1

    def __init__(self, obs: Array, actions: Array, device: torch.device, weights: Array | None = None,
                 counts: Array | None = None, allowed: Array | None = None, rows: Array | None = None) -> None:
        self.device, self.index = device, rows
        seen = obs.first if isinstance(obs, Joined) else obs
        self.mapped = [array for array in (seen, actions) if mapped_bytes(array)]
        self.mapped_obs = mapped_bytes(seen)
        self.obs: Any = rows_on(obs, device)
        self.actions = on_device(actions, device)
        self.weights = None if weights is None else on_device(weights, device)
        self.counts = None if counts is None else on_device(counts, device)
        self.allowed = None if allowed is None else on_device(allowed, device)

    def __len__(self) -> int:
        return len(self.obs) if self.index is None else len(self.index)

    def read_ahead(self, index: Array) -> None:
        """Of a run of examples that follow one another: they are read soon. Matters where they are mapped from a
        file."""
        if self.mapped and len(index):
            rows = self.numbers(index[[0, -1]]).reshape(-1)
            for array in self.mapped:
                advise(array, rows[rows < len(array)], needed=True)

    def let_go(self) -> None:
        """Nothing that is mapped from a file stays resident; for the end of a pass over it."""
        for array in self.mapped:
            advise(array, np.array([0, len(array) - 1]), needed=False)

    def numbers(self, index: Array) -> Array:
        """Which of the rows that were given the examples `index` are."""
        return index if self.index is None else self.index[index]

    def chosen(self, values: Tensor | None) -> Tensor | None:
        """Of a number or more for each of the rows that were given, those of these."""
        return values if values is None or self.index is None else values[torch.from_numpy(self.index)]

    def example_weights(self) -> Tensor | None:
        """Of each example (m,), or of each step of its sequence (m, length), what pads it too."""
        return self.chosen(self.weights)

    @property
    def resident(self) -> bool:
        """Whether all that `examples` reads is on the device."""
        return isinstance(self.obs, Tensor) and self.obs.device == self.actions.device

    def sources(self) -> list[Tensor | None]:
        """What `examples` reads."""
        return [self.obs, self.actions, self.weights, self.counts, self.allowed]

    def _seen(self, rows: Array) -> Tensor:
        """(m, *obs_shape) observations of rows (m,), on the device."""
        if isinstance(self.obs, TwoPlaces):
            made = np.empty((len(rows), *self.obs.shape[1:]), self.obs.first.numpy().dtype)
            return torch.from_numpy(self.obs.numpy().take(rows, made)).to(self.device)
        if self.obs.device.type == "cpu":
            return torch.from_numpy(take(self.obs.numpy(), rows)).to(self.device)
        return self.obs.index_select(0, sent(rows, self.device))

    @functools.cached_property
    def variance(self) -> float:
        """Of continuous actions, summed over their dimensions: those that count, per row."""
        actions, counts = self.chosen_actions(), self.chosen_counts()
        if counts is None:
            return float(actions.var(0, unbiased=False).sum())
        mean = (actions * counts).sum(0) / counts.sum(0).clamp_min(1)
        return float(((actions - mean).square() * counts).sum(1).mean())

    def explained(self, square: float) -> float:
        """The share of that variance which a mean squared distance leaves over; all or nothing where nothing varies."""
        return 1 - square / self.variance if self.variance > 0 else float(square == 0)

    def refresh(self, policy: Policy) -> None:
        """Rows have no recurrent state to bring up to date."""

    def chosen_actions(self) -> Tensor:
        """(rows, dim), in the order of `evaluate` for all of them."""
        actions = self.chosen(self.actions)
        assert actions is not None
        return actions

    def chosen_counts(self) -> Tensor | None:
        """Which of these count."""
        return self.chosen(self.counts)

    def chosen_obs(self) -> Tensor:
        """(rows, *obs_shape), in the same order."""
        if self.index is None and isinstance(self.obs, Tensor):
            return self.obs
        return self._seen(np.arange(len(self)) if self.index is None else self.index)

    def moments(self, flatten: Flatten) -> tuple[Tensor, Tensor, float | Tensor]:
        """Of their observations, see `obs_moments`."""
        index = None if self.index is None else torch.from_numpy(self.index)
        return obs_moments(flatten, self.obs, index=index, mapped=self.mapped_obs)

    def parts(self, most: int) -> Iterator[Array]:
        """Numbers of all examples, in pieces of at most about `most` rows. What is mapped is not resident for longer
        than a piece."""
        for part in np.array_split(np.arange(len(self)), max(1, -(-len(self) // most))):
            yield part
            self.let_go()

    def evaluate(self, policy: Policy, index: Array, shift: RandomShift | None = None) -> Examples:
        """The examples `index` (k,), as the policy sees them, their pictures moved by `shift`."""
        rows = self.numbers(index)
        obs = self._seen(rows) if shift is None else shift(self._seen(rows))
        return self.examples(policy, sent(rows, self.device), obs)

    def examples(self, policy: Policy, rows: Tensor, obs: Tensor) -> Examples:
        """The same of rows (k,), of those that were given, by numbers on the device; `obs` are their observations, as
        they are shown."""
        weights, counts, allowed = (None if x is None else x[rows] for x in (self.weights, self.counts, self.allowed))
        return _masked(policy.action_params(obs), allowed, policy), self.actions[rows], weights, counts


def _masked(params: Tensor, allowed: Tensor | None, policy: Policy) -> Tensor:
    return params if allowed is None else mask_logits(params, allowed, policy.dist.nvec)


class DemoSequences(DemoRows):
    """Episodes cut into sequences of `length` steps for a memory, the last of each padded.

    `refresh` recomputes the recurrent state at every sequence's start with the present weights (stored-state training,
    Kapturowski et al. 2019), so that they can be shuffled and yet begin where a running policy would be.

    table   (sequences, length) int64 which rows they are; what pads a sequence is not `valid`
    padded  the same, -1 for what pads a sequence
    """

    def __init__(self, obs: Array, actions: Array, episodes: Array, length: int, device: torch.device,
                 weights: Array | None = None, counts: Array | None = None, allowed: Array | None = None,
                 rows: Array | None = None) -> None:
        if isinstance(obs, Joined):
            check_room(obs.first)
            obs = np.concatenate((obs.first, obs.second))
        super().__init__(obs, actions, device, weights, counts, allowed)
        self.steps = length
        numbers = np.arange(len(obs)) if rows is None else rows
        order = numbers[np.argsort(episodes[numbers], kind="stable")]
        begins = np.flatnonzero(np.diff(episodes[order])) + 1
        index: list[Array] = []
        self.waves: list[list[int]] = []  # waves[k]: the k-th sequence of every episode that is long enough
        for episode in np.split(order, begins) if len(order) else ():
            for k, start in enumerate(range(0, len(episode), length)):
                part = episode[start:start + length]
                if k == len(self.waves):
                    self.waves.append([])
                self.waves[k].append(len(index))
                index.append(np.pad(part, (0, length - len(part)), constant_values=-1))
        table = np.array(index, dtype=np.int64).reshape(-1, length)
        self.valid = torch.tensor(table >= 0, device=device)
        self.padded = table
        self.table = np.where(table < 0, numbers[-1] if len(numbers) else 0, table)
        self.flat = torch.from_numpy(table.T[table.T >= 0]).to(device)
        self.states = torch.empty(0)

    def __len__(self) -> int:
        return len(self.table)

    def chosen(self, values: Tensor | None) -> Tensor | None:
        return None if values is None else values[self.flat]

    def example_weights(self) -> Tensor | None:
        return None if self.weights is None else self.weights[torch.from_numpy(self.table)]

    def chosen_obs(self) -> Tensor:
        return self._seen(self.flat.cpu().numpy())

    def moments(self, flatten: Flatten) -> tuple[Tensor, Tensor, float | Tensor]:
        return obs_moments(flatten, self.obs, index=self.flat, mapped=self.mapped_obs)

    def numbers(self, index: Array) -> Array:
        return self.table[index]

    def parts(self, most: int) -> Iterator[Array]:
        return super().parts(max(1, most // self.table.shape[1]))

    def shown(self) -> ShownSequences:
        """The same for the kernels; valid until the next `refresh`."""
        return ShownSequences(self.obs, self.actions, self.weights, self.padded, self.states, self.mapped_obs)

    def _steps(self, index: Any) -> Tensor:
        """(sequences, length, *obs_shape) observations of the sequences `index`."""
        rows = self.table[index]
        return self._seen(rows.reshape(-1)).reshape(*rows.shape, *self.obs.shape[1:])

    @torch.no_grad()
    def refresh(self, policy: Policy) -> None:
        self.states = torch.zeros(len(self), policy.memory_dim, device=self.device)
        if follow_sequences(policy, self.shown(), self.waves):
            return
        for wave, following in zip(self.waves[:-1], self.waves[1:], strict=True):
            _, after = policy.unroll(self._steps(wave).transpose(0, 1), self.states[wave])
            # Only a full sequence has a successor, and both waves list the episodes in the same order.
            position = {number: i for i, number in enumerate(wave)}
            self.states[following] = after[[position[number - 1] for number in following]]

    def evaluate(self, policy: Policy, index: Array, shift: RandomShift | None = None) -> Examples:
        obs, numbers = self._steps(index), self.padded[index].T.reshape(-1)
        if shift is not None:  # a sequence as a whole
            obs = shift(obs.flatten(0, 1), each=obs.shape[1]).reshape(obs.shape)
        features, _ = policy.unroll(obs.transpose(0, 1), self.states[sent(index, self.device)])
        there = numbers >= 0  # which the CPU knows, so that the device need not be asked how many they are
        place, rows = sent(np.flatnonzero(there), self.device), sent(numbers[there], self.device)
        actions, weights, counts, allowed = (
            None if x is None else x[rows] for x in (self.actions, self.weights, self.counts, self.allowed))
        assert actions is not None
        return _masked(policy.params(features)[place], allowed, policy), actions, weights, counts


class RowSampler:
    """Draws rows with replacement, in proportion to `weights` (n,) if they are given, otherwise uniformly."""

    def __init__(self, n: int, weights: Array | None, generator: torch.Generator) -> None:
        self.n, self.generator, self.limits = n, generator, None
        if weights is not None:
            total = np.cumsum(weights, dtype=np.float64)
            self.limits = torch.tensor(total / total[-1], device=generator.device)

    def __call__(self, count: int) -> Tensor:
        """(count,) int64 on the generator's device."""
        device = self.generator.device
        if self.limits is None:
            return torch.randint(self.n, (count,), generator=self.generator, device=device)
        points = torch.rand(count, dtype=torch.float64, generator=self.generator, device=device)
        return torch.searchsorted(self.limits, points, right=True)  # a row of weight 0 has no points
