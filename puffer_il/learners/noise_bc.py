"""Cloning of a perturbed expert (DART, Laskey et al. 2017): demonstrations that show how errors are undone.

    D ← ∅,  ψ ← the first noise
    for iteration 0, 1, …:
        roll out a ~ π*(· | s, ψ): the expert's action, disturbed      D ← D ∪ {(s, π*(s))}, its own action
        π ← behaviour cloning on all of D
        ψ ← the noise under which the errors of π on held-out rows are likeliest
    discrete actions: with probability ε a random one     ε ← share of the held-out rows where π is wrong
    continuous: a ~ N(π*(s), Σ)                           Σ ← mean of (π(s) − π*(s)) (π(s) − π*(s))ᵀ
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import ActionSpec, Array, EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.bc import BC
from puffer_il.learners.common.bc_on_labels import BCOnLabels
from puffer_il.learners.registry import register
from puffer_il.rollout.buffer import RolloutBuffer


@dataclass(frozen=True)
class NoiseBCConfig:
    expert: str = setting("script", "who demonstrates: 'script' (the environment's c_expert), a run directory or "
                          "policy file, 'person' (at the terminal), or 'random' (a control)")
    noise: float = setting(0.1, "noise of the first rollout: how often a random action is taken or, for continuous "
                           "ones, the standard deviation in units of half the range", low=0)
    fit: bool = setting(True, "fit the noise to the policy's errors after each rollout; false leaves it as it is")
    alpha: float = setting(0.0, "the error expected of the final policy, to which fitted noise is scaled: ε or, for "
                           "continuous actions, the trace of Σ in half ranges squared; 0 does not scale", low=0)
    epochs: int = setting(4, "passes over all labelled rows after each rollout", low=1)
    capacity: int = setting(1_000_000, "labelled rows to keep, dropping the oldest rollouts first; 0 keeps all", low=0)


@register("noise_bc", uses=("bc",))
class NoiseBC(BCOnLabels):
    """Behaviour cloning of an expert that is disturbed while it demonstrates (DART)."""

    section = NoiseBCConfig
    config: NoiseBCConfig
    about = About("Laskey et al. 2017, arXiv:1703.09327", "an expert can demonstrate but not judge the learner's own "
                  "states, or the learner must not act while it is bad: the expert's slips show how to recover",
                  heads=("plain", "mixture", "flow"))
    promised_metrics = (*BC.promised_metrics, "noise_bc/noise", "noise_bc/rows")
    saved = ("noise",)
    expert_acts, policy_acts, greedy = True, False, True

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        self.noise = first_noise(spec.action, config.noise_bc.noise)  # before what demonstrations tell of it
        super().__init__(spec, demos, config, device, seed)

    def mix(self, own: Array | None, expert: Array, starts: Array, rows: slice, obs: Array) -> Array:
        """The expert's action, disturbed."""
        spec = self.policy.spec
        return disturb(expert, self.noise, spec.action, self.rng, spec.allowed(obs))

    def update(self, buffer: RolloutBuffer, progress: float) -> Metrics:
        level = noise_level(self.noise, self.policy.spec.action)
        return super().update(buffer, progress) | {"noise_bc/noise": level}

    def _fit(self) -> Metrics:
        metrics = super()._fit()
        if self.config.fit:
            modes, labels, obs = self.bc.errors()
            spec = self.policy.spec
            self.noise = fitted_noise(modes, labels, spec.action, self.config.alpha, spec.allowed(obs))
        return metrics


def first_noise(action: ActionSpec, level: float) -> Array:
    """ε of each dimension (dim,), or Σ (dim, dim) with the standard deviation `level` in units of half the range."""
    if action.discrete:
        return np.full(action.dim, min(level, 1.0))
    return np.diag(np.square(level * action.half_range).astype(np.float64))


def disturb(actions: Array, noise: Array, action: ActionSpec, rng: np.random.Generator,
            allowed: Sequence[Array] | None = None) -> Array:
    """(n, dim) actions with the noise: ε (dim,) or Σ (dim, dim). A random choice is one of those that are `allowed`,
    (n, choices) bool for each dimension; None: of all."""
    if action.discrete:
        other = rng.integers(0, action.nvec, actions.shape, actions.dtype) if allowed is None else np.stack(
            [(rng.random(part.shape) * part).argmax(1) for part in allowed], 1).astype(actions.dtype)
        return np.where(rng.random(actions.shape) < noise, other, actions)
    # The root by eigenvalues: Σ may be singular.
    values, vectors = np.linalg.eigh(noise)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return (actions + rng.standard_normal(actions.shape) @ root.T).astype(actions.dtype)


def fitted_noise(modes: Array, labels: Array, action: ActionSpec, alpha: float = 0.0,
                 allowed: Sequence[Array] | None = None) -> Array:
    """The noise under which the policy's `modes` (n, dim) are likeliest where the expert says `labels` (n, dim).

        ε = K/(K − 1) · mean (mode ≠ label)       Σ = mean (mode − label)(mode − label)ᵀ      (Laskey et al. 2017)

    K/(K − 1), for a random one of K actions may be the right one. With `alpha` ε is that, and Σ is scaled so that its
    trace, in half ranges squared, is that: the paper's Σ · α / (T tr Σ), whose α counts all T steps of an episode.

    Where only K_i of the actions are `allowed` in row i, (n, choices) bool for each dimension, ε = Σ (mode ≠ label) /
    Σ (1 − 1/K_i): as many errors are expected of random choices among those.
    """
    if action.discrete:
        choices = np.array(action.nvec)
        wrong = (modes != labels).mean(0)
        if allowed is not None and not alpha:
            expected = np.array([(1 - 1 / part.sum(1)).mean() for part in allowed])
            return np.minimum(wrong / np.maximum(expected, 1 / len(modes)), 1.0)
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
