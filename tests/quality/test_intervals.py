"""How often the interval of a score holds the truth, where agents of one episode depend on each other."""

import numpy as np
import pytest

from puffer_il.rollout.stats import mean_ci

pytestmark = pytest.mark.slow

EPISODES, TRIALS = 50, 1_000


@pytest.mark.parametrize(("agents", "shared"), [(2, 1.0), (2, 0.5), (4, 0.5), (4, 0.2)])
def test_intervals_over_episodes_hold_the_truth_as_often_as_they_say(agents, shared):
    """Normal returns, whose variance is to the share `shared` that of their episode."""
    rng, clusters = np.random.default_rng(101), np.repeat(np.arange(EPISODES), agents)
    held, width = np.zeros((TRIALS, 2)), np.zeros((TRIALS, 2))
    for trial in range(TRIALS):
        own, common = rng.normal(size=len(clusters)), rng.normal(size=EPISODES)[clusters]
        returns = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        for k, (low, high) in enumerate((mean_ci(returns, clusters), mean_ci(returns))):
            held[trial, k], width[trial, k] = low <= 0 <= high, high - low
    over_episodes, over_agents = held.mean(0)
    wider = width[:, 0].mean() / width[:, 1].mean()
    print(f"\n{agents} agents, {shared:.0%} shared: {over_episodes:.1%} over episodes, {over_agents:.1%} over agents, "
          f"{wider:.2f} times as wide")
    assert 0.925 <= over_episodes <= 0.965
    assert wider == pytest.approx(np.sqrt(1 + (agents - 1) * shared), rel=0.03) and over_agents < over_episodes - 0.03
