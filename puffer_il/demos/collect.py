"""An expert acts in vector environments until every row has its share of complete episodes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array, Layout
from puffer_il.demos.build import build_demos
from puffer_il.demos.dataset import Demos
from puffer_il.demos.quota import Quota

MAX_EPISODE_STEPS = 100_000  # an episode without an end would otherwise fill the memory
SUCCESS = "success_rate"  # what environments log of an episode that can succeed
Act = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Played:
    """What came of some episodes: `demos` (None: none was finished), whether each of them succeeded, (episodes,) int8
    with −1 where the environment does not say; and how many were played by taking no part."""

    demos: Demos | None
    successes: Array
    absent: int = 0


def collect(vec: Any, actor: Act, episodes: int, source: str, *, seed: int = 0, limit: int = 0) -> Demos:
    """`episodes` complete episodes of `actor` (an Actor) in `vec` (a Vec), as `play` plays them."""
    if episodes < 1:
        raise InputError(f"{source}: {episodes} episodes asked for; collect at least one")
    played = play(vec, actor, episodes, source, seed=seed, limit=limit)
    assert played.demos is not None
    return played.demos


def play(vec: Any, actor: Act, episodes: int, source: str, *, seed: int = 0, limit: int = 0,
         noise: Callable[[Array, Array], Array] | None = None, stopped: Callable[[], bool] = lambda: False) -> Played:
    """`episodes` complete episodes of `actor` (an Actor) in `vec` (a Vec), which is reset with `seed` first.

    Every row contributes its first `episodes // num_envs` episodes (the first rows one more), however long they are:
    taking whichever end first would favour short ones. An agent that takes no part in an episode contributes none of
    it. Episodes are ordered by row. Stored actions are those executed, continuous ones clipped to the range and locked
    ones included; rows that are not valid are left out; successors are the true ones. The environment's state is kept
    beside each row where it can be told, with several agents the last one in which all of them took part, so that an
    episode can begin there.

    noise    from observations and the actor's actions to those that are executed instead; the actor's are stored
    stopped  once it says so, the episodes that are finished are all
    Raises InputError if an episode does not end within the environment's own limit, or where it tells none within
    `limit` steps; 0 takes MAX_EPISODE_STEPS.
    """
    quota, limit = Quota(vec.num_envs, episodes, vec.spec.num_agents), vec.time_limit or limit or MAX_EPISODE_STEPS
    obs, episode_start = vec.reset(seed), np.ones(vec.num_envs, bool)
    steps, idle = np.zeros((2, vec.num_envs), np.int64)
    states: Array | None = None
    parts: list[tuple[Array, ...]] = []
    successes: list[tuple[int, int]] = []  # row, success
    hear = getattr(actor, "hear", None)
    while quota.left.any() and not stopped():
        live = np.flatnonzero(quota.left)
        actions, before, here = vec.spec.action.executed(actor(obs, episode_start)), obs[live], vec.env_states()
        logged = _logged(vec)
        batch = vec.step(actions if noise is None else vec.spec.action.executed(noise(obs, actions)))
        if hear is not None:
            hear(batch)
        if here is not None:
            everyone = np.repeat(batch.valid.reshape(-1, vec.spec.num_agents).all(1), vec.spec.num_agents)
            states = here if states is None else np.where(everyone[:, None], here, states)
        kept = batch.valid[live]
        rows = live[kept]
        ended = batch.valid & (batch.terminations | batch.truncations)
        next_obs = batch.obs[rows]
        next_obs[ended[rows]] = batch.final_obs[rows][ended[rows]]
        done = vec.spec.action.whole(actions[rows])
        parts.append((rows, before[kept], done, next_obs, batch.terminations[rows], batch.truncations[rows],
                      batch.rewards[rows], *(() if states is None else (states[rows],))))
        successes += [(row, _success(vec, logged, row))
                      for row in np.flatnonzero(quota.follow(batch.valid, ended)).tolist()]
        steps, idle = np.where(ended, 0, steps + batch.valid), np.where(ended, 0, idle + ~batch.valid)
        if max(steps[live].max(), idle[live].max()) >= limit:
            raise InputError(f"{source}: an episode has not ended after {limit:,} steps; give the environment a time "
                             "limit")
        obs, episode_start = batch.obs, ended | ~batch.valid
    layout = vec.spec.layout
    _check(parts, layout, source)
    told = np.array([success for _, success in sorted(successes, key=lambda pair: pair[0])], np.int8)
    if quota.left.any():
        parts = _finished(parts)
    if not parts:
        return Played(None, told, quota.absent)
    demos = _ordered(parts, source, layout if len(layout.fields) > 1 or layout.nested else None,
                     vec.spec.action.parts if vec.spec.action.nested else ())
    if vec.spec.frames is not None:
        demos = replace(demos, pictures=vec.spec.frames.options)
    if quota.absent:
        demos = replace(demos, notes=(*demos.notes, f"{demos.num_episodes} of {episodes} episodes: in the others an "
                                                    "agent took no part"))
    return Played(demos, told, quota.absent)


def _logged(vec: Any) -> Array | None:
    """What episodes have logged so far, where they log whether they succeeded."""
    names = getattr(vec, "log_names", ())
    return vec.logs.copy() if SUCCESS in names and vec.logs is not None else None


def _success(vec: Any, before: Array | None, row: int) -> int:
    """1 or 0 of the episode that has just ended in a row, −1 where it does not say."""
    if before is None:
        return -1
    episodes, *logged = vec.logs[row] - before[row]
    return int(logged[vec.log_names.index(SUCCESS)] > 0) if episodes > 0 else -1


def _finished(parts: list[tuple[Array, ...]]) -> list[tuple[Array, ...]]:
    """Vector steps without those rows whose episode has no end."""
    last: dict[int, int] = {}
    for step, (rows, _, _, _, terminations, truncations, *_) in enumerate(parts):
        last |= dict.fromkeys(rows[terminations | truncations].tolist(), step)
    kept = [np.array([last.get(row, -1) >= step for row in part[0].tolist()], bool) for step, part in enumerate(parts)]
    return [tuple(column[rows] for column in part) for part, rows in zip(parts, kept, strict=True) if rows.any()]


def _check(parts: list[tuple[Array, ...]], layout: Layout, source: str) -> None:
    """InputError if the environment gave an observation or a reward that is NaN or infinite."""
    for step, (rows, obs, _, next_obs, _, _, rewards, *_) in enumerate(parts):
        seen = [(field.name, field.of(array)) for field in layout.fields if field.dtype.kind == "f"
                for array in (obs, next_obs)]
        for name, numbers in (("the reward", rewards), *((f"observation {name!r}", array) for name, array in seen)):
            if not np.isfinite(numbers).all():
                row = rows[np.argwhere(~np.isfinite(numbers))[0][0]]
                raise InputError(f"{source}: {name} is NaN or infinite in row {row}, {step + 1} steps after the reset; "
                                 "let the environment give finite numbers")


def _ordered(parts: list[tuple[Array, ...]], source: str, layout: Layout | None, action_parts: Parts) -> Demos:
    """Vector steps, the rows side by side → episodes one after the other."""
    row, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(row, kind="stable")
    obs, actions, next_obs, terminations, truncations, rewards, *states = (column[order] for column in columns)
    ends = np.flatnonzero(terminations | truncations)
    return build_demos(source, obs=obs, actions=actions, next_obs=next_obs, terminations=terminations,
                       truncations=truncations, episode_starts=np.append(0, ends[:-1] + 1), rewards=rewards,
                       states=states[0] if states else None, layout=layout,
                       action_parts=action_parts)
