"""What ends a run costs no more than what it did since its last checkpoint, and a resumed run ends as it would have."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from puffer_il.core import checkpoint
from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.training import checkpoints
from puffer_il.training import run_dir as run_dirs
from puffer_il.training.run_dir import locked, prepare_run_dir, run_directory
from puffer_il.training.trainer import train
from tests.support.runs import Recorder, final_state, run, same_state, tiny


class Failing(Recorder):
    """Raises `error`, or sends this process `signal`, once `after` iterations are logged."""

    def __init__(self, error: BaseException | None, after: int, number: int = 0) -> None:
        super().__init__()
        self.error, self.after, self.number = error, after, number

    def log(self, step: int, metrics: dict[str, float]) -> None:
        super().log(step, metrics)
        if len(self.metrics) == self.after and self.number:
            os.kill(os.getpid(), self.number)
        elif len(self.metrics) == self.after and self.error:
            raise self.error


class Killed(BaseException):
    """As kill -9: nobody can write anything afterwards."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(tiny("ppo", folder))
    return folder


def broken(folder: Path, recorder: Recorder) -> None:
    config = tiny("ppo", folder)
    prepare_run_dir(config)
    train(config, [recorder], folder)


def ends_as(whole: Path, folder: Path) -> bool:
    one, other = final_state(whole), final_state(folder)
    return all(same_state(one[key], other[key]) for key in ("learner", "policy", "kept", "env_steps", "last_eval"))


@pytest.mark.parametrize("after, steps", [(1, 0), (4, 0), (5, 1024)])
def test_a_kill_before_the_first_regular_checkpoint_goes_on_from_the_start_or_the_end(whole, tmp_path, after, steps):
    with pytest.raises(Killed):
        broken(tmp_path / "run", Failing(Killed(), after))
    assert final_state(tmp_path / "run")["env_steps"] == steps
    run(tiny("ppo", tmp_path / "run"), resume=True)
    assert ends_as(whole, tmp_path / "run")


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "closed"), OSError(errno.ENOSPC, "full")])
def test_a_closed_pipe_or_a_full_disk_costs_nothing(whole, tmp_path, error):
    with pytest.raises(OSError, match=error.strerror):
        broken(tmp_path / "run", Failing(error, 2))
    assert final_state(tmp_path / "run")["env_steps"] == 512
    run(tiny("ppo", tmp_path / "run"), resume=True)
    assert ends_as(whole, tmp_path / "run")


def test_a_closed_terminal_ends_a_run_as_an_interrupt_does(whole, tmp_path):
    recorder, before = Failing(None, 2, signal.SIGHUP), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        broken(tmp_path / "run", recorder)
    finally:
        signal.signal(signal.SIGHUP, before)  # of nohup, which a run leaves as it is
    assert recorder.summary["status"] == "interrupted" and final_state(tmp_path / "run")["env_steps"] == 512
    run(tiny("ppo", tmp_path / "run"), resume=True)
    assert ends_as(whole, tmp_path / "run")


def test_a_run_that_lost_its_summary_gets_it(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "summary.json").unlink()
    summary = run(tiny("ppo", folder), resume=True).summary
    assert summary["status"] == "finished" and summary["eval"] == final_state(whole)["last_eval"]
    with pytest.raises(InputError, match="has finished"):
        run(tiny("ppo", folder), resume=True)


def test_a_run_without_any_checkpoint_begins_again(whole, tmp_path):
    prepare_run_dir(tiny("ppo", tmp_path / "run"))
    run(tiny("ppo", tmp_path / "run"), resume=True)
    assert ends_as(whole, tmp_path / "run")


def test_a_damaged_checkpoint_is_named_and_set_aside(whole, tmp_path):
    folder = tmp_path / "run"
    run(tiny("ppo", folder, train__checkpoint_steps=256), interrupt_after=3)
    newest = checkpoint.latest(folder)
    newest.write_bytes(newest.read_bytes()[:-100])
    recorder = run(tiny("ppo", folder), resume=True)
    assert any(newest.name in line and "step_000000000512.pt is used" in line for line in recorder.messages)
    assert newest.with_suffix(".damaged").is_file() and ends_as(whole, folder)


def test_a_run_directory_is_for_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(run_dirs, "LOCK_TRIES", 1)
    config = tiny("ppo", tmp_path / "run")
    with (run_directory(config, None) as folder, pytest.raises(InputError, match="another process is at this run"),
          run_directory(config, folder)):
        pass
    with locked(folder):  # the process that held it has gone
        pass


def test_checkpoints_are_checked_before_they_take_the_place_of_others(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"x": torch.zeros(3)}, keep=1)
    monkeypatch.setattr(torch, "save", lambda state, file: np.savez_compressed(file, x=np.zeros(10**6)))
    with pytest.raises(ValueError, match="more than its size"):
        checkpoint.save(tmp_path, 2, {"x": torch.zeros(3)}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000000001.pt"]


class KillingAWorker(Recorder):
    def log(self, step: int, metrics: dict[str, float]) -> None:
        super().log(step, metrics)
        if len(self.metrics) == 3:
            psutil.Process().children()[-1].kill()  # the first are those of evaluations


@pytest.mark.parametrize("exact", [True, False])
def test_what_a_killed_worker_did_is_repeated_unless_that_is_too_much(tmp_path, monkeypatch, exact):
    if not exact:
        monkeypatch.setattr(checkpoints, "REPEATED_S", 0.0)
    keys = {"env__backend": "multiprocessing", "env__num_workers": 2, "train__checkpoint_steps": 512}
    run(tiny("ppo", tmp_path / "whole", **keys))
    config = tiny("ppo", tmp_path / "run", **keys)
    prepare_run_dir(config)
    with pytest.raises(EnvFailure, match="SIGKILL"):
        train(config, [KillingAWorker()], tmp_path / "run")
    assert final_state(tmp_path / "run")["env_steps"] == (512 if exact else 768)
    run(config, resume=True)
    assert ends_as(tmp_path / "whole", tmp_path / "run") == exact
