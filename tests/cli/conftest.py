"""A run and demonstrations that the tests of several commands look at."""

from __future__ import annotations

import pytest

from tests.support.command_line import train
from tests.support.runs import scripted_cartpole_demos


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run of PPO on CartPole, to its end."""
    run_dir = tmp_path_factory.mktemp("runs") / "ppo"
    assert train("ppo", "cartpole", "--total-steps", "512", "--run-dir", str(run_dir)) == 0
    return run_dir


@pytest.fixture(scope="session")
def demos(tmp_path_factory):
    return scripted_cartpole_demos(tmp_path_factory.mktemp("demos") / "scripted.npz")
