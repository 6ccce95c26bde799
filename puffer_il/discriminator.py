"""The discriminator that adversarial learners train, and the replay of policy rows that steadies it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il import fast
from puffer_il.distributions import make_distribution
from puffer_il.networks import Encoder, Flatten, mlp
from puffer_il.types import EnvSpec

REPLAY_KEEP = 0.01  # share of a rollout that enters the replay: old policies stay represented for a hundred iterations


class Discriminator(nn.Module):
    """(s, a, absorbing flag) → logit. Expert is 1: a high logit means expert.

    Its inputs are flat rows (n, dim): flattened observation, action features, flag. The absorbing row has the flag one
    and everything else zero (Kostrikov et al. 2019), set after normalisation.
    """

    def __init__(self, spec: EnvSpec, hidden: tuple[int, ...], activation: str, spectral_norm: bool) -> None:
        super().__init__()
        self.flatten = Flatten(spec)
        self.encoder = Encoder(self.flatten, normalise=True)
        self.actions: Any = make_distribution(spec.action)
        for parameter in self.actions.parameters():
            parameter.requires_grad_(False)  # only its action features are used
        self.num_actions = sum(spec.action.nvec) or spec.action.dim
        self.net = mlp(self.encoder.dim + self.num_actions + 1, hidden, 1, activation)
        self.spectral_norm: bool = spectral_norm
        if spectral_norm:
            for layer in self.net:
                if isinstance(layer, nn.Linear):
                    nn.utils.parametrizations.spectral_norm(layer)

    def update_norm(self, mean: Tensor, var: Tensor, count: float | Tensor) -> None:
        """Merge the moments of `count` rows into the running statistics."""
        self.encoder.update_norm(mean, var, count)

    @torch.no_grad()
    def rows(self, obs: Tensor, actions: Tensor, index: Tensor | None = None) -> Tensor:
        """Raw rows (n, *obs_shape), (n, dim), only those of `index` → inputs (n, observation + action features + 1)."""
        made = fast.pair_rows(self, obs, actions, index)
        if made is not None:
            return made
        obs, actions = (obs, actions) if index is None else (obs[index], actions[index])
        features = self.encoder.prepare(self.flatten(obs))
        return torch.cat((features, self.actions.features(actions), features.new_zeros(len(features), 1)), 1)

    def absorbing_rows(self, n: int) -> Tensor:
        rows = torch.zeros(n, self.flatten.dim + self.num_actions + 1, device=next(self.net.parameters()).device)
        rows[:, -1] = 1
        return rows

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (n,) of inputs made by `rows`; differentiable with respect to them."""
        if self.encoder.convs:
            rows = torch.cat((self.encoder.encode(rows[:, :self.flatten.dim]), rows[:, self.flatten.dim:]), 1)
        return self.net(rows).squeeze(-1).float()


class Replay:
    """A ring of (observation, action) rows from earlier rollouts, on the learner's device."""

    def __init__(self, size: int, spec: EnvSpec, device: torch.device) -> None:
        dtype = torch.from_numpy(np.zeros(0, spec.obs_dtype)).dtype
        self.obs = torch.zeros(size, *spec.obs_shape, dtype=dtype, device=device)
        self.actions = torch.zeros(size, spec.action.dim, dtype=torch.int32 if spec.action.discrete else torch.float32,
                                   device=device)
        self.stored = 0

    def __len__(self) -> int:
        return min(self.stored, len(self.obs))

    def add(self, obs: Tensor, actions: Tensor, valid: Tensor | None, generator: torch.Generator) -> None:
        """Keep a random share of a rollout's (valid) rows, over the oldest ones once the ring is full."""
        if len(self.obs) == 0:
            return
        rows = len(obs) if valid is None else len(valid)
        count = min(len(self.obs), max(1, round(REPLAY_KEEP * rows)))
        index = torch.randint(rows, (count,), generator=generator, device=obs.device)
        index = index if valid is None else valid[index]
        slots = torch.arange(self.stored, self.stored + count, device=obs.device) % len(self.obs)
        self.obs[slots], self.actions[slots] = obs[index], actions[index]
        self.stored += count

    def state_dict(self) -> dict[str, Any]:
        return {"obs": self.obs, "actions": self.actions, "stored": self.stored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.obs.copy_(state["obs"])
        self.actions.copy_(state["actions"])
        self.stored = state["stored"]
