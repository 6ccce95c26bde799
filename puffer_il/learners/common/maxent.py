"""Maximum causal entropy on a finite MDP: soft values, the policy they make, how often it is where, and the likelihood
of demonstrations with its exact gradient (Ziebart 2010, chapter 9; discounted: Gleave and Toyer 2022,
arXiv:2203.11409).

    Q(s, a) = r(s, a) + γ Σ P(s'|s, a) V(s')        V(s) = log Σ_a exp Q(s, a)        π(a|s) = exp(Q(s, a) − V(s))

S states, A actions. A terminal state has no action and is worth its own reward: V(s) = r(s) as an episode arrives
there. With a horizon of T steps, V and π depend on the step, and V is 0 once the time is up.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.rows import Successors
from puffer_il.learners.common._maxent import Model
from puffer_il.native.tabular import MDP

NEWTON_STEPS = 100  # quadratic convergence needs 4 to 8; without discount it may not converge at all
LONGEST = 1e7  # mean steps of an episode, beyond which it is taken for one without an end
CONVERGED = 1e-12  # a step, relative to the values: without discount what a backup changes says little
ROUNDING = 1e-9  # where a change that does not shrink any more is rounding
WORTH = 0.1  # a factorisation is kept as long as each step with it leaves no more than this of the change
Factors = tuple[torch.Tensor, torch.Tensor]  # LU and pivots, as torch.linalg.lu_factor has them


class NotFinite(Exception):
    """Soft values are infinite: an episode gains by going on for ever."""


@dataclass(frozen=True)
class Soft:
    """values (S,) and policy (S, A); with a horizon (T + 1, S) and (T, S, A). A state that is never acted in has a
    uniform policy. `factors` are those of I − γ P of a policy close to it."""

    values: Array
    policy: Array
    factors: Factors | None = None


class SoftMDP:
    """An MDP in which an agent earns rewards and the entropy of what it does.

    `horizon` cuts episodes after that many steps; 0 never does. Only states that can be reached from the first states
    and from those in `also` act. InputError if without discount and horizon some episode may never end.
    """

    def __init__(self, mdp: MDP, gamma: float = 1.0, horizon: int = 0, also: Array | None = None) -> None:
        self.mdp, self.gamma, self.horizon = mdp, gamma, horizon
        self.shape = (mdp.num_states, mdp.num_actions)
        chances = mdp.transitions * mdp.going[:, None, None]
        step = chances.any(1)
        starts = mdp.initial > 0
        if also is not None:
            starts[also] = True
        self.acting = _closure(starts, step) & mdp.going
        chances *= self.acting[:, None, None]
        there = chances > 0
        self.size = int(self.acting.sum())
        places = np.where(self.acting, np.cumsum(self.acting) - 1, -1).astype(np.int32)
        self.model = Model(np.append(0, np.cumsum(there.sum(2))).astype(np.int64),
                           np.nonzero(there)[2].astype(np.int32), chances[there], places, gamma)
        stuck = self.acting & ~_closure(~mdp.going, step.T)
        if gamma == 1 and not horizon and stuck.any():
            raise InputError(f"{mdp.origin}: gamma = 1, but from state {np.flatnonzero(stuck)[0]} no episode ever "
                             "ends; set gamma below 1, or a horizon")

    def solve(self, rewards: Array, ends: Array | None = None, guess: Array | None = None) -> Soft:
        """Soft values and policy for `rewards` (S, A), and `ends` (S,) of arriving in terminal states (default 0).

        Without a horizon by Newton's method on the soft Bellman equation, which is soft policy iteration, from the
        values `guess` if given. Each step is a backup and a linear system, whose matrix is factorised anew only where
        the last one no longer serves. NotFinite if the values are not, which happens only without discount.
        """
        if self.horizon:
            values = np.zeros((self.horizon + 1, self.shape[0]))
            values[:] = self._terminal(ends)
            policies = np.full((self.horizon, *self.shape), 1 / self.shape[1])
            self.model.backups(rewards, values, policies)
            return Soft(values, policies)
        values = np.where(self.acting, 0.0 if guess is None else guess, self._terminal(ends))
        after, policy = np.empty_like(values), np.full(self.shape, 1 / self.shape[1])
        limit = LONGEST * (abs(rewards).max() + np.log(self.shape[1])) + abs(values).max()
        factors, before, step = None, math.inf, np.empty(0)
        for _ in range(NEWTON_STEPS):
            self.model.backup(rewards, values, after, policy)
            missing = (after - values)[self.acting]
            if factors is not None:
                step = _solve(factors, missing)
            if factors is None or abs(step).max() > WORTH * before:
                factors = self._factorise(policy)
                step = _solve(factors, missing)
            values[self.acting] += step
            change, scale = abs(step).max(), max(1.0, abs(values).max())
            if change <= CONVERGED * scale or before <= change <= ROUNDING * scale:
                if self.gamma == 1 and _solve(factors, np.ones(self.size)).max() > LONGEST:
                    break  # V grows as the logarithm of the steps: what is missing is lost in rounding
                return Soft(values, policy, factors)
            if not scale <= limit:
                break
            before = change
        raise NotFinite

    def visits(self, policy: Array, start: Array, factors: Factors | None = None) -> tuple[Array, Array]:
        """How often a policy takes each action in each state (S, A), and arrives in each terminal state (S,), step t
        counting γ^t. Episodes begin as `start` (S,) says, which may be any numbers; with a horizon it is (T, S), what
        begins at each step. `factors` of a policy that is close save time. NotFinite if episodes never end."""
        start = start * self.acting
        if self.horizon:
            each = np.append(start, np.zeros((1, self.shape[0])), 0)
            self.model.moves(policy, each)
            visits = (each[:-1, :, None] * policy).sum(0)
            return visits * self.acting[:, None], each.sum(0) * ~self.mdp.going
        states, missing, before = np.zeros(self.shape[0]), start, math.inf
        for _ in range(NEWTON_STEPS):
            change, scale = abs(missing).max(), max(abs(start).max(), abs(states).max())
            if change > WORTH * before or factors is None:
                factors = self._factorise(policy)
            states[self.acting] += _solve(factors, missing[self.acting], adjoint=True)
            after = np.zeros(self.shape[0])
            self.model.move(states, policy, after)
            missing, before = (start + after - states) * self.acting, change
            if abs(missing).max() <= CONVERGED * scale:
                return states[:, None] * policy, after * ~self.mdp.going
        raise NotFinite

    def starts(self) -> Array:
        """Where the MDP's episodes begin, as `visits` wants it."""
        first = np.zeros((max(self.horizon, 1), self.shape[0]))
        first[0] = self.mdp.initial
        return first if self.horizon else first[0]

    def _terminal(self, ends: Array | None) -> Array:
        return np.zeros(self.shape[0]) if ends is None else ends * ~self.mdp.going

    def _factorise(self, policy: Array) -> Factors:
        """I − γ P_π over the acting states. NotFinite if it is singular."""
        matrix = np.empty((self.size, self.size))
        self.model.system(policy, matrix)
        factors, pivots, info = torch.linalg.lu_factor_ex(torch.from_numpy(matrix))
        if info.item():
            raise NotFinite
        return factors, pivots


@dataclass(frozen=True)
class Evidence:
    """What demonstrations say, per episode: where they begin, `start` as `SoftMDP.visits` wants it, how often they take
    each action in each state, `visits` (S, A), and how often they arrive in each terminal state, `ends` (S,)."""

    start: Array
    visits: Array
    ends: Array
    episodes: float


class InverseProblem:
    """How badly the weights θ of a reward explain the evidence: a function for lbfgs.LBFGS.

        loss(θ) = start · V − visits · r − ends · r + l2 / (2 episodes) ‖θ‖²

    Its gradient is how often the soft-optimal policy does what, less how often the demonstrations do (Ziebart 2010),
    in features. With `likelihood_evidence` the loss is the negative log-likelihood of an episode's actions; with
    `matching_evidence` it is the dual of causal entropy, convex, and least where the features match.

    kind      "state": r(s) also pays on arrival in a terminal state; "state_action": terminal states pay nothing
    features  (S, K) or (S, A, K), r = features · θ; None for a number of its own for each state (and action)
    Without discount and horizon each step costs log A besides: V of r = 0 would be infinite wherever an episode can be
    drawn out at will, as entropy pays log A a step.
    """

    def __init__(self, soft: SoftMDP, seen: Evidence, kind: str, features: Array | None = None,
                 l2: float = 0.0) -> None:
        self.soft, self.seen, self.kind, self.l2 = soft, seen, kind, l2 / seen.episodes
        self.features = None if features is None else np.asarray(features, np.float64)
        self.shape = soft.shape[:1] if kind == "state" else soft.shape
        self.cost = 0.0 if soft.horizon or soft.gamma < 1 else float(np.log(soft.shape[1]))
        self.values: Array | None = None  # the latest ones: the next are sought from there

    @property
    def size(self) -> int:
        """Weights."""
        return math.prod(self.shape) if self.features is None else self.features.shape[-1]

    def table(self, weights: Array) -> Array:
        """The reward (S,) or (S, A)."""
        own = weights.reshape(self.shape) if self.features is None else self.features @ weights
        return own - self.cost * (self.soft.mdp.going if self.kind == "state" else self.soft.mdp.going[:, None])

    def rewards(self, weights: Array) -> tuple[Array, Array]:
        """The same as `SoftMDP.solve` wants it: of acting (S, A), and of arriving in terminal states (S,)."""
        table = self.table(weights)
        if self.kind == "state":
            return np.repeat(table[:, None], self.soft.shape[1], 1), table * ~self.soft.mdp.going
        return table, np.zeros(self.soft.shape[0])

    def solve(self, weights: Array) -> Soft:
        """What is soft-optimal. NotFinite if the values are."""
        found = self.soft.solve(*self.rewards(weights), self.values)
        self.values = found.values
        return found

    def __call__(self, weights: Array) -> tuple[float, Array]:
        """The loss and its gradient (size,); infinite where the values are."""
        try:
            found = self.solve(weights)
            visits, arrivals = self.soft.visits(found.policy, self.seen.start, found.factors)
        except NotFinite:
            return math.inf, np.zeros(self.size)
        seen, (rewards, ends) = self.seen, self.rewards(weights)
        values = found.values[:-1] if self.soft.horizon else found.values
        value = ((seen.start * values)[..., self.soft.acting].sum() - (seen.visits * rewards).sum()
                 - (seen.ends * ends).sum())
        gradient = visits - seen.visits
        if self.kind == "state":
            gradient = gradient.sum(1) + arrivals - seen.ends
        if self.features is not None:
            gradient = np.tensordot(gradient, self.features, gradient.ndim)
        square = (weights * weights).sum()  # not by BLAS, whose sums depend on its threads
        return float(value + self.l2 / 2 * square), gradient.reshape(-1) + self.l2 * weights


def likelihood_evidence(soft: SoftMDP, demos: Demos) -> Evidence:
    """Evidence whose loss is −Σ w log π_t(a_t|s_t) per episode, w being the demonstrations' weights.

    As log π = Q − V, and Q holds the values that follow, Σ w (V − Q) = start · V − visits · r − ends · r, where an
    action takes away from `start` what the model lets arrive after it: start = visits − γ Pᵀ visits. So episodes may
    begin and break off anywhere.
    """
    taken = _taken(soft, demos, _weights(demos))
    start, ends = taken.sum(2), np.zeros(soft.shape[0])
    for t, visits in enumerate(taken):
        after = np.zeros(soft.shape[0])
        soft.model.move(np.ones(soft.shape[0]), visits, after)
        ends += after * ~soft.mdp.going
        following = t + 1 if soft.horizon else t
        if following < len(taken):
            start[following] -= after * soft.mdp.going
    return Evidence(start if soft.horizon else start[0], taken.sum(0), ends, demos.num_episodes)


def matching_evidence(soft: SoftMDP, demos: Demos) -> Evidence:
    """Evidence with the demonstrations' own visits and arrivals, step t counting γ^t, and the MDP's first states."""
    weights = soft.gamma**demo_steps(demos) * _weights(demos)
    last, ends = np.flatnonzero(demos.terminations), np.zeros(soft.shape[0])
    np.add.at(ends, demo_states(demos.next_obs[last]), soft.gamma * weights[last])
    return Evidence(soft.starts(), _taken(soft, demos, weights).sum(0), ends / demos.num_episodes, demos.num_episodes)


def check_demos(mdp: MDP, demos: Demos, horizon: int = 0) -> None:
    """InputError if the MDP could not have made these demonstrations."""
    assert demos.actions is not None
    where = f"demos {demos.source}"
    if demos.episode_lengths is not None:
        raise InputError(f"{where}: only a part of each episode is stored, but visits are counted by step; set "
                         "demos.subsample to 1, and give whole episodes")
    states, actions, following = demo_states(demos.obs), demos.actions[:, 0], demo_states(demos.next_obs)
    known = range(mdp.num_states)
    strange = [s for s in (states.min(), states.max(), following.min(), following.max()) if s not in known]
    if strange:
        raise InputError(f"{where}: there is a state {strange[0]}, but {mdp.origin} has {mdp.num_states} states; give "
                         "demonstrations of this environment")
    wrong = np.flatnonzero((mdp.transitions[states, actions, following] == 0) | ~mdp.going[states])
    if len(wrong):
        row = wrong[0]
        raise InputError(f"{where}: row {row} goes from state {states[row]} by action {actions[row]} to state "
                         f"{following[row]}, which is impossible in {mdp.origin}; give demonstrations of this "
                         "environment with these parameters")
    if horizon and demos.lengths.max() > horizon:
        raise InputError(f"{where}: an episode has {demos.lengths.max()} steps, but maxent_irl.horizon = {horizon}; "
                         "set it to at least that, or to 0")


def demo_steps(demos: Demos) -> Array:
    """(n,) the step of each row within its episode."""
    return np.arange(len(demos)) - np.repeat(demos.episode_starts, demos.lengths)


def demo_states(obs: Array | Successors) -> Array:
    """(n,) the states that observations (n, 1) of one category name."""
    return obs.reshape(-1).astype(np.int64)


def _weights(demos: Demos) -> Array:
    return np.ones(len(demos)) if demos.weights is None else demos.weights / demos.weights.mean()


def _taken(soft: SoftMDP, demos: Demos, weights: Array) -> Array:
    """(T, S, A) weights of the actions taken at each step, per episode; with T = 1 where there is no horizon."""
    assert demos.actions is not None
    taken = np.zeros((max(soft.horizon, 1), *soft.shape))
    steps = demo_steps(demos) if soft.horizon else np.zeros(len(demos), np.int64)
    np.add.at(taken, (steps, demo_states(demos.obs), demos.actions[:, 0].astype(np.int64)), weights)
    return taken / demos.num_episodes


def _solve(factors: Factors, right: Array, adjoint: bool = False) -> Array:
    """x of matrix x = right, or of its transpose."""
    return torch.linalg.lu_solve(*factors, torch.from_numpy(right)[:, None], adjoint=adjoint)[:, 0].numpy()


def _closure(states: Array, step: Array) -> Array:
    """(S,) bool: those that can be reached from `states` by going along `step` (S, S)."""
    reached = states.copy()
    while (further := reached | step[reached].any(0)).sum() > reached.sum():
        reached = further
    return reached
