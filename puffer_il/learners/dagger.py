"""DAgger: dataset aggregation, the expert's answers in the learner's own states (Ross et al. 2011).

    D ← the demonstrations, if there are any
    for iteration i = 0, 1, …:
        roll out π_i = β_i π* + (1 − β_i) π        with the expert π* in a step with probability β_i
        D ← D ∪ {(s, π*(s))} for every state s visited
        π ← behaviour cloning on all of D
"""

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
class DAggerConfig:
    expert: str = setting("script", "who is asked: 'script' (the environment's c_expert), a run directory or policy "
                          "file, 'person' (at the terminal), or 'random' (a control)")
    schedule: str = setting("first", "how the expert's share falls: to 0 after the first rollout, exponentially, "
                            "linearly, or not at all", choices=("first", "exponential", "linear", "constant"))
    beta: float = setting(1.0, "probability that the expert acts in the first rollout", low=0, high=1)
    decay: float = setting(0.5, "factor of the exponential schedule, per rollout", low=0, high=1)
    rampdown: int = setting(8, "rollouts until the linear schedule is at zero", low=1)
    mix: str = setting("step", "the expert's turn is drawn for every step, or for every episode",
                       choices=("step", "episode"))
    greedy: bool = setting(True, "the learner acts by its mode, as in evaluations, instead of sampling")
    epochs: int = setting(4, "passes over all labelled rows after each rollout", low=1)
    capacity: int = setting(1_000_000, "labelled rows to keep, dropping the oldest rollouts first; 0 keeps all", low=0)


def expert_share(config: DAggerConfig, iteration: int) -> float:
    """β of a rollout, the first being number 0 (Ross et al. 2011, section 3.1; "first" is their β_i = I(i = 1)).

        first        β for i = 0, then 0            exponential   β · decay^i
        linear       β · max(0, 1 − i / rampdown)   constant      β
    """
    factors = {"first": float(iteration == 0), "exponential": config.decay**iteration,
               "linear": max(0.0, 1 - iteration / config.rampdown), "constant": 1.0}
    return config.beta * factors[config.schedule]


@register("dagger", uses=("bc",))
class DAgger(BCOnLabels):
    """Behaviour cloning of an expert that is asked in the learner's own states."""

    section = DAggerConfig
    config: DAggerConfig
    about = About("Ross et al. 2011, arXiv:1011.0686", "an expert can be asked (a script, a policy, a person): the "
                  "surest remedy where cloning drifts; every step costs a question",
                  heads=("plain", "mixture", "flow"))
    promised_metrics = (*BC.promised_metrics, "dagger/beta", "dagger/rows", "dagger/gap")
    saved = ("expert_turn", "iteration")

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.expert_turn = np.zeros(config.env.num_envs, bool)  # mix = "episode"
        self.iteration = int(demos is not None)  # they stand for the first rollout, the expert's own

    @property
    def beta(self) -> float:
        return expert_share(self.config, self.iteration)

    @property
    def expert_acts(self) -> bool:
        return self.beta > 0

    @property
    def policy_acts(self) -> bool:
        return self.beta < 1

    @property
    def greedy(self) -> bool:
        return self.config.greedy

    def mix(self, own: Array | None, expert: Array, starts: Array, rows: slice, obs: Array) -> Array:
        """The expert's action with probability β, else the policy's."""
        drawn = self.rng.random(len(starts)) < self.beta
        turn = self.expert_turn[rows]
        turn[:] = drawn if self.config.mix == "step" else np.where(starts, drawn, turn)
        return expert if own is None else np.where(turn[:, None], expert, own)

    def update(self, buffer: RolloutBuffer, progress: float) -> Metrics:
        assert buffer.expert_actions is not None
        done, said = buffer.actions[buffer.valid], buffer.expert_actions[buffer.valid]
        own = {"dagger/beta": self.beta, "dagger/gap": action_gap(done, said, self.policy.spec.action)}
        self.iteration += 1
        return super().update(buffer, progress) | own


def action_gap(actions: Array, labels: Array, action: ActionSpec) -> float:
    """How far what was done is from what the expert would have done: the share of rows that differ or, for continuous
    actions (n, dim), the root of the mean squared distance in units of half the range."""
    if action.discrete:
        return float((actions != labels).any(1).mean())
    return float(np.sqrt(np.square((actions - labels) / action.half_range).sum(1).mean()))
