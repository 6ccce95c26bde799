"""Cloning of a perturbed expert (DART, Laskey et al. 2017): demonstrations that show how errors are undone.

    D ← ∅,  ψ ← the first noise
    for iteration 0, 1, …:
        roll out a ~ π*(· | s, ψ): the expert's action, disturbed      D ← D ∪ {(s, π*(s))}, its own action
        π ← behaviour cloning on all of D
        ψ ← the noise under which the errors of π on held-out rows are likeliest
    discrete actions: with probability ε a random one     ε ← share of the held-out rows where π is wrong
    continuous: a ~ N(π*(s), Σ)                           Σ ← mean of (π(s) − π*(s)) (π(s) − π*(s))ᵀ
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import ActionSpec, Array, EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.bc import BC
from puffer_il.learners.common.bc_on_labels import LabelledRollouts
from puffer_il.learners.registry import register
from puffer_il.nn.observations import obs_moments
from puffer_il.nn.policy import Policy
from puffer_il.rollout.buffer import RolloutBuffer


@dataclass(frozen=True)
class NoiseBCConfig:
    expert: str = setting("script", "who demonstrates: 'script' (the environment's c_expert), a run directory or "
                          "policy file, 'person' (at the terminal), or 'random' (a control)")
    noise: float = setting(0.1, "in the first rollout: how often a random action is taken or, for continuous ones, the "
                           "standard deviation in units of half the range", low=0)
    fit: bool = setting(True, "fit the noise to the policy's errors after each rollout; off, it stays as it is")
    alpha: float = setting(0.0, "the error expected of the final policy, to which fitted noise is scaled: ε or, for "
                           "continuous actions, the trace of Σ in half ranges squared; 0 does not scale", low=0)
    epochs: int = setting(4, "passes over all labelled rows after each rollout", low=1)
    capacity: int = setting(1_000_000, "labelled rows to keep; beyond, the oldest rollouts go; 0 keeps all", low=0)


@register("noise_bc", uses=("bc",))
class NoiseBC:
    """Behaviour cloning of an expert that is disturbed while it demonstrates (DART). Paper: Laskey et al. 2017,
    arXiv:1703.09327."""

    section = NoiseBCConfig
    needs_rollouts = needs_expert = True
    needs_demos = False
    needs_actions = True
    about = About("Laskey et al. 2017, arXiv:1703.09327", "an expert can demonstrate but not judge the learner's own "
                  "states, or the learner must not act while it is bad: the expert's slips show how to recover")
    promised_metrics = (*BC.promised_metrics, "noise_bc/noise", "noise_bc/rows")
    expert_acts, policy_acts, greedy = True, False, True
    done = False
    steps_per_update = 0  # the rollout's steps count

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        self.config: NoiseBCConfig = config.noise_bc
        self.device = device
        self.policy = Policy(spec, config.policy).to(device)
        self.bc = BC(spec, None, config, device, seed, policy=self.policy)
        self.rng = np.random.default_rng([seed, 2])  # apart from the one in `bc`
        self.data = LabelledRollouts(demos, config.bc.validation, self.config.capacity)
        self.noise = first_noise(spec.action, self.config.noise)
        self.notices: list[str] = []
        if demos is not None:
            self._see(demos.obs)
            self._fit()

    def mix(self, own: Array | None, expert: Array, starts: Array, rows: slice) -> Array:
        """The expert's action, disturbed."""
        return disturb(expert, self.noise, self.policy.spec.action, self.rng)

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        return {}  # rewards are not read

    def advantages(self, buffer: RolloutBuffer) -> None:
        """Nothing to do: the labels say what is right."""

    def update(self, buffer: RolloutBuffer | None, progress: float) -> Metrics:
        assert buffer is not None and buffer.expert_actions is not None
        level = noise_level(self.noise, self.policy.spec.action)
        self.data.add(buffer.obs, buffer.expert_actions, buffer.valid, buffer.episode_starts)
        self._see(buffer.obs[buffer.valid])
        return self._fit() | {"noise_bc/noise": level, "noise_bc/rows": float(len(self.data))}

    def state_dict(self) -> dict[str, Any]:
        return {"bc": self.bc.state_dict(), "rng": self.rng.bit_generator.state, "data": self.data.state_dict(),
                "noise": torch.from_numpy(self.noise)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.bc.load_state_dict(state["bc"])
        self.rng.bit_generator.state = state["rng"]
        self.data.load_state_dict(state["data"])
        self.noise = state["noise"].numpy()

    def finish(self) -> None:
        """The last weights are the result."""

    def _fit(self) -> Metrics:
        self.bc.take(*self.data.rows())
        metrics = self.bc.fit(self.config.epochs)
        if self.config.fit:
            self.noise = fitted_noise(*self.bc.errors(), self.policy.spec.action, self.config.alpha)
        return metrics

    def _see(self, obs: Array) -> None:
        self.policy.update_norm(*obs_moments(self.policy.flatten, torch.tensor(obs, device=self.device)))


def first_noise(action: ActionSpec, level: float) -> Array:
    """ε of each dimension (dim,), or Σ (dim, dim) with the standard deviation `level` in units of half the range."""
    if action.discrete:
        return np.full(action.dim, min(level, 1.0))
    return np.diag(np.square(level * action.half_range).astype(np.float64))


def disturb(actions: Array, noise: Array, action: ActionSpec, rng: np.random.Generator) -> Array:
    """(n, dim) actions with the noise: ε (dim,) or Σ (dim, dim)."""
    if action.discrete:
        other = rng.integers(0, action.nvec, actions.shape, actions.dtype)
        return np.where(rng.random(actions.shape) < noise, other, actions)
    # The root by eigenvalues: Σ may be singular.
    values, vectors = np.linalg.eigh(noise)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return (actions + rng.standard_normal(actions.shape) @ root.T).astype(actions.dtype)


def fitted_noise(modes: Array, labels: Array, action: ActionSpec, alpha: float = 0.0) -> Array:
    """The noise under which the policy's `modes` (n, dim) are likeliest where the expert says `labels` (n, dim).

        ε = K/(K − 1) · mean (mode ≠ label)       Σ = mean (mode − label)(mode − label)ᵀ      (Laskey et al. 2017)

    K/(K − 1), for a random one of K actions may be the right one. With `alpha` ε is that, and Σ is scaled so that its
    trace, in half ranges squared, is that: the paper's Σ · α / (T tr Σ), whose α counts all T steps of an episode.
    """
    if action.discrete:
        choices = np.array(action.nvec)
        wrong = (modes != labels).mean(0)
        return np.minimum(np.full(action.dim, alpha) if alpha else wrong * choices / np.maximum(choices - 1, 1), 1.0)
    assert action.low is not None and action.high is not None
    error = (np.clip(modes, action.low, action.high) - labels).astype(np.float64)
    sigma = error.T @ error / len(error)
    trace = float((np.diag(sigma) / np.square(action.half_range)).sum())
    return sigma * (alpha / trace) if alpha and trace > 0 else sigma


def noise_level(noise: Array, action: ActionSpec) -> float:
    """Mean ε, or the root of Σ's mean variance in units of half the range."""
    if action.discrete:
        return float(noise.mean())
    return float(np.sqrt((np.diag(noise) / np.square(action.half_range)).mean()))
