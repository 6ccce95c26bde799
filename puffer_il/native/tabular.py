"""Finite Markov decision processes, exactly: values, occupancies and optimal policies by linear algebra, how close a
policy comes to an expert's, and the tables that csrc/tabular.h samples from.

S states, A actions. A policy is an array (S, A) of probabilities. An action is never taken in a terminal state, so that
what a policy says there does not matter.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array

SUM_TOLERANCE = 1e-6  # how far probabilities may sum to something other than 1: float32 rounding
SWEEPS = 1_000  # of value iteration
BACKUPS = 100  # of the greedy policy after each of them
CONVERGED = 1e-12  # relative change of the values


@dataclass(frozen=True, eq=False)
class MDP:
    """Checked on construction; InputError, beginning with `origin`, names the array that is wrong.

    transitions  (S, A, S) probabilities of the next state
    rewards      (S, A, S) of a step from one state by an action to another; also (S, A), or (S,) of the state acted in
    initial      (S,) probabilities of the first state
    terminal     (S,) bool: an episode ends as it gets there. By default the states that every action stays in for ever,
                 without a reward
    """

    transitions: Array
    rewards: Array
    initial: Array
    terminal: Array | None = None
    origin: str = "mdp"

    def __post_init__(self) -> None:
        p = _numbers(self.origin, "transitions", self.transitions)
        if p.ndim != 3 or p.shape[0] != p.shape[2] or 0 in p.shape:
            raise InputError(f"{self.origin}: transitions has shape {p.shape}; it must be (states, actions, states)")
        states, actions = p.shape[:2]
        _check_distributions(self.origin, "transitions", p)
        r = _numbers(self.origin, "rewards", self.rewards)
        if r.shape not in ((states,), (states, actions), p.shape):
            raise InputError(f"{self.origin}: rewards has shape {r.shape}; it must be {(states,)}, {(states, actions)} "
                             f"or {p.shape}, as transitions has {p.shape}")
        r = np.broadcast_to(r.reshape(r.shape + (1,) * (3 - r.ndim)), p.shape)
        first = _numbers(self.origin, "initial", self.initial, (states,))
        _check_distributions(self.origin, "initial", first)
        if self.terminal is None:
            own = np.arange(states)
            ends = (p[own, :, own] == 1).all(1) & (r[own, :, own] == 0).all(1)
        else:
            ends = _numbers(self.origin, "terminal", self.terminal, (states,)) != 0
        if (first * ends).any():
            raise InputError(f"{self.origin}: initial gives {(first * ends).sum():.3g} to terminal states, in which an "
                             "episode would be over before it begins; give it to others")
        for name, array in (("transitions", p), ("rewards", r), ("initial", first), ("terminal", ends)):
            object.__setattr__(self, name, array)

    @property
    def num_states(self) -> int:
        return self.transitions.shape[0]

    @property
    def num_actions(self) -> int:
        return self.transitions.shape[1]

    @property
    def going(self) -> Array:
        """(S,) bool, the states that are not terminal."""
        return ~np.asarray(self.terminal)

    @cached_property
    def mean_rewards(self) -> Array:
        """(S, A) of an action, the next state being any; 0 in terminal states."""
        return np.einsum("sat,sat->sa", self.transitions, self.rewards) * self.going[:, None]

    def moves(self, policy: Array) -> Array:
        """(S, S) probabilities of going from one state to another under a policy, terminal ones left out."""
        steps = (policy[:, None, :] @ self.transitions)[:, 0]
        return steps * self.going[:, None] * self.going


def occupancy(mdp: MDP, policy: Array, gamma: float = 1.0, horizon: int | None = None) -> Array:
    """(S, A) how often an episode takes each action in each state on average, step t counting gamma^t.

        d = ρ + γ Pᵀ d,  restricted to the states that can be reached

    `horizon` cuts episodes after that many steps. InputError if without it the sum is infinite.
    """
    move, first = mdp.moves(policy), mdp.initial * mdp.going
    visits = np.zeros(mdp.num_states)
    if horizon is not None:
        for _ in range(horizon):
            visits += first
            first = gamma * (first @ move)
    else:
        reached = first > 0
        while (further := reached | (reached @ move > 0)).sum() > reached.sum():
            reached = further
        part = np.ix_(reached, reached)
        visits[reached] = _solve(np.eye(reached.sum()) - gamma * move[part].T, first[reached])
    return visits[:, None] * policy


def mean_length(mdp: MDP, policy: Array, horizon: int | None = None) -> float:
    """The mean number of steps of an episode."""
    return float(occupancy(mdp, policy, horizon=horizon).sum())


def state_values(mdp: MDP, policy: Array, gamma: float = 1.0) -> Array:
    """(S,) the mean return from each state on, 0 for terminal ones."""
    gains = (policy * mdp.mean_rewards).sum(1)
    return _solve(np.eye(mdp.num_states) - gamma * mdp.moves(policy), gains)


def worths(mdp: MDP, policy: Array, gamma: float = 1.0) -> Array:
    """(S,) the same, but for terminal states what arriving there pays: what a picture shows."""
    values, arrivals = state_values(mdp, policy, gamma), mdp.transitions * mdp.going[:, None, None]
    for state in np.flatnonzero(~mdp.going):
        chance = arrivals[:, :, state]
        values[state] = (chance * mdp.rewards[:, :, state]).sum() / max(chance.sum(), 1e-300)
    return values


def optimal_policy(mdp: MDP, gamma: float = 1.0) -> tuple[Array, Array]:
    """The best policy (S, A), deterministic, and its values (S,).

    Value iteration, with some backups of the greedy policy after each maximisation (Puterman and Shin 1978). InputError
    if it does not converge, which happens only without discount.
    """
    going, states = mdp.going, np.arange(mdp.num_states)
    values = np.zeros(mdp.num_states)
    for _ in range(SWEEPS):
        gains = mdp.mean_rewards + gamma * (mdp.transitions @ values) * going[:, None]
        best, before = gains.argmax(1), values
        values = gains[states, best]
        if abs(values - before).max() <= CONVERGED * max(1.0, abs(values).max()):
            return np.eye(mdp.num_actions)[best], values
        reward = mdp.mean_rewards[states, best]
        move = mdp.transitions[states, best] * going[:, None]
        for _ in range(BACKUPS):
            values = reward + gamma * (move @ values)
    raise InputError(f"{mdp.origin}: value iteration does not converge with gamma = {gamma}; give a gamma below 1")


def make_tables(mdp: MDP, expert: Array, values: Array, places: Array) -> dict[str, Any]:
    """The arrays of csrc/tabular.h."""
    there = mdp.transitions > 0
    sums = np.cumsum(mdp.transitions, 2)
    sums /= sums[:, :, -1:]
    return {"row_starts": np.append(0, np.cumsum(there.sum(2))), "next_states": np.nonzero(there)[2].astype(np.int32),
            "transitions": sums[there], "rewards": mdp.rewards[there], "initial": _sums(mdp.initial),
            "terminal": np.asarray(mdp.terminal, np.uint8), "expert": _sums(expert), "values": values,
            "places": np.asarray(places, np.int32)}


def read_tables(tables: Mapping[str, Any]) -> tuple[MDP, Array]:
    """The MDP and the expert (S, A) that an environment samples from, out of the arrays of `make_tables`."""
    states = len(tables["terminal"])
    starts, sums = tables["row_starts"], tables["transitions"]
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    transitions, rewards = np.zeros((2, len(starts) - 1, states))
    probabilities = np.diff(sums, prepend=0)
    probabilities[starts[:-1]] = sums[starts[:-1]]
    transitions[rows, tables["next_states"]] = probabilities
    rewards[rows, tables["next_states"]] = tables["rewards"]
    shape = (states, -1, states)
    mdp = MDP(transitions.reshape(shape), rewards.reshape(shape), np.diff(tables["initial"], prepend=0),
              tables["terminal"])
    return mdp, np.diff(np.reshape(tables["expert"], (states, -1)), axis=1, prepend=0)


def check_policy(mdp: MDP, name: str, policy: Any) -> Array:
    """A policy (S, A) as given by somebody, uniform in terminal states; InputError if it is not one."""
    policy = _numbers(mdp.origin, name, policy, (mdp.num_states, mdp.num_actions)).copy()
    policy[mdp.terminal] = 1 / mdp.num_actions
    _check_distributions(mdp.origin, name, policy)
    return policy / policy.sum(1, keepdims=True)


def _sums(distributions: Array) -> Array:
    sums = np.cumsum(distributions, -1)
    return sums / sums[..., -1:]


def _solve(matrix: Array, right: Array) -> Array:
    """x of matrix x = right; InputError if episodes go on for ever, which makes the matrix singular."""
    with suppress(np.linalg.LinAlgError):
        solution = np.linalg.solve(matrix, right)
        if np.allclose(matrix @ solution, right, atol=1e-9):
            return solution
    raise InputError("under this policy some episodes never end; give a gamma below 1, or a horizon")


def _numbers(origin: str, name: str, value: Any, shape: tuple[int, ...] | None = None) -> Array:
    """`value` as finite float64 numbers, of `shape` if it is given."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{origin}: {name} is not an array of numbers") from None
    if shape is not None and array.shape != shape:
        raise InputError(f"{origin}: {name} has shape {array.shape}; it must be {shape}, as transitions has it")
    if not np.isfinite(array).all():
        raise InputError(f"{origin}: {name} holds NaN or infinity at {_first(~np.isfinite(array))}; give numbers")
    return array


def _check_distributions(origin: str, name: str, array: Array) -> None:
    """Probabilities along the last axis."""
    if (array < 0).any():
        raise InputError(f"{origin}: {name} is {array[array < 0][0]:.3g} at {_first(array < 0)}; probabilities are not "
                         "negative")
    sums = np.asarray(array.sum(-1))
    wrong = abs(sums - 1) > SUM_TOLERANCE
    if wrong.any():
        where = f" at {_first(wrong)}" if wrong.ndim else ""
        raise InputError(f"{origin}: {name} sums to {sums[wrong][0]:.6g}{where}; the probabilities of all states or "
                         "actions must sum to 1")


def _first(wrong: Array) -> list[int]:
    return [int(i) for i in np.argwhere(wrong)[0]]
