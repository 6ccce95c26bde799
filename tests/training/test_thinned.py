"""Long runs: metrics.jsonl keeps a bounded number of iterations, evenly spaced, whatever interrupts them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from puffer_il.training import thinned
from puffer_il.training.loggers import JsonlLogger, TensorBoardLogger
from tests.support.loggers import info


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(thinned, "MOST", 8)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def iterate(folder: Path, first: int, last: int, *, kind=JsonlLogger, evaluated=(), end: dict | None = None) -> None:
    """Iterations of a process that begins after a checkpoint, ten steps each; without an `end` it is killed."""
    logger = kind()
    logger.start(info(folder))
    for number in range(first, last + 1):
        logger.log(10 * number, {"updates": number, "x": 0.5 * number} | (
            {"eval/return_mean": 1.0} if number in evaluated else {}))
    if end is not None:
        if end:
            logger.log(10 * last, end)
        logger.finish({})
    logger.close()


def test_strides_double_so_that_no_more_than_most_are_kept():
    assert [thinned.stride(updates) for updates in (0, 1, 8, 9, 16, 17, 32, 33, 64, 65)] == [1, 1, 1, 2, 2, 4, 4, 8, 8,
                                                                                            16]
    for updates in range(1, 3_000):
        every = thinned.stride(updates)
        kept = sum(number % every == 0 for number in range(1, updates + 1))
        assert kept <= 8 and (updates < 8 or kept >= 4)


def test_a_long_run_keeps_few_lines_evenly_spaced_as_they_were_and_all_of_its_evaluations(tmp_path):
    iterate(tmp_path, 1, 1_000, evaluated=(3, 250, 777))
    assert [line["updates"] for line in lines(tmp_path)] == [1, 3, 128, 250, 256, 384, 512, 640, 768, 777, 896]
    assert all(line["step"] == 10 * line["updates"] and line["x"] == line["updates"] / 2 for line in lines(tmp_path))


def test_the_file_never_holds_more(tmp_path):
    logger = JsonlLogger()
    logger.start(info(tmp_path))
    for number in range(1, 300):
        logger.log(number, {"updates": number})
        assert len(lines(tmp_path)) <= 8 + 1
    logger.close()


@pytest.mark.parametrize("end", [{}, {"eval/return_mean": 2.0}])
def test_the_last_iteration_has_its_line(tmp_path, end):
    iterate(tmp_path, 1, 45, end=end)
    found = lines(tmp_path)
    assert [line.get("updates") for line in found] == [1, 8, 16, 24, 32, 40, 45, *([None] if end else [])]
    assert found[-1] == ({"step": 450} | end if end else {"step": 450, "updates": 45, "x": 22.5})


def test_a_resumed_run_ends_with_the_lines_of_an_undisturbed_one(tmp_path):
    rng, at = random.Random(0), 0
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    for folder in (cut, whole):
        folder.mkdir()
    while at < 500:  # killed some way behind the checkpoint, or stopped well
        ahead = min(500, at + rng.randrange(1, 60))
        iterate(cut, at + 1, ahead, evaluated=range(0, 501, 50), end=rng.choice([None, {}]))
        at = ahead if ahead == 500 else rng.randrange(at, ahead + 1)
    iterate(cut, 500, 500, evaluated=range(0, 501, 50), end={"eval/return_mean": 3.0})
    iterate(whole, 1, 500, evaluated=range(0, 501, 50), end={"eval/return_mean": 3.0})
    assert lines(cut) == lines(whole)


def test_a_run_that_goes_back_to_its_checkpoint_forgets_what_it_had_not_written(tmp_path):
    logger = JsonlLogger()
    logger.start(info(tmp_path))
    for number in (*range(1, 20), 15, 16):
        if number == 15 and logger._last is not None:
            logger.rewind()
        logger.log(number, {"updates": number})
    logger.finish({})
    assert [line["updates"] for line in lines(tmp_path)] == [1, 4, 8, 12, 16]


def test_events_of_tensorboard_become_thinner_too(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    iterate(tmp_path, 1, 100, kind=TensorBoardLogger, end={})
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("x")] == [10 * number for number in (
        *range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96)]
