"""What the docs claim of maxent_irl: beside `imitation`, and on ICU-Sepsis from occupancies and from episodes."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.learners.common.lbfgs import LBFGS
from puffer_il.learners.common.maxent import (
    InverseProblem,
    SoftMDP,
    likelihood_evidence,
    matching_evidence,
)
from puffer_il.learners.common.policy_tables import total_variation
from puffer_il.native import tabular
from puffer_il.native.catalogue import env_folders
from puffer_il.native.envdata import open_env
from puffer_il.vector.make import find_creator
from puffer_il.vector.model import model_of
from tests.support.imitation import beside_imitation
from tests.support.mdps import episodes_of, exact_evidence, on_one_thread, policy_value, uniform

pytestmark = pytest.mark.slow
one_thread = pytest.fixture(autouse=True)(on_one_thread)


def test_the_same_occupancies_as_imitation_at_ten_times_the_speed(tmp_path):
    for name, row in beside_imitation(tmp_path, ["random16", "random50", "cliff4x7"]).items():
        print(f"\n{name}: {row['faster']:.0f} times as fast; occupancies within {row['ours']:.1e} (ours) and "
              f"{row['theirs']:.1e} (theirs) of the expert's, {row['apart']:.1e} apart")
        assert max(row["ours"], row["theirs"], row["apart"]) < 1e-4 and row["faster"] > 10


@pytest.fixture(scope="module")
def sepsis(test_data):
    """The MDP, and its experts by name: clinicians, and the best policy."""
    kwargs = {"file": str(test_data / "icu_sepsis" / "dynamics.npz")}
    mdp = model_of(find_creator("icusepsis", kwargs))
    clinicians = tabular.read_tables(open_env(env_folders()["icusepsis"], kwargs)[2])[1]
    return mdp, {"clinicians": clinicians, "best": tabular.optimal_policy(mdp)[0]}


def reoptimised(problem: InverseProblem, tolerance: float, most: int) -> tuple[np.ndarray, int]:
    """The policy that is soft-optimal for the learned reward, found anew, and how many iterations learning took."""
    optimizer = LBFGS(problem, np.zeros(problem.size))
    iterations = 0
    while abs(optimizer.gradient).max() > tolerance and iterations < most and optimizer.iterate():
        iterations += 1
    fresh = InverseProblem(SoftMDP(problem.soft.mdp, problem.soft.gamma), problem.seen, problem.kind)
    return fresh.solve(optimizer.x).policy, iterations


@pytest.mark.parametrize(("expert", "value"), [("clinicians", 0.7818), ("best", 0.8751)])
@pytest.mark.parametrize("kind", ["state", "state_action"])
def test_rewards_of_icu_sepsis_from_exact_occupancies(sepsis, expert, value, kind):
    """A reward of states matches how often each state is visited, one of states and actions each action too."""
    mdp, experts = sepsis
    soft = SoftMDP(mdp)
    wanted = tabular.occupancy(mdp, experts[expert])
    assert policy_value(mdp, uniform(mdp)) == pytest.approx(0.7801, abs=1e-4)
    problem = InverseProblem(soft, exact_evidence(soft, experts[expert]), kind)
    policy, iterations = reoptimised(problem, 2e-5, 400)
    own = tabular.occupancy(mdp, policy)
    states, both = abs(own.sum(1) - wanted.sum(1)).max(), abs(own - wanted).max()
    print(f"\nicusepsis {expert} {kind}: {iterations} iterations, states within {states:.1e}, with actions within "
          f"{both:.1e}, value {policy_value(mdp, policy):.4f}")
    assert states < 1e-4 and (kind == "state" or both < 1e-4)
    assert policy_value(mdp, policy) == pytest.approx(value, abs=3e-4)


def test_rewards_of_icu_sepsis_from_episodes(sepsis):
    """A reward of states and actions: half the absolute difference of the occupancies, as a share of an episode, falls
    with the root of the number of episodes; how often each state is visited is right much earlier."""
    mdp, experts = sepsis
    soft, away = SoftMDP(mdp), []
    wanted = tabular.occupancy(mdp, experts["clinicians"])
    for episodes in (100, 1_000, 10_000):
        demos = episodes_of(mdp, experts["clinicians"], episodes, seed=1, limit=500)
        problem = InverseProblem(soft, likelihood_evidence(soft, demos), "state_action", l2=0.01)
        policy, iterations = reoptimised(problem, 1e-5, 150)
        own, seen = tabular.occupancy(mdp, policy), matching_evidence(soft, demos).visits
        both, raw = total_variation(own, wanted), total_variation(seen, wanted)
        states = total_variation(own.sum(1), wanted.sum(1))
        print(f"\n{episodes} episodes: states {states:.4f}, with actions {both:.4f} (as seen {raw:.4f}), value "
              f"{policy_value(mdp, policy):.4f}, {iterations} iterations")
        away.append(both)
        assert states < 0.05 and both < raw
    assert away[1] < away[0] / 2 and away[2] < away[1] / 2 and away[2] < 0.1
