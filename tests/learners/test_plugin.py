"""The algorithm of docs/your-algorithm.md, and other packages: installed and used as a third party's would be."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from puffer_il.cli import main
from puffer_il.demos import read_demos
from puffer_il.learners import registry
from tests.support.runs import final_state, same_state, scripted_cartpole_demos

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-algorithm.md"
SMALL = ["--env.num-envs", "8", "--train.num-steps", "32", "--train.threads", "1", "--policy.hidden", "16,16",
         "--eval.interval-steps", "0", "--eval.final-episodes", "2"]
BROKEN = 'import a_package_that_is_not_there\n'
BARE = "class Bare:\n    needs_rollouts = True\n"


def install(target: Path, source: Path) -> None:
    """`pip install` without a network: a wheel is built with the packages that are here."""
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation",
                    "--disable-pip-version-check", "--no-cache-dir", "--target", target, source], check=True,
                   capture_output=True)


def block(language: str) -> str:
    """The page's first block in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0]


def unpack(site: Path, name: str, module: str, entry: str) -> None:
    """What an installation leaves, without building."""
    (site / f"{name}.py").write_text(module)
    info = site / f"their_{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: their-{name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[puffer_il.learners]\n{name} = {entry}\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the page's package installed, and two that cannot be used."""
    folder = tmp_path_factory.mktemp("packages")
    nearest = folder / "nearest"
    nearest.mkdir()
    (nearest / "nearest.py").write_text(block("python"))
    (nearest / "pyproject.toml").write_text(block("toml"))
    install(folder / "site", nearest)
    unpack(folder / "site", "broken", BROKEN, "broken:Broken")
    unpack(folder / "site", "bare", BARE, "bare:Bare")
    return folder / "site"


@pytest.fixture
def installed(site, monkeypatch) -> None:
    registry.usable_learners()  # what is imported later would be forgotten with the copy, and not imported again
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(registry, "_learners", dict(registry._learners))
    monkeypatch.delitem(sys.modules, "nearest", raising=False)


@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> Path:
    """States alone: the page's algorithm needs no more."""
    path = tmp_path_factory.mktemp("demos") / "bare.npz"
    replace(read_demos(scripted_cartpole_demos(path)), actions=None).save(path)
    return path


def test_the_pages_algorithm_is_short():
    lines = [line for line in block("python").splitlines() if line.strip()]
    body = lines[next(i for i, line in enumerate(lines) if line.startswith("class Nearest(")) + 1:]
    assert len(body) <= 20 and all(len(line) <= 120 for line in lines)


def test_an_installed_algorithm_is_trained_resumed_and_evaluated_like_any_other(installed, demos, tmp_path, capsys):
    def train(run: str, steps: int) -> None:
        arguments = ["--demos", str(demos), "--run-dir", str(tmp_path / run), "--total-steps", str(steps)]
        assert main(["train", "nearest", "cartpole", *arguments, *SMALL, "--ppo.anneal-lr", "false"]) == 0

    train("whole", 1024)
    train("cut", 512)
    assert "finished: nearest on cartpole" in capsys.readouterr().out
    assert main(["train", "--resume", str(tmp_path / "cut"), "--total-steps", "1024"]) == 0
    assert same_state(final_state(tmp_path / "whole")["learner"], final_state(tmp_path / "cut")["learner"])
    metrics = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["nearest/reward_mean"] < 1 for line in metrics if "SPS" in line)
    assert main(["eval", str(tmp_path / "cut"), "--episodes", "2"]) == 0


def test_its_key_changes_what_is_learned(installed, demos, tmp_path):
    for width in ("0.5", "0.1"):
        assert main(["train", "nearest", "cartpole", "--demos", str(demos), "--run-dir", str(tmp_path / width),
                     "--total-steps", "512", *SMALL, "--nearest.width", width]) == 0
    assert not same_state(final_state(tmp_path / "0.5")["policy"], final_state(tmp_path / "0.1")["policy"])


def test_help_shows_its_section(installed, capsys):
    assert main(["train", "nearest", "cartpole", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--nearest.width 0.5" in out and "at which the reward has fallen to 0.61" in out and "--ppo.gamma" in out
    assert main(["train", "nearest", "cartpole", "--nearest.wdith", "1"]) == 2
    assert "did you mean --nearest.width" in capsys.readouterr().err


def test_algos_lists_it_and_says_what_is_broken(installed, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["algos"]) == 0
    printed = capsys.readouterr()
    row = next(line for line in printed.out.splitlines() if line.startswith("nearest"))
    assert "states alone" in row and "Ciosek 2022" in row
    assert [line.partition(": ")[2] for line in printed.err.splitlines()] == [
        "algorithm 'bare' of package their-bare: bare:Bare has no section, about, needs_demos, needs_actions, "
        "needs_expert, needs_model, plays_game, promised_metrics, done, steps_per_update, relabel, advantages, "
        "update, finish, state_dict, load_state_dict; derive it from puffer_il.learners.base.Learner",
        "algorithm 'broken' of package their-broken: broken:Broken cannot be imported (ModuleNotFoundError: No module "
        "named 'a_package_that_is_not_there'); repair or uninstall it"]
    assert main(["algos", "nearest", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["package"] == "my-algorithm" and facts["needs"] == {
        "rollouts": True, "demonstrations": True, "actions": False, "expert": False}


@pytest.mark.parametrize("command", [["train", "broken", "cartpole"], ["train", "broken", "cartpole", "--help"],
                                     ["algos", "broken"]])
def test_a_broken_package_is_one_line(installed, command, capsys):
    assert main(command) == 2
    refused = capsys.readouterr().err
    assert refused.count("\n") == 1 and "package their-broken" in refused


def test_a_broken_package_leaves_the_others_alone(installed, demos, tmp_path, capsys):
    assert main(["train", "bc", "cartpole", "--demos", str(demos), "--run-dir", str(tmp_path / "run")]) == 2
    assert "bc learns from them; record them, or train " in capsys.readouterr().err
    assert main(["train", "auto", "cartpole", "--help"]) == 0


def test_a_new_process_finds_it_too(site):
    done = subprocess.run([sys.executable, "-m", "puffer_il", "algos", "nearest"], text=True, capture_output=True,
                          env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "--nearest.width" in done.stdout
