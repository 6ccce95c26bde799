"""What docs/results.md claims about learning, by the command line, over its seeds: `make quality`."""

from __future__ import annotations

import json
import statistics

import pytest

from tests.support.quality import FUSED, SEEDS, puffer_il, train

pytestmark = pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_gail_on_cartpole_from_the_shipped_demonstrations(seed, tmp_path):
    summary, wall = train("gail", "cartpole", seed, tmp_path)
    assert summary["eval"]["return_mean"] >= 475 and wall < 60


def test_gail_on_cartpole_reaches_the_expert_within_seconds_and_few_steps(tmp_path):
    seconds, steps = [], []
    for seed in SEEDS:
        summary, _ = train("gail", "cartpole", seed, tmp_path)
        lines = map(json.loads, (tmp_path / f"gail-{seed}" / "metrics.jsonl").read_text().splitlines())
        steps.append(next(m["env_steps"] for m in lines if m.get("eval/return_mean", 0) >= 475))
        seconds.append(summary["time_to_expert_s"])
    print(f"\nsteps to 475: {steps}, median {statistics.median(steps):,}; seconds: {seconds}")
    assert statistics.median(steps) <= 65_000
    assert FUSED != "true" or (statistics.median(seconds) < 4 and max(seconds) < 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_bc_on_cartpole_from_the_shipped_demonstrations(seed, tmp_path):
    assert train("bc", "cartpole", seed, tmp_path)[0]["eval"]["return_mean"] >= 475


@pytest.mark.parametrize("seed", SEEDS)
def test_ppo_on_cartpole(seed, tmp_path):
    summary, wall = train("ppo", "cartpole", seed, tmp_path)
    assert summary["eval"]["return_mean"] >= 475 and wall < 30


@pytest.mark.parametrize("seed", SEEDS)
def test_gail_on_cartpole_from_other_peoples_demonstrations(seed, tmp_path, test_data):
    file = test_data / "imitation_testdata" / "cartpole_0_final.npz"
    # These ten are worse than their demonstrator: to reach the mean of all 57 (473) it must not stop at theirs (462).
    summary, _ = train("gail", "cartpole", seed, tmp_path, "--demos", file, "--demos.episodes", 10,
                       "--train.stop-at-expert", 1.07)
    assert summary["demos"]["episodes"] == 10
    assert summary["eval"]["return_mean"] >= 473


@pytest.mark.parametrize("seed", SEEDS)
def test_bc_on_cartpole_from_other_peoples_demonstrations(seed, tmp_path, test_data):
    file = test_data / "imitation_testdata" / "cartpole_0_final.npz"
    summary, _ = train("bc", "cartpole", seed, tmp_path, "--demos", file, "--demos.episodes", 10)
    assert summary["eval"]["normalized"] >= 0.95


@pytest.fixture(scope="module")
def mountaincar_demos(tmp_path_factory, test_data):
    out = tmp_path_factory.mktemp("mountaincar") / "demos.npz"
    expert = test_data / "gail_paper_experts" / "classic_MountainCar.npz"
    puffer_il("demos", "collect", "mountaincar", "--policy", expert, "--episodes", 10, "--out", out)
    return out


@pytest.mark.parametrize("seed", SEEDS)
def test_gail_on_mountaincar_from_the_papers_expert(seed, tmp_path, mountaincar_demos):
    summary, _ = train("gail", "mountaincar", seed, tmp_path, "--demos", mountaincar_demos)
    assert summary["eval"]["normalized"] >= 0.95


@pytest.fixture(scope="module")
def acrobot_demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("acrobot")
    expert, out = folder / "expert", folder / "demos.npz"
    puffer_il("train", "ppo", "acrobot", "--run-dir", expert)
    puffer_il("demos", "collect", "acrobot", "--policy", expert, "--episodes", 10, "--out", out)
    return out


@pytest.mark.parametrize("seed", SEEDS)
def test_gail_on_acrobot_from_our_expert(seed, tmp_path, acrobot_demos):
    summary, _ = train("gail", "acrobot", seed, tmp_path, "--demos", acrobot_demos)
    assert summary["eval"]["normalized"] >= 0.95


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_gail_on_pendulum_from_other_peoples_demonstrations(seed, tmp_path, test_data):
    summary, _ = train("gail", "pendulum", seed, tmp_path, "--demos",
                       test_data / "imitation_testdata" / "pendulum_0_final.npz")
    assert summary["eval"]["normalized"] >= 0.9


def test_bc_on_halfcheetah_through_gymnasium(tmp_path, test_data):
    pytest.importorskip("mujoco")
    puffer_il("train", "bc", "HalfCheetah-v4", "--run-dir", tmp_path / "run", "--demos",
              test_data / "cs285_mujoco_v4" / "HalfCheetah-v4.npz")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    print(f"\nbc HalfCheetah-v4: {summary['eval']}")
    assert summary["status"] == "finished" and summary["eval"]["normalized"] > 0.1
