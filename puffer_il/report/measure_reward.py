"""What a learned reward is like: on demonstrations and on the episodes of policies, beside the true reward, and by what
part of an observation it is moved.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.core.text import shown
from puffer_il.demos import collect, fit, load_demos
from puffer_il.demos.dataset import Demos
from puffer_il.demos.weights import ranks
from puffer_il.learners.common.learned_reward import LearnedReward, check_spaces, load_reward
from puffer_il.nn.observations import Flatten
from puffer_il.rollout.actors import RandomActor, policy_actor
from puffer_il.training.run_dir import environment_of, load_config
from puffer_il.training.saved_run import load_policy
from puffer_il.vector import trust
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import Vec, make_vec

ROWS = 20_000  # drawn from all sources together, for what need not see every one
MOST_PARTS = 256  # of an observation that are looked at one by one
QUADRATIC = 24  # up to so many columns a potential may have all their products; beyond, their squares
BINS = 24
DEFAULT_GAMMA = 0.99


@dataclass(frozen=True)
class Scored:
    """Episodes of one origin, and the learned reward of each of their steps (n,)."""

    name: str
    demos: Demos
    rewards: Array


@dataclass(frozen=True)
class Part:
    """A column of an observation's row, or a field of it: `low` to `high` are its bytes, `values` its numbers (n,) if
    it is one number."""

    name: str
    low: int
    high: int
    values: Array | None


def measure(source: Path, env: str, kwargs: dict[str, Any], demos: str, episodes: int, seed: int,
            trusted: bool = False) -> dict[str, Any]:
    """All that is known of the reward of a run (or of a `reward.pt`), as numbers, texts, lists and tables.

    env, demos  "" for those of the run; kwargs go over the run's parameters of the environment
    InputError where nothing tells the environment, where it is code that is not `trusted`, or where the reward does not
    fit it.
    """
    reward, notes = load_reward(source), list[str]()
    run = source if source.is_dir() else source.parent
    config = load_config(run) if (run / "config.toml").is_file() else None
    if not env and not config:
        trust.check(reward.spec.name, {}, str(source), trusted)
        env = reward.spec.name
    env, kwargs, pictures = environment_of(run if config else None, env, kwargs, trusted)
    if not config:
        pictures = reward.spec.pictures
    rows = find_creator(env, kwargs, pictures).facts().rows_for(min(episodes, 64))
    with make_vec(env, num_envs=rows, kwargs=kwargs, seed=seed, pictures=pictures) as vec:
        check_spaces(reward, vec.spec, str(source))
        scored = [Scored(name, part, _rewards(reward, part)) for name, part in
                 _sources(vec, run, config, reward, demos, episodes, seed, notes)]
        spec = vec.spec
    gamma = config.sections["ppo"].gamma if config and "ppo" in config.sections else DEFAULT_GAMMA
    facts: dict[str, Any] = {
        "reward": str(source), "kind": reward.kind, "algo": reward.algo, "learned_on": reward.spec.name, "env": env,
        "kwargs": kwargs, "reads": list(reward.reads), "absorbing": reward.absorbing, "arguments": reward.arguments,
        "parameters": sum(p.numel() for p in reward.parameters()), "gamma": gamma,
        "sources": {part.name: _statistics(part) for part in scored}, "truth": truth(scored, reward, gamma, spec)}
    pool = _pool(scored, seed)
    found = parts_of(spec, pool.obs)
    if len(found) > MOST_PARTS:
        notes.append(f"the first {MOST_PARTS} of {len(found)} parts of an observation were looked at")
    facts["moved_by"] = moved_by(reward, pool, found[:MOST_PARTS], seed)
    facts["slices"] = slices(_rewards(reward, pool), found, facts["moved_by"])
    return facts | {"notes": notes}


def _sources(vec: Vec, run: Path, config: Config | None, reward: LearnedReward, demos: str, episodes: int, seed: int,
             notes: list[str]) -> Iterator[tuple[str, Demos]]:
    source = demos or (config.demos.source if config else "")
    if source:
        try:
            own = config.demos if config and not demos else None
            given = load_demos(source, vec.spec, episodes=own.episodes if own else 0,
                               clip_actions=bool(own and own.clip_actions), fields=own.fields if own else ())
            if given.actions is None and "actions" in reward.reads:
                raise InputError(f"demos {source}: no actions are stored, and this reward reads them")
            yield "demonstrations", given
        except InputError as error:
            if demos:
                raise
            notes.append(str(error))
    chance = collect(vec, RandomActor(vec.spec, seed), episodes, "random policy", seed=seed)
    yield "random policy", fit(chance, vec.spec)
    if config and (run / "checkpoints").is_dir():
        policy, _, state = load_policy(run)
        if vec.spec.same_spaces(state["spec"]):
            own_steps = collect(vec, policy_actor(policy, vec), episodes, "trained policy", seed=seed)
            yield "trained policy", fit(own_steps, vec.spec)
        else:
            notes.append("the trained policy does not fit this environment and was left out")


def _rewards(reward: LearnedReward, demos: Demos) -> Array:
    return reward.predict(demos.obs, demos.actions, demos.next_obs).astype(np.float64)


def _statistics(part: Scored) -> dict[str, Any]:
    rewards, demos = part.rewards, part.demos
    sums = np.add.reduceat(rewards, demos.episode_starts)
    return {"episodes": demos.num_episodes, "steps": len(demos), "mean": rewards.mean(), "sd": rewards.std(),
            "min": rewards.min(), "max": rewards.max(), "return_mean": sums.mean(),
            "true_return_mean": None if demos.returns is None else demos.returns.mean()}


def truth(scored: list[Scored], reward: LearnedReward, gamma: float, spec: EnvSpec) -> dict[str, float | None]:
    """How the learned reward goes along with the true one, over the steps of all sources.

    step, step_rank  Pearson's and Spearman's correlation of the rewards of single steps
    returns          of discounted returns of whole episodes, with what comes after a termination
    distance         sqrt((1 − ρ) / 2) with ρ the correlation that is left once both are rid of shaping: of what terms
                     γ φ(s′) − φ(s), φ quadratic in the observation (of categories: any), can explain. 0 the same up to
                     shaping and scale, 0.71 unrelated, 1 opposite; as EPIC (Gleave et al. 2021, arXiv:2006.13900),
                     here on the steps that are seen
    None where the truth is not known, or where one of the two does not vary.
    """
    known = [part for part in scored if part.demos.rewards is not None]
    true = np.concatenate([np.asarray(part.demos.rewards, np.float64) for part in known] or [np.zeros(0)])
    learned = np.concatenate([part.rewards for part in known] or [np.zeros(0)])
    if not len(true):
        return dict.fromkeys(("step", "step_rank", "returns", "distance"))
    ended = np.concatenate([part.demos.terminations for part in known])
    after = gamma * (reward.absorbing or 0.0) / (1 - gamma) if gamma < 1 else 0.0
    whole = learned + after * ended
    lengths = np.concatenate([part.demos.lengths for part in known])
    returns = [_discounted(x, lengths, gamma) for x in (true, whole)]
    obs, next_obs = (np.concatenate([getattr(part.demos, name) for part in known]) for name in ("obs", "next_obs"))
    chosen = np.random.default_rng(0).permutation(len(true))[:ROWS]
    later = potentials(spec, next_obs[chosen]) * ~ended[chosen, None]
    shaping = np.column_stack((np.ones(len(chosen)), gamma * later - potentials(spec, obs[chosen])))
    rest = [_without(shaping, x[chosen]) for x in (true, whole)]
    left = correlation(*rest)
    return {"step": correlation(true, learned), "step_rank": correlation(ranks(true), ranks(learned)),
            "returns": correlation(*returns), "distance": None if left is None else float(np.sqrt((1 - left) / 2))}


def correlation(a: Array, b: Array) -> float | None:
    """Pearson's, None where one of the two does not vary."""
    if len(a) < 3 or min(np.std(a), np.std(b)) < 1e-9 * max(1.0, abs(a).max(), abs(b).max()):
        return None
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))


def _discounted(rewards: Array, lengths: Array, gamma: float) -> Array:
    """(episodes,) returns."""
    steps = np.concatenate([np.arange(n) for n in lengths])
    return np.add.reduceat(rewards * gamma**steps, np.cumsum(lengths) - lengths)


def _without(terms: Array, x: Array) -> Array:
    """What is left of x (n,) once the best combination of terms (n, k) is taken away; 0 where that is all of it."""
    rest = x - terms @ np.linalg.lstsq(terms, x, rcond=1e-8)[0]
    return rest if rest.std() > 1e-6 * max(x.std(), 1e-12) else np.zeros(len(x))


def potentials(spec: EnvSpec, obs: Array) -> Array:
    """(n, k) functions of observations whose combinations are the potentials that count as shaping."""
    flatten = Flatten(spec)
    flat = flatten(torch.tensor(obs)).numpy().astype(np.float64)[:, :flatten.num_numeric + flatten.num_onehot]
    numeric, others = flat[:, :flatten.num_numeric], flat[:, flatten.num_numeric:]
    spread = np.maximum(abs(numeric).max(0, initial=0), 1e-12) if len(numeric) else 1.0
    numeric, count = numeric / spread, numeric.shape[1]
    first, second = np.triu_indices(count) if count <= QUADRATIC else (np.arange(count),) * 2
    return np.column_stack((np.ones(len(flat)), numeric, numeric[:, first] * numeric[:, second], others))


def _pool(scored: list[Scored], seed: int) -> Demos:
    """Steps of all sources, each with an equal share, as demonstrations of one step each."""
    rng, each = np.random.default_rng(seed), ROWS // len(scored)
    chosen = [(part.demos, rng.permutation(len(part.demos))[:each]) for part in scored]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(demos, name)[index] for demos, index in chosen])
        for name in ("obs", "actions", "next_obs", "terminations", "truncations")
        if all(getattr(demos, name) is not None for demos, _ in chosen)}
    return Demos(**{"actions": None} | arrays, episode_starts=np.arange(len(arrays["obs"])))


def parts_of(spec: EnvSpec, obs: Array) -> list[Part]:
    """The numbers of an observation one by one; images and long fields as a whole."""
    parts = []
    for field in spec.obs_fields:
        if field.mask:  # which no reward sees
            continue
        size, values = field.dtype.itemsize, field.of(obs).reshape(len(obs), -1).T
        if field.image:
            parts.append(Part(shown(field.name), field.offset, field.offset + size * len(values), None))
            continue
        for k, column in enumerate(values.astype(np.float64)):
            low = field.offset + k * size
            parts.append(Part(shown(f"{field.name}[{k}]" if len(values) > 1 else field.name), low, low + size, column))
    return parts


def moved_by(reward: LearnedReward, pool: Demos, parts: list[Part], seed: int) -> list[dict[str, Any]]:
    """How far the reward moves (root mean square, in its standard deviations) when one part of what it reads is taken
    from another step: the largest first."""
    before, rng = _rewards(reward, pool), np.random.default_rng(seed)
    scale = max(float(before.std()), 1e-12)
    names = [name for name in ("obs", "next_obs") if name in reward.reads]
    moved = []

    def look(name: str, **changed: Any) -> None:
        after = _rewards(reward, replace(pool, **changed))
        moved.append({"part": name, "sd": float(np.sqrt(np.square(after - before).mean())) / scale})

    for part in parts:
        order = rng.permutation(len(before))
        look(part.name, **{name: exchanged(getattr(pool, name), part, order) for name in names})
    if "actions" in reward.reads and pool.actions is not None:
        look("action", actions=pool.actions[rng.permutation(len(before))])
    return sorted(moved, key=lambda one: -one["sd"])


def exchanged(obs: Array, part: Part, order: Array) -> Array:
    """Observations with the bytes of one part from other rows."""
    raw = np.array(obs).reshape(len(obs), -1)
    view = raw.view(np.uint8)
    view[:, part.low:part.high] = view[order, part.low:part.high]
    return raw.reshape(obs.shape)


def slices(rewards: Array, parts: list[Part], moved: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean rewards of the steps seen, by the one and by the two numbers that move it most: `one` has a list of means,
    `two` a list of rows, from the lowest second number up; None where no step was."""
    varied = {part.name: part.values for part in parts if part.values is not None and np.ptp(part.values) > 0}
    chosen = [one["part"] for one in moved if one["part"] in varied and one["sd"] > 0][:2]
    made: dict[str, Any] = {"one": [], "two": None}
    places = []
    for name in chosen:
        values = varied[name]
        whole = np.array_equal(values, values.round())
        low, high = (values.min(), values.max()) if whole else np.quantile(values, (0.005, 0.995))
        count = int(high - low + 1) if whole and high - low < 2 * BINS else BINS
        place = np.clip(((values - low) / (high - low) * count).astype(int), 0, count - 1)
        places.append((place, count))
        made["one"].append({"part": name, "low": low, "high": high, "means": _means(rewards, place, count)})
    if len(chosen) == 2:
        (x, columns), (y, rows) = places
        means = _means(rewards, y * columns + x, rows * columns)
        made["two"] = {"x": chosen[0], "y": chosen[1],
                       "means": [means[row * columns:(row + 1) * columns] for row in range(rows)]}
    return made


def _means(values: Array, place: Array, count: int) -> list[float | None]:
    """Means of the values at each of `count` places."""
    sums, seen = np.bincount(place, values, count), np.bincount(place, minlength=count)
    return [float(s / n) if n else None for s, n in zip(sums, seen, strict=True)]
