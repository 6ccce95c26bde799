"""Folders with a .pyx: compiled once, found as one class, and one line for whatever is wrong."""

from __future__ import annotations

import importlib.metadata

import pytest

from puffer_il.core.errors import InputError
from puffer_il.native import cython_env as cythonenv
from puffer_il.native.cython_env import compile_cython, load_cython

TINY = """
import gymnasium
import numpy as np
from pufferlib import PufferEnv
class Tiny(PufferEnv):
    def __init__(self, num_envs=1, buf=None, seed=0):
        self.single_observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        self.single_action_space = gymnasium.spaces.Discrete(2)
        self.num_agents = num_envs
        super().__init__(buf)
"""


@pytest.fixture
def quick(monkeypatch):
    """As the optimiser takes longest."""
    monkeypatch.setattr(cythonenv, "FLAGS", ("-O0",))


def folder(tmp_path, text: str = TINY, name: str = "tiny"):
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "tiny.pyx").write_text(text)
    return tmp_path / name


def test_the_class_is_compiled_once_and_again_after_a_change(tmp_path, quick, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cls = load_cython(folder(tmp_path))
    assert cls.__name__ == "Tiny" and cls(3).observations.shape == (3, 1)
    monkeypatch.setattr(cythonenv, "run", lambda *_: pytest.fail("compiled again"))
    assert load_cython(tmp_path / "tiny") is cls
    assert load_cython(folder(tmp_path, name="other")).__name__ == "Tiny"  # the same sources elsewhere
    (tmp_path / "tiny" / "more.h").write_text("int x;")
    with pytest.raises(pytest.fail.Exception):
        load_cython(tmp_path / "tiny")
    kept = sorted(path.suffix for path in (tmp_path / "cache" / "puffer_il").iterdir())
    assert kept == [".sha256", ".so"]  # and nothing half done


def test_there_must_be_one_class(tmp_path, quick, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"tiny\.pyx: defines Tiny and Other subclass of PufferEnv; define one"):
        load_cython(folder(tmp_path, TINY + "class Other(Tiny): pass\n"))


@pytest.mark.parametrize("text, words", [
    ("def f(:\n    pass\n", r"tiny\.pyx does not compile: .*tiny\.pyx:1:6: "),
    ("def f():\n    return nothing_of_that_name\n", r"does not compile: .*tiny\.pyx:2:11: undeclared name"),
    ('cdef extern from "missing.h":\n    int x\nprint(x)\n', r"does not compile: .*missing\.h"),
])
def test_what_does_not_compile_is_one_line_with_its_place(tmp_path, quick, text, words):
    with pytest.raises(InputError, match=words) as caught:
        load_cython(folder(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_said_with_its_remedy(tmp_path, monkeypatch):
    source = folder(tmp_path) / "tiny.pyx"
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler"):
        compile_cython(source, tmp_path / "cache")
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="must be compiled but there is no C compiler; install gcc"):
        compile_cython(source, tmp_path / "cache")

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cythonenv, "version", absent)
    with pytest.raises(InputError, match=r"needs Cython to be compiled; pip install 'cython>=3.1'"):
        compile_cython(source)


def test_which_pyx_is_the_environment(tmp_path):
    (tmp_path / "a.pyx").touch()
    assert cythonenv._source(tmp_path).name == "a.pyx"
    (tmp_path / "b.pyx").touch()
    with pytest.raises(InputError, match=r"2 \.pyx files"):
        cythonenv._source(tmp_path)
    (tmp_path / "1.pyx").touch()
    (tmp_path / "a.pyx").unlink()
    (tmp_path / "b.pyx").unlink()
    with pytest.raises(InputError, match="'1' is not a name for a module"):
        cythonenv._source(tmp_path)
