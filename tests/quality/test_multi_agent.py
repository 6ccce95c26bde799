"""One policy for several agents, by the command line, over seeds: `make quality`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from puffer_il.rollout.stats import normalized
from tests.support.quality import SEEDS, puffer_il, train

pytestmark = pytest.mark.slow
RANDOM_AGAINST_THE_SCRIPT = -0.93  # return of a random cycle in 500 games of tron
FOUR = ("--env.kwargs.controlled", 4)


@pytest.fixture(scope="module")
def highway(tmp_path_factory) -> Path:
    """A thousand drives of four vehicles of the scripted driver."""
    out = tmp_path_factory.mktemp("highway") / "demos.npz"
    puffer_il("demos", "collect", "highway", *FOUR, "--expert", "--episodes", 4000, "--seed", 5, "--out", out)
    return out


@pytest.mark.parametrize("algo", ["bc", "gail"])
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_four_vehicles_on_highway(seed, algo, tmp_path, highway):
    assert train(algo, "highway", seed, tmp_path, *FOUR, "--demos", highway)[0]["eval"]["normalized"] >= 0.95


@pytest.fixture(scope="module")
def merge(tmp_path_factory) -> Path:
    """A thousand merges of four vehicles of a driver whom DAgger made of the script."""
    folder = tmp_path_factory.mktemp("merge")
    summary, _ = train("dagger", "merge", 5, folder, *FOUR)
    assert summary["eval"]["normalized"] >= 0.95
    puffer_il("demos", "collect", "merge", "--policy", folder / "dagger-5", "--stochastic", "--episodes", 4000,
              "--seed", 5, "--out", folder / "demos.npz")
    return folder / "demos.npz"


@pytest.mark.parametrize("algo", ["bc", "gail"])
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_four_vehicles_merge(seed, algo, tmp_path, merge):
    """0.95 to 0.99 of the driver; a hundred episodes tell that to within 0.04."""
    assert train(algo, "merge", seed, tmp_path, *FOUR, "--demos", merge)[0]["eval"]["normalized"] >= 0.92


@pytest.fixture(scope="module")
def tron(tmp_path_factory) -> Path:
    """Four thousand games of the script against itself."""
    out = tmp_path_factory.mktemp("tron") / "demos.npz"
    puffer_il("demos", "collect", "tron", "--expert", "--episodes", 8000, "--seed", 5, "--out", out)
    return out


@pytest.mark.parametrize(("algo", "among_equals", "against"), [("bc", 0.85, 0.55), ("gail", 0.75, 0.45)])
def test_tron_against_itself_and_against_the_script(algo, among_equals, against, tmp_path, tron):
    """Far above chance, but not the script's equal. In self-play wins and losses cancel, so that how long a game lasts
    is left to compare. Against the script they count; the script's own score there is that among equals."""
    summary, _ = train(algo, "tron", 1, tmp_path, "--demos", tron)
    played = json.loads(puffer_il("eval", tmp_path / f"{algo}-1", "--episodes", 1000, "--env.kwargs.scripted", 1,
                                  "--json"))
    score = normalized(played["return_mean"], RANDOM_AGAINST_THE_SCRIPT, played["expert_return"])
    print(f"against the script {score:.2f}: {played['log']['won']:.2f} of the games won")
    assert summary["eval"]["normalized"] >= among_equals
    assert score >= against
