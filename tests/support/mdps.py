"""Small MDPs and episodes of them, for tests of what plans in them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.learners.common.maxent import Evidence, SoftMDP
from puffer_il.native.tabular import MDP, occupancy


def on_one_thread() -> Iterator[None]:
    """A fixture: for small systems a second thread of torch's would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_mdp(seed: int, states: int = 6, actions: int = 3, density: float = 0.5, terminals: int = 1) -> MDP:
    """Rows of some to all successors. The last `terminals` states are terminal, and every step may lead to the last."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(states), (states, actions)) * (rng.random((states, actions, states)) < density)
    p[..., rng.integers(max(1, states - terminals))] += 0.05
    if terminals:
        p[..., -1] += 0.1
    p /= p.sum(2, keepdims=True)
    terminal = np.arange(states) >= states - terminals
    first = rng.dirichlet(np.ones(states)) * ~terminal
    return MDP(p, rng.normal(size=p.shape), first / first.sum(), terminal)


def random_policy(mdp: MDP, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(mdp.num_actions), mdp.num_states)


def episodes_of(mdp: MDP, policy: np.ndarray, episodes: int, seed: int, limit: int = 100) -> Demos:
    """Demonstrations of a policy, side by side, each until it ends or for `limit` steps."""
    rng = np.random.default_rng(seed)
    state, number, parts = rng.choice(mdp.num_states, episodes, p=mdp.initial), np.arange(episodes), []
    choices, steps = np.cumsum(policy, 1), np.cumsum(mdp.transitions, 2)
    for _ in range(limit):
        action = (rng.random((len(state), 1)) * choices[state, -1:] >= choices[state]).sum(1)
        sums = steps[state, action]
        after = (rng.random((len(state), 1)) * sums[:, -1:] >= sums).sum(1)
        parts.append(np.stack([number, state, action, after]))
        number, state = (x[mdp.going[after]] for x in (number, after))
        if len(state) == 0:
            break
    rows = np.concatenate(parts, 1)
    number, state, action, after = rows[:, np.argsort(rows[0], kind="stable")]
    last = np.append(number[1:] != number[:-1], True)
    ended = ~mdp.going[after]
    return Demos(state.astype(np.int32)[:, None], action.astype(np.int32)[:, None], after.astype(np.int32)[:, None],
                 ended, last & ~ended, np.append(0, np.flatnonzero(last)[:-1] + 1), source="sampled")


def policy_value(mdp: MDP, policy: Array, gamma: float = 1.0, horizon: int | None = None) -> float:
    """The mean return of an episode."""
    return float((occupancy(mdp, policy, gamma, horizon) * mdp.mean_rewards).sum())


def greedy(policy: Array) -> Array:
    """The policy that always takes the most probable action, the first of those that are equal up to rounding."""
    return np.eye(policy.shape[1])[(policy >= policy.max(1, keepdims=True) - 1e-12).argmax(1)]


def uniform(mdp: MDP) -> Array:
    """The random policy."""
    return np.full((mdp.num_states, mdp.num_actions), 1 / mdp.num_actions)


def exact_evidence(soft: SoftMDP, policy: Array) -> Evidence:
    """What infinitely many episodes of a policy (S, A), or (T, S, A) with a horizon, would say."""
    if soft.horizon:
        policy = np.ascontiguousarray(np.broadcast_to(policy, (soft.horizon, *soft.shape)))
    return Evidence(soft.starts(), *soft.visits(policy, soft.starts()), episodes=math.inf)


def ring(states: int = 5) -> np.ndarray:
    """Deterministic steps (S, A, S) round a ring: back, stay, on."""
    transitions = np.zeros((states, 3, states))
    for s in range(states):
        for a in range(3):
            transitions[s, a, (s + a - 1) % states] = 1
    return transitions


def soft_optimal(transitions: np.ndarray, rewards: np.ndarray, gamma: float) -> np.ndarray:
    """log π (S, A) of maximum entropy: π = exp(Q − V), V = log Σ exp Q, Q = r + γ P V. Rewards (S, A, S)."""
    values = np.zeros(len(transitions))
    for _ in range(200):
        q = (transitions * (rewards + gamma * values)).sum(2)
        top = q.max(1, keepdims=True)
        values = top[:, 0] + np.log(np.exp(q - top).sum(1))
    return q - values[:, None]


def discounted_occupancy(transitions: np.ndarray, policy: np.ndarray, gamma: float) -> np.ndarray:
    """(S, A) discounted visits from a uniform start, summing up to 1."""
    moves = np.einsum("sa,sat->st", policy, transitions)
    visits = np.linalg.solve(np.eye(len(moves)) - gamma * moves.T, np.full(len(moves), (1 - gamma) / len(moves)))
    return visits[:, None] * policy
