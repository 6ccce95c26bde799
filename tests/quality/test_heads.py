"""Two equally good ways round an obstacle: heads that can hold both beat one Gaussian, which goes between them.

Chunks of 16 actions of which 8 are done, as shipped; seeds that had no part in choosing the task or its settings.
Paired by seed, greedy, 500 episodes each.
"""

import json

import numpy as np
import pytest

from puffer_il.rollout.stats import bootstrap_ci
from tests.support.quality import puffer_il, train

pytestmark = pytest.mark.slow
SEEDS = range(101, 106)


@pytest.fixture(scope="module")
def successes(tmp_path_factory):
    """Head → (5,) shares of greedy episodes that arrive."""
    found = {}
    for head in ("plain", "mixture", "flow"):
        folder, shares = tmp_path_factory.mktemp(head), []
        for seed in SEEDS:
            train("bc", "detour", seed, folder, "--policy.head", head)
            scores = json.loads(puffer_il("eval", folder / f"bc-{seed}", "--episodes", 500, "--json"))
            shares.append(scores["log"]["success"])
        found[head] = np.array(shares)
        print(f"\n{head}: {np.mean(shares):.3f} of the episodes arrive, seeds {shares}")
    return found


@pytest.mark.parametrize("head", ["mixture", "flow"])
def test_a_head_of_many_modes_arrives_more_often_than_one_gaussian(head, successes):
    low, _ = bootstrap_ci(successes[head] - successes["plain"])
    assert low > 0 and successes[head].mean() > 0.9
