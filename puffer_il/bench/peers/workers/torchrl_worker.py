"""TorchRL's GAIL on Gymnasium's Hopper-v4 and HalfCheetah-v4, until it reaches a return.

GAILLoss, ClipPPOLoss, GAE and the collector are TorchRL's; they are put together as its own example does
(sota-implementations/gail), with that example's settings for HalfCheetah-v4, its networks and its single environment:
one discriminator update for 2,048 steps, on as many rows as its expert batch has. Two things help it here: expert rows
are normalised as the collected ones are, without which the discriminator sees the normalisation alone, and evaluations
use the statistics of the training. The learning rate is annealed over the example's million steps and then stays at 0.
"""

from __future__ import annotations

import time
from typing import Any

from protocol import Work, serve, since_start
from race import EPISODES, race, shown

SETTINGS: dict[str, Any] = {
    "frames_per_batch": 2048, "total_frames": 1_000_000, "lr": 3e-4, "gamma": 0.99, "mini_batch_size": 64,
    "ppo_epochs": 10, "gae_lambda": 0.95, "clip_epsilon": 0.2, "critic_coeff": 0.25, "entropy_coeff": 0.0,
    "hidden": [64, 64], "disc_hidden": 128, "disc_lr": 3e-4, "gp_lambda": 10.0, "expert_batch_size": 256}
BOUND = 10.0  # of normalised observations


def prepare(s: dict[str, Any]) -> Work:
    """One unit trains anew, each with the next seed."""
    s = {**SETTINGS, **s}
    Trainer(s, s["seed"])  # imports all there is
    setup, seeds = since_start(), iter(range(s["seed"], 10**9))

    def unit() -> dict[str, Any]:
        begin, seed = time.perf_counter(), next(seeds)
        trainer = Trainer(s, seed)
        done = race(s, setup + time.perf_counter() - begin, trainer.round, trainer.evaluate)
        trainer.collector.shutdown()
        return {**done, "seed": seed}

    return unit, {"settings": s, "setup_seconds": setup, "once": True}


class Trainer:
    """The example's main program, cut into rounds."""

    def __init__(self, s: dict[str, Any], seed: int) -> None:
        import numpy as np
        import torch
        from torchrl.collectors import Collector
        from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
        from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
        from torchrl.envs import (
            ClipTransform,
            DoubleToFloat,
            GymEnv,
            RewardSum,
            StepCounter,
            TransformedEnv,
            VecNorm,
            set_gym_backend,
        )
        from torchrl.objectives import ClipPPOLoss, GAILLoss, group_optimizers
        from torchrl.objectives.value.advantages import GAE

        torch.manual_seed(seed)
        np.random.seed(seed)
        self.s, self.seed, self.updates = s, seed, 0
        with set_gym_backend("gymnasium"):
            env = TransformedEnv(GymEnv(s["env"], device="cpu"))
        self.normaliser = VecNorm(in_keys=["observation"], decay=0.99999, eps=1e-2)
        for transform in (self.normaliser, ClipTransform(in_keys=["observation"], low=-BOUND, high=BOUND), RewardSum(),
                          StepCounter(), DoubleToFloat(in_keys=["observation"])):
            env.append_transform(transform)
        env.set_seed(seed)
        self.actor, critic = make_models(env, s["hidden"])
        self.advantages = GAE(gamma=s["gamma"], lmbda=s["gae_lambda"], value_network=critic, average_gae=False)
        self.loss = ClipPPOLoss(
            actor_network=self.actor, critic_network=critic, clip_epsilon=s["clip_epsilon"], loss_critic_type="l2",
            entropy_coeff=s["entropy_coeff"], critic_coeff=s["critic_coeff"], normalize_advantage=True)
        self.optimiser = group_optimizers(*(torch.optim.Adam(network.parameters(), lr=s["lr"], eps=1e-5)
                                            for network in (self.actor, critic)))
        self.buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(s["frames_per_batch"]), sampler=SamplerWithoutReplacement(),
            batch_size=s["mini_batch_size"])
        self.discriminator = make_discriminator(env, s["disc_hidden"])
        self.disc_loss = GAILLoss(self.discriminator, use_grad_penalty=True, gp_lambda=s["gp_lambda"])
        self.disc_optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=s["disc_lr"])
        self.collector = Collector(env, self.actor, frames_per_batch=s["frames_per_batch"], total_frames=-1,
                                   device="cpu", max_frames_per_traj=-1)
        self.batches = iter(self.collector)
        rows = [(obs[:-1], actions) for obs, actions, _ in shown(s["demos"], s["episodes"])]
        self.expert_obs, self.expert_actions = (torch.as_tensor(np.concatenate(part))
                                                for part in zip(*rows, strict=True))

    def normalised(self, obs: Any) -> Any:
        """Raw observations as the policy sees them."""
        loc, scale = (found["observation"] for found in (self.normaliser.loc, self.normaliser.scale))
        return ((obs - loc) / scale).clamp(-BOUND, BOUND).float()

    def round(self) -> int:
        """A rollout, one update of the discriminator, and the policy's."""
        import torch
        from tensordict import TensorDict

        s, data = self.s, next(self.batches)
        rows = torch.randint(len(self.expert_obs), (s["expert_batch_size"],))
        self.disc_loss(TensorDict({
            "observation": self.normalised(self.expert_obs[rows]), "action": self.expert_actions[rows],
            "collector_observation": data["observation"][:len(rows)], "collector_action": data["action"][:len(rows)],
        }, [len(rows)]))["loss"].backward()
        self.disc_optimiser.step()
        self.disc_optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            data = self.discriminator(data)
        data["next", "reward"] = -torch.log(1 - data["d_logits"] + 1e-8)
        for _ in range(s["ppo_epochs"]):
            with torch.no_grad():
                data = self.advantages(data)
            self.buffer.empty()
            self.buffer.extend(data.reshape(-1))
            for batch in self.buffer:
                self._step(batch)
        return int(data.numel())

    def _step(self, batch: Any) -> None:
        s = self.s
        total = s["total_frames"] // s["frames_per_batch"] * s["ppo_epochs"] * (
            s["frames_per_batch"] // s["mini_batch_size"])
        for group in self.optimiser.param_groups:
            group["lr"] = s["lr"] * max(0.0, 1 - self.updates / total)
        self.updates += 1
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        (loss["loss_objective"] + loss["loss_entropy"] + loss["loss_critic"]).backward()
        self.optimiser.step()

    def evaluate(self) -> float:
        """Mean return of EPISODES deterministic episodes, in step, under the training's statistics as they are."""
        import gymnasium
        import numpy as np
        import torch
        from tensordict import TensorDict
        from torchrl.envs.utils import ExplorationType, set_exploration_type

        envs = [gymnasium.make(self.s["env"]) for _ in range(EPISODES)]
        observations = {env: env.reset(seed=self.seed + 1_000_003 + number)[0] for number, env in enumerate(envs)}
        total = 0.0
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            while observations:
                obs = self.normalised(torch.as_tensor(np.stack(list(observations.values()))))
                actions = self.actor(TensorDict({"observation": obs}, [len(obs)]))["action"].numpy()
                for env, action in zip(list(observations), actions, strict=True):
                    observations[env], reward, ended, cut, _ = env.step(action)
                    total += float(reward)
                    if ended or cut:
                        del observations[env]
        for env in envs:
            env.close()
        return total / EPISODES


def make_models(env: Any, hidden: list[int]) -> tuple[Any, Any]:
    """Policy and critic, tanh, with the example's first weights."""
    import torch
    from tensordict.nn import AddStateIndependentNormalScale, TensorDictModule
    from torchrl.data import Composite
    from torchrl.envs.utils import ExplorationType
    from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator

    inputs, outputs = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]

    def network(size: int, gain: float) -> Any:
        made = MLP(in_features=inputs, out_features=size, num_cells=hidden, activation_class=torch.nn.Tanh)
        for layer in made.modules():
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.orthogonal_(layer.weight, gain)
                layer.bias.data.zero_()
        return made

    policy = torch.nn.Sequential(network(outputs, 1.0), AddStateIndependentNormalScale(outputs, scale_lb=1e-8))
    space = env.action_spec_unbatched.space
    actor = ProbabilisticActor(
        TensorDictModule(policy, in_keys=["observation"], out_keys=["loc", "scale"]), in_keys=["loc", "scale"],
        spec=Composite(action=env.action_spec), distribution_class=TanhNormal, return_log_prob=True,
        distribution_kwargs={"low": space.low, "high": space.high, "tanh_loc": False},
        default_interaction_type=ExplorationType.RANDOM)
    return actor, ValueOperator(network(1, 0.01), in_keys=["observation"])


def make_discriminator(env: Any, hidden: int) -> Any:
    """Probability that a row is the expert's, under the name that GAILLoss asks for."""
    import torch
    from torchrl.modules import MLP, SafeModule

    class Discriminator(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = env.observation_spec["observation"].shape[-1] + env.action_spec.shape[-1]
            self.mlp = MLP(in_features=size, out_features=1, num_cells=[hidden, hidden],
                           activation_class=torch.nn.ReLU)

        def forward(self, obs: Any, action: Any) -> Any:
            return torch.sigmoid(self.mlp(torch.cat([obs, action], -1)))

    return SafeModule(Discriminator(), in_keys=["observation", "action"], out_keys=["d_logits"])


if __name__ == "__main__":
    serve(prepare, ("torchrl", "tensordict", "gymnasium", "mujoco", "numpy", "torch"))
