"""The benchmark of `imitation` by our defaults: its four algorithms on five tasks that never end early, as the package
`seals` has them, positions among the observations: `make quality`.

    published   the agent's return over the expert's, mean of the tasks, after 10 million steps of each (branch
                benchmarking-docs of the package's repository)
    experts     ours, PPO's by its defaults; fifty episodes by sampling; dagger asks the policy itself
    runs        3 seeds that had no part in tuning; the policies that users get
"""

import numpy as np
import pytest

from tests.support.quality import puffer_il, train

pytestmark = pytest.mark.slow
PUBLISHED = {"dagger": 0.986, "gail": 0.948, "bc": 0.909, "airl": 0.632}
SEEDS = (101, 102, 103)
POSITIONS = ("--env.kwargs.exclude-current-positions-from-observation", "false")
TO_THE_END = (*POSITIONS, "--env.kwargs.terminate-when-unhealthy", "false", "--env.kwargs.version", "v4")
TASKS = {"halfcheetah": POSITIONS, "swimmer": POSITIONS, "hopper": TO_THE_END, "walker2d": TO_THE_END,
         "ant": TO_THE_END}
STEPS = {"halfcheetah": 500_000, "hopper": 1_000_000, "swimmer": 1_000_000, "walker2d": 1_000_000,
         "ant": 1_500_000}


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """A run of PPO and a file of its episodes for each task."""
    pytest.importorskip("mujoco")
    folder = tmp_path_factory.mktemp("experts")
    for task, keys in TASKS.items():
        puffer_il("train", "ppo", task, "--total-steps", 2_000_000, "--run-dir", folder / task, *keys)
        print("\n", puffer_il("demos", "collect", task, "--policy", folder / task, "--stochastic", "--episodes", 50,
                              "--seed", 11, "--out", folder / f"{task}.npz", *keys).strip())
    return folder


@pytest.mark.parametrize("algo", PUBLISHED)
def test_it_is_at_the_published_share_of_the_expert(algo, experts, tmp_path):
    ratios = {}
    for task, keys in TASKS.items():
        steps = {"bc": (), "dagger": ("--total-steps", 200_000, "--dagger.expert", experts / task)}
        runs = [train(algo, task, seed, tmp_path, "--demos", experts / f"{task}.npz", *keys,
                      *steps.get(algo, ("--total-steps", STEPS[task])))[0] for seed in SEEDS]
        ratios[task] = float(np.mean([run["eval"]["return_mean"] / run["expert_return"] for run in runs]))
    mean = float(np.mean(list(ratios.values())))
    print(f"\n{algo}: {mean:.3f} of the expert (published {PUBLISHED[algo]}), {ratios}")
    assert mean >= PUBLISHED[algo]
