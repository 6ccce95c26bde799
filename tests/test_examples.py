"""The packages under examples/: learners in other frameworks, installed and run where those frameworks are."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from puffer_il.cli import main
from puffer_il.learners import registry
from tests.learners.test_plugin import install
from tests.support.runs import final_state, same_state

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NEEDS = {"tinygrad_bc": "tinygrad", "keras_bc": "keras"}


@pytest.fixture(params=sorted(NEEDS))
def algo(request, tmp_path, monkeypatch) -> str:
    """An example's name, once its package is built and installed."""
    name = request.param
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    (tmp_path / "source").mkdir()
    for file in (EXAMPLES / name).iterdir():
        if file.is_file():  # a build would leave its own things beside them
            (tmp_path / "source" / file.name).write_bytes(file.read_bytes())
    install(tmp_path / "site", tmp_path / "source")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry.usable_learners()  # what is imported later would be forgotten with the copy, and not imported again
    monkeypatch.setattr(registry, "_learners", {k: v for k, v in registry._learners.items() if k != name})
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_every_example_is_run():
    assert {path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")} == NEEDS.keys()


def test_it_reaches_the_expert_resumes_exactly_and_is_used_like_any_other(algo, tmp_path, capsys):
    def train(run: str, *arguments: str) -> None:
        assert main(["train", algo, "cartpole", "--run-dir", str(tmp_path / run), *arguments]) == 0

    train("expert", "--total-steps", "60000", "--eval.interval-steps", "0")
    assert json.loads((tmp_path / "expert" / "summary.json").read_text())["eval"]["normalized"] >= 0.95
    small = ["--eval.final-episodes", "1", "--demos.episodes", "1", f"--{algo}.batch-size", "100"]
    train("whole", *small, "--total-steps", "1500")
    train("cut", *small, "--total-steps", "500")
    assert main(["train", "--resume", str(tmp_path / "cut"), "--total-steps", "1500"]) == 0
    whole, cut = (final_state(tmp_path / name) for name in ("whole", "cut"))
    assert same_state(whole["learner"], cut["learner"]) and same_state(whole["last_eval"], cut["last_eval"])
    assert main(["eval", str(tmp_path / "expert"), "--episodes", "2", "--json"]) == 0
    assert main(["demos", "collect", "cartpole", "--policy", str(tmp_path / "expert"), "--episodes", "2", "--out",
                 str(tmp_path / "d.npz"), "--stochastic"]) == 0
    assert main(["env", "play", "--policy", str(tmp_path / "expert"), "--steps", "20", "--out",
                 str(tmp_path / "x.png")]) == 0
    assert main(["train", algo, "pendulum", "--run-dir", str(tmp_path / "no")]) == 2
    assert f"{algo} is for discrete actions but pendulum has continuous ones" in capsys.readouterr().err
