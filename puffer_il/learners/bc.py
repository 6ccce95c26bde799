"""Behaviour cloning: maximum likelihood of the demonstrated actions (Pomerleau 1991).

    L = −mean log π(a|s) − ent_coef · entropy,  early stop on held-out episodes, the best weights are kept
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.config import Config, setting
from puffer_il.fast import clone_epoch, clone_score, obs_moments
from puffer_il.optim import FlatAdam
from puffer_il.policy import Policy
from puffer_il.registry import register
from puffer_il.types import About, Array, Demos, EnvSpec, InputError, Metrics


@dataclass(frozen=True)
class BCConfig:
    learning_rate: float = setting(1e-3, "Adam's step size", low=0)
    batch_size: int = setting(256, "transitions per minibatch (with an LSTM: of the chunks in it)", low=1)
    weight_decay: float = setting(1e-4, "decoupled weight decay (AdamW)", low=0)
    ent_coef: float = setting(0.0, "weight of the entropy bonus")
    validation: float = setting(0.1, "share of the episodes held out (of the rows if there are few); 0 holds out none",
                                low=0, high=0.9)
    patience: int = setting(20, "stop after this many epochs without a better validation loss; 0 never stops", low=0)
    max_grad_norm: float = setting(1.0, "clip the gradient's norm; 0 does not clip", low=0)
    sequence_length: int = setting(16, "steps of a chunk that an LSTM is trained on", low=1)


@register("bc")
class BC:
    """Supervised learning of the demonstrated actions; one `update` is one epoch. Paper: Pomerleau 1991."""

    section = BCConfig
    needs_rollouts = False
    needs_demos = needs_actions = True
    needs_expert = False
    about = About("Pomerleau 1991, doi:10.1162/neco.1991.3.1.88", "many demonstrations, or no environment to practise "
                  "in: seconds of supervised learning, but it drifts where they are few")
    promised_metrics = ("bc/train_nll", "bc/val_nll", "bc/accuracy", "losses/entropy", "losses/grad_norm")

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int,
                 policy: Policy | None = None) -> None:
        assert demos is not None
        if config.policy.lstm and config.demos.subsample > 1:
            raise InputError(f"demos.subsample = {config.demos.subsample}: an LSTM learns from consecutive steps; "
                             "set it to 1, or policy.lstm to 0")
        self.config: BCConfig = config.bc
        self.device = device
        self.policy = policy if policy is not None else Policy(spec, config.policy).to(device)
        # The critic comes last among the policy's parameters, and learns nothing here.
        critic = {id(p) for p in self.policy.critic.parameters()}
        self.optimizer = FlatAdam([p for p in self.policy.parameters() if id(p) not in critic],
                                  learning_rate=self.config.learning_rate, weight_decay=self.config.weight_decay,
                                  max_grad_norm=self.config.max_grad_norm)
        self.rng = np.random.default_rng(seed)
        train, held_out = self._split(demos)
        self.train, self.held_out = self._load(demos, train), self._load(demos, held_out)
        self.steps_per_update = len(train)
        self.epochs_without_gain, self.best_loss, self.done = 0, math.inf, False
        self.best_weights: dict[str, Tensor] = {}
        self.notices: list[str] = []
        self.policy.update_norm(*obs_moments(self.policy.flatten, self.train.obs.reshape(-1, *spec.obs_shape)))

    def relabel(self, buffer: Any) -> Metrics:
        return {}

    def advantages(self, buffer: Any) -> None:
        """Nothing to do: behaviour cloning learns from the demonstrations alone."""

    def update(self, buffer: Any, progress: float) -> Metrics:
        losses = self._epoch()
        with torch.no_grad():
            checked = self.held_out if len(self.held_out) else self.train
            nll, accuracy = (float(x) for x in self._score(checked))
        self._keep_best(nll)
        return {"bc/train_nll": losses[0], "bc/val_nll": nll, "bc/accuracy": accuracy, "losses/entropy": losses[1],
                "losses/grad_norm": losses[2]}

    def state_dict(self) -> dict[str, Any]:
        return {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict(),
                "rng": self.rng.bit_generator.state, "best_weights": self.best_weights, "best_loss": self.best_loss,
                "epochs_without_gain": self.epochs_without_gain, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.best_weights, self.best_loss = state["best_weights"], state["best_loss"]
        self.epochs_without_gain, self.done = state["epochs_without_gain"], state["done"]

    def finish(self) -> None:
        """Go back to the weights of the best validation loss."""
        if self.best_weights:
            self.policy.load_state_dict(self.best_weights)

    def _epoch(self) -> list[float]:
        """One pass over the training rows; the means of loss, entropy and gradient norm."""
        cfg, order = self.config, self.rng.permutation(len(self.train))
        if type(self.train) is Rows:
            means = clone_epoch(self.policy, self.train.obs, self.train.actions, order, cfg.batch_size, cfg.ent_coef,
                                self.optimizer)
            if means is not None:
                return means.tolist()
        self.train.refresh(self.policy)
        self.optimizer.prepare()
        batches = [order[i:i + cfg.batch_size] for i in range(0, len(order), cfg.batch_size)]
        return torch.stack([self._step(index) for index in batches]).mean(0).tolist()

    def _step(self, index: Array) -> Tensor:
        logprobs, entropy, _ = self.train.evaluate(self.policy, torch.from_numpy(index))
        nll, mean_entropy = -logprobs.mean(), entropy.mean()
        self.optimizer.zero_grad()
        (nll - self.config.ent_coef * mean_entropy).backward()
        return torch.stack((nll.detach(), mean_entropy.detach(), self.optimizer.step()))

    def _score(self, data: Rows) -> tuple[Any, Any]:
        """Mean negative log-likelihood, and the share of actions that the policy's mode gets right (for continuous
        actions the share of their variance that it explains)."""
        if type(data) is Rows:
            means = clone_score(self.policy, data.obs, data.actions)
            if means is not None:
                return means[0], means[2] if self.policy.spec.action.discrete else data.explained(means[2])
        data.refresh(self.policy)
        logprobs, _, mode = data.evaluate(self.policy, torch.arange(len(data)))
        actions = data.chosen_actions()
        if self.policy.spec.action.discrete:
            return -logprobs.mean(), (mode == actions).all(-1).float().mean()
        return -logprobs.mean(), data.explained(float((mode - actions).square().sum(1).mean()))

    def _keep_best(self, loss: float) -> None:
        if loss < self.best_loss:
            self.best_loss, self.epochs_without_gain = loss, 0
            self.best_weights = {k: v.detach().clone() for k, v in self.policy.state_dict().items()}
        else:
            self.epochs_without_gain += 1
        self.done = 0 < self.config.patience <= self.epochs_without_gain

    def _split(self, demos: Demos) -> tuple[Array, Array]:
        """Row numbers for training and validation. Whole episodes are held out: neighbouring rows are near copies."""
        share, episodes = self.config.validation, demos.num_episodes
        if share * len(demos) < 1:
            return np.arange(len(demos)), np.arange(0)
        count = round(share * episodes)
        if count == 0 and self.policy.lstm is None:
            order = self.rng.permutation(len(demos))
            return np.sort(order[int(share * len(demos)):]), np.sort(order[:int(share * len(demos))])
        if episodes < 2:
            return np.arange(len(demos)), np.arange(0)
        chosen = self.rng.permutation(episodes)[:max(1, count)]
        held_out = np.isin(np.repeat(np.arange(episodes), demos.lengths), chosen)
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def _load(self, demos: Demos, rows: Array) -> Rows:
        assert demos.actions is not None
        if self.policy.lstm is None:
            return Rows(demos.obs[rows], demos.actions[rows], self.device)
        episodes = np.searchsorted(demos.episode_starts, rows, side="right") - 1
        return Sequences(demos.obs[rows], demos.actions[rows], episodes, self.config.sequence_length, self.device)


class Rows:
    """Demonstrated transitions on the device, each an example of its own."""

    def __init__(self, obs: Array, actions: Array, device: torch.device) -> None:
        self.obs, self.actions = torch.tensor(obs, device=device), torch.tensor(actions, device=device)

    def __len__(self) -> int:
        return len(self.obs)

    @functools.cached_property
    def variance(self) -> float:
        """Of continuous actions, summed over their dimensions."""
        return float(self.chosen_actions().var(0, unbiased=False).sum())

    def explained(self, square: float) -> float:
        """The share of that variance which a mean squared distance leaves over; all or nothing where nothing varies."""
        return 1 - square / self.variance if self.variance > 0 else float(square == 0)

    def refresh(self, policy: Policy) -> None:
        """Rows have no recurrent state to bring up to date."""

    def chosen_actions(self) -> Tensor:
        return self.actions

    def evaluate(self, policy: Policy, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (n,), entropies (n,) and modes (n, dim) of the rows `index`."""
        params = policy.action_params(self.obs[index])
        return *policy.dist.log_prob_entropy(params, self.actions[index]), policy.dist.mode(params.detach())


class Sequences(Rows):
    """Episodes cut into chunks of `length` steps for an LSTM, the last of each padded.

    `refresh` recomputes the recurrent state at every chunk's start with the present weights (stored-state training,
    Kapturowski et al. 2019), so that chunks can be shuffled and yet begin where a running policy would be.
    """

    def __init__(self, obs: Array, actions: Array, episodes: Array, length: int, device: torch.device) -> None:
        index: list[Array] = []
        self.waves: list[list[int]] = []  # waves[k]: the k-th chunk of every episode that is long enough
        for episode in np.unique(episodes):
            rows = np.flatnonzero(episodes == episode)
            for k, start in enumerate(range(0, len(rows), length)):
                chunk = rows[start:start + length]
                if k == len(self.waves):
                    self.waves.append([])
                self.waves[k].append(len(index))
                index.append(np.pad(chunk, (0, length - len(chunk)), constant_values=-1))
        chunks = np.array(index, dtype=np.int64).reshape(-1, length)
        super().__init__(obs[chunks], actions[chunks], device)
        self.valid = torch.tensor(chunks >= 0, device=device)
        self.states = torch.empty(0)

    def chosen_actions(self) -> Tensor:
        return self.actions.transpose(0, 1)[self.valid.T]

    @torch.no_grad()
    def refresh(self, policy: Policy) -> None:
        self.states = torch.zeros(len(self), policy.state_dim, device=self.obs.device)
        for wave, following in zip(self.waves[:-1], self.waves[1:], strict=True):
            _, after = policy.unroll(self.obs[wave].transpose(0, 1), self.states[wave])
            # Only a full chunk has a successor, and both waves list the episodes in the same order.
            self.states[following] = after[self._continues(wave, following)]

    def _continues(self, wave: list[int], following: list[int]) -> list[int]:
        position = {chunk: i for i, chunk in enumerate(wave)}
        return [position[chunk - 1] for chunk in following]

    def evaluate(self, policy: Policy, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        valid = self.valid[index].T.reshape(-1)
        features, _ = policy.unroll(self.obs[index].transpose(0, 1), self.states[index])
        params = policy.params(features)[valid]
        actions = self.actions[index].transpose(0, 1).reshape(len(valid), -1)[valid]
        return *policy.dist.log_prob_entropy(params, actions), policy.dist.mode(params.detach())
