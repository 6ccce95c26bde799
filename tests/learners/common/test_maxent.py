"""Soft values, occupancies and the inverse problem against loops in NumPy, differences and hand calculations."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puffer_il.core.errors import InputError
from puffer_il.demos.dataset import Demos
from puffer_il.learners.common.lbfgs import LBFGS
from puffer_il.learners.common.maxent import (
    InverseProblem,
    NotFinite,
    SoftMDP,
    check_demos,
    likelihood_evidence,
    matching_evidence,
)
from puffer_il.native import tabular
from puffer_il.native.tabular import MDP
from tests.support.mdps import episodes_of, exact_evidence, on_one_thread, random_mdp, random_policy

CASES = st.fixed_dictionaries({
    "seed": st.integers(0, 10_000), "states": st.integers(2, 7), "actions": st.integers(1, 4),
    "density": st.sampled_from([0.1, 0.5, 1.0]), "terminals": st.integers(0, 2),
    "gamma": st.sampled_from([0.5, 0.9, 1.0]), "horizon": st.sampled_from([0, 1, 4])})
one_thread = pytest.fixture(autouse=True)(on_one_thread)
FEW = settings(max_examples=60, deadline=None, derandomize=True)


def drawn(case: dict) -> tuple[SoftMDP, np.ndarray, np.ndarray]:
    """A soft MDP, rewards (S, A) and what terminal states pay (S,)."""
    mdp = random_mdp(case["seed"], case["states"], case["actions"], case["density"],
                     min(case["terminals"], case["states"] - 1))
    endless = not case["horizon"] and mdp.going.all()
    soft = SoftMDP(mdp, min(case["gamma"], 0.9) if endless else case["gamma"], case["horizon"])
    rng = np.random.default_rng(case["seed"] + 1)
    return soft, rng.normal(size=soft.shape), rng.normal(size=soft.shape[0])


def slow_backup(soft: SoftMDP, rewards: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V and π of one step, state by state."""
    backed_up, policy = values.copy(), np.full(soft.shape, 1 / soft.shape[1])
    for s in np.flatnonzero(soft.acting):
        q = [rewards[s, a] + soft.gamma * float(soft.mdp.transitions[s, a] @ values) for a in range(soft.shape[1])]
        backed_up[s] = max(q) + math.log(sum(math.exp(x - max(q)) for x in q))
        policy[s] = [math.exp(x - backed_up[s]) for x in q]
    return backed_up, policy


def slow_solve(soft: SoftMDP, rewards: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value iteration: as many steps as there are, or until nothing changes any more."""
    values = np.where(soft.mdp.going, 0.0, ends)
    if soft.horizon:
        lines, policies = [values], []
        for _ in range(soft.horizon):
            values, policy = slow_backup(soft, rewards, values)
            lines.insert(0, values)
            policies.insert(0, policy)
        return np.array(lines), np.array(policies)
    for _ in range(5_000):
        before = values
        values, policy = slow_backup(soft, rewards, values)
        if abs(values - before).max() < 1e-13:
            break
    return values, policy


def slow_visits(soft: SoftMDP, policy: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step by step, each going on from where the last one led."""
    visits, arrivals = np.zeros(soft.shape), np.zeros(soft.shape[0])
    here = np.zeros(soft.shape[0])
    for t in range(soft.horizon or 5_000):
        here = here + (start[t] if soft.horizon else start if t == 0 else 0)
        taken = here[:, None] * (policy[t] if soft.horizon else policy) * soft.acting[:, None]
        visits += taken
        here = soft.gamma * np.einsum("sa,sat->t", taken, soft.mdp.transitions)
        arrivals += here * ~soft.mdp.going
        here = here * soft.mdp.going
        if not soft.horizon and abs(here).max() < 1e-15:
            break
    return visits, arrivals


@FEW
@given(CASES)
def test_soft_values_and_visits_are_those_of_the_loops(case):
    soft, rewards, ends = drawn(case)
    found = soft.solve(rewards, ends)
    values, policy = slow_solve(soft, rewards, ends)
    assert np.allclose(found.values[..., soft.acting], values[..., soft.acting], rtol=1e-10, atol=1e-10)
    assert np.allclose(found.policy, policy, rtol=1e-9, atol=1e-12)
    size = (soft.horizon, soft.shape[0]) if soft.horizon else soft.shape[0]
    start = np.random.default_rng(case["seed"]).normal(size=size) * soft.acting
    for factors in (None, found.factors):
        got = soft.visits(found.policy, start, factors)
        for mine, slow in zip(got, slow_visits(soft, policy, start), strict=True):
            assert np.allclose(mine, slow, rtol=1e-9, atol=1e-10)


@FEW
@given(CASES)
def test_visits_of_a_policy_are_its_occupancy(case):
    soft, *_ = drawn(case)
    policy = random_policy(soft.mdp, case["seed"])
    visits, arrivals = exact_evidence(soft, policy).visits, exact_evidence(soft, policy).ends
    assert np.allclose(visits, tabular.occupancy(soft.mdp, policy, soft.gamma, soft.horizon or None), atol=1e-10)
    if soft.gamma == 1 and not soft.horizon:
        assert arrivals.sum() == pytest.approx(1)


def test_values_by_hand():
    """One state for ever: V = r + log A + γ V. Two doors: the policy is the softmax of what is behind them."""
    for gamma in (0.5, 0.999):
        lone = SoftMDP(MDP(np.ones((1, 3, 1)), np.ones(1), np.ones(1)), gamma)
        assert lone.solve(np.full((1, 3), -0.7)).values == pytest.approx((-0.7 + math.log(3)) / (1 - gamma))
    doors = MDP(np.eye(3)[None, 1:].repeat(3, 0), np.ones(1).repeat(3), np.eye(3)[0], np.array([0, 1, 1]))
    found = SoftMDP(doors, 0.5).solve(np.zeros((3, 2)), np.array([9.0, 2.0, 4.0]))
    assert found.values == pytest.approx([math.log(math.e + math.e**2), 2, 4])
    assert found.policy[0] == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])
    assert found.policy[1] == pytest.approx([0.5, 0.5])
    timed = SoftMDP(MDP(np.ones((1, 2, 1)), np.ones(1), np.ones(1)), 1.0, horizon=3)
    assert timed.solve(np.full((1, 2), 0.25)).values[:, 0] == pytest.approx(
        [k * (0.25 + math.log(2)) for k in (3, 2, 1, 0)])


def test_huge_rewards_neither_overflow_nor_stall():
    soft = SoftMDP(random_mdp(3), 0.9)
    for scale in (1e2, 1e5):
        rewards = scale * np.random.default_rng(0).normal(size=soft.shape)
        found = soft.solve(rewards)
        gains = rewards + 0.9 * soft.mdp.transitions @ (found.values * soft.mdp.going)
        assert np.isfinite(found.values).all()
        assert (found.policy[:-1].argmax(1) == gains[:-1].argmax(1)).all()


def test_episodes_that_pay_for_going_on_have_no_value():
    """Without discount: entropy alone draws an episode out for ever, unless each step costs as much."""
    p = np.zeros((2, 2, 2))
    p[0, 0, 0] = p[0, 1, 1] = p[1, :, 1] = 1
    mdp = MDP(p, np.zeros(2), np.eye(2)[0], np.array([0, 1]))
    soft = SoftMDP(mdp)
    with pytest.raises(NotFinite):
        soft.solve(np.zeros((2, 2)))
    assert soft.solve(np.full((2, 2), -math.log(2))).values[0] == pytest.approx(0)
    problem = InverseProblem(soft, exact_evidence(soft, np.full((2, 2), 0.5)), "state")
    assert problem(np.zeros(2))[0] == pytest.approx(2 * math.log(2))  # two steps on average
    assert abs(problem(np.zeros(2))[1]).max() < 1e-12
    assert problem(np.array([5.0, 0.0]))[0] == math.inf
    stuck = MDP(np.eye(3)[:, None].repeat(2, 1), np.ones(3), np.eye(3)[0], np.array([0, 0, 1]))
    with pytest.raises(InputError, match="from state 0 no episode ever ends; set gamma below 1, or a horizon"):
        SoftMDP(stuck)


def some_episodes(soft: SoftMDP, seed: int) -> Demos:
    """Five of a random policy, of four steps at most."""
    return episodes_of(soft.mdp, random_policy(soft.mdp, seed), 5, seed, limit=min(4, soft.horizon or 4))


def problem_of(case: dict, evidence, kind: str, features: bool, l2: float) -> InverseProblem:
    soft, *_ = drawn(case)
    demos = some_episodes(soft, case["seed"])
    shape = soft.shape[:1] if kind == "state" else soft.shape
    phi = np.random.default_rng(7).normal(size=(*shape, 3)) if features else None
    return InverseProblem(soft, evidence(soft, demos), kind, phi, l2)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(CASES, st.sampled_from([likelihood_evidence, matching_evidence]), st.sampled_from(["state", "state_action"]),
       st.booleans(), st.sampled_from([0.0, 0.7]))
def test_gradients_are_those_of_finite_differences(case, evidence, kind, features, l2):
    problem = problem_of(case, evidence, kind, features, l2)
    weights, step = np.random.default_rng(case["seed"]).normal(size=problem.size) * 0.1, 1e-5
    value, gradient = problem(weights)
    if not math.isfinite(value):
        return
    for k, slope in enumerate(gradient):
        shift = step * np.eye(problem.size)[k]
        sides = [problem(weights + sign * shift)[0] for sign in (1, -1)]
        assert slope == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(CASES, st.sampled_from(["state", "state_action"]))
def test_the_loss_is_the_likelihood_of_the_demonstrated_actions(case, kind):
    """Also where a time limit has cut the episodes, and where they start elsewhere than the MDP's."""
    soft, *_ = drawn(case)
    demos = some_episodes(soft, case["seed"])
    problem = InverseProblem(soft, likelihood_evidence(soft, demos), kind)
    weights = np.random.default_rng(case["seed"]).normal(size=problem.size) * 0.1
    value, _ = problem(weights)
    if not math.isfinite(value):
        return
    policy, total = problem.solve(weights).policy, 0.0
    for first, end in zip(demos.episode_starts, demos.episode_ends, strict=True):
        for t, row in enumerate(range(first, end)):
            table = policy[t] if soft.horizon else policy
            total -= math.log(table[demos.obs[row, 0], demos.actions[row, 0]])
    assert value == pytest.approx(total / demos.num_episodes, rel=1e-9, abs=1e-9)


def test_weights_of_demonstrations_count():
    soft = SoftMDP(random_mdp(2), 0.9)
    demos = episodes_of(soft.mdp, random_policy(soft.mdp, 1), 2, 5)
    twice = np.where(np.arange(len(demos)) < demos.episode_starts[1], 1.0, 0.0).astype(np.float32)
    seen = likelihood_evidence(soft, dataclasses.replace(demos, weights=twice))
    assert (seen.visits[demos.obs[0, 0], demos.actions[0, 0]]) > 0
    first = demos.obs[:demos.episode_starts[1], 0]
    assert seen.visits.sum(1)[np.setdiff1d(np.arange(6), first)] == pytest.approx(0)


def minimum(problem: InverseProblem, tolerance: float = 1e-7, most: int = 2_000) -> np.ndarray:
    optimizer = LBFGS(problem, np.zeros(problem.size))
    for _ in range(most):
        if abs(optimizer.gradient).max() <= tolerance or not optimizer.iterate():
            break
    assert abs(optimizer.gradient).max() <= 100 * tolerance
    return optimizer.x


@pytest.mark.parametrize("kind", ["state", "state_action"])
@pytest.mark.parametrize(("gamma", "horizon", "terminals"), [(0.9, 0, 0), (0.95, 0, 2), (1.0, 0, 1), (1.0, 8, 1),
                                                            (0.9, 5, 0)])
def test_the_learned_reward_makes_the_demonstrated_occupancy(kind, gamma, horizon, terminals):
    """From exact occupancies of an expert who is soft-optimal for another reward, and of one who is not for any."""
    for seed in range(3):
        soft = SoftMDP(random_mdp(seed, 8, 3, 0.4, terminals), gamma, horizon)
        rewards = np.random.default_rng(seed).normal(size=8) - (1.5 if gamma == 1 else 0)
        expert = soft.solve(np.repeat(rewards[:, None], 3, 1), np.zeros(8)).policy
        for policy in (expert, random_policy(soft.mdp, seed)):
            seen = exact_evidence(soft, policy)
            problem = InverseProblem(soft, seen, kind)
            weights = minimum(problem)
            visits, arrivals = soft.visits(problem.solve(weights).policy, soft.starts())
            if kind == "state" and policy is expert and gamma == 1:  # elsewhere other rewards explain as much
                assert problem.table(weights) == pytest.approx(rewards * soft.mdp.going, abs=1e-4)
            assert abs(visits.sum(1) - seen.visits.sum(1)).max() < 1e-4
            assert abs(arrivals - seen.ends).max() < 1e-4
            if kind == "state_action" or policy is expert:
                assert abs(visits - seen.visits).max() < 1e-4


def test_a_linear_reward_matches_features_and_no_more():
    soft = SoftMDP(random_mdp(5, 8, 3, 0.4, 1), 0.9)
    phi = np.random.default_rng(0).normal(size=(8, 2))
    seen = exact_evidence(soft, random_policy(soft.mdp, 3))
    problem = InverseProblem(soft, seen, "state", phi)
    visits, arrivals = soft.visits(problem.solve(minimum(problem)).policy, soft.starts())
    difference = visits.sum(1) - seen.visits.sum(1) + arrivals - seen.ends
    assert abs(difference @ phi).max() < 1e-5 < 1e-2 < abs(difference).max()


def test_regularisation_keeps_weights_small():
    soft = SoftMDP(random_mdp(1), 0.9)
    demos = episodes_of(soft.mdp, tabular.optimal_policy(soft.mdp, 0.9)[0], 50, 1)
    sizes = [abs(minimum(InverseProblem(soft, likelihood_evidence(soft, demos), "state_action", l2=l2))).max()
             for l2 in (0.01, 1.0, 100.0)]
    assert sizes[0] > 2 * sizes[1] > 4 * sizes[2] > 0


def test_many_weights_are_not_summed_by_threads():
    """BLAS cuts a sum of more than 10,000 products where its threads' shares end."""
    soft = SoftMDP(random_mdp(1), 0.9)
    evidence = likelihood_evidence(soft, episodes_of(soft.mdp, tabular.optimal_policy(soft.mdp, 0.9)[0], 1, 1))
    rng = np.random.default_rng(0)
    features, weights = 1e-9 * rng.normal(size=(soft.shape[0], 50_000)), rng.normal(size=50_000)
    value = InverseProblem(soft, evidence, "state", features)(weights)[0]
    penalised = InverseProblem(soft, evidence, "state", features, l2=1.0)(weights)[0]
    assert penalised == value + 1 / 2 * (weights * weights).sum()


def test_demonstrations_of_another_mdp_are_refused():
    mdp = random_mdp(4, density=0.3)
    demos = episodes_of(mdp, random_policy(mdp, 1), 10, 1)
    check_demos(mdp, demos)
    impossible = np.argwhere(mdp.transitions[:-1] == 0)[0]
    wrong = [array.copy() for array in (demos.obs, demos.actions, demos.next_obs)]
    for array, value in zip(wrong, impossible, strict=True):
        array[3] = value
    changed = dataclasses.replace(demos, obs=wrong[0], actions=wrong[1], next_obs=wrong[2])
    with pytest.raises(InputError, match=r"row 3 goes from state \d by action \d to state \d, which is impossible"):
        check_demos(mdp, changed)
    with pytest.raises(InputError, match=r"has \d+ steps, but maxent_irl\.horizon = 1"):
        check_demos(mdp, demos, horizon=1)
    part = dataclasses.replace(demos, episode_lengths=demos.lengths + 1)
    with pytest.raises(InputError, match=r"set demos\.subsample to 1"):
        check_demos(mdp, part)
