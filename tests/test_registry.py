"""Names → learners and environments, built in and offered by other packages."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from puffer_il import registry
from puffer_il.registry import env_folders, get_learner, learner_names, register, unknown
from puffer_il.types import InputError


@pytest.fixture
def offer(monkeypatch):
    """Offer `module:attribute` under a group, as an installed package would."""
    offered: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry for entry in offered if entry.group == group])
    monkeypatch.setattr(registry, "_learners", dict(registry._learners))

    def add(name: str, group: str, **attributes) -> None:
        module = ModuleType(f"offered_{name}")
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        offered.append(EntryPoint(name, f"{module.__name__}:{next(iter(attributes))}", group))

    return add


def test_built_in_learners():
    assert {"bc", "gail", "ppo"} <= set(learner_names())
    for name in learner_names():
        assert get_learner(name).name == name


def test_names_do_not_import_the_learners(monkeypatch):
    original = registry.importlib.import_module
    monkeypatch.setattr(registry.importlib, "import_module", _only("puffer_il.learners", original))
    assert "gail" in learner_names()


def _only(allowed, original):
    def imports(name):
        assert name == allowed
        return original(name)

    return imports


def test_helpers_beside_the_learners_are_no_learners(monkeypatch, tmp_path):
    (tmp_path / "_shared.py").write_text("")
    (tmp_path / "own.py").write_text("")
    package = registry.importlib.import_module("puffer_il.learners")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert "own" in learner_names() and "_shared" not in learner_names()


def test_a_package_offers_a_plain_class(offer):
    class Mine:
        uses = ("ppo",)

    offer("mine", "puffer_il.learners", Mine=Mine)
    assert "mine" in learner_names()
    assert get_learner("mine") is Mine and Mine.name == "mine" and Mine.uses == ("ppo",)


def test_a_package_that_registers_by_itself_keeps_what_it_said(offer):
    class Mine:
        pass

    def load(self):
        return register("mine", uses=("ppo", "bc"))(Mine)

    offer("mine", "puffer_il.learners", Mine=Mine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EntryPoint, "load", load)
        assert get_learner("mine") is Mine and Mine.uses == ("ppo", "bc")


def test_unknown_learners_are_refused():
    with pytest.raises(InputError, match="unknown algorithm 'ppoo'; did you mean 'ppo'"):
        get_learner("ppoo")
    with pytest.raises(InputError, match="unknown algorithm ''; known: bc"):
        get_learner("")


def test_environments_are_folders_with_an_env_toml(offer, tmp_path):
    assert "cartpole" in env_folders()
    assert all((folder / "env.toml").is_file() and folder.name == name for name, folder in env_folders().items())
    offer("theirs", "puffer_il.envs", FOLDER=tmp_path)
    assert env_folders()["theirs"] == tmp_path


def test_unknown_names_the_nearest_or_all():
    assert unknown("key", "gama", ["gamma", "lambda"]) == "unknown key 'gama'; did you mean 'gamma'?"
    assert unknown("key", "zzz", ["gamma", "lambda"]) == "unknown key 'zzz'; known: gamma, lambda"
