"""One policy for several agents, by the command line, over seeds: `make quality`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quality.test_learning import SEEDS, puffer_il, train

pytestmark = pytest.mark.slow
FOUR = ("--env.kwargs.controlled", 4)


@pytest.fixture(scope="module")
def highway(tmp_path_factory) -> Path:
    """A thousand drives of four vehicles of the scripted driver."""
    out = tmp_path_factory.mktemp("highway") / "demos.npz"
    puffer_il("demos", "collect", "highway", *FOUR, "--expert", "--episodes", 4000, "--seed", 5, "--out", out)
    return out


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_bc_on_highway_with_four_agents(seed, tmp_path, highway):
    summary, _ = train("bc", "highway", seed, tmp_path, *FOUR, "--demos", highway, "--policy.hidden", "128,128",
                       "--total-steps", 2_000_000)
    assert summary["eval"]["normalized"] >= 0.95


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_gail_on_highway_with_four_agents(seed, tmp_path, highway):
    """After a few epochs of cloning."""
    summary, _ = train("gail", "highway", seed, tmp_path, *FOUR, "--demos", highway, "--policy.hidden", "128,128",
                       "--env.num-envs", 128, "--gail.bc-epochs", 20, "--ppo.gamma", 0.95, "--ppo.ent-coef", 0.003,
                       "--ppo.learning-rate", 5e-4, "--total-steps", 1_000_000, "--eval.episodes", 200,
                       "--train.stop-at-expert", 0.96)
    assert summary["eval"]["normalized"] >= 0.95


def test_bc_on_tron_against_itself(tmp_path):
    """Two cycles, one policy: wins and losses cancel, so that what is left to compare is how long a game lasts."""
    demos = tmp_path / "demos.npz"
    puffer_il("demos", "collect", "tron", "--expert", "--episodes", 2000, "--seed", 5, "--out", demos)
    summary, _ = train("bc", "tron", 1, tmp_path, "--demos", demos, "--total-steps", 500_000)
    assert summary["eval"]["normalized"] >= 0.7
