"""Stable-Baselines3's PPO on Gymnasium's CartPole. One unit is one rollout and its update."""

from __future__ import annotations

from typing import Any

from protocol import Stages, Work, serve

DEFAULTS = {"n_envs": 8, "n_steps": 256, "n_epochs": 4, "batch_size": 512, "net_arch": [64, 64], "seed": 0}


def prepare(settings: dict[str, Any]) -> Work:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    s = {**DEFAULTS, **settings}
    env = make_vec_env("CartPole-v1", n_envs=s["n_envs"], seed=s["seed"])
    model = PPO("MlpPolicy", env, n_steps=s["n_steps"], n_epochs=s["n_epochs"], batch_size=s["batch_size"],
                policy_kwargs={"net_arch": {"pi": s["net_arch"], "vf": s["net_arch"]}}, seed=s["seed"], device="cpu")
    stages, steps = Stages(), s["n_envs"] * s["n_steps"]
    stages.wrap(model, "collect_rollouts", "collect")
    stages.wrap(model, "train", "update")

    def unit() -> dict[str, Any]:
        model.learn(steps, reset_num_timesteps=False)
        return {"steps": steps, "stages": stages.take()}

    return unit, {"settings": s}


if __name__ == "__main__":
    serve(prepare, ("stable-baselines3", "gymnasium", "numpy", "torch"))
