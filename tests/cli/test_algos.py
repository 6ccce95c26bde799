"""`puffer-il algos`: a table that fits, a page for each, JSON of both."""

from __future__ import annotations

import json
import sys
from dataclasses import fields

import pytest

from puffer_il.cli import main
from puffer_il.cli.algos import learns_from, short
from puffer_il.core.config import as_option
from puffer_il.core.terminal import ESCAPES
from puffer_il.learners.experiment import section_types
from puffer_il.learners.registry import describe, get_learner, learner_names


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_table_fits_the_terminal_and_names_all(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["algos"]) == 0
    lines = [ESCAPES.sub("", line) for line in capsys.readouterr().out.splitlines()]
    assert all(len(line) <= width for line in lines)
    assert set(learner_names()) <= {line.split(" ")[0] for line in lines}
    assert ("paper" in lines[0].split()) == (width >= 120) and ("actions" in lines[0].split()) == (width >= 100)


def test_the_table_says_what_is_needed(capsys):
    assert main(["algos"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "states, actions" in rows["bc"] and "no" in rows["bc"].split() and "any" in rows["bc"].split()
    assert "states alone" in rows["gaifo"] and "yes" in rows["gaifo"].split()
    assert "an expert to ask" in rows["dagger"] and "a reward" in rows["ppo"] and "Ho & Ermon 2016" in rows["gail"]
    assert "discrete" in rows["maxent_irl"] and "continuous" not in rows["maxent_irl"]


@pytest.mark.parametrize("name", learner_names())
def test_every_algorithm_has_a_page_with_its_keys(name, capsys):
    assert main(["algos", name]) == 0
    page = capsys.readouterr().out
    about = get_learner(name).about
    assert about.paper.split()[0] in page and "not said" not in page
    for section in (name, *get_learner(name).uses):
        keys = [field.name for field in fields(section_types(name)[section])]
        assert all(as_option(f"{section}.{key}") in page for key in keys)


def test_json_holds_the_same_facts(capsys):
    assert main(["algos", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [facts["name"] for facts in listed["algorithms"]] == learner_names() and listed["unusable"] == []
    assert main(["algos", "gail", "--json"]) == 0
    gail = json.loads(capsys.readouterr().out)
    assert gail in listed["algorithms"] and gail == describe("gail", get_learner("gail"))
    assert gail["needs"] == {"rollouts": True, "demonstrations": True, "actions": True, "expert": False}
    assert gail["package"] == "puffer_il" and "disc/loss" in gail["metrics"]


def test_an_unknown_one_is_refused_with_the_nearest(capsys):
    assert main(["algos", "gial"]) == 2
    assert "did you mean 'gail'" in capsys.readouterr().err


def test_needs_and_papers_in_few_words():
    needs = {"demonstrations": True, "actions": False, "expert": True}
    assert learns_from(needs) == "states alone and an expert to ask"
    assert short("Ho & Ermon 2016, arXiv:1606.03476, section 3") == "Ho & Ermon 2016"
    assert short("A book 1999, https://x.org/y") == "A book 1999" and short("Nobody 2020") == "Nobody 2020"
