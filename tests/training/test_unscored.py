"""An expert who is not better than a random policy gives no normalised score, and everything says why."""

from __future__ import annotations

import json

import numpy as np
import pytest

import puffer_il
from puffer_il.cli import main
from puffer_il.training.loggers import PlainLogger
from tests.support.loggers import info
from tests.support.runs import run, tiny


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run of an expert that always pushes to the left, and falls sooner than by chance."""
    folder = tmp_path_factory.mktemp("unscored")
    puffer_il.collect(lambda obs: np.zeros(len(obs), int), "cartpole", episodes=6).save(folder / "d.npz")
    recorder = run(tiny("gail", folder / "run", demos__source=str(folder / "d.npz"), eval__interval_steps=256,
                        train__stop_at_expert=0.5, eval__final_episodes=20))
    return folder / "run", recorder


def test_the_summary_has_no_score_and_a_reason(ended):
    _, recorder = ended
    summary = recorder.summary
    assert summary["expert_return"] < summary["random_return"]
    for name in ("eval", "eval_last", "eval_greedy", "eval_sampled"):
        part = summary[name]
        low, high = part["ci95"]
        assert part["normalized"] is None and low <= part["return_mean"] <= high
        assert "less than a random policy" in part["unscored"]
    assert summary["time_to_expert_s"] is None
    assert not any("eval/normalized" in metrics for metrics in recorder.metrics)


def test_it_is_told_once_and_the_run_is_not_stopped_by_its_score(ended):
    _, recorder = ended
    told = [line for line in recorder.messages if "no normalised score" in line]
    assert len(told) == 1 and "\n" not in told[0] and told[0].endswith("train.stop_at_expert has no effect")
    assert recorder.summary["status"] == "finished" and recorder.summary["env_steps"] == 1024


def test_eval_and_python_say_so_too(ended, capsys):
    folder, _ = ended
    assert main(["eval", str(folder), "--episodes", "10"]) == 0
    out = capsys.readouterr().out
    assert "score " in out and "none: the expert returns" in out and "of the expert (95% CI" not in out
    assert main(["eval", str(folder), "--episodes", "10", "--json"]) == 0
    played = json.loads(capsys.readouterr().out)
    assert played["normalized"] is None and "less than a random policy" in played["unscored"]


def test_one_episode_has_a_score_and_no_interval(tmp_path, capsys):
    played = puffer_il.evaluate("script", "cartpole", episodes=1)
    assert played["ci95"] is None and played["normalized"] is not None
    run(tiny("ppo", tmp_path / "run", eval__final_episodes=1, eval__episodes=1, eval__interval_steps=512))
    assert main(["eval", str(tmp_path / "run"), "--episodes", "1"]) == 0
    assert "95% CI" not in capsys.readouterr().out
    assert main(["eval", str(tmp_path / "run"), "--episodes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ci95"] is None


def test_both_ways_to_act_are_compared_when_asked(tmp_path, capsys, monkeypatch):
    run(tiny("ppo", tmp_path / "run"))
    monkeypatch.setattr("puffer_il.training.score.differs", lambda *given, **more: "sampled actions return 0.8, …")
    assert main(["eval", str(tmp_path / "run"), "--episodes", "4", "--both"]) == 0
    assert "sampled actions return 0.8" in "".join(capsys.readouterr())


def test_a_line_tells_how_many_episodes_succeeded(capsys):
    logger = PlainLogger()
    logger.start(info())
    logger.log(10, {"progress": 0.5, "eval/return_mean": 2.0, "eval/return_std": 1.0, "eval/success_rate": 0.25})
    assert capsys.readouterr().out.rstrip().endswith("evaluated: return 2.00 ± 1.00, 25% succeeded")
