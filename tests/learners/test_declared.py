"""What an algorithm says of itself is the same whether its file is only looked at or imported."""

from __future__ import annotations

import sys
from dataclasses import fields
from importlib import import_module

import pytest

from puffer_il.learners import registry
from puffer_il.learners.declared import _run, declared
from puffer_il.learners.experiment import build, experiment_layers, section_types
from puffer_il.learners.registry import declaration, describe, get_learner, learner_names

BASE = "from puffer_il.learners.base import About, Learner\nfrom puffer_il.learners.registry import register\n"
OWN = """
from dataclasses import dataclass
import torch
from puffer_il.core.config import setting
@dataclass(frozen=True)
class Section:
    width: float = setting({default}, "how wide")
@register("own")
class Own(Learner):
    section, about = Section, About("a paper", {when})
    @torch.no_grad()
    def update(self, buffer, progress):
        return {{}}
"""


@pytest.fixture
def offer(monkeypatch, tmp_path):
    """A further built-in algorithm, `own`, that was written so."""
    def write(**parts: str) -> None:
        (tmp_path / "own.py").write_text(BASE + OWN.format(**parts))
        package = import_module("puffer_il.learners")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])

    monkeypatch.setattr(registry, "_learners", dict(registry._learners))
    yield write
    sys.modules.pop("puffer_il.learners.own", None)
    declared.cache_clear()
    _run.cache_clear()


@pytest.mark.parametrize("name", learner_names())
def test_every_algorithm_declares_what_it_is(name):
    looked, real = declared(name), get_learner(name)
    assert looked is not None and looked is not real and describe(name, looked) == describe(name, real)
    assert looked.about == real.about
    for flag in ("needs_rollouts", "needs_demos", "needs_actions", "needs_expert", "needs_model", "plays_game", "uses"):
        assert getattr(looked, flag) == getattr(real, flag)
    for section, cls in section_types(name).items():
        seen = section_types(name, declared)[section]
        assert getattr(seen, "implies", {}) == getattr(cls, "implies", {})
        assert [(f.name, f.type, f.default, f.metadata) for f in fields(seen)] == [
            (f.name, f.type, f.default, f.metadata) for f in fields(cls)]


@pytest.mark.parametrize("algo", ["gail", "csil", "maxent_irl"])
def test_a_config_of_declared_sections_has_the_same_values(algo):
    real = build(algo, experiment_layers(algo, "cartpole"))
    assert build(algo, experiment_layers(algo, "cartpole", declared), declared).to_dict() == real.to_dict()


def test_a_file_is_looked_at_without_what_it_imports(offer):
    offer(default="0.5", when="'now'")
    found = declared("own")
    assert found.name == "own" and found.about.when == "now" and found.section().width == 0.5


@pytest.mark.parametrize("parts", [{"default": "torch.pi", "when": "'now'"}, {"default": "0.5", "when": "torch.now"},
                                   {"default": "1 / 0", "when": "''"}])
def test_what_follows_from_an_import_is_not_guessed(offer, parts):
    offer(**parts)
    assert declared("own") is None


def test_where_a_file_does_not_tell_it_is_imported(offer):
    offer(default="torch.pi", when="'now'")
    assert declaration("own").section().width == pytest.approx(3.14159, abs=1e-4)
