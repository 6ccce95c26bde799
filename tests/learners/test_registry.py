"""Names → learners and environments, built in and offered by other packages."""

from __future__ import annotations

import sys
from dataclasses import make_dataclass
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from puffer_il.core.errors import InputError, unknown
from puffer_il.learners import registry
from puffer_il.learners.base import About, Learner
from puffer_il.learners.registry import get_learner, learner_names, register, usable_learners
from puffer_il.native import catalogue
from puffer_il.native.catalogue import env_folders


@pytest.fixture
def offer(monkeypatch):
    """Offer `module:attribute` under a group, as an installed package would."""
    offered: list[EntryPoint] = []
    usable_learners()  # what is imported later would be forgotten with the copy, and not imported again
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry for entry in offered if entry.group == group])
    monkeypatch.setattr(catalogue, "entry_points", registry.entry_points)
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


def learner(base=Learner, **changes):
    """The least that a learner is."""
    return type("Mine", (base,), {"section": make_dataclass("Section", [])} | changes)


PLAIN = {name: value for name, value in vars(Learner).items() if not name.startswith("_")} | dict.fromkeys(
    ("state_dict", "load_state_dict"), lambda self, *state: None)


@pytest.mark.parametrize("mine", [learner(uses=("ppo",)), learner(object, uses=("ppo",), **PLAIN)])
def test_a_package_offers_a_class_that_derives_from_learner_or_has_all_of_its_members(offer, mine):
    offer("mine", "puffer_il.learners", Mine=mine)
    assert "mine" in learner_names()
    assert get_learner("mine") is mine and mine.name == "mine" and mine.uses == ("ppo",)
    assert mine.needs_actions and not mine.needs_expert and mine.about == About("not said", "not said")
    assert usable_learners()[0]["mine"] is mine


def test_a_package_that_registers_by_itself_keeps_what_it_said(offer):
    mine = learner(needs_actions=False, about=About("x", "y", ("continuous",)))

    def load(self):
        return register("mine", uses=("ppo", "bc"))(mine)

    offer("mine", "puffer_il.learners", Mine=mine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EntryPoint, "load", load)
        assert get_learner("mine") is mine and mine.uses == ("ppo", "bc")
    assert not mine.needs_actions and mine.about.spaces == ("continuous",)


@pytest.mark.parametrize(("cls", "message"), [
    (learner(object, **{name: PLAIN[name] for name in PLAIN if name not in ("needs_expert", "relabel")}),
     r"has no needs_expert, relabel; derive it from puffer_il\.learners\.base\.Learner"),
    (object(), "has no section, about, needs_rollouts, needs_demos"),
    (learner(section=dict), "is not a dataclass"),
    (learner(name="other"), "registers itself as 'other'"),
])
def test_a_learner_that_cannot_be_one_is_refused_by_name_and_package(offer, cls, message):
    offer("mine", "puffer_il.learners", Mine=cls)
    for _ in range(2):  # and stays so
        with pytest.raises(InputError, match=f"algorithm 'mine' of package offered_mine: .*{message}") as error:
            get_learner("mine")
        assert "\n" not in str(error.value)
    found, complaints = usable_learners()
    assert "mine" not in found and {"bc", "gail", "ppo"} <= found.keys() and complaints == [str(error.value)]


def test_a_package_that_cannot_be_imported_is_one_line_and_breaks_nothing_else(offer, monkeypatch):
    def load(self):
        raise ModuleNotFoundError("No module named 'jax'\nreally")

    offer("mine", "puffer_il.learners", Mine=object)
    monkeypatch.setattr(EntryPoint, "load", load)
    with pytest.raises(InputError, match=r"'mine' of package offered_mine: offered_mine:Mine cannot be imported "
                                         r"\(ModuleNotFoundError: No module named 'jax' really\); repair"):
        get_learner("mine")
    assert get_learner("bc").name == "bc"


def test_a_name_can_be_taken_once(offer):
    offer("mine", "puffer_il.learners", Mine=learner())
    offer("mine", "puffer_il.learners", Mine=learner())
    with pytest.raises(InputError, match="offered by offered_mine too"):
        get_learner("mine")
    offer("bc", "puffer_il.learners", BC=learner())
    assert get_learner("bc").__module__ == "puffer_il.learners.bc"
    assert "package offered_bc offers an algorithm 'bc', a name that puffer_il itself uses" in usable_learners()[1][0]


def test_unknown_learners_are_refused():
    with pytest.raises(InputError, match="unknown algorithm 'ppoo'; did you mean 'ppo'"):
        get_learner("ppoo")
    with pytest.raises(InputError, match="unknown algorithm ''; known: "):
        get_learner("")


def test_environments_are_folders_with_an_env_toml(offer, tmp_path):
    assert "cartpole" in env_folders()
    assert all((folder / "env.toml").is_file() and folder.name == name for name, folder in env_folders().items())
    offer("theirs", "puffer_il.envs", FOLDER=tmp_path)
    assert env_folders()["theirs"] == tmp_path


def test_unknown_names_the_nearest_or_all():
    assert unknown("key", "gama", ["gamma", "lambda"]) == "unknown key 'gama'; did you mean 'gamma'?"
    assert unknown("key", "zzz", ["gamma", "lambda"]) == "unknown key 'zzz'; known: gamma, lambda"
