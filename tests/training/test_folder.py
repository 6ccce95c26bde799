"""A run whose directory is moved, deleted, read-only or full meanwhile goes on, says so, and loses nothing."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

import puffer_il
from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError
from puffer_il.learners.experiment import replaced
from puffer_il.training import run_dir
from puffer_il.training.loggers import JsonlLogger
from puffer_il.training.run_dir import prepare_run_dir
from puffer_il.training.trainer import Outcome, train
from tests.support.runs import Recorder, final_state, same_state, tiny


class Doing(Recorder):
    """Does something once, after the first iteration, and something else after the second."""

    def __init__(self, *deeds: Callable[[], object]) -> None:
        super().__init__()
        self.deeds = list(deeds)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        super().log(step, metrics)
        if self.deeds:
            self.deeds.pop(0)()


def ran(folder: Path, *deeds: Callable[[], object]) -> tuple[Doing, Outcome]:
    config = tiny("ppo", folder, train__checkpoint_steps=256)
    prepare_run_dir(config)
    recorder = Doing(*deeds)
    return recorder, train(config, [JsonlLogger(), recorder], folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    ran(folder)
    return folder


def ends_as(whole: Path, folder: Path) -> bool:
    one, other = final_state(whole), final_state(folder)
    return all(same_state(one[key], other[key]) for key in ("learner", "policy", "collector", "last_eval"))


def lines(folder: Path) -> int:
    return len((folder / "metrics.jsonl").read_text().splitlines())


def test_a_run_follows_its_directory(whole, tmp_path):
    folder, place = tmp_path / "run", tmp_path / "elsewhere"
    recorder, outcome = ran(folder, lambda: folder.rename(place))
    assert outcome.run_dir == place and not outcome.unwritten and not folder.exists()
    assert ends_as(whole, place) and lines(place) == lines(whole) and (place / "summary.json").is_file()
    assert [line for line in recorder.messages if f"was moved to {place}" in line]


def test_a_deleted_directory_is_made_anew_and_can_be_resumed(whole, tmp_path):
    folder = tmp_path / "runs" / "run"
    recorder, outcome = ran(folder, lambda: shutil.rmtree(folder.parent))
    assert ends_as(whole, folder) and (folder / "config.toml").read_text() and not outcome.unwritten
    assert sum("was deleted" in line for line in recorder.messages) == 1 and lines(folder) == lines(whole) - 1


def test_what_has_taken_the_directorys_place_is_left_alone(whole, tmp_path):
    folder = tmp_path / "run"

    def replace() -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "config.toml").write_text("somebody else's")

    recorder, outcome = ran(folder, replace)
    assert [path.name for path in folder.iterdir()] == ["config.toml"]
    assert sum("has taken the place of" in line for line in recorder.messages) == 2  # of the checkpoint and the metrics
    assert str(folder) in outcome.unwritten and ends_as(whole, outcome.run_dir)
    shutil.rmtree(outcome.run_dir)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_nothing_for_a_while_is_said_once_and_loses_nothing(whole, tmp_path, monkeypatch, number):
    folder, write = tmp_path / "run", checkpoint.write_tensors

    def fails(path: Path, state: object) -> None:
        raise OSError(number, "the disk takes nothing")

    recorder, outcome = ran(folder, lambda: monkeypatch.setattr(checkpoint, "write_tensors", fails), lambda: None,
                            lambda: monkeypatch.setattr(checkpoint, "write_tensors", write))
    assert sum("the checkpoint cannot be written (the disk takes nothing)" in line for line in recorder.messages) == 1
    assert sum("the checkpoint is written again" in line for line in recorder.messages) == 1
    assert not outcome.unwritten and ends_as(whole, folder)


def test_results_that_the_directory_does_not_take_are_written_elsewhere(whole, tmp_path, monkeypatch):
    folder, write = tmp_path / "run", checkpoint.write_tensors

    def fails(path: Path, state: object) -> None:
        if tmp_path in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, state)

    _, outcome = ran(folder, lambda: monkeypatch.setattr(checkpoint, "write_tensors", fails))
    assert f"could not be written to {folder}; they are in {outcome.run_dir}" in outcome.unwritten
    assert ends_as(whole, outcome.run_dir) and (outcome.run_dir / "summary.json").is_file()
    shutil.rmtree(outcome.run_dir)


def test_metrics_wait_in_memory_until_they_can_be_written(whole, tmp_path):
    folder = tmp_path / "run"
    kept = tmp_path / "kept"

    def full() -> None:
        (folder / "metrics.jsonl").rename(kept)
        (folder / "metrics.jsonl").symlink_to("/dev/full")
        logger.moved(folder)

    def free() -> None:
        (folder / "metrics.jsonl").unlink()
        kept.rename(folder / "metrics.jsonl")
        logger.moved(folder)

    config = tiny("ppo", folder)
    prepare_run_dir(config)
    logger, recorder = JsonlLogger(), Doing(full, lambda: None, free)
    train(config, [logger, recorder], folder)
    assert lines(folder) == lines(whole)
    assert [line for line in recorder.messages if "metrics.jsonl cannot be written (No space left" in line]


def test_python_warns_of_results_that_are_elsewhere(tmp_path):
    folder = tmp_path / "run"

    def replace(metrics: dict[str, float]) -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    with pytest.warns(UserWarning, match=f"could not be written to {folder}; they are in"):
        run = puffer_il.train("ppo", "cartpole", run_dir=folder, total_steps=256, progress=False, callback=replace,
                              env={"num_envs": 8}, eval={"final_episodes": 2})
    assert run.dir != folder and (run.dir / "summary.json").is_file()
    shutil.rmtree(run.dir)


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_dir, "datetime", SimpleNamespace(now=lambda: datetime(2026, 1, 2, 3, 4, 5)))
    config = replaced(tiny("ppo", tmp_path), {"train.run_dir": ""})
    folders = [prepare_run_dir(config) for _ in range(3)]
    assert [str(folder) for folder in folders] == [f"runs/cartpole-ppo-{config.train.seed}-20260102-030405{more}"
                                                   for more in ("", "-2", "-3")]
    assert all((folder / "config.toml").is_file() for folder in folders)


def test_a_folder_of_runs_that_is_none_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match=rf"{tmp_path}/runs' cannot be written \(Not a directory\); give another"):
        prepare_run_dir(replaced(tiny("ppo", tmp_path), {"train.run_dir": ""}))
