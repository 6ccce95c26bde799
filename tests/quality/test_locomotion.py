"""Every MuJoCo task by every way to learn it, by the defaults, from ten whole trajectories: `make quality`.

    experts   the GAIL paper's own of HalfCheetah and Hopper, PPO's of the others; they demonstrate by sampling
    runs      one seed each, which had no part in tuning; the policy that the user gets
    score     0 is a random policy, 1 the demonstrations' mean
    also      tasks under Gymnasium's own name, stepped in Python
"""

from collections.abc import Iterator

import pytest

from tests.support.locomotion import KEYS
from tests.support.quality import train

pytestmark = pytest.mark.slow
SEED = 101
STEPS = {"reacher": 300_000, "swimmer": 1_000_000, "hopper": 500_000, "halfcheetah": 500_000, "walker2d": 1_000_000,
         "ant": 1_500_000, "humanoid": 1_000_000}


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Rows, printed when all have been measured."""
    rows = ["algorithm | task | steps | score"]
    yield rows
    print("\n" + "\n".join(rows))


@pytest.mark.parametrize("algo", ["gail", "airl", "gaifo", "bc", "dagger", "sqil", "csil"])
@pytest.mark.parametrize("task", STEPS)
def test_it_does_what_the_demonstrator_does(task, algo, expert, trajectories, table, tmp_path):
    file, _ = trajectories(task)
    steps = {"bc": (), "dagger": ("--total-steps", 200_000, "--dagger.expert", expert(task))}
    summary, _ = train(algo, task, SEED, tmp_path, "--demos", file, "--demos.episodes", 10, *KEYS.get(task, ()),
                       *steps.get(algo, ("--total-steps", STEPS[task])))
    table.append(f"{algo} | {task} | {summary['env_steps']:,} | {summary['eval']['normalized']:.2f}")
    assert summary["eval"]["normalized"] >= 0.9


@pytest.mark.parametrize("env", ["gymnasium:HalfCheetah-v5", "gymnasium:Hopper-v5"])
def test_gymnasiums_own_environments_are_learned_from_the_same_files(env, trajectories, tmp_path):
    file, _ = trajectories(env.removeprefix("gymnasium:").removesuffix("-v5").lower())
    summary, _ = train("gail", env, SEED, tmp_path, "--demos", file, "--demos.episodes", 10, "--total-steps", 500_000)
    assert summary["eval"]["normalized"] >= 0.9
