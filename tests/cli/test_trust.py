"""Commands that only read do not execute what a run or a file of demonstrations names."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

import puffer_il
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
