"""Random expert distillation (Wang et al. 2019): a reward that is fixed before the first rollout, and PPO on it.

    f̂ = argmin E_expert ‖f̂(s, a) − f(s, a)‖²          f a random network that is never trained
    e(s, a) = ‖f̂(s, a) − f(s, a)‖²                    near 0 where the expert was, larger away from there
    reward = 1 − log(1 + σe) / log(1 + σE), but ≥ 0   form "log"; E is what e was before f̂ learned
    reward = exp(−σe)                                 form "exp", the paper's

The predictor f̂ has learned the random features where the demonstrations are and nowhere else, so that its error tells
how far a pair is from their support. σ is sharpness over the mean error of held-out demonstrations. Either form pays 1
without error. They differ far away, where e is a hundred times that mean and more: exp pays 0 everywhere there, so
that a policy that has not met the expert's states is not told which way they lie; log goes on falling with every
doubling of e, which is what a mean of exp(−σe) over σ of all sizes does.

The reward is never negative and would by itself pay for staying alive. The absorbing state takes that away: after a
termination it pays for ever what a demonstrated pair is paid, times the share of the demonstrations that terminate. So
dying costs nothing where the expert dies, and all there is to earn where the expert lives on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.common.demo_rows import RowSampler, moments_of, on_device
from puffer_il.learners.common.inputs import Inputs
from puffer_il.learners.common.learned_reward import LearnedReward
from puffer_il.learners.common.ppo_on_reward import PPOOnReward, valid_rows
from puffer_il.learners.registry import register
from puffer_il.nn import FlatAdam, mlp
from puffer_il.rollout.buffer import RolloutBuffer

HELD_OUT = 0.2  # share of the demonstrated rows that tell how large the error is near, but not at, what was learned
SMALLEST = 1e-14  # mean error: below it float32 tells nothing


@dataclass(frozen=True)
class REDConfig:
    fit_updates: int = setting(3000, "steps of the predictor before the first rollout", low=1)
    fit_batch_size: int = setting(256, "demonstrated rows of one step", low=1)
    fit_learning_rate: float = setting(3e-3, "Adam's step size of the predictor", low=0)
    hidden: tuple[int, ...] = setting((64, 64), "units of the hidden layers of both networks", low=1)
    activation: str = setting("tanh", "their nonlinearity", choices=("tanh", "relu", "silu", "elu"))
    features: int = setting(32, "outputs of the random network", low=1)
    form: str = setting("log", "how the error becomes a reward: exp, as published, is 0 everywhere that the expert was "
                        "not; log tells far from farther", choices=("log", "exp"))
    sharpness: float = setting(1.0, "σ times the mean error of held-out demonstrations: how fast the reward falls",
                               low=1e-6)
    absorbing: bool = setting(True, "absorbing state after terminations; without it the reward pays for staying alive")
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")
    debug_use_ground_truth: bool = setting(False, "train on the true reward alone: tells a broken learner from a bad "
                                           "reward")


class REDReward(LearnedReward):
    """What the error of a predictor pays, of the random network that it has learned to predict."""

    kind = "distillation"
    reads = ("obs", "actions")
    scale: Tensor  # σ
    untrained: Tensor  # E

    def __init__(self, spec: EnvSpec, algo: str, absorbing: float | None = None, *, hidden: list[int], activation: str,
                 features: int, form: str) -> None:
        super().__init__(spec, algo, absorbing, hidden=hidden, activation=activation, features=features, form=form)
        self.form = form
        self.inputs = Inputs(spec)
        self.target, self.predictor = (mlp(self.inputs.features, tuple(hidden), features, activation) for _ in range(2))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("untrained", torch.ones(()))

    def forward(self, obs: Tensor, actions: Tensor | None = None, next_obs: Tensor | None = None) -> Tensor:
        return self.pay(self.errors(self.inputs.rows(obs, actions)))

    def pay(self, errors: Tensor) -> Tensor:
        """Rewards (n,) in [0, 1] of errors (n,)."""
        if self.form == "exp":
            return (-self.scale * errors).exp()
        return (1 - (self.scale * errors).log1p() / (self.scale * self.untrained).log1p()).clamp_min(0)

    def errors(self, rows: Tensor) -> Tensor:
        """Mean squared error of the predicted features (n,) of rows made by `inputs`."""
        rows = self.inputs.encode(rows)
        with torch.no_grad():
            target = self.target(rows)
        return (self.predictor(rows) - target).square().mean(1)


@register("red", uses=("ppo",))
class RED(PPOOnReward):
    """PPO on a fixed reward: how well a network trained on the demonstrations alone predicts a random one."""

    section = REDConfig
    config: REDConfig
    about = About("Wang et al. 2019, arXiv:1905.06750", "where adversarial training will not settle: nothing but PPO "
                  "learns; the reward says little far from the demonstrations")
    promised_metrics = (*PPOOnReward.promised_metrics, "disc/reward_mean", "disc/reward_std", "disc/reward_expert",
                        "disc/absorbing_reward")
    saved = ("reward", "expert_reward")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.reward = REDReward(spec, "red", hidden=list(self.config.hidden), activation=self.config.activation,
                                features=self.config.features, form=self.config.form).to(device)
        self.terminated = float(demos.terminated.mean())
        self._fit(demos, np.random.default_rng(seed), torch.Generator(device).manual_seed(seed))

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Write the reward of every row, and what the absorbing state is worth after terminations."""
        rewards, valid = self.reward.of_rollout(buffer, self.device), valid_rows(buffer, self.device)
        counted = rewards if valid is None else rewards[valid]
        numbers = torch.stack((counted.mean(), counted.std(), self.expert_reward,
                               self.terminated * self.expert_reward)).tolist()
        self.pay(buffer, rewards, numbers[3], "the reward is never negative and so pays for staying alive")
        return dict(zip(self.promised_metrics[-4:], numbers, strict=True))

    def learned_reward(self) -> REDReward:
        """What the policy is paid."""
        self.reward.absorbing = float(self.terminated * self.expert_reward) if self.config.absorbing else None
        return self.reward

    def _fit(self, demos: Demos, rng: np.random.Generator, generator: torch.Generator) -> None:
        """Train the predictor on most of the demonstrated rows, and find the reward's scale σ on the others."""
        cfg, reward, inputs = self.config, self.reward, self.reward.inputs
        obs, actions = (on_device(array, self.device) for array in (demos.obs, demos.actions))
        inputs.update_norm(*moments_of(inputs.flatten, demos.obs, obs))
        weights = np.ones(len(obs), np.float32) if demos.weights is None else demos.weights
        order = rng.permutation(np.flatnonzero(weights))
        others, learned = np.split(order, [max(1, int(HELD_OUT * len(order)))])
        learned = learned if len(learned) else order
        draw = RowSampler(len(learned), None if demos.weights is None else weights[learned], generator)
        rows = torch.from_numpy(learned).to(self.device)
        with torch.no_grad():
            reward.untrained.copy_(reward.errors(inputs.rows(obs, actions, rows)).mean())
        optimizer = FlatAdam(reward.predictor.parameters(), learning_rate=cfg.fit_learning_rate)
        for update in range(cfg.fit_updates):
            optimizer.learning_rate = cfg.fit_learning_rate * (1 - update / cfg.fit_updates)
            optimizer.prepare()
            optimizer.zero_grad()
            reward.errors(inputs.rows(obs, actions, rows[draw(cfg.fit_batch_size)])).mean().backward()
            optimizer.step()
        with torch.no_grad():
            errors = reward.errors(inputs.rows(obs, actions, torch.from_numpy(others).to(self.device)))
            counts = torch.from_numpy(weights[others] / weights[others].sum()).to(errors)
            reward.scale.copy_(cfg.sharpness / (counts @ errors).clamp_min(SMALLEST))
            self.expert_reward = counts @ reward.pay(errors)
