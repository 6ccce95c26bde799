"""Locomotion from ten whole trajectories by the defaults, where GAIL was published at .17 (Ant) and .09 (Humanoid) of
the expert, and maximum entropy IRL on all tasks: `make quality`.

    experts   the GAIL paper's own of HalfCheetah and Hopper, PPO's of Ant and Humanoid; they demonstrate by sampling
    runs      5 seeds that had no part in tuning; the policies that users get, mean and 95% bootstrap interval
    score     0 is a random policy, 1 the demonstrations' mean
"""

import numpy as np
import pytest

from puffer_il.rollout.stats import bootstrap_ci
from tests.support.locomotion import KEYS
from tests.support.quality import train

pytestmark = pytest.mark.slow
SEEDS = range(101, 106)
STEPS = {"ant": 1_500_000, "humanoid": 1_000_000, "hopper": 500_000, "halfcheetah": 1_000_000}


@pytest.mark.parametrize(("algo", "task"), [
    *((algo, task) for task in ("ant", "humanoid") for algo in ("gail", "airl")),
    *(("deep_maxent_irl", task) for task in STEPS)])
def test_it_is_at_the_experts_level(algo, task, trajectories, tmp_path):
    file, _ = trajectories(task)
    scores = [train(algo, task, seed, tmp_path, "--demos", file, "--demos.episodes", 10, "--total-steps", STEPS[task],
                    *KEYS.get(task, ()))[0]["eval"]["normalized"] for seed in SEEDS]
    low, high = bootstrap_ci(np.array(scores))
    print(f"\n{algo} on {task}: {np.mean(scores):.3f} [{low:.3f}, {high:.3f}], {np.round(scores, 3).tolist()}")
    assert high >= 0.95
