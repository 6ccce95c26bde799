"""GAIL of the `imitation` package on Gymnasium's Hopper-v4 and HalfCheetah-v4, until it reaches a return.

The settings are those that the package tuned for the seals versions of the tasks: its benchmarking folder's
example_gail_seals_hopper_best_hp_eval.json and example_gail_seals_half_cheetah_best_hp_eval.json, with the 8
environments that its scripts take. The tasks are Gymnasium's, whose episodes may end early, which is allowed here.
"""

from __future__ import annotations

import time
from typing import Any

from protocol import Work, serve, since_start
from race import EPISODES, race, shown

ENVS, ROUND = 8, 4096  # environments, and the steps of all of them in one round
TUNED: dict[str, dict[str, Any]] = {
    "Hopper-v4": {
        "gail": {"demo_batch_size": 128, "gen_replay_buffer_capacity": 4096, "n_disc_updates_per_round": 8},
        "ppo": {"batch_size": 512, "clip_range": 0.1, "ent_coef": 0.001255299425412744, "gae_lambda": 0.98,
                "gamma": 0.995, "learning_rate": 4.3984856156897565e-5, "max_grad_norm": 0.9, "n_epochs": 20,
                "vf_coef": 0.20315938606555833},
        "hidden": [64, 64], "activation": "ReLU"},
    "HalfCheetah-v4": {
        "gail": {"demo_batch_size": 8192, "gen_replay_buffer_capacity": 512, "n_disc_updates_per_round": 8},
        "ppo": {"batch_size": 64, "clip_range": 0.1, "ent_coef": 3.992371122209408e-6, "gae_lambda": 0.95,
                "gamma": 0.95, "learning_rate": 0.00026250519057717037, "max_grad_norm": 0.8, "n_epochs": 5,
                "vf_coef": 0.11483689492120866},
        "hidden": [32, 32], "activation": "Tanh"}}


def prepare(s: dict[str, Any]) -> Work:
    """One unit trains anew, each with the next seed."""
    make_trainer(s)  # imports all there is
    setup, seeds = since_start(), iter(range(s["seed"], 10**9))

    def unit() -> dict[str, Any]:
        import numpy as np
        from imitation.util.util import make_vec_env
        from stable_baselines3.common.evaluation import evaluate_policy

        begin, seed = time.perf_counter(), next(seeds)
        trainer = make_trainer({**s, "seed": seed})
        judge = make_vec_env(s["env"], rng=np.random.default_rng(seed + 1_000_003), n_envs=EPISODES)

        def train() -> int:
            trainer.train(ROUND)
            return ROUND

        def evaluate() -> float:
            mean: Any = evaluate_policy(trainer.policy, judge, EPISODES, deterministic=True)[0]
            return float(mean)

        return {**race(s, setup + time.perf_counter() - begin, train, evaluate), "seed": seed}

    return unit, {"settings": {**s, **TUNED[s["env"]]}, "setup_seconds": setup, "once": True}


def make_trainer(s: dict[str, Any]) -> Any:
    import tempfile

    import numpy as np
    import torch
    from imitation.algorithms.adversarial.gail import GAIL
    from imitation.data.types import Trajectory
    from imitation.policies.base import NormalizeFeaturesExtractor
    from imitation.rewards.reward_nets import BasicRewardNet, NormalizedRewardNet
    from imitation.util import logger
    from imitation.util.networks import RunningNorm
    from imitation.util.util import make_vec_env
    from stable_baselines3 import PPO

    tuned = TUNED[s["env"]]
    env = make_vec_env(s["env"], rng=np.random.default_rng(s["seed"]), n_envs=ENVS)
    learner = PPO("MlpPolicy", env, n_steps=ROUND // ENVS, seed=s["seed"], device="cpu", **tuned["ppo"], policy_kwargs={
        "net_arch": {"pi": tuned["hidden"], "vf": tuned["hidden"]},
        "activation_fn": getattr(torch.nn, tuned["activation"]),
        "features_extractor_class": NormalizeFeaturesExtractor,
        "features_extractor_kwargs": {"normalize_class": RunningNorm}})
    reward = BasicRewardNet(env.observation_space, env.action_space, normalize_input_layer=RunningNorm)
    demonstrations = [Trajectory(obs=obs, acts=actions, infos=None, terminal=ended)
                      for obs, actions, ended in shown(s["demos"], s["episodes"])]
    return GAIL(demonstrations=demonstrations, venv=env, gen_algo=learner, **tuned["gail"],
                reward_net=NormalizedRewardNet(reward, RunningNorm), allow_variable_horizon=True,
                custom_logger=logger.configure(tempfile.mkdtemp(dir="."), format_strs=[]))  # writes nothing


if __name__ == "__main__":
    serve(prepare, ("imitation", "stable-baselines3", "gymnasium", "mujoco", "numpy", "torch"))
