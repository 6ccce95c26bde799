"""What stands in the rows: rewards of the environment, actions in its units, noise."""

from dataclasses import replace

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.demos.judge.replay import together
from puffer_il.demos.judge.world import World
from puffer_il.demos.rows import successors


def without_actions(demos: Demos) -> Demos:
    """Only what was observed."""
    return replace(demos, actions=None, action_parts=(), action_first=(), notes=(*demos.notes, "dropped the actions"))


def rewarded(demos: Demos, how: str, world: World | None) -> Demos:
    """Rewards as `how` says: "none" drops them, "env" asks the environment, a number is given to every row. InputError
    where the environment cannot tell."""
    if how == "none":
        rewards = None
    elif how == "env":
        rewards = _asked(demos, world)
    else:
        try:
            value = float(how)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise InputError(f"--rewards {how!r}: expected env, none or a number; give one of them")
        rewards = np.full(len(demos), value, np.float32)
    return replace(demos, rewards=rewards, episode_returns=None if rewards is None or demos.episode_lengths is None else
                   demos.episode_returns, notes=(*demos.notes, f"rewards: {how}"))


def _asked(demos: Demos, world: World | None) -> Array:
    if world is None:
        raise InputError("--rewards env: asks an environment; name it with --env ENV")
    if demos.actions is None:
        raise InputError(f"demos {demos.source}: no actions are stored, so the environment cannot tell what they are "
                         "worth; give a number, or none")
    states, played, rows = demos.states if demos.states is not None else world.states_of(demos.obs), None, None
    if states is not None and len(rows := together(states, world.spec.num_agents)) == len(demos):
        played = world.replay(states[rows], world.spec.action.chosen(demos.actions)[rows])
    if played is None or not np.isfinite(played.rewards).all():
        raise InputError(f"demos {demos.source}: holds no states that {world.spec.name} can be put into, so its "
                         "rewards are not known; record them with demos collect, or give a number")
    rewards = np.empty(len(demos), np.float32)
    rewards[rows] = played.rewards
    return rewards


def rescaled(demos: Demos, ends: tuple[float, float], spec: EnvSpec | None) -> Demos:
    """Continuous actions mapped by a line that takes `ends` to those of the environment's range."""
    low, high = ends
    if spec is None:
        raise InputError("--rescale-actions: maps to the range of an environment; name it with --env ENV")
    action = spec.action
    if demos.actions is None or action.discrete or not action.bounded or demos.actions.shape[1] != action.dim:
        raise InputError(f"demos {demos.source}: has no continuous actions in the {action.dim} columns of {spec.name} "
                         "with a bounded range; --rescale-actions maps only those")
    share = (demos.actions.astype(np.float64) - low) / (high - low)
    first, last = (np.asarray(bound, np.float64) for bound in (action.low, action.high))
    return replace(demos, actions=(first + share * (last - first)).astype(np.float32),
                   notes=(*demos.notes, f"actions mapped from [{low:g}, {high:g}] to the range of {spec.name}"))


def noisy(demos: Demos, name: str, size: float, seed: int) -> Demos:
    """Gaussian noise on "obs" or "actions", of `size` standard deviations of each column, drawn with `seed`. The
    successor of a row stays the observation of the next one."""
    array = getattr(demos, name)
    if array is None or array.dtype.kind != "f" or demos.layout is not None:
        raise InputError(f"demos {demos.source}: {name} are no plain rows of floats, on which noise can be; leave "
                         f"--noise-{name} out")
    rng, note = np.random.default_rng(seed), f"noise of {size:g} standard deviations on {name}, seed {seed}"
    spread = size * array.std(0)

    def made(rows: Array) -> Array:
        return (rows + spread * rng.standard_normal(rows.shape)).astype(np.float32)

    if name == "actions":
        return replace(demos, actions=made(array), notes=(*demos.notes, note))
    following = successors(demos.obs, np.asarray(demos.next_obs), demos.episode_starts)
    return replace(demos, next_obs=following).with_obs(made, states=None, notes=(*demos.notes, note))
