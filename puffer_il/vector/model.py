"""The exact model, an MDP, of environments that have one: for learners that plan, and never see a vector.

An environment has one if it is made of the tables of csrc/tabular.h, or if it is, or is equal to, a Gymnasium
environment with a table `P` and an `initial_state_distrib`, as those of toy_text are: P[state][action] is a list of
(probability, next state, reward, terminated).
"""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.native.envdata import open_env
from puffer_il.native.envfile import read_env
from puffer_il.native.tabular import MDP, read_tables
from puffer_il.vector.make import Creator


def model_of(creator: Creator) -> MDP:
    """The MDP that an environment samples from; InputError if it has no table of transitions.

    States are numbered as its observations are, actions as its actions. A time limit is no part of it.
    """
    if creator.kind == "folder":
        file = read_env(creator.target)
        if "row_starts" in file.data:
            return read_tables(open_env(creator.target, creator.kwargs)[2])[0]
        if file.gymnasium_id:
            return _of_twin(creator.name, file.gymnasium_id, file.values(creator.kwargs))
    elif creator.kind in ("gymnasium", "callable"):
        opened = creator(num_envs=1)
        inner = getattr(opened, "env", opened)
        with suppress(Exception):
            opened.close()
        return _of_gymnasium(creator.name, getattr(inner, "unwrapped", inner))
    raise _without(creator.name)


def _of_twin(name: str, gymnasium_id: str, values: Mapping[str, Any]) -> MDP:
    """The MDP of the Gymnasium environment that a C environment equals, with the parameters that both have."""
    if values.get("fickle_passenger"):
        raise InputError(f"environment {name}: env.kwargs.fickle_passenger = true: no observation tells whether the "
                         "passenger will change their mind, so there is no table; set it to false")
    known = inspect.signature(type(gymnasium.make(gymnasium_id, disable_env_checker=True).unwrapped)).parameters
    options = {key: value for key, value in values.items() if key in known}
    if "reward_goal" in values:
        options["reward_schedule"] = tuple(values[f"reward_{tile}"] for tile in ("goal", "hole", "frozen"))
    return _of_gymnasium(name, gymnasium.make(gymnasium_id, disable_env_checker=True, **options).unwrapped)


def _of_gymnasium(name: str, env: Any) -> MDP:
    """The MDP of an environment with the table `P`, terminal states being those where its transitions terminate."""
    table, first = getattr(env, "P", None), getattr(env, "initial_state_distrib", None)
    if table is None or first is None:
        raise _without(name)
    first = np.asarray(first, np.float64)
    states, actions = len(table), len(table[0])
    transitions, rewards, terminated = np.zeros((3, states, actions, states))
    for s, rows in table.items():
        for a, row in rows.items():
            for chance, following, reward, ended in row:
                transitions[s, a, following] += chance
                rewards[s, a, following] += chance * reward
                terminated[s, a, following] += chance * ended
    rewards /= np.where(transitions > 0, transitions, 1)
    # What no episode reaches may contradict the rest: Taxi's passengers who have arrived and yet are being driven.
    reached, terminal, size = first > 0, np.zeros(states, bool), -1
    while size < reached.sum():
        size, going = reached.sum(), reached & ~terminal
        terminal |= terminated[going].any((0, 1))
        reached |= transitions[going].any((0, 1))
    mixed = (transitions - terminated)[reached & ~terminal][..., terminal]
    if mixed.max(initial=0) > 1e-9:
        raise InputError(f"environment {name}: whether an episode ends depends on the way to a state, not on the state "
                         "alone; only an MDP with terminal states has a model here")
    return MDP(transitions, rewards, first / first.sum(), terminal, f"environment {name}")


def _without(name: str) -> InputError:
    return InputError(f"environment {name} has no table of transitions to plan with; choose another algorithm, or an "
                      "environment with one: mdp, icusepsis, frozenlake, cliffwalking, taxi, Gymnasium's with P")
