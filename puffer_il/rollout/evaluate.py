"""A policy on the true reward, in a vector environment of its own, against the expert and a random policy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from puffer_il.core.config import EnvConfig
from puffer_il.core.errors import InputError, NotFinite, Quit
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.quota import Quota
from puffer_il.native.native_env import pop_log_means
from puffer_il.nn import Flow, FusedPolicy, Policy
from puffer_il.nn.fused import in_floats
from puffer_il.rollout import stats
from puffer_il.rollout.actors import PolicyActor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.episode_limit import episode_limit
from puffer_il.rollout.finite import all_finite, check_rollout, wrong_rows
from puffer_il.rollout.native_rollout import native_rollout
from puffer_il.vector.make import Creator, find_creator
from puffer_il.vector.vec import NativeBatch, Vec, make_vec
from puffer_il.vector.watch import Watch

ROLLOUT_STEPS = 64  # of one call in an evaluation by whole rollouts
MAX_ROWS = 100  # environments of an evaluation; more would only run for the slowest episode
EVAL_SEED = 1_000_003  # far from the training seeds, so that no training episode is seen again
CHOICE_SEED = 3_000_003  # episodes that choose one of the best evaluated policies had no say in which those are
FINAL_SEED = 2_000_003  # the result is scored on episodes that had no say in when training stopped, nor in the choice


@dataclass(frozen=True)
class Scores:
    """True returns and lengths of complete episodes, (episodes,) each, and the means of what they logged. `cut` of them
    had no end and count as they stood after `limit` steps, `broken` stand where the environment gave NaN; agents took
    no part in `absent` others, which do not.
    `clusters` (episodes,) are equal for what agents did in the same episode of their environment, None of single
    agents."""

    returns: Array
    lengths: Array
    log: dict[str, float] = field(default_factory=dict)
    cut: int = 0
    absent: int = 0
    limit: int = 0
    clusters: Array | None = None
    broken: int = 0

    @property
    def notices(self) -> list[str]:
        """What the reader of the scores should know."""
        alone = self.clusters is not None and bool((self.clusters == self.clusters[0]).all())
        return unfinished({"episodes": len(self.returns), "cut": self.cut, "limit": self.limit, "absent": self.absent,
                           "broken": self.broken, "ci95": None if alone else ()})

    def summary(self, random_return: float | None, expert_return: float | None) -> dict[str, Any]:
        """The `eval` part of summary.json. `ci95` is the bootstrap interval of the mean, normalised if that can be:
        over episodes of the environment, not over its agents. None if there is a single one."""
        mean = float(self.returns.mean())
        score = stats.normalized(mean, random_return, expert_return)
        bounds, why = self.ci95, stats.unscored(random_return, expert_return)
        interval = bounds and [x if score is None else stats.normalized(x, random_return, expert_return)
                               for x in bounds]
        return {"episodes": len(self.returns), "return_mean": mean, "return_std": float(self.returns.std()),
                "length_mean": float(self.lengths.mean()), "normalized": score, "ci95": interval,
                **{name: self.log[name] for name in ("success_rate",) if name in self.log},
                **({"log": self.log} if self.log else {}),
                **({"cut": self.cut, "limit": self.limit} if self.cut else {}),
                **({"absent": self.absent} if self.absent else {}),
                **({"broken": self.broken} if self.broken else {}), **({"unscored": why} if why else {})}

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Of the mean return."""
        return stats.mean_ci(self.returns, self.clusters)


def unfinished(part: dict[str, Any]) -> list[str]:
    """What the reader of an `eval` part should know of its episodes."""
    found = []
    if part.get("cut"):
        found.append(f"{part['cut']} of {part['episodes']} evaluated episodes do not end: they count as they stood "
                     f"after {part['limit']:,} steps; give the environment a time limit, or set eval.max_episode_steps")
    if part.get("broken"):
        found.append(f"in {part['broken']} of {part['episodes']} evaluated episodes the environment gives NaN or "
                     "infinity: they count as they stood before (env.on_nan = 'mask')")
    if part["episodes"] > 1 and part["ci95"] is None:
        found.append(f"the {part['episodes']} evaluated episodes are those of agents in one episode of the environment"
                     ": one gives no interval, so play more of them (eval.final_episodes, or --episodes)")
    if part.get("absent"):
        found.append(f"in {part['absent']} evaluated episodes an agent took no part: those have no score, and the mean "
                     "is over the episodes of the others")
    return found


def evaluate(vec: Vec, actor: Callable[[Array, Array], Array], episodes: int, seed: int,
             limit: int = 0, stopped: Callable[[], bool] = lambda: False,
             played: Callable[[int], None] = lambda episodes: None) -> Scores:
    """Play `episodes` complete episodes of `actor` (an Actor), in whole rollouts where the kernels cover it and the
    environment. Each row plays its own fixed share (`Quota`), so short episodes are not favoured. A row whose episode
    has not ended after `limit` steps plays no other; 0 chooses it (`episode_limit`). An episode that is given up
    because its worker was restarted is played again. `played` is told after every step how many episodes are over.
    InputError if nobody ever acts, or the actor's actions are not finite; NotFinite if what the environment gives is
    not, unless `vec.masks_nan`: then such a row's episode counts as it stood before, and it plays no other. Quit once
    `stopped` says so.

    Networks are computed in float32 throughout, as everywhere but in a run that learns with train.bf16."""
    with in_floats():
        return _played(vec, actor, episodes, seed, limit, stopped, played)


def _played(vec: Vec, actor: Callable[[Array, Array], Array], episodes: int, seed: int, limit: int,
            stopped: Callable[[], bool], played: Callable[[int], None]) -> Scores:
    quota = Quota(vec.num_envs, episodes, vec.spec.num_agents)
    limit = episode_limit(limit, vec.time_limit)
    if isinstance(actor, PolicyActor) and vec.backend == "native":
        vec.reset(seed)
        batch, fast = vec.native_batch(), FusedPolicy.of(actor.policy, recurrent=True)
        if batch is not None and fast is not None:
            try:
                return _in_rollouts(vec, batch, fast, actor, quota, limit, stopped, played)
            except NotFinite:
                if not vec.masks_nan:
                    raise
            quota = Quota(vec.num_envs, episodes, vec.spec.num_agents)
            actor.state = actor.policy.initial_state(vec.num_envs)
    return _step_by_step(vec, actor, quota, seed, limit, stopped, played)


def _step_by_step(vec: Vec, actor: Callable[[Array, Array], Array], quota: Quota, seed: int, limit: int,
                  stopped: Callable[[], bool], played: Callable[[int], None]) -> Scores:
    found: list[list[tuple[float, int]]] = [[] for _ in range(vec.num_envs)]
    running, (steps, idle) = np.zeros(vec.num_envs), np.zeros((2, vec.num_envs), np.int64)
    obs, starts = vec.reset(seed), np.ones(vec.num_envs, bool)
    if (wrong := wrong_rows(vec, obs, running, quota.left > 0, ~starts, 0)) is not None:
        quota.give_up(wrong, ~starts)
    logs, cut, broken, played_steps = None, 0, 0, 0
    if vec.logs is not None:
        vec.pop_log_means()  # nothing of an earlier evaluation
        logs = vec.logs.copy()
    while quota.left.any():
        if stopped():
            raise Quit
        batch, played_steps = vec.step(_finite_actions(vec, actor(obs, starts))), played_steps + 1
        obs, rewards = batch.obs, batch.rewards
        for lost in vec.dropped:
            running[lost], steps[lost] = 0, 0
            quota.drop(lost)
        ended = (batch.terminations | batch.truncations) & batch.valid
        wrong = wrong_rows(vec, obs, rewards, quota.left > 0, ended, played_steps)
        if wrong is not None:
            rewards = np.nan_to_num(rewards, nan=0, posinf=0, neginf=0)
        running += rewards * batch.valid
        steps += batch.valid
        idle += ~batch.valid
        starts = ended | ~batch.valid
        if logs is not None and vec.logs is not None:  # of environments with an episode that counts
            rows = np.repeat((quota.left > 0).reshape(-1, vec.spec.num_agents).any(1), vec.spec.num_agents)
            logs[rows] = vec.logs[rows]
        late = (quota.left > 0) & ~ended & ((steps >= limit) | (idle >= limit))
        cut += int((late & (steps > 0)).sum())
        if wrong is not None:
            late |= wrong & ~ended
            broken += int((wrong & (steps > 0)).sum())
        for row in np.flatnonzero(quota.follow(batch.valid, ended) | (late & (steps > 0))):
            found[row].append((float(running[row]), int(steps[row])))
        quota.give_up(late, late & (steps > 0))
        running[ended], steps[ended], idle[ended] = 0, 0, 0
        played(int(quota.played.sum()))
    return _scores(found, {} if logs is None else pop_log_means(logs, vec.log_names), cut, quota, limit,
                   broken)


def _finite_actions(vec: Vec, actions: Array) -> Array:
    """InputError if one is NaN or infinite: what an environment made of it would be blamed on the environment."""
    if not (vec.spec.action.discrete or all_finite(actions)):
        raise InputError(f"{vec.spec.name}: an action of the policy is NaN or infinite; look at its weights, and at "
                         "what normalises its observations")
    return actions


def _in_rollouts(vec: Vec, batch: NativeBatch, fast: FusedPolicy, actor: PolicyActor, quota: Quota,
                 limit: int, stopped: Callable[[], bool], played: Callable[[int], None]) -> Scores:
    n = vec.num_envs
    buffer, starts = RolloutBuffer(vec.spec, ROLLOUT_STEPS, n), np.ones(n, bool)
    found: list[list[tuple[float, int]]] = [[] for _ in range(n)]
    open_: list[list[tuple[float, int]]] = [[] for _ in range(n)]
    logs, share, idle, rollouts = None, quota.left.copy(), np.zeros(n, np.int64), 0
    if vec.logs is not None:
        vec.pop_log_means()  # nothing of an earlier evaluation
        logs = vec.logs.copy()
    while quota.left.any():
        if stopped():
            raise Quit
        buffer.start()
        with vec.rollout(ROLLOUT_STEPS):
            returns, lengths, sums, _ = native_rollout(fast, batch, buffer, starts, actor.noise, actor.deterministic,
                                                       actor.state)
        actor.noise.step += ROLLOUT_STEPS
        _finite_actions(vec, buffer.actions)
        check_rollout(vec, buffer, quota.left > 0, rollouts * ROLLOUT_STEPS)
        rollouts += 1
        for place, total, length, logged in zip(buffer.final_index % n, returns, lengths, sums, strict=True):
            if logs is not None and len(found[place]) < share[place]:
                logs[place // batch.agents * batch.agents] = logged
            found[place].append((float(total), int(length)))
        for valid, ended in zip(buffer.valid, buffer.terminations | buffer.truncations, strict=True):
            quota.follow(valid, ended)
        played(int(quota.played.sum()))
        idle = np.where(buffer.valid.any(0), 0, idle + ROLLOUT_STEPS)
        late = (quota.left > 0) & ((batch.lengths >= limit) | (idle >= limit))
        begun = late & (batch.lengths > 0)
        for row in np.flatnonzero(begun):
            beyond = int(batch.lengths[row]) - limit  # a rollout's last steps are not a part of it
            after = buffer.env_rewards[ROLLOUT_STEPS - beyond:, row].sum() if beyond > 0 else 0.0
            open_[row].append((float(batch.returns[row] - after), limit))
        quota.give_up(late, begun)
    kept = [row[:quota.played[i]] + open_[i] for i, row in enumerate(found)]
    return _scores(kept, {} if logs is None else pop_log_means(logs, vec.log_names), sum(map(len, open_)), quota, limit)


def _scores(found: list[list[tuple[float, int]]], log: dict[str, float], cut: int, quota: Quota, limit: int,
            broken: int = 0) -> Scores:
    """Of each row's episodes: returns and lengths."""
    flat = [episode for row in found for episode in row]
    if not flat:
        raise InputError("nobody took part in an evaluated episode, so that there is no score; give an environment in "
                         "which somebody acts")
    returns, lengths = zip(*flat, strict=True)
    return Scores(np.array(returns), np.array(lengths, np.int64), log, cut, quota.absent, limit, quota.clusters,
                  broken)


def make_eval_vec(env: EnvConfig, episodes: int, creator: Creator | None = None, watch: Watch | None = None) -> Vec:
    """The environment of a run once more (made by `creator` if given), with no more rows than episodes to play; the
    rows decide the workers. `watch`: see `make_vec`; by default what `env` says, told to the standard error."""
    creator = creator or find_creator(env.name, env.kwargs, env.pictures)
    least = creator.facts().rows
    rows = max(least, min(episodes, MAX_ROWS, env.num_envs) // least * least)
    backend = "multiprocessing" if env.num_workers else env.backend
    return make_vec(creator, num_envs=rows, backend=backend, clip_actions=env.clip_actions, on_nan=env.on_nan,
                    watch=watch or Watch(env.timeout_s, env.on_timeout, guard=True))


@torch.no_grad()
def log_likelihood(policy: Policy, demos: Demos) -> float:
    """Mean of log π(a|s) over demonstrated transitions, in nats; of densities where actions are continuous, and of the
    first action of a chunk."""
    if demos.actions is None:
        raise InputError(f"demos {demos.source}: no actions are stored, so their likelihood is unknown; give others")
    if isinstance(policy.dist, Flow):
        raise InputError(f"demos {demos.source}: a flow does not give the likelihood of actions; leave them out")
    device, total, size = next(policy.parameters()).device, 0.0, policy.chunks.size
    for first, end in zip(demos.episode_starts, demos.episode_ends, strict=True):
        obs, actions = (torch.tensor(array[first:end], device=device) for array in (demos.obs, demos.actions))
        memory = torch.zeros(1, policy.memory_dim, device=device)
        params = policy.action_params(obs) if policy.memory is None else (
            policy.params(policy.unroll(obs[:, None], memory)[0]))
        first = None if size == 1 else torch.arange(size * actions.shape[1], device=device) < actions.shape[1]
        total += float(policy.dist.log_prob(params, actions.repeat(1, size), first).sum())
    return total / len(demos)
