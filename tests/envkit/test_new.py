"""`puffer-il env new`: what it writes works as it is, under any name; what cannot be is one line."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from puffer_il.cli import main
from puffer_il.envkit.new import TEMPLATES, class_name
from puffer_il.native import cython_env as cythonenv
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import CSRC, FLAGS, c_source, hooks
from puffer_il.vector.make import find_creator
from tests.support.command_line import refused

KEYS = """description source gymnasium_id agents max_episode_steps autoreset log state packages observation action
    parameters data render dtype shape low high discrete default choices help width height fps"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_its_tests(folder: Path) -> int:
    """The tests that came with it, called one by one, but for `env check`: test_walkthrough.py has that."""
    path, = folder.glob("test_*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "main"):
        module.main = lambda words: 1 - (words == ["env", "check", str(folder)])
    tests = [test for name, test in vars(module).items() if name.startswith("test_")]
    for test in tests:
        test()
    return len(tests)


def test_what_it_writes_keeps_what_its_own_tests_say(here, capsys):
    assert main(["env", "new", "lander2"]) == 0
    out = capsys.readouterr().out
    assert sorted(path.name for path in (here / "lander2").iterdir()) == [
        "README.md", "env.toml", "gail.toml", "lander2.h", "test_lander2.py"]
    assert out.startswith("lander2/ holds a small task") and "\nnext:\n  puffer-il env check lander2\n" in out
    assert not any("my_env" in path.read_text() for path in (here / "lander2").iterdir())
    assert run_its_tests(here / "lander2") == 4


def test_it_compiles_without_a_warning_and_has_every_hook(here, capsys):
    assert main(["env", "new", "envs/deep/one", "--dir", "there"]) == 0
    env = read_env(here / "there/envs/deep/one")
    assert hooks(env) == {"EXPERT", "STATE", "PLAIN_STATE", "RENDER"} and env.log == ("docked",)
    (here / "all.c").write_text(c_source(env))
    command = ["gcc", *FLAGS, "-Werror", "-fsyntax-only", f"-I{env.folder}", f"-I{CSRC}", "all.c"]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
    assert "puffer-il env check there/envs/deep/one" in capsys.readouterr().out


def test_its_env_toml_teaches_every_key():
    text = (TEMPLATES / "c" / "env.toml").read_text()
    assert [key for key in KEYS.split() if not re.search(rf"\b{key}\b", text)] == []


def test_every_command_that_it_tells_is_one(here, capsys):
    """Each is understood as far as its files are there; what they do is tests/test_walkthrough.py."""
    assert main(["env", "new", "a", "--cython"]) == main(["env", "new", "b"]) == 0
    told = capsys.readouterr().out + "".join(path.read_text() for path in here.glob("*/README.md"))
    commands = set(re.findall(r"^ *puffer-il (.*?) *(?:#.*)?$", told, re.MULTILINE))
    assert len(commands) > 12
    for command in commands:
        words = command.split()
        depth = 1 if words[0] in ("train", "eval") else 2
        assert main([*words[:depth], "--help"]) == 0
        usage = capsys.readouterr().out
        assert all(word in usage for word in words if word.startswith("--")), command


def test_a_cython_environment_keeps_what_its_own_tests_say(here, capsys, monkeypatch):
    monkeypatch.setattr(cythonenv, "FLAGS", ("-O1",))  # as compiling takes longest
    assert main(["env", "new", "two_words", "--cython"]) == 0
    assert class_name("two_words") == "TwoWords" and "class TwoWords(" in Path("two_words/two_words.pyx").read_text()
    assert "puffer-il train ppo two_words" in capsys.readouterr().out
    assert run_its_tests(here / "two_words") == 3
    facts = find_creator("two_words").facts()
    assert facts.batched and facts.indexed and facts.has_final and facts.exact
    assert main(["env", "play", "two_words", "--episodes", "1", "--out", "a.png"]) == 0  # it draws itself


@pytest.mark.parametrize("name, words", [
    ("my-env", "'my-env': use letters, digits and _, a letter first, such as my_env"),
    ("3d", "such as env_3d"), ("häuser", "use letters, digits and _"),
    ("for", "a name that C, Python or puffer_il uses; use for_env"), ("double", "use double_env"),
    ("env", "use env_env"), ("math", "use math_env"), ("lambda", "use lambda_env"),
    ("cartpole", "there is one already (puffer-il env list); use my_cartpole"),
    ("full", "full exists already; choose another name, or remove it first"),
    ("file", "file exists already"), ("file/inside", "because a file is in the way; choose another place with --dir"),
])
def test_names_and_places_that_cannot_be_are_refused(here, capsys, name, words):
    (here / "full").mkdir()
    (here / "full" / "thing").touch()
    (here / "file").touch()
    before = sorted(here.rglob("*"))
    assert words in refused(capsys, "env", "new", name)
    assert sorted(here.rglob("*")) == before


def test_an_empty_folder_is_no_obstacle(here):
    (here / "mine").mkdir()
    assert main(["env", "new", "mine"]) == 0
