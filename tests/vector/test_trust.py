"""What a file names is not executed unless the user has named it before in the same form: every input here is harmless,
a module that would leave a marker file."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from puffer_il.core.errors import InputError
from puffer_il.envkit.new import write
from puffer_il.vector import trust
from puffer_il.vector.make import find_creator, same_environment


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """A module that leaves the file `ran` when it is imported."""
    name = "probe_of_trust"
    (tmp_path / f"{name}.py").write_text(
        "import pathlib\npathlib.Path('ran').touch()\ndef make(**kwargs): raise RuntimeError('called')\n")
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["cartpole", "CartPole-v1", "gymnasium:CartPole-v1", "no such environment"])
def test_what_is_shipped_or_gymnasiums_own_opens_as_ever(name):
    trust.check(name, {"gravity": 5.0}, "run")


def test_code_that_nobody_has_named_is_refused_without_importing_it(probe, tmp_path):
    with pytest.raises(InputError, match=r"^run/config.toml: .*'probe_of_trust:make'.*--trust"):
        trust.check(f"{probe}:make", {}, "run/config.toml")
    assert not same_environment("cartpole", f"{probe}:make")
    assert not (tmp_path / "ran").exists()


def test_trust_is_remembered_until_the_code_or_its_arguments_change(probe, tmp_path):
    name, given = f"{probe}:make", {"path": "a"}
    trust.check(name, given, "run", trust=True)
    trust.check(name, given, "run")
    trust.check(name, {}, "run")
    with pytest.raises(InputError):
        trust.check(name, {"path": "b"}, "run")
    with (tmp_path / f"{probe}.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(InputError):
        trust.check(name, given, "run")


def test_a_folder_is_trusted_wherever_it_lies_until_its_code_changes(tmp_path):
    write(tmp_path / "mine", False)
    with pytest.raises(InputError, match="--trust"):
        trust.check("./mine", {}, "run")
    trust.remember("mine", {})
    trust.check("./mine", {"size": 3}, "run")
    (tmp_path / "mine").rename(tmp_path / "moved")
    trust.check("moved", {}, "run")
    (tmp_path / "moved" / "helper.py").write_text("")
    with pytest.raises(InputError, match="--trust"):
        trust.check("moved", {}, "run")


def test_arguments_that_name_a_module_need_trust_too(probe, tmp_path):
    """Gymnasium's functions import what stands before a colon."""
    for name in ("GymV26Environment-v0", "gymnasium:make"):
        with pytest.raises(InputError, match="--trust"):
            trust.check(name, {"id": f"{probe}:X-v0"}, "run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["os:system", "subprocess:run", "pathlib:Path", "builtins:exec"])
def test_what_makes_no_environment_is_never_called(name, tmp_path):
    creator = find_creator(name, {"command": "touch ran"})
    with pytest.raises(InputError, match="makes no environment"):
        creator.facts()
    assert not (tmp_path / "ran").exists()


def test_sources_are_found_in_packages_with_and_without_an_init_and_none_is_run(tmp_path, monkeypatch):
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    (folder / "deep.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert trust.sources_of("outer.inner.deep") == {"outer/inner/deep.py": folder / "deep.py"}
    (tmp_path / "outer" / "__init__.py").write_text("raise SystemExit")
    outer = {"outer/__init__.py": tmp_path / "outer" / "__init__.py"}
    assert trust.sources_of("outer.inner.deep") == outer | {"outer/inner/deep.py": folder / "deep.py"}
    assert trust.sources_of("outer.nowhere") == outer


def test_sources_of_an_editable_install_are_found_by_its_import_hook(tmp_path, monkeypatch):
    """As setuptools makes them: a finder that knows where the package lies."""
    folder = tmp_path / "src" / "judged_editable"
    folder.mkdir(parents=True)
    for name in ("__init__.py", "policy.py"):
        (folder / name).write_text("raise SystemExit")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "judged_editable":
                return importlib.util.spec_from_file_location(name, folder / "__init__.py")
            return None

    class Broken:
        @staticmethod
        def find_spec(name, path=None, target=None):
            raise RuntimeError("a hook of somebody else's")

    assert not trust.sources_of("judged_editable.policy")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Broken, object(), Finder])
    assert trust.sources_of("judged_editable.policy") == {
        f"judged_editable/{name}": folder / name for name in ("__init__.py", "policy.py")}
    code = trust.fingerprint("judged_editable.policy:make", {})
    (folder / "policy.py").write_text("raise SystemExit(1)")
    assert trust.fingerprint("judged_editable.policy:make", {}) != code
