"""The `imitation` package on Gymnasium's CartPole: GAIL in environment steps/s, BC in samples/s, and the time
in which GAIL reaches the expert.

One unit is one round of `GAIL.train` (a rollout, the policy's update, the discriminator's), or one epoch of BC.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from protocol import Stages, Work, serve, since_start

# Its own documentation's settings for CartPole (tutorials 1, 3 and 4); its folder of tuned settings has none for it.
# 8 environments × 2,048 steps, Stable-Baselines3's default, are a round of 16,384 steps.
SHARED: dict[str, Any] = {
    "n_envs": 8, "n_steps": 2048, "batch_size": 64, "n_epochs": 5, "gamma": 0.95, "net_arch": [64, 64],
    "gen_replay_buffer_capacity": 512, "seed": 0, "episodes": 10}
TUNED: dict[str, dict[str, Any]] = {
    "gail": {**SHARED, "learning_rate": 4e-4, "demo_batch_size": 1024, "n_disc_updates_per_round": 8},
    "bc": {"batch_size": 32, "seed": 0, "episodes": 10},
}
EXPERT_RETURN = 475.0  # Gymnasium's own threshold of CartPole-v1
MAX_STEPS = 1_000_000  # the time to the expert is given up here


def prepare(settings: dict[str, Any]) -> Work:
    mode = settings.get("mode", "gail")
    if mode == "time_to_expert":
        return _time_to_expert({**TUNED["gail"], **settings})
    if mode == "bc_likelihood":
        return _likelihood({**TUNED["bc"], **settings})
    if mode not in TUNED:
        raise SystemExit(f"mode = {mode!r}: choose gail, bc, bc_likelihood or time_to_expert")
    s = {**TUNED[mode], **settings}
    return _cloning(s) if mode == "bc" else _adversarial(s)


def demonstrations(path: str, episodes: int) -> list[Any]:
    """The first episodes of one of our .npz files, as its trajectories: one observation more than actions."""
    import numpy as np
    from imitation.data.types import Trajectory

    with np.load(path, allow_pickle=False) as data:
        obs, actions = data["obs"], data["actions"][:, 0].astype(np.int64)
        bounds = np.append(data["episode_starts"], len(obs))
        finals = data["final_obs"] if "final_obs" in data else data["next_obs"][bounds[1:] - 1]
    return [Trajectory(obs=np.concatenate([obs[a:b], final[None]]), acts=actions[a:b], infos=None, terminal=True)
            for (a, b), final in zip(pairwise(bounds), finals, strict=True)][:episodes]


def quiet_logger() -> Any:
    """Nothing is written: by default it prints a table every round and keeps a CSV file."""
    import tempfile

    from imitation.util import logger

    return logger.configure(tempfile.mkdtemp(dir="."), format_strs=[])


def make_trainer(s: dict[str, Any]) -> Any:
    import numpy as np
    from imitation.algorithms.adversarial.gail import GAIL
    from imitation.rewards.reward_nets import BasicRewardNet
    from imitation.util.networks import RunningNorm
    from imitation.util.util import make_vec_env
    from stable_baselines3 import PPO

    env = make_vec_env("CartPole-v1", rng=np.random.default_rng(s["seed"]), n_envs=s["n_envs"])
    known = {key: s[key] for key in ("n_steps", "batch_size", "n_epochs", "gamma", "learning_rate")}
    learner = PPO("MlpPolicy", env, ent_coef=0.0, seed=s["seed"], device="cpu", **known,
                  policy_kwargs={"net_arch": {"pi": s["net_arch"], "vf": s["net_arch"]}})
    return GAIL(
        demonstrations=demonstrations(s["demos"], s["episodes"]), venv=env, gen_algo=learner,
        reward_net=BasicRewardNet(env.observation_space, env.action_space, normalize_input_layer=RunningNorm),
        demo_batch_size=s["demo_batch_size"], gen_replay_buffer_capacity=s["gen_replay_buffer_capacity"],
        n_disc_updates_per_round=s["n_disc_updates_per_round"], custom_logger=quiet_logger(),
        allow_variable_horizon=True)  # CartPole's episodes end when the pole falls


def _adversarial(s: dict[str, Any]) -> Work:
    trainer, stages = make_trainer(s), Stages()
    stages.wrap(trainer.gen_algo, "collect_rollouts", "collect")
    stages.wrap(trainer.gen_algo, "train", "update")
    stages.wrap(trainer, "train_disc", "discriminator")
    steps = s["n_envs"] * s["n_steps"]

    def unit() -> dict[str, Any]:
        trainer.train(steps)
        return {"steps": steps, "stages": stages.take()}

    return unit, {"settings": s}


def _cloning(s: dict[str, Any]) -> Work:
    import numpy as np
    from imitation.algorithms.bc import BC
    from imitation.data.rollout import flatten_trajectories
    from imitation.util.util import make_vec_env

    rng = np.random.default_rng(s["seed"])
    env = make_vec_env("CartPole-v1", rng=rng, n_envs=1)
    transitions = flatten_trajectories(demonstrations(s["demos"], s["episodes"]))
    trainer = BC(observation_space=env.observation_space, action_space=env.action_space, rng=rng,
                 demonstrations=transitions, batch_size=s["batch_size"], device="cpu", custom_logger=quiet_logger())
    samples = len(transitions) // s["batch_size"] * s["batch_size"]  # it drops the last, incomplete batch

    def unit() -> dict[str, Any]:
        trainer.train(n_epochs=1, progress_bar=False)
        return {"steps": samples}

    return unit, {"settings": s}


def _likelihood(s: dict[str, Any]) -> Work:
    """One unit clones the first `episodes` for `epochs`, each with the next seed, and scores the `held_out` ones after
    them. `train_seconds` are those of the training alone."""
    import numpy as np
    import torch
    from imitation.algorithms.bc import BC
    from imitation.data.rollout import flatten_trajectories
    from imitation.util.util import make_vec_env

    env = make_vec_env("CartPole-v1", rng=np.random.default_rng(0), n_envs=1)
    shown = demonstrations(s["demos"], s["episodes"] + s["held_out"])
    transitions = flatten_trajectories(shown[:s["episodes"]])
    unseen = flatten_trajectories(shown[s["episodes"]:])
    samples, seeds = len(transitions) // s["batch_size"] * s["batch_size"] * s["epochs"], iter(range(s["seed"], 10**9))

    def unit() -> dict[str, Any]:
        seed = next(seeds)
        torch.manual_seed(seed)
        trainer = BC(observation_space=env.observation_space, action_space=env.action_space, l2_weight=0.0,
                     rng=np.random.default_rng(seed), demonstrations=transitions, batch_size=s["batch_size"],
                     device="cpu", custom_logger=quiet_logger())
        begin = time.perf_counter()
        trainer.train(n_epochs=s["epochs"], progress_bar=False)
        seconds = time.perf_counter() - begin
        with torch.no_grad():
            _, logprobs, _ = trainer.policy.evaluate_actions(torch.as_tensor(unseen.obs), torch.as_tensor(unseen.acts))
        return {"steps": samples, "train_seconds": seconds, "log_likelihood": float(logprobs.mean()),
                "layers": [list(p.shape) for p in trainer.policy.mlp_extractor.policy_net.parameters()]}

    return unit, {"settings": s, "once": True}


def _time_to_expert(s: dict[str, Any]) -> Work:
    """One unit trains anew, each with the next seed, until a deterministic evaluation reaches the expert.

    `process_seconds` is what a person would wait: the time to start the process and import everything, and the unit's.
    The demonstrations' file is read and evaluations are played in that time.
    """
    import numpy as np
    from imitation.util.util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    make_trainer(s)  # imports all there is
    setup, seeds = since_start(), iter(range(s["seed"], 10**9))

    def unit() -> dict[str, Any]:
        begin, seed = time.perf_counter(), next(seeds)
        trainer = make_trainer({**s, "seed": seed})
        eval_env = make_vec_env("CartPole-v1", rng=np.random.default_rng(seed + 1_000_003), n_envs=s["n_envs"])
        steps = 0
        returns: list[float] = []
        while steps < s.get("max_steps", MAX_STEPS) and (not returns or returns[-1] < EXPERT_RETURN):
            trainer.train(s["n_envs"] * s["n_steps"])
            steps += s["n_envs"] * s["n_steps"]
            mean, _ = evaluate_policy(trainer.policy, eval_env, s.get("eval_episodes", 20), deterministic=True)
            returns.append(float(np.mean(mean)))
        return {"steps": steps, "process_seconds": setup + time.perf_counter() - begin, "seed": seed,
                "reached": returns[-1] >= EXPERT_RETURN, "returns": returns}

    return unit, {"settings": s, "setup_seconds": setup, "once": True}


if __name__ == "__main__":
    serve(prepare, ("imitation", "stable-baselines3", "gymnasium", "numpy", "torch"))
