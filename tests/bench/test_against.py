"""`bench --against REV`: the gate of speed, with this very tree, or a small repository, in the commit's place."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from puffer_il.bench import against
from puffer_il.bench.against import FLOOR, Row, against_tables, rows, slower, verdict
from puffer_il.bench.loops import tables
from puffer_il.bench.measure import Effort
from puffer_il.bench.peers import install, revisions
from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.learners.experiment import build, section_types

SMALL = Row("PPO", "ppo", {**against.PPO, "env.num_envs": 8, "train.num_steps": 8, "ppo.never_heard_of": 1})


def quiet(line):
    pass


def entry(median, error=""):
    ratio = {"median": median, "min": median, "max": median, "samples": 3}
    side = {"steps_per_s": {"median": 1e6}, "stages": {}, "error": error, "unknown": []}
    return {"name": "PPO", "ratio": ratio, "ours": side, "theirs": {**side, "error": ""}}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_key_of_a_loop_is_one_of_its_experiment(row):
    types = section_types(row.algo)
    known = {f"{section}.{field.name}" for section, cls in types.items() for field in fields(cls)}
    assert set(row.keys) <= known
    build(row.algo, [("row", tables(row.algo, row.keys))])
    assert row.keys.get("env.name", "CartPole-v1") == "CartPole-v1" or "demos.source" in row.keys, "CartPole holds"


def test_the_same_tree_on_both_sides_has_a_ratio_about_one_and_says_which_keys_it_does_not_know():
    measured, = against.against([SMALL], Path(sys.executable), Effort(3, 0.02), quiet)
    assert measured["ours"]["error"] == measured["theirs"]["error"] == ""
    assert 0.2 < measured["ratio"]["median"] < 5
    assert measured["theirs"]["unknown"] == ["ppo.never_heard_of"]
    assert "the commit does not know ppo.never_heard_of" in " ".join(against_tables([measured])[0].notes)


def test_a_slow_loop_is_measured_once_more_with_twice_the_rounds(monkeypatch):
    seen = []

    def measured(row, python, effort, say):
        seen.append(effort.repeats)
        return entry(0.9 if len(seen) == 1 else 1.0)

    monkeypatch.setattr(against, "_measured", measured)
    found, = against.against([SMALL], Path(sys.executable), Effort(3, 0.0), quiet)
    assert seen == [3, 6] and not slower(found)


def test_the_exit_code_tells_a_loss_of_speed_and_a_loop_that_no_longer_runs():
    assert verdict([entry(FLOOR + 0.01), entry(1.2)]) == 0
    assert verdict([entry(1.2), entry(FLOOR - 0.01)]) == 1
    assert verdict([entry(1.2, "ended while measuring")]) == 1


def test_a_benchmark_beside_it_is_refused(capsys):
    assert main(["bench", "cliffs", "--against", "HEAD"]) == 2
    assert "--against HEAD measures loops of its own; leave 'cliffs' out" in capsys.readouterr().err


@pytest.fixture
def repository(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org", *words],
                       check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "package.txt").write_text("then")
    git("add", ".")
    git("commit", "-qm", "then")
    (tmp_path / "package.txt").write_text("now")
    git("commit", "-qam", "now")
    return tmp_path


def test_a_revision_that_is_not_there_is_one_line(repository, tmp_path_factory):
    assert len(revisions.commit("HEAD~1", repository)) == 40
    with pytest.raises(InputError, match=r"--against nowhere: there is no such commit in .*; `git log"):
        revisions.commit("nowhere", repository)
    with pytest.raises(InputError, match="is not a git checkout; run this from a clone"):
        revisions.commit("HEAD", tmp_path_factory.mktemp("plain"))


def test_the_commit_is_built_from_its_own_files_beside_this_pythons_packages(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PUFFER_IL_PEERS", str(tmp_path / "peers"))
    built = []

    def pip(self, what, *words, environment=None):
        built.append(Path(words[-1], "package.txt").read_text())

    def run(self, what, command, environment=None, cwd=None):
        if "-c" not in command:  # it holds no puffer_il to import
            subprocess.run(command, check=True, capture_output=True)

    monkeypatch.setattr(install.Build, "pip", pip)
    monkeypatch.setattr(install.Build, "run", run)
    python = revisions.ensure_revision(revisions.commit("HEAD~1", repository), quiet, repository)
    again = revisions.ensure_revision(revisions.commit("HEAD~1", repository), quiet, repository)
    assert built == ["then"] and python == again
    assert subprocess.run([python, "-c", "import numpy, torch"]).returncode == 0
