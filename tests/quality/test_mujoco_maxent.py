"""Maximum entropy IRL on locomotion by its defaults, from ten whole trajectories: `make quality`.

    experts   the GAIL paper's own of HalfCheetah and Hopper, acting at random as there
    runs      3 seeds that had no part in tuning; the policies that users get
"""

import numpy as np
import pytest

from tests.support.locomotion import experts, fifty_trajectories
from tests.support.quality import train

pytestmark = pytest.mark.slow
SEEDS = (101, 102, 103)
STEPS = {"hopper": 500_000, "halfcheetah": 1_000_000}


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory, test_data):
    pytest.importorskip("mujoco")
    folder = tmp_path_factory.mktemp("trajectories")
    return fifty_trajectories(folder, experts(folder, test_data))


@pytest.mark.parametrize("task", ["hopper", "halfcheetah"])
def test_it_is_at_the_experts_level_from_ten_trajectories(task, trajectories, tmp_path):
    file, _ = trajectories(task)
    scores = [train("deep_maxent_irl", task, seed, tmp_path, "--demos", file, "--demos.episodes", 10,
                    "--total-steps", STEPS[task])[0]["eval"]["normalized"] for seed in SEEDS]
    print(f"\ndeep_maxent_irl on {task}: {np.mean(scores):.3f} of the expert, {np.round(scores, 3).tolist()}")
    assert np.mean(scores) >= 0.95
