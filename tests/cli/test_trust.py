"""Commands that only read do not execute what a run or a file of demonstrations names."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError
from tests.support.command_line import refused, run_command


@pytest.fixture
def foreign(finished, tmp_path, monkeypatch):
    """A run whose config names a module that would leave the file `ran`, and the module."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "config.toml"
    path.write_text(path.read_text().replace('name = "cartpole"', 'name = "probe_of_runs:make"'))
    (tmp_path / "probe_of_runs.py").write_text(
        "import gymnasium, pathlib\npathlib.Path('ran').touch()\n"
        "def make(): return gymnasium.make('CartPole-v1')\n")
    yield tmp_path / "run"
    sys.modules.pop("probe_of_runs", None)


@pytest.mark.parametrize("command", [("eval", "{run}"), ("train", "--resume", "{run}", "--total-steps", "9999"),
                                     ("env", "play", "--policy", "{run}")])
def test_a_runs_code_is_refused_unless_it_is_trusted(foreign, capsys, command):
    line = refused(capsys, *(word.format(run=foreign) for word in command))
    assert "probe_of_runs:make" in line and "--trust" in line
    assert not (foreign.parent / "ran").exists()


def test_a_run_that_is_trusted_once_opens_ever_after(foreign, capsys):
    assert run_command(capsys, "eval", str(foreign), "--episodes", "1", "--trust")[0] == 0
    assert run_command(capsys, "eval", str(foreign), "--episodes", "1")[0] == 0
    assert (foreign.parent / "ran").exists()


def test_python_refuses_it_as_well(foreign):
    with pytest.raises(InputError, match="trust=True"):
        puffer_il.evaluate(str(foreign), episodes=1)
    assert not (foreign.parent / "ran").exists()


def test_what_demonstrations_name_is_not_imported(foreign, demos, capsys):
    arrays = dict(np.load(demos))
    meta = json.loads(str(arrays["meta"])) | {"env": "probe_of_runs:make"}
    np.savez("e.npz", **arrays | {"meta": np.array(json.dumps(meta))})
    assert "--trust" in refused(capsys, "demos", "export", "e.npz", "minari:x/y-v0")
    assert not (foreign.parent / "ran").exists()


@pytest.mark.parametrize("change", [("algo = ", "algo = 3 # "), ("algo = ", "# "), ('name = "cartpole"', "name = [1]"),
                                    ("lstm = 0", "lstm = 99999999999999999999"), ("lstm = 0", "lstm = 1000000000"),
                                    ("algo = ", "x = " + "[" * 9999)])
def test_a_runs_config_with_another_content_is_one_line(finished, tmp_path, capsys, change):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "config.toml"
    path.write_text(path.read_text().replace(*change))
    assert "config.toml" in refused(capsys, "eval", str(tmp_path / "run"))


@pytest.mark.parametrize("change", [lambda state: state["spec"].pop("action_shape"), lambda state: state.pop("policy"),
                                    lambda state: state["spec"].update(nvec=[10**9]),
                                    lambda state: state.update(expert_return="many"),
                                    lambda state: state["policy"].popitem()])
def test_a_checkpoint_with_another_content_is_one_line(finished, tmp_path, capsys, change):
    shutil.copytree(finished, tmp_path / "run")
    path = checkpoint.latest(tmp_path / "run")
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    assert "does not hold what it should" in refused(capsys, "eval", str(tmp_path / "run"))


def test_a_learned_reward_with_another_content_is_one_line(tmp_path, capsys):
    torch.save({"format": 2, "kind": "network", "algo": "gail"}, tmp_path / "reward.pt")
    assert "train it again" in refused(capsys, "reward", "show", str(tmp_path / "reward.pt"))


def test_notes_of_demonstrations_do_not_steer_the_terminal(demos, tmp_path, capsys):
    arrays = dict(np.load(demos))
    meta = json.loads(str(arrays["meta"])) | {"notes": ["\x1b[2Jgone"]}
    np.savez(tmp_path / "e.npz", **arrays | {"meta": np.array(json.dumps(meta))})
    for command in ("info", "check"):
        out = run_command(capsys, "demos", command, str(tmp_path / "e.npz"))[1]
        assert r"\x1b[2Jgone" in out and "\x1b" not in out
