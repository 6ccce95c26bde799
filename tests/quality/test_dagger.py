"""What is claimed of DAgger and of cloning a perturbed expert, over seeds: `make quality`.

The experts are the environments' own scripts. "Covariate shift" is the same algorithm with the same number of labels,
epochs and network, whose every label is of a state that the expert alone would see: that is behaviour cloning.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from puffer_il.learners.experiment import build
from tests.support.quality import SEEDS, train
from tests.support.runs import run

pytestmark = pytest.mark.slow
ALGOS = ("dagger", "noise_bc")
FAILED = {"cartpole": 100.0, "pendulum": -700.0}  # returns that nobody would call learned
LABELS = {"pendulum": 512, "merge": 8192}
REMEDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "cloning": ("dagger", {"schedule": "constant"}), "dagger": ("dagger", {}), "noise_bc": ("noise_bc", {})}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("env", FAILED)
@pytest.mark.parametrize("algo", ALGOS)
def test_the_expert_is_reached(algo, env, seed, tmp_path):
    assert train(algo, env, seed, tmp_path)[0]["eval"]["normalized"] >= 0.95


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("env", FAILED)
@pytest.mark.parametrize("algo", ALGOS)
def test_nothing_is_learned_from_an_expert_who_knows_nothing(algo, env, seed, tmp_path):
    summary, _ = train(algo, env, seed, tmp_path, f"--{algo}.expert", "random")
    assert summary["eval"]["return_mean"] < FAILED[env]


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_dagger_asks_other_peoples_policies(seed, tmp_path, test_data):
    expert = test_data / "gail_paper_experts" / "classic_CartPole.npz"
    assert train("dagger", "cartpole", seed, tmp_path, "--dagger.expert", expert)[0]["eval"]["normalized"] >= 0.95


def scores(env: str, name: str, folder: Path) -> list[float]:
    """Normalised, of each seed: eight rollouts of eight environments, all labels learned for 100 epochs after each."""
    algo, options = REMEDIES[name]
    found = []
    for seed in SEEDS:
        labels = LABELS[env]
        recorder = run(build(algo, [("shift", {
            "env": {"name": env, "num_envs": 8}, "eval": {"interval_steps": 0}, algo: {"epochs": 100, **options},
            "train": {"num_steps": labels // 64, "total_steps": labels, "threads": 1, "seed": seed,
                      "run_dir": str(folder / f"{name}-{seed}")}})]))
        assert [m for m in recorder.metrics if "SPS" in m][-1][f"{algo}/rows"] == labels
        found.append(recorder.summary["eval"]["normalized"])
    print(f"\n{env}, {labels} labels, {name}: {statistics.mean(found):.3f} ± {statistics.stdev(found):.3f} "
          f"({', '.join(f'{score:.2f}' for score in found)})")
    return found


def test_covariate_shift_on_pendulum_is_repaired(tmp_path):
    """Few labels are enough where they are of the learner's own states, or of disturbed ones."""
    cloning, dagger, noise = (statistics.mean(scores("pendulum", name, tmp_path)) for name in REMEDIES)
    assert cloning < 0.85 and dagger >= 0.92 and noise >= 0.9


def test_covariate_shift_on_the_road_is_repaired(tmp_path):
    """A clone that has left the expert's lane position is where no demonstration was."""
    cloning, dagger, noise = (scores("merge", name, tmp_path) for name in REMEDIES)
    assert min(dagger) > max(cloning) and min(noise) > max(cloning)
    assert statistics.mean(dagger) > statistics.mean(cloning) + 0.3
