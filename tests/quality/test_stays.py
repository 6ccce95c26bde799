"""A run that goes on past the expert stays at its level: docs/results.md, "Imperfect demonstrations". `make quality`"""

from __future__ import annotations

import json

import pytest

from tests.support.quality import puffer_il, train

pytestmark = pytest.mark.slow
FIRST = 300_000  # steps; the first averages still hold policies from before


@pytest.fixture(scope="module")
def imperfect(tmp_path_factory):
    """100 episodes of a half-trained policy that fall at 19 to 399 steps."""
    folder = tmp_path_factory.mktemp("imperfect")
    puffer_il("train", "ppo", "cartpole", "--seed", 5, "--total-steps", 60_000, "--run-dir", folder / "run")
    puffer_il("demos", "collect", "cartpole", "--policy", folder / "run", "--stochastic", "--episodes", 100,
              "--seed", 3, "--out", folder / "demos.npz")
    return folder / "demos.npz"


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_gail_stays_at_the_level_of_imperfect_demonstrations(seed, tmp_path, imperfect):
    summary, _ = train("gail", "cartpole", seed, tmp_path, "--demos", imperfect, "--total-steps", 700_000,
                       "--train.stop-at-expert", 0, "--eval.interval-steps", 25_000)
    lines = map(json.loads, (tmp_path / f"gail-{seed}" / "metrics.jsonl").read_text().splitlines())
    late = [m["eval/return_mean"] for m in lines if "eval/return_mean" in m and m["env_steps"] > FIRST]
    assert summary["eval_last"]["normalized"] >= 0.95 and summary["eval"]["normalized"] >= 0.95
    assert sum(mean >= 0.95 * summary["expert_return"] for mean in late) >= 0.8 * len(late)
