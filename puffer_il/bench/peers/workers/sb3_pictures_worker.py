"""Stable-Baselines3's PPO on pictures drawn beforehand, so that nothing but learning takes time. One unit is one
rollout and its update."""

from __future__ import annotations

from typing import Any

from protocol import Stages, Work, serve

DEFAULTS = {"size": 84, "n_envs": 8, "n_steps": 128, "n_epochs": 4, "batch_size": 256, "network": "ours", "seed": 0}
FRAMES, LENGTH = 64, 100  # pictures, steps of an episode


def prepare(settings: dict[str, Any]) -> Work:
    import gymnasium as gym
    import numpy as np
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import DummyVecEnv

    s = {**DEFAULTS, **settings}
    torch.set_num_threads(1)
    shape = (4, s["size"], s["size"])
    frames = np.random.default_rng(s["seed"]).integers(0, 256, (FRAMES, *shape), np.uint8)

    class Pictures(gym.Env):
        observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
        action_space = gym.spaces.Discrete(3)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            self.t = 0
            return frames[0], {}

        def step(self, action: Any) -> Any:
            self.t += 1
            return frames[self.t % FRAMES], float(action == self.t % 3), self.t == LENGTH, False, {}

    class Ours(BaseFeaturesExtractor):
        """puffer_il's network of pictures."""

        def __init__(self, space: gym.spaces.Box) -> None:
            super().__init__(space, 128)
            layers: list[torch.nn.Module] = []
            for before, after in ((4, 16), (16, 32), (32, 32)):
                layers += [torch.nn.Conv2d(before, after, 3, stride=2, padding=1), torch.nn.ReLU()]
            flat = 32 * (-(-s["size"] // 8)) ** 2
            self.net = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(flat, 128), torch.nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    policy = {"features_extractor_class": Ours, "net_arch": [64], "activation_fn": torch.nn.ReLU}
    model = PPO("CnnPolicy", DummyVecEnv([Pictures] * s["n_envs"]), n_steps=s["n_steps"], n_epochs=s["n_epochs"],
                batch_size=s["batch_size"], policy_kwargs=policy if s["network"] == "ours" else None, seed=s["seed"],
                device="cpu")
    stages, steps = Stages(), s["n_envs"] * s["n_steps"]
    stages.wrap(model, "collect_rollouts", "collect")
    stages.wrap(model, "train", "update")

    def unit() -> dict[str, Any]:
        model.learn(steps, reset_num_timesteps=False)
        return {"steps": steps, "stages": stages.take()}

    return unit, {"settings": s}


if __name__ == "__main__":
    serve(prepare, ("stable-baselines3", "gymnasium", "numpy", "torch"))
