"""The classic tasks of the original GAIL table (Ho & Ermon 2016, arXiv:1606.03476), measured as there: `make quality`.

    trajectories   the first 1, 4, 7 or 10 of ten; every 10th pair of CartPole's and every 5th of the others', from a
                   random offset in each
    policies       the last one of a run, acting by its mode, on its true return
    runs           7 seeds on the same trajectories; mean and 95% bootstrap interval of their means

CartPole's and MountainCar's come from that paper's own experts, acting at random as there. The environment of its
Acrobot expert is no more; ours is PPO's, at the same level (-75). No run looks at the true reward to find its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puffer_il.rollout.stats import bootstrap_ci
from tests.support.quality import puffer_il, train

pytestmark = pytest.mark.slow
SEEDS = range(1, 8)
TRAJECTORIES = (1, 4, 7, 10)
LIMIT = ("--env.kwargs.max-episode-steps", 200)  # of all three, then


@dataclass(frozen=True)
class Task:
    """What was published, by number of trajectories (None: not known to us), and what our runs are told."""

    subsample: int
    published: dict[int, int | None]
    published_bc: dict[int, int | None]
    gail: tuple[Any, ...]


TO_THE_END = ("--train.stop-at-expert", 0, "--eval.interval-steps", 0)
# The paper's reward of tasks that end on success: log D and no absorbing state, so that every step costs something. It
# varies little about its mean: divided by its std it would only be huge. Few environments and long traces, because
# which way to swing first is seen late; 1.5 million steps as in the paper.
SWING = (*TO_THE_END, "--total-steps", 1_500_000, "--env.num-envs", 64, "--ppo.learning-rate", 1e-3,
         "--ppo.anneal-lr", "false", "--ppo.gamma", 0.99, "--ppo.gae-lambda", 0.98, "--policy.activation", "tanh",
         "--gail.reward", "logsigmoid", "--gail.absorbing", "false", "--gail.reward-scale", "false",
         "--gail.disc-activation", "tanh", "--gail.disc-batch-size", 512, "--gail.disc-updates", 8,
         "--gail.gp-coef", 10, "--gail.bc-epochs", 0)
TASKS = {
    "cartpole": Task(10, {1: 200, 4: 200, 7: 200, 10: 200}, {1: 72, 4: 169, 7: 189, 10: 177},
                     (*TO_THE_END, "--total-steps", 200_000, "--ppo.anneal-lr", "true")),
    "acrobot": Task(5, {1: -77, 4: -83, 7: None, 10: -79}, {1: -131, 4: -93, 7: None, 10: -95},
                    (*SWING, "--ppo.ent-coef", 0.001)),
    "mountaincar": Task(5, {1: -102, 4: -101, 7: None, 10: -101}, {1: -137, 4: -133, 7: None, 10: -123},
                        (*SWING, "--ppo.ent-coef", 0.02)),
}


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory, test_data) -> dict[str, Path]:
    """Ten of each task, as files."""
    folder = tmp_path_factory.mktemp("trajectories")
    experts = test_data / "gail_paper_experts"
    policies = {"cartpole": (experts / "classic_CartPole.npz", "--stochastic"),
                "mountaincar": (experts / "classic_MountainCar.npz", "--stochastic"), "acrobot": (folder / "expert",)}
    puffer_il("train", "ppo", "acrobot", "--run-dir", folder / "expert", "--seed", 3, "--total-steps", 4_000_000,
              "--ppo.gamma", 0.97, *LIMIT)
    for task, policy in policies.items():
        print("\n", puffer_il("demos", "collect", task, "--policy", *policy, "--episodes", 10, "--out",
                              folder / f"{task}.npz", *LIMIT).strip())
    return {task: folder / f"{task}.npz" for task in TASKS}


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Rows, printed when all have been measured."""
    rows = ["task | trajectories | BC [95%], published | GAIL [95%], published"]
    yield rows
    print("\n" + "\n".join(rows))


def measure(algo: str, task: str, count: int, file: Path, folder: Path, *arguments: Any) -> tuple[float, float, float]:
    """Mean return over the seeds, and the ends of its interval."""
    returns = []
    for seed in SEEDS:
        summary, _ = train(algo, task, seed, folder, "--demos", file, "--demos.episodes", count, "--demos.subsample",
                           TASKS[task].subsample, *LIMIT, *arguments)
        returns.append(summary["eval"]["return_mean"])
    return float(np.mean(returns)), *bootstrap_ci(np.array(returns))


@pytest.mark.parametrize(("task", "count"), [(task, count) for task in TASKS for count in TRAJECTORIES])
def test_gail_is_at_the_published_figure(task, count, trajectories, table, tmp_path):
    known = TASKS[task]
    bc, gail = (measure(algo, task, count, trajectories[task], tmp_path, *arguments)
                for algo, arguments in (("bc", ()), ("gail", known.gail)))
    shown = [f"{mean:.1f} [{low:.1f}, {high:.1f}], {published.get(count)}"
             for (mean, low, high), published in ((bc, known.published_bc), (gail, known.published))]
    table.append(" | ".join([task, str(count), *shown]))
    print(f"\n{table[-1]}")
    if known.published[count] is not None:
        assert gail[2] >= known.published[count]
