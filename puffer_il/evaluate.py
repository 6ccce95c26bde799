"""A policy on the true reward, in a vector environment of its own, against the expert and a random policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from puffer_il import checkpoint, foreign, stats
from puffer_il.buffer import RolloutBuffer
from puffer_il.config import Config, EnvConfig, build, read_toml
from puffer_il.creators import find_creator
from puffer_il.demos import load_demos
from puffer_il.distributions import Noise
from puffer_il.fast import FastPolicy
from puffer_il.native import take_logs
from puffer_il.policy import Policy
from puffer_il.types import Array, Demos, EnvSpec, InputError, NumpyPolicy
from puffer_il.vec import Vec, make_vec

Actor = Callable[[Array, Array], Array]  # (obs (n, …), episode_starts (n,) bool) → actions (n, dim)
ROLLOUT_STEPS = 64  # of one call in an evaluation by whole rollouts
MAX_ROWS = 100  # environments of an evaluation; more would only run for the slowest episode
EVAL_SEED = 1_000_003  # far from the training seeds, so that no training episode is seen again
FINAL_SEED = 2_000_003  # the result is scored on episodes that had no say in when training stopped


@dataclass(frozen=True)
class Scores:
    """True returns and lengths of complete episodes, (episodes,) each, and the means of what they logged."""

    returns: Array
    lengths: Array
    log: dict[str, float] = field(default_factory=dict)

    def summary(self, random_return: float | None, expert_return: float | None) -> dict[str, Any]:
        """The `eval` part of summary.json. `ci95` is the bootstrap interval of the mean, normalised if that can be."""
        mean = float(self.returns.mean())
        score = stats.normalized(mean, random_return, expert_return)
        bounds = stats.bootstrap_ci(self.returns)
        interval: list[float | None] = list(bounds)
        if score is not None:
            interval = [stats.normalized(x, random_return, expert_return) for x in bounds]
        return {"episodes": len(self.returns), "return_mean": mean, "return_std": float(self.returns.std()),
                "length_mean": float(self.lengths.mean()), "normalized": score, "ci95": interval,
                **({"log": self.log} if self.log else {})}


def evaluate(vec: Vec, act: Actor, episodes: int, seed: int) -> Scores:
    """Play `episodes` complete episodes. Each row plays its own fixed share, so short episodes are not favoured."""
    returns: list[list[float]] = [[] for _ in range(vec.num_envs)]
    lengths: list[list[int]] = [[] for _ in range(vec.num_envs)]
    running, steps = np.zeros(vec.num_envs), np.zeros(vec.num_envs, np.int64)
    obs, starts, missing = vec.reset(seed), np.ones(vec.num_envs, bool), _quota(vec.num_envs, episodes)
    logs = None
    if vec.logs is not None:
        vec.take_logs()  # nothing of an earlier evaluation
        logs = vec.logs.copy()
    while missing.any():
        batch = vec.step(act(obs, starts))
        obs = batch.obs
        running += batch.rewards * batch.valid
        steps += batch.valid
        ended = (batch.terminations | batch.truncations) & batch.valid
        starts = ended | ~batch.valid
        if logs is not None and vec.logs is not None:  # of environments with an episode that counts
            rows = np.repeat(missing.reshape(-1, vec.spec.num_agents).any(1), vec.spec.num_agents)
            logs[rows] = vec.logs[rows]
        for row in np.flatnonzero(ended):
            if missing[row]:
                returns[row].append(float(running[row]))
                lengths[row].append(int(steps[row]))
                missing[row] -= 1
        running[ended], steps[ended] = 0, 0
    return Scores(np.concatenate([r for r in returns if r]), np.concatenate([n for n in lengths if n]),
                  {} if logs is None else take_logs(logs, vec.log_names))


def evaluate_policy(vec: Vec, policy: Policy | NumpyPolicy, episodes: int, seed: int, deterministic: bool,
                    noise_seed: int) -> Scores:
    """`evaluate` for a policy, in whole rollouts where the kernels cover it and the environment."""
    vec.reset(seed)
    batch, fast = vec.native_batch(), FastPolicy.of(policy) if isinstance(policy, Policy) else None
    if batch is None or fast is None or vec.logs is not None:
        return evaluate(vec, policy_actor(policy, vec.num_envs, deterministic, noise_seed), episodes, seed)
    n, quota = vec.num_envs, _quota(vec.num_envs, episodes)
    buffer, starts = RolloutBuffer(vec.spec, ROLLOUT_STEPS, n), np.ones(n, bool)
    noise = Noise.on(torch.device("cpu"), noise_seed)
    found: list[list[tuple[float, int]]] = [[] for _ in range(n)]
    while any(len(row) < quota[i] for i, row in enumerate(found)):
        buffer.start()
        returns, lengths = fast.rollout(batch, buffer, starts, noise, greedy=deterministic)
        noise.step += ROLLOUT_STEPS
        for place, total, length in zip(buffer.final_index, returns, lengths, strict=True):
            found[place % n].append((float(total), int(length)))
    kept = np.array([episode for i, row in enumerate(found) for episode in row[:quota[i]]])
    return Scores(kept[:, 0], kept[:, 1].astype(np.int64))


def _quota(rows: int, episodes: int) -> Array:
    """(rows,) how many episodes each row plays."""
    quota = np.full(rows, episodes // rows)
    quota[:episodes % rows] += 1
    return quota


def policy_actor(policy: Policy | NumpyPolicy, n: int, deterministic: bool, seed: int) -> Actor:
    """An Actor for n rows that keeps the recurrent state between calls."""
    if not isinstance(policy, Policy):
        return foreign.actor(policy, deterministic, seed)
    device = next(policy.parameters()).device
    noise = Noise.on(device, seed)
    state = policy.initial_state(n)

    def act(obs: Array, starts: Array) -> Array:
        nonlocal state
        if state is not None:
            state = state * (1 - torch.as_tensor(starts, dtype=torch.float32, device=device)).unsqueeze(1)
        actions, _, _, state = policy.act(torch.from_numpy(obs).to(device), state, noise, deterministic=deterministic)
        noise.step += 1
        return actions.cpu().numpy()

    return act


def random_actor(spec: EnvSpec, seed: int) -> Actor:
    """Uniform over the action space; standard normal where a continuous range has no bounds."""
    rng, action = np.random.default_rng(seed), spec.action
    if action.discrete:
        return lambda obs, starts: rng.integers(0, action.nvec, (len(obs), action.dim)).astype(np.int32)
    assert action.low is not None and action.high is not None
    bounded = np.isfinite(action.low) & np.isfinite(action.high)
    low, high = np.where(bounded, action.low, 0), np.where(bounded, action.high, 1)

    def act(obs: Array, starts: Array) -> Array:
        uniform = rng.uniform(low, high, (len(obs), action.dim))
        return np.where(bounded, uniform, rng.standard_normal(uniform.shape)).astype(np.float32)

    return act


def make_eval_vec(env: EnvConfig, episodes: int) -> Vec:
    """The environment of a run once more, with no more rows than episodes to play; the rows decide the workers."""
    agents = find_creator(env.name, env.kwargs).facts().num_agents
    rows = max(agents, min(episodes, MAX_ROWS, env.num_envs) // agents * agents)
    backend = "multiprocessing" if env.num_workers else env.backend
    return make_vec(env.name, num_envs=rows, backend=backend, kwargs=env.kwargs)


def load_policy(run_dir: Path, device: str = "cpu") -> tuple[Policy | NumpyPolicy, Config, dict[str, Any]]:
    """The newest policy of a run, its config, and the checkpoint's state, whose "spec" is now the run's EnvSpec.

    Needs no environment.
    """
    config = load_config(run_dir)
    state = checkpoint.load(checkpoint.latest(run_dir), device)
    state["spec"] = checkpoint.spec_from_state(state["spec"])
    policy = foreign.make_policy(state["spec"], config, device)
    policy.load_state_dict(state["policy"])
    return policy, config, state


def load_config(run_dir: Path) -> Config:
    """The resolved config that a run wrote; InputError if the folder is not a run."""
    path = Path(run_dir) / "config.toml"
    if not path.is_file():
        raise InputError(f"{run_dir} is not a run directory (no config.toml); give one that 'puffer-il train' wrote")
    tables = read_toml(path)
    return build(tables["algo"], [(str(path), tables)])


@torch.no_grad()
def log_likelihood(policy: Policy, demos: Demos) -> float:
    """Mean of log π(a|s) over demonstrated transitions, in nats; of densities where actions are continuous."""
    if demos.actions is None:
        raise InputError(f"demos {demos.source}: no actions are stored, so none can be likely; give others")
    device, total = next(policy.parameters()).device, 0.0
    for first, end in zip(demos.episode_starts, demos.episode_ends, strict=True):
        obs, actions = (torch.tensor(array[first:end], device=device) for array in (demos.obs, demos.actions))
        state = policy.initial_state(1)
        params = policy.action_params(obs) if state is None else policy.params(policy.unroll(obs[:, None], state)[0])
        total += float(policy.dist.log_prob(params, actions).sum())
    return total / len(demos)


def evaluate_run(run_dir: Path, episodes: int, seed: int, demos: str | None = None,
                 kwargs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Play a run's newest policy: the `eval` part of summary.json plus `expert_return` and `random_return`, and how
    likely it finds `demos`, a source of demonstrations. `kwargs` go over the environment's parameters of the run."""
    policy, config, state = load_policy(Path(run_dir))
    spec = state["spec"]
    env = replace(config.env, kwargs=config.env.kwargs | (kwargs or {}))
    with make_eval_vec(env, episodes) as vec:
        if replace(vec.spec, num_agents=spec.num_agents) != spec:  # a shared policy plays any number of agents
            raise InputError(f"{run_dir}: the environment {config.env.name!r} has changed since the run "
                             f"(observations {vec.spec.obs_shape} against {spec.obs_shape}); train again")
        scores = evaluate_policy(vec, policy, episodes, FINAL_SEED + seed, config.eval.deterministic, seed)
    expert, random = state["expert_return"], state["random_return"]
    result = {**scores.summary(random, expert), "expert_return": expert, "random_return": random,
              "env_steps": state["env_steps"]}
    if demos:
        if not isinstance(policy, Policy):
            raise InputError(f"--demos {demos}: the policy of {config.algo} does not tell how likely an action is; "
                             "leave it out")
        shown = load_demos(demos, spec)
        result["demos"] = {"source": demos, "transitions": len(shown), "log_likelihood": log_likelihood(policy, shown)}
    return result
