"""Behaviour cloning of an expert that is asked: every state that it has been asked about, and what it said."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.checkpoint import Stateful
from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.demos.rows import Joined, is_mapped
from puffer_il.learners.base import Learner
from puffer_il.learners.bc import BC
from puffer_il.learners.common.demo_rows import moments_of, on_device
from puffer_il.nn.observations import obs_moments
from puffer_il.rollout.buffer import RolloutBuffer

# obs (n, *obs_shape) or a Joined of such, labels (n, dim), episodes (n,), held_out (n,) bool, weights (n,) or None
Labelled = tuple[Any, Array, Array, Array, Array | None]


class BCOnLabels(Learner):
    """Behaviour cloning on all that an expert has said about the states of rollouts, and of demonstrations if there are
    any. A subclass is the rollouts' Mixer: it decides who acts.

    bc, policy  the learner that is held, and its policy
    rng         for the subclass's own draws
    data        labelled rows so far; of the section, `capacity` bounds them and `epochs` are those of each update
    """

    needs_demos = False
    needs_expert = True
    saved: ClassVar[tuple[str, ...]] = ("bc", "rng", "data")

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.bc = BC(spec, None, config, device, seed)
        self.policy = self.bc.policy
        self.rng = np.random.default_rng([seed, 2])  # apart from the one in `bc`
        self.data = LabelledRollouts(demos, config.bc.validation, self.config.capacity)
        if demos is not None:
            seen = on_device(demos.obs, torch.device("cpu") if is_mapped(demos.obs) else device)
            self.policy.encoder.update_norm(*moments_of(self.policy.flatten, demos.obs, seen))
            self._fit()

    def update(self, buffer: RolloutBuffer, progress: float) -> Metrics:
        assert buffer.expert_actions is not None
        rows, labels = buffer.obs[buffer.valid], buffer.expert_actions[buffer.valid]
        wrong = np.flatnonzero(self.policy.spec.forbidden(rows, labels))
        if len(wrong):
            raise InputError(f"{self.name}.expert: says action {labels[wrong[0]].tolist()} where the observation says "
                             f"that it may not be taken ({len(wrong)} of {len(rows)} rows); give an expert that keeps "
                             "to the masks")
        self.data.add(buffer.obs, buffer.expert_actions, buffer.valid, buffer.episode_starts)
        self._see(torch.tensor(buffer.obs[buffer.valid], device=self.device))
        return self._fit() | {f"{self.name}/rows": float(len(self.data))}

    def _fit(self) -> Metrics:
        self.bc.take(*self.data.rows())
        return self.bc.fit(self.config.epochs)

    def _see(self, rows: Tensor) -> None:
        self.policy.encoder.update_norm(*obs_moments(self.policy.flatten, rows))


class LabelledRollouts(Stateful):
    """Labelled rollouts, one after the other: DAgger's data set (Ross et al. 2011). Environments go on from one
    rollout to the next, so that each of them is one stream of rows and a memory finds its episodes whole.

    demos     transitions to begin with, which are always kept; or None
    held_out  share of the episodes to validate on, chosen by their number alone: none ever changes sides
    capacity  labelled rows to keep, by forgetting the oldest rollouts (never the last); 0 keeps all

    The demonstrations are no part of its state.
    """

    saved = ("rollouts", "begun")

    def __init__(self, demos: Demos | None, held_out: float, capacity: int = 0) -> None:
        self.demos, self.share, self.capacity = demos, held_out, capacity
        self.rollouts: list[list[Array]] = []  # obs, labels, episode of the row or −1, (num_steps, …)
        self.begun = np.zeros(0, np.int32)  # (num_envs,) episodes

    def __len__(self) -> int:
        return sum(int((episodes >= 0).sum()) for _, _, episodes in self.rollouts) + len(self.demos or ())

    def add(self, obs: Array, labels: Array, valid: Array, starts: Array) -> None:
        """A rollout: obs (num_steps, num_envs, *obs_shape), labels (num_steps, num_envs, dim), valid and starts
        (num_steps, num_envs) bool. Rows that are not valid are left out. Arrays are copied."""
        if not len(self.begun):
            self.begun = np.zeros(valid.shape[1], np.int32)
        number = self.begun + np.cumsum(starts & valid, axis=0, dtype=np.int32)
        self.begun = number[-1]
        # A first rollout may begin in the middle of an episode; to be counted from 0, it counts as one.
        self.rollouts.append([obs.copy(), labels.copy(), np.where(valid, np.maximum(number - 1, 0), -1)])
        while self.capacity and len(self.rollouts) > 1 and len(self) - len(self.demos or ()) > self.capacity:
            self.rollouts.pop(0)

    def rows(self) -> Labelled:
        """All there is: the demonstrations, where they lie, then each environment's rows in the order of time."""
        parts: list[tuple[Array, Array, Array, Array]] = []
        weights: list[Array] = []
        if self.demos is not None:
            assert self.demos.actions is not None
            number = np.repeat(np.arange(self.demos.num_episodes), self.demos.lengths)
            parts.append((self.demos.obs, self.demos.actions, -1 - number, self._held_out(number)))
            if self.demos.weights is not None:  # among themselves; every row of a rollout has weight 1
                weights.append(self.demos.weights / self.demos.weights.mean())
        if self.rollouts:
            obs, labels, number = (np.concatenate(arrays).swapaxes(0, 1) for arrays in zip(*self.rollouts, strict=True))
            column = np.arange(len(number))[:, None]
            kept = number >= 0
            episodes = number.astype(np.int64) * len(number) + column
            parts.append((obs[kept], labels[kept], episodes[kept], self._held_out(number + column)[kept]))
        seen, *others = zip(*parts, strict=True)
        labels, episodes, held_out = (np.concatenate(arrays) for arrays in others)
        if weights:
            weights.append(np.ones(len(labels) - len(weights[0])))
        own = np.concatenate(weights).astype(np.float32) if weights else None
        return seen[0] if len(seen) == 1 else Joined(*seen), labels, episodes, held_out, own

    def _held_out(self, number: Array) -> Array:
        """Evenly spread over the numbers: with a share of 0.1, number 9, 19, …"""
        return np.floor((number + 1) * self.share) > np.floor(number * self.share)
