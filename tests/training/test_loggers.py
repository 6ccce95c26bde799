"""Sinks: what lands on disk and in a pipe, on a fresh and on a resumed run, and that a full disk is heard."""

from __future__ import annotations

import errno
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.training.dashboard import make_loggers
from puffer_il.training.loggers import JsonlLogger, PlainLogger, TensorBoardLogger, TimeLeft
from tests.support.loggers import Clock, info
from tests.support.runs import tiny


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def written(folder: Path, *steps: int) -> None:
    logger = JsonlLogger()
    logger.start(info(folder))
    for step in steps:
        logger.log(step, {"SPS": 2.0 * step})
    logger.finish({})


def test_jsonl_holds_plain_numbers(tmp_path):
    logger = JsonlLogger()
    logger.start(info(tmp_path))
    logger.log(np.int64(64), {"a": np.float32(0.5), "b": math.nan, "c": -math.inf, "updates": 3, "d": np.int32(7)})
    assert lines(tmp_path) == [{"step": 64, "a": 0.5, "b": None, "c": None, "updates": 3, "d": 7.0}]
    logger.message("not a metric")
    logger.close()
    logger.close()
    assert len(lines(tmp_path)) == 1


def test_jsonl_lines_are_on_disk_at_once(tmp_path):
    logger = JsonlLogger()
    logger.start(info(tmp_path))
    for step in (1, 2, 3):
        logger.log(step, {"x": 1.0})
        assert len(lines(tmp_path)) == step
    logger.close()


def test_a_resumed_jsonl_goes_on_where_the_checkpoint_was(tmp_path):
    written(tmp_path, 10, 20, 30, 40)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "SP')  # the crash
    written(tmp_path, 30, 40)  # the checkpoint was made at 20
    assert [line["step"] for line in lines(tmp_path)] == [10, 20, 30, 40]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_crash_before_the_first_line_of_a_resumed_run_loses_nothing(tmp_path):
    written(tmp_path, 10, 20)
    logger = JsonlLogger()
    logger.start(info(tmp_path))
    logger.close()
    assert [line["step"] for line in lines(tmp_path)] == [10, 20]


def test_a_full_disk_is_heard(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    logger = JsonlLogger()
    logger.start(info(tmp_path))
    with pytest.raises(OSError) as failure:
        logger.log(1, {"x": 1.0})
    assert failure.value.errno == errno.ENOSPC
    logger.close()


def test_tensorboard_has_every_finite_metric_and_hides_what_a_resumed_run_repeats(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((10, 20, 30), (20, 30)):
        logger = TensorBoardLogger()
        logger.start(info(tmp_path))
        for step in steps:
            logger.log(step, {"SPS": float(step), "losses/policy": math.nan})
        logger.finish({})
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["SPS"]
    assert [event.step for event in events.Scalars("SPS")] == [10, 20, 30]


def test_missing_tensorboard_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"train\.tensorboard = true: .*pip install 'puffer-il\[tensorboard\]'"):
        TensorBoardLogger()


@pytest.mark.parametrize("wanted", [False, True])
def test_train_tensorboard_decides_whether_events_are_written(tmp_path, wanted):
    pytest.importorskip("tensorboard")
    kinds = [type(logger) for logger in make_loggers(tiny("ppo", tmp_path, train__tensorboard=wanted))]
    assert kinds[0] is JsonlLogger and (TensorBoardLogger in kinds) == wanted


def plain() -> tuple[PlainLogger, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return PlainLogger(stream, clock, every=5.0), stream, clock


def test_plain_lines():
    logger, stream, clock = plain()
    logger.start(info())
    for i in range(1, 8):
        clock.now += 2
        logger.log(100 * i, {"progress": i / 10, "SPS": 51_234.5, "rollout/return_mean": 20.0 * i,
                           "rollout/length_mean": 20.0 * i, "losses/policy": 0.1})
    logger.message("a notice")
    clock.now += 1
    logger.log(800, {"progress": 0.8, "eval/return_mean": 487.2, "eval/return_std": 8.1, "eval/normalized": 0.973,
                   "eval/ci_low": 0.95, "eval/ci_high": 0.99})
    logger.finish({"status": "finished"})
    assert stream.getvalue().splitlines() == [
        "gail on cartpole · seed 1 · cpu · 4,096 envs native · 9.35k parameters",
        "demonstrations: 10 episodes, 5,000 transitions, mean return 500.0 · returns: expert 500.0, random 22.3 · "
        "run directory: runs/x",
        " 10%  100 steps  –:–– left  51.2k steps/s  return 20.0  length 20.0",
        " 40%  400 steps  0:12 left  51.2k steps/s  return 80.0  length 80.0",
        " 70%  700 steps  0:06 left  51.2k steps/s  return 140.0  length 140.0",
        "a notice",
        " 80%  800 steps  0:04 left  evaluated: return 487.2 ± 8.10, 0.97 of the expert (95% CI 0.95 to 0.99)",
    ]


def test_plain_lines_of_behaviour_cloning_without_a_known_expert():
    logger, stream, clock = plain()
    logger.start(info(algo="bc", num_envs=0, backend="none", expert_return=None, random_return=None))
    clock.now += 10
    logger.log(256, {"progress": 0.5, "SPS": 2e6, "bc/train_nll": 0.31, "bc/val_nll": 0.35, "bc/accuracy": 0.875,
                   "eval/return_mean": -98.0, "eval/return_std": 4.0, "eval/ci_low": -99.5, "eval/ci_high": -96.5})
    header, demos, line = stream.getvalue().splitlines()
    assert "envs" not in header and "returns: unknown" in demos
    assert line == (" 50%  256 samples  –:–– left  2M samples/s  train nll 0.310  validation nll 0.350  "
                    "accuracy 0.875  evaluated: return -98.0 ± 4.00 (95% CI -99.5 to -96.5)")


def test_time_left_follows_the_last_minute_and_counts_down():
    clock = Clock()
    left = TimeLeft(clock)
    assert math.isnan(left.seconds())
    for progress in (0.5, 0.5, 0.6):  # a resumed run begins in the middle
        left.update(progress)
        clock.now += 10
    assert left.seconds() == pytest.approx(0.4 * 20 / 0.1 - 10)
    for _ in range(40):  # slower now, and the fast start is forgotten
        left.update(0.61 + 0.001 * (clock.now - 130) / 10)
        clock.now += 10
    assert left.seconds() == pytest.approx((1 - 0.649) / 0.0001 - 10, rel=0.01)
    clock.now += 1e6
    assert left.seconds() == 0
