"""The tables of environments: those of known worth, against Gymnasium's, and who has none."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.native import tabular
from puffer_il.vector.make import find_creator
from puffer_il.vector.model import model_of
from tests.support.mdps import policy_value


class Corridor(gymnasium.Env):
    """Three cells; the way to the last one ends the episode, unless `kind` says otherwise."""

    def __init__(self, kind: str = "") -> None:
        self.observation_space, self.action_space = gymnasium.spaces.Discrete(3), gymnasium.spaces.Discrete(2)
        self.initial_state_distrib = np.array([1.0, 0, 0])
        self.P = {s: {a: [(1.0, min(s + a, 2), float(s), s + a == 2)] for a in range(2)} for s in range(3)}
        if kind == "mixed":
            self.P[0][1] = [(0.5, 1, 0.0, True), (0.5, 1, 0.0, False)]

    def reset(self, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 0, 0.0, False, False, {}


@pytest.mark.parametrize(("name", "kwargs", "worth", "terminal"), [
    ("taxi", {}, 7.93, 4), ("cliffwalking", {}, -13.0, 1), ("frozenlake", {}, 0.7402, 5),
    ("frozenlake", {"map_name": "8x8", "is_slippery": False}, 1.0, 11), ("FrozenLake-v1", {}, 0.7402, 5),
    ("mdp", {}, 0.5337, 5),
])
def test_the_best_policy_is_worth_what_is_known(name, kwargs, worth, terminal):
    mdp = model_of(find_creator(name, kwargs))
    best, _ = tabular.optimal_policy(mdp, 0.9999)
    assert policy_value(mdp, best, horizon=100) == pytest.approx(worth, abs=1e-3)
    assert mdp.terminal.sum() == terminal


def test_parameters_reach_the_table():
    plain, rainy = (model_of(find_creator("taxi", {"is_rainy": rain})).transitions for rain in (False, True))
    assert (np.unique(plain) == [0, 1]).all() and 0.8 in np.unique(rainy)
    lake = model_of(find_creator("frozenlake", {"success_rate": 0.8, "reward_goal": 5.0, "reward_hole": -2.0}))
    assert lake.transitions.max() == 1 and 0.8 in lake.transitions[0]
    assert lake.rewards.max() == 5 and lake.rewards.min() == -2


def test_a_python_environment_with_a_table_has_a_model():
    mdp = model_of(find_creator("tests.vector.test_model:Corridor"))
    assert mdp.terminal.tolist() == [False, False, True] and mdp.initial.tolist() == [1, 0, 0]
    assert mdp.transitions[0].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert policy_value(mdp, np.array([[0.0, 1]] * 3)) == 1


@pytest.mark.parametrize(("name", "kwargs", "message"), [
    ("cartpole", {}, "environment cartpole has no table of transitions to plan with; choose another algorithm"),
    ("glucose", {}, "environment glucose has no table"), ("Blackjack-v1", {}, "Blackjack-v1 has no table"),
    ("taxi", {"fickle_passenger": True}, "env.kwargs.fickle_passenger = true"),
    ("tests.vector.test_model:Corridor", {"kind": "mixed"}, "depends on the way to a state"),
])
def test_who_has_none_is_told_in_one_line(name, kwargs, message):
    with pytest.raises(InputError, match=message) as error:
        model_of(find_creator(name, kwargs))
    assert "\n" not in str(error.value)
