"""Small runs for tests: a config, a run, what it reported."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from puffer_il.demos.dataset import Demos
from puffer_il.learners.experiment import build
from puffer_il.training.loggers import Logger
from puffer_il.training.run_dir import prepare_run_dir
from puffer_il.training.trainer import train

TINY: dict[str, dict[str, Any]] = {
    "env": {"name": "cartpole", "num_envs": 8},
    "train": {"num_steps": 32, "total_steps": 4 * 8 * 32, "threads": 1},
    "eval": {"interval_steps": 0, "episodes": 2, "final_episodes": 3},
    "policy": {"hidden": [16, 16]},
    "ppo": {"learning_rate": 1e-3, "update_epochs": 4, "num_minibatches": 4, "target_kl": 0.0},
    "gail": {"disc_updates": 2, "disc_batch_size": 64, "disc_hidden": [16]},
    "gaifo": {"disc_updates": 2, "disc_batch_size": 64, "disc_hidden": [16]},
    "amp": {"disc_updates": 2, "disc_batch_size": 64, "disc_hidden": [16], "replay_size": 64},
    "mm": {"disc_updates": 2, "disc_batch_size": 64, "disc_hidden": [16]},
    "airl": {"disc_updates": 2, "disc_batch_size": 64, "disc_hidden": [16], "shaping_hidden": [8], "replay_size": 64},
    "deep_maxent_irl": {"disc_updates": 2, "disc_batch_size": 64, "disc_hidden": [16]},
    "red": {"fit_updates": 20, "fit_batch_size": 32, "hidden": [16]},
    "bc": {"batch_size": 32},
    "maxent_irl": {"iterations": 2},
    "sac": {"updates": 2, "batch_size": 16, "critic_hidden": [16]},
    "csil": {"bc_epochs": 2, "critic_updates": 2},
    "dagger": {"epochs": 2},
    "noise_bc": {"epochs": 2},
}


class Recorder(Logger):
    """A logger that keeps everything, and interrupts the run after `interrupt_after` updates if asked to."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.metrics: list[dict[str, float]] = []
        self.messages: list[str] = []
        self.info: Any = None
        self.summary: dict[str, Any] | None = None
        self.interrupt_after = interrupt_after

    def start(self, run: Any) -> None:
        self.info = run

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics.append(dict(metrics))
        if self.interrupt_after == len(self.metrics):
            os.kill(os.getpid(), signal.SIGINT)

    def message(self, text: str) -> None:
        self.messages.append(text)

    def finish(self, summary: dict[str, Any]) -> None:
        self.summary = summary


def tiny(algo: str, run_dir: Path, **overrides: Any) -> Config:
    """A run of a second at most; overrides as `ppo__gamma=0.9`."""
    from puffer_il.learners.experiment import section_types

    tables = {name: dict(table) for name, table in TINY.items() if name in section_types(algo)}
    tables["train"]["run_dir"] = str(run_dir)
    for key, value in overrides.items():
        section, name = key.split("__")
        tables.setdefault(section, {})[name] = value
    return build(algo, [("test", tables)])


def run(config: Config, *, resume: bool = False, interrupt_after: int | None = None) -> Recorder:
    recorder = Recorder(interrupt_after)
    run_dir = Path(config.train.run_dir)
    if not resume:
        prepare_run_dir(config)
    train(config, [recorder], run_dir, resume=resume)
    return recorder


def final_state(run_dir: Path) -> dict[str, Any]:
    return checkpoint.load(checkpoint.latest(run_dir))


def same_state(a: Any, b: Any) -> bool:
    """Deep equality, tensors bit by bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same_state(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same_state, a, b))
    return a == b or (a != a and b != b)


def scripted_cartpole_demos(path: Path, episodes: int = 6, length: int = 60, seed: int = 0) -> Path:
    """Demonstrations of a hand-written controller in Gymnasium's own CartPole; half fall at the end, half are cut."""
    import gymnasium

    env = gymnasium.make("CartPole-v1")
    obs, actions, next_obs, rewards, terminations, starts = [], [], [], [], [], []
    for episode in range(episodes):
        state, _ = env.reset(seed=seed + episode)
        starts.append(len(obs))
        fall = episode % 2 == 0
        for step in range(length):
            action = int(state[2] + 0.5 * state[3] + 0.1 * state[0] + 0.2 * state[1] > 0)
            action = 1 if fall and step > length - 30 else action
            successor, reward, terminated, _, _ = env.step(action)
            obs.append(state), actions.append([action]), next_obs.append(successor), rewards.append(reward)
            terminations.append(terminated)
            state = successor
            if terminated:
                break
    ends = np.append(starts[1:], len(obs)) - 1
    truncations = np.zeros(len(obs), bool)
    truncations[ends] = ~np.array(terminations)[ends]
    states = np.float64(obs)  # of our CartPole, to begin in: what is observed is all there is
    Demos(np.float32(obs), np.int32(actions), np.float32(next_obs), np.array(terminations), truncations,
          np.array(starts, np.int64), np.float32(rewards), source=str(path), states=states).save(path)
    return path


def gridworld_demos(path: Path) -> Path:
    """Episodes of the expert of the environment mdp, and beside them features of its states in features.npy."""
    from puffer_il.demos import collect
    from puffer_il.vector.vec import make_vec

    with make_vec("mdp", num_envs=10) as vec:
        collect(vec, lambda *_: vec.expert_actions(), 20, str(path), seed=0).save(path)
    np.save(path.with_name("features.npy"), np.random.default_rng(0).normal(size=(45, 3)))
    return path


def demos_and_rewards(path: Path) -> Path:
    """Scripted demonstrations on CartPole, and two learned rewards beside them: reward.pt and other.pt."""
    from puffer_il.core.spec import ActionSpec, EnvSpec
    from puffer_il.learners.common.learned_reward import save_reward
    from puffer_il.learners.common.shaped_reward import ShapedReward

    spec = EnvSpec("cartpole", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
    for seed, name in enumerate(("reward.pt", "other.pt")):
        torch.manual_seed(seed)
        save_reward(ShapedReward(spec, "airl", absorbing=0.5, hidden=[8], shaping_hidden=[8]), path.with_name(name))
    return scripted_cartpole_demos(path)


# What a learner's contract runs on where CartPole will not do: the settings, {folder} being the demonstrations', and
# what writes those.
CONTRACT: dict[str, tuple[dict[str, Any], Callable[[Path], Path]]] = {
    "transfer": ({"transfer__reward": "{folder}/reward.pt"}, demos_and_rewards),
    "maxent_irl": ({"env__name": "mdp", "policy__hidden": [], "train__total_steps": 8}, gridworld_demos),
}
