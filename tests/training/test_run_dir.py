"""A run's directory: what its config tells of where its policy acts, and what is left of a run that never began."""

from __future__ import annotations

import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.native.catalogue import env_folders
from puffer_il.training.run_dir import environment_of, load_config, prepare_run_dir, run_directory
from tests.support.runs import tiny


def test_a_policy_acts_in_its_runs_environment_unless_another_is_given(tmp_path):
    run = prepare_run_dir(tiny("ppo", tmp_path / "run", env__kwargs={"gravity": 5.0, "length": 2.0}, env__stack=2))
    seen = Pictures(stack=2)
    assert environment_of(run, None, {"gravity": 7.0}) == ("cartpole", {"gravity": 7.0, "length": 2.0}, seen)
    folder = str(env_folders()["cartpole"])
    assert environment_of(run, folder, {}) == (folder, {"gravity": 5.0, "length": 2.0}, seen)
    assert environment_of(run, "acrobot", {"x": 1}) == ("acrobot", {"x": 1}, seen)
    assert environment_of(tmp_path / "model.zip", "acrobot", {}) == ("acrobot", {}, Pictures())
    with pytest.raises(InputError, match=r"^an environment is missing"):
        environment_of(tmp_path / "model.zip", None, {})


def test_what_fails_before_a_run_begins_leaves_no_trace(tmp_path):
    config = tiny("ppo", tmp_path / "run")
    with pytest.raises(InputError), run_directory(config, None) as run_dir:
        assert load_config(run_dir) == config
        raise InputError("no")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_that_is_refused_keeps_its_config(tmp_path):
    config, changed = (tiny("ppo", tmp_path / "run", train__seed=seed) for seed in (1, 2))
    run_dir = prepare_run_dir(config)
    with pytest.raises(InputError), run_directory(changed, run_dir):
        assert load_config(run_dir) == changed
        raise InputError("no")
    assert load_config(run_dir) == config
