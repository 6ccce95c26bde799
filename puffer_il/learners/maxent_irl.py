"""Maximum causal entropy inverse reinforcement learning on a known MDP (Ziebart 2010; Ziebart et al. 2008).

    π    ← the soft-optimal policy of r = Φ θ, exactly: soft values by dynamic programming
    loss ← −mean log π(demonstrated actions) + l2/2 ‖θ‖²,  its gradient the visits of π less the demonstrated ones
    θ    ← L-BFGS
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.npz import read_npy
from puffer_il.core.spec import Array, EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About, Learner
from puffer_il.learners.common import maxent
from puffer_il.learners.common.lbfgs import LBFGS
from puffer_il.learners.common.learned_reward import TableReward
from puffer_il.learners.common.policy_tables import total_variation
from puffer_il.learners.registry import register
from puffer_il.native import tabular
from puffer_il.nn.policy import Policy

LEAST = 1e-37  # a probability as small as float32 can hold the logarithm of


@dataclass(frozen=True)
class MaxEntIRLConfig:
    reward: str = setting("state", "what the reward is a function of: states (terminal ones pay on arrival), or states "
                          "and actions", choices=("state", "state_action"))
    features: str = setting("", "an .npy file of features (S, K) or (S, A, K), in which the reward is linear; empty: a "
                            "number of its own for each state, or state and action")
    objective: str = setting("likelihood", "likelihood of the demonstrated actions; or, convex, causal entropy under "
                             "matched features, which needs whole episodes from the environment's initial states",
                             choices=("likelihood", "matching"))
    gamma: float = setting(0.99, "discount of the demonstrator; 1 only where all episodes end", low=0, high=1)
    horizon: int = setting(0, "steps after which the demonstrator knows that an episode ends; 0 for none", low=0)
    l2: float = setting(0.01, "weight of ‖θ‖²/2 beside the log-likelihood summed over all episodes; 0 for none", low=0)
    iterations: int = setting(10, "iterations of L-BFGS between two reports", low=1)
    memory: int = setting(20, "steps that L-BFGS remembers", low=1)
    tolerance: float = setting(1e-6, "largest entry of the gradient, in visits per episode, at which it ends", low=0)


@register("maxent_irl")
class MaxEntIRL(Learner):
    """The reward under which the demonstrations are most likely, found exactly in an environment whose table of
    transitions is known.

    A step of the run is an iteration of L-BFGS. The policy is a table in the form of a linear layer without hidden
    ones. With a horizon the soft-optimal policy depends on the step and an ordinary policy cannot: deployed is its mean
    over the steps at which it is in each state.
    """

    section = MaxEntIRLConfig
    config: MaxEntIRLConfig
    needs_rollouts = False
    needs_model = True
    about = About("Ziebart 2010, https://www.cs.cmu.edu/~bziebart/publications/thesis-bziebart.pdf", "a small discrete "
                  "environment whose table of transitions is known: an exact reward in seconds", ("discrete",))
    promised_metrics = ("maxent/loss", "maxent/nll", "maxent/occupancy_l1", "maxent/iterations", "maxent/evaluations",
                        "maxent/reward_max", "losses/grad_norm")
    saved = ("policy", "optimizer", "problem.values", "iterations", "done")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int,
                 model: tabular.MDP) -> None:
        super().__init__(spec, demos, config, device, seed)
        if config.policy.hidden or config.policy.memory or config.policy.shared:
            raise InputError(f"policy.hidden = {config.policy.hidden}: the policy of maxent_irl is a table, a linear "
                             "layer of one category; set --policy.hidden '' (and neither lstm, gru nor shared)")
        self.spec, mdp = spec, model
        seen = [(field.categories, field.first) for field in spec.obs_fields]
        if seen != [(mdp.num_states, 0)] or spec.action.nvec != (mdp.num_actions,):
            raise InputError(f"environment {spec.name}: its observations and actions are not the {mdp.num_states} "
                             f"states and {mdp.num_actions} actions of its table of transitions; leave wrappers out")
        maxent.check_demos(mdp, demos, self.config.horizon)
        self.policy = Policy(spec, config.policy).to(device)
        soft = maxent.SoftMDP(mdp, self.config.gamma, self.config.horizon, also=maxent.demo_states(demos.obs))
        self.counted = maxent.matching_evidence(soft, demos)
        evidence = self.counted if self.config.objective == "matching" else maxent.likelihood_evidence(soft, demos)
        self.problem = maxent.InverseProblem(soft, evidence, self.config.reward, self._features(mdp), self.config.l2)
        self.optimizer = LBFGS(self.problem, np.zeros(self.problem.size), self.config.memory)
        self.demos, self.iterations, self.steps_per_update = demos, 0, self.config.iterations
        if self.config.objective == "matching" and demos.truncated.any() and not self.config.horizon:
            self.notices.append(f"{demos.truncated.sum()} of {demos.num_episodes} demonstrations are cut by a time "
                                "limit, which maxent_irl.objective = 'matching' takes for their end; 'likelihood' does "
                                "not")

    def update(self, buffer: Any, progress: float) -> Metrics:
        optimizer = self.optimizer
        for _ in range(self.config.iterations):
            found_lower = optimizer.iterate()
            self.iterations += found_lower
            steepest = float(abs(optimizer.gradient).max())
            self.done = steepest <= self.config.tolerance or not found_lower
            if self.done:
                break
        if steepest > self.config.tolerance and self.done:
            self.notices.append(f"no lower loss was found; the gradient is {steepest:.1g}, above maxent_irl.tolerance "
                                f"= {self.config.tolerance:g}")
        found = self.problem.solve(optimizer.x)
        visits, _ = self.problem.soft.visits(found.policy, self.problem.soft.starts(), found.factors)
        self._deploy(found, visits)
        return {"maxent/loss": optimizer.value, "maxent/nll": self._nll(found),
                "maxent/occupancy_l1": 2 * total_variation(visits, self.counted.visits),
                "maxent/iterations": float(self.iterations), "maxent/evaluations": float(optimizer.evaluations),
                "maxent/reward_max": float(abs(self.problem.table(optimizer.x)).max()),
                "losses/grad_norm": steepest}

    def learned_reward(self) -> TableReward:
        """The reward as it is now: of states and actions, or of states, with what terminal ones pay on arrival."""
        table = self.problem.table(self.optimizer.x)
        if self.config.reward == "state_action":
            return TableReward.of(self.spec, "maxent_irl", table)
        reward = StateReward.of(self.spec, "maxent_irl", table)
        reward.ends.copy_(torch.from_numpy(table * self.config.gamma * ~self.problem.soft.mdp.going))
        return reward

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"reward": self.problem.table(self.optimizer.x)}

    def _features(self, mdp: tabular.MDP) -> Array | None:
        path, states = self.config.features, (mdp.num_states,)
        if not path:
            return None
        try:
            features = read_npy(path)
        except (OSError, ValueError) as error:
            raise InputError(f"maxent_irl.features = {path!r}: cannot be read ({one_line(error)}); give an .npy "
                             "file") from None
        wanted = states if self.config.reward == "state" else (*states, mdp.num_actions)
        if features.ndim != len(wanted) + 1 or features.shape[:-1] != wanted or features.dtype.kind not in "fiub":
            raise InputError(f"maxent_irl.features = {path!r}: the array is {features.dtype} {features.shape}; for a "
                             f"reward of {self.config.reward} it must be {(*wanted, 'K')}, numbers")
        return features

    def _deploy(self, found: maxent.Soft, visits: Array) -> None:
        """Make the actor's softmax the policy's table."""
        table = found.policy
        if self.config.horizon:
            often = visits.sum(1, keepdims=True)
            table = np.where(often > 0, visits / np.where(often > 0, often, 1), found.policy[0])
        weight, bias = self.policy.actor.parameters()
        with torch.no_grad():
            weight.copy_(torch.from_numpy(np.log(np.maximum(table, LEAST)).T))
            bias.zero_()

    def _nll(self, found: maxent.Soft) -> float:
        """Per demonstrated action."""
        demos, weights = self.demos, self.demos.weights
        assert demos.actions is not None
        index = (maxent.demo_states(demos.obs), demos.actions[:, 0])
        taken = found.policy[(maxent.demo_steps(demos), *index) if self.config.horizon else index]
        return -float(np.average(np.log(np.maximum(taken, LEAST)), weights=weights))


class StateReward(TableReward):
    """A table (S,) of states, paid for acting there, or for arriving there if it is terminal: r(s) + γ r(s′)."""

    kind = "maxent_state"
    ends: torch.Tensor

    def __init__(self, spec: EnvSpec, algo: str, absorbing: float | None = None, *, shape: list[int]) -> None:
        super().__init__(spec, algo, absorbing, shape=shape)
        self.register_buffer("ends", torch.zeros(shape))
        self.reads = ("obs", "next_obs")

    def forward(self, obs: torch.Tensor, actions: torch.Tensor | None = None,
                next_obs: torch.Tensor | None = None) -> torch.Tensor:
        assert next_obs is not None
        return self.table[obs.reshape(-1).long()] + self.ends[next_obs.reshape(-1).long()]
