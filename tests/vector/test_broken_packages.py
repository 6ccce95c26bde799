"""A package that is installed but cannot be imported is told in its own words, which hold the remedy."""

from __future__ import annotations

import sys

import pytest

from puffer_il.core.errors import InputError
from puffer_il.native import glue
from puffer_il.native.glue import import_failure
from puffer_il.vector.make import find_creator

REPAIR = "pip install --force-reinstall --no-deps mujoco mujoco-core mujoco-studio"
BROKEN = f'''raise ImportError("The 'mujoco' package is installed, but its core bindings are missing or corrupted. "
                  "Repair your environment with:\\n  {REPAIR}")
'''


@pytest.fixture
def broken_mujoco(tmp_path, monkeypatch):
    """In front of the real one, as after an upgrade in place to MuJoCo 4."""
    (tmp_path / "mujoco").mkdir()
    (tmp_path / "mujoco" / "__init__.py").write_text(BROKEN)
    for name in [name for name in sys.modules if name.split(".")[0] == "mujoco" or "envs.mujoco" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(glue, "version", lambda name: "4.0.0")


@pytest.mark.parametrize("name", ["gymnasium:Hopper-v5", "hopper"])
def test_a_broken_mujoco_is_repaired_as_it_says_itself(broken_mujoco, name):
    with pytest.raises(InputError) as error:
        find_creator(name).facts()
    assert "pip install --force-reinstall --no-deps mujoco==4.0.0 mujoco-core==4.0.0 mujoco-studio==4.0.0" in str(
        error.value)  # MuJoCo's own words would install another version of its core beside it
    assert "\n" not in str(error.value)
    assert "not installed" not in str(error.value)


def test_half_of_a_package_explains_why_an_environment_does_not_compile(broken_mujoco, tmp_path, monkeypatch):
    """The upgrade leaves the library and some of the headers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mujoco" / "include" / "mujoco").mkdir(parents=True)
    (tmp_path / "mujoco" / "include" / "mujoco" / "mjtype.h").touch()
    (tmp_path / "mujoco" / "libmujoco.so.4.0.0").touch()
    with pytest.raises(InputError, match=r"hopper cannot be built: .*--no-deps mujoco==4\.0\.0 mujoco-core=="):
        find_creator("hopper").facts()


def test_what_can_be_imported_and_what_is_not_there_has_nothing_to_say():
    assert import_failure("numpy") == "" == import_failure("no_such_package")
