"""The discriminator that adversarial learners train, what it sees, and the replay of policy rows that steadies it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.nn import fast
from puffer_il.nn.distributions import make_distribution
from puffer_il.nn.networks import Encoder, Flatten, mlp, one_hot

REPLAY_KEEP = 0.01  # share of a rollout that enters the replay: old policies stay represented for a hundred iterations
INPUTS = ("state_action", "state_next_state", "state", "next_state")


def beside(demos: Demos, kind: str) -> Array | None:
    """What stands beside the observations in rows of this kind: actions, true successors, or nothing."""
    return {"state_action": demos.actions, "state": None}.get(kind, demos.next_obs)


class Inputs(nn.Module):
    """Rows (n, width) that a network judges: (s, a), (s, s′), s or s′ alone, with an absorbing flag in the last column.

        state_action        observation, action features, flag
        state_next_state    observation, successor, flag
        state               observation, flag
        next_state          successor, flag

    Numeric columns are normalised by the observations' running statistics. An absorbing row has the flag one and
    everything else zero (Kostrikov et al. 2019), set after normalisation. Where an episode terminates, s′ is the true
    last observation, and the absorbing row stands for all that follows: the step from there into the absorbing state
    would only say again that s′ was the last. No state is left after it, so that s alone never shows it: what
    episodes end in, goals or pits, can be told apart by s′.
    """

    absorbing: Tensor

    def __init__(self, spec: EnvSpec, kind: str = "state_action") -> None:
        super().__init__()
        if kind not in INPUTS:
            raise ValueError(f"inputs {kind!r}: choose {', '.join(INPUTS)}")
        self.kind = kind
        self.flatten = Flatten(spec)
        self.encoder = Encoder(self.flatten, normalise=True)
        self.actions: Any = None
        self.num_beside, features_beside = 0, 0
        if kind == "state_action":
            self.actions = make_distribution(spec.action)
            for parameter in self.actions.parameters():
                parameter.requires_grad_(False)  # only its action features are used
            self.num_beside = features_beside = sum(spec.action.nvec) or spec.action.dim
        elif kind == "state_next_state":
            self.num_beside, features_beside = self.flatten.dim, self.encoder.dim
        self.width = self.flatten.dim + self.num_beside + 1
        self.register_buffer("absorbing", one_hot(torch.tensor([self.width - 1]), self.width), persistent=False)
        self.features = self.encoder.dim + features_beside + 1  # of a row once its pixels are convolved

    def update_norm(self, mean: Tensor, var: Tensor, count: float | Tensor) -> None:
        """Merge the moments of `count` rows' observations into the running statistics."""
        self.encoder.update_norm(mean, var, count)

    @torch.no_grad()
    def rows(self, obs: Tensor, beside: Tensor | None = None, index: Tensor | None = None,
             out: Tensor | None = None) -> Tensor:
        """Raw rows (n, *obs_shape) and what stands beside them, actions (n, dim) or successors (n, *obs_shape), only
        those of `index` → inputs (n, width), in `out` if given, whose last dimension is contiguous."""
        obs, beside = self.seen(obs, beside)
        made = fast.pair_rows(self, obs, beside, index, out)
        if made is not None:
            return made
        if index is not None:
            obs, beside = obs[index], None if beside is None else beside[index]
        parts = [self.encoder.prepare(self.flatten(obs))]
        if self.kind == "state_action":
            parts.append(self.actions.features(beside))
        elif self.kind == "state_next_state":
            assert beside is not None
            parts.append(self.encoder.prepare(self.flatten(beside)))
        return torch.cat((*parts, parts[0].new_zeros(len(obs), 1)), 1, out=out)

    def seen(self, obs: Tensor, beside: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Of both what rows are made of: of s′ alone the successors are the observations."""
        if self.kind != "next_state":
            return obs, beside
        assert beside is not None
        return beside, None

    def absorbing_rows(self, n: int) -> Tensor:
        return self.absorbing.repeat(n, 1)

    def encode(self, rows: Tensor) -> Tensor:
        """Rows with their pixels convolved: (n, features)."""
        if not self.encoder.convs:
            return rows
        dim = self.flatten.dim
        parts, start = [self.encoder.encode(rows[:, :dim])], dim
        if self.kind == "state_next_state":
            parts.append(self.encoder.encode(rows[:, dim:2 * dim]))
            start = 2 * dim
        return torch.cat((*parts, rows[:, start:]), 1)


class Discriminator(Inputs):
    """Rows of `Inputs` → score, the logit of "expert" where the loss is cross-entropy. High means expert."""

    def __init__(self, spec: EnvSpec, hidden: tuple[int, ...], activation: str, spectral_norm: bool,
                 kind: str = "state_action") -> None:
        super().__init__(spec, kind)
        self.net = mlp(self.features, hidden, 1, activation)
        self.spectral_norm: bool = spectral_norm
        if spectral_norm:
            for layer in self.net:
                if isinstance(layer, nn.Linear):
                    nn.utils.parametrizations.spectral_norm(layer)

    def logit(self) -> fast.Logit:
        """What `forward` computes, as the kernels take it."""
        return fast.Logit((fast.Term(self, 0, self.width - 1, 1.0),), self.width)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (n,) of inputs made by `rows`; differentiable with respect to them."""
        return self.net(self.encode(rows)).squeeze(-1).float()


class Replay:
    """A ring of rows from earlier rollouts, observations and what stands beside them, on the learner's device."""

    def __init__(self, size: int, spec: EnvSpec, device: torch.device, kind: str = "state_action") -> None:
        dtype = torch.from_numpy(np.zeros(0, spec.obs_dtype)).dtype
        self.obs = torch.zeros(size, *spec.obs_shape, dtype=dtype, device=device)
        self.beside: Tensor | None = None
        if kind == "state_action":
            self.beside = torch.zeros(size, spec.action.dim, device=device,
                                      dtype=torch.int32 if spec.action.discrete else torch.float32)
        elif kind != "state":
            self.beside = torch.zeros_like(self.obs)
        self.stored = 0

    def __len__(self) -> int:
        return min(self.stored, len(self.obs))

    def add(self, obs: Tensor, beside: Tensor | None, valid: Tensor | None, generator: torch.Generator) -> None:
        """Keep a random share of a rollout's (valid) rows, over the oldest ones once the ring is full."""
        if len(self.obs) == 0:
            return
        rows = len(obs) if valid is None else len(valid)
        count = min(len(self.obs), max(1, round(REPLAY_KEEP * rows)))
        index = torch.randint(rows, (count,), generator=generator, device=obs.device)
        index = index if valid is None else valid[index]
        slots = torch.arange(self.stored, self.stored + count, device=obs.device) % len(self.obs)
        self.obs[slots] = obs[index]
        if self.beside is not None:
            assert beside is not None
            self.beside[slots] = beside[index]
        self.stored += count

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"obs": self.obs, "stored": self.stored}
        return state if self.beside is None else state | {"beside": self.beside}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.obs.copy_(state["obs"])
        if self.beside is not None:
            self.beside.copy_(state["beside"])
        self.stored = state["stored"]
