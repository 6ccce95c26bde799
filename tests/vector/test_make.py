"""Names of environments: what they find, and the one line that says what was wrong."""

import pickle
import sys

import gymnasium
import numpy as np
import pytest

from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.vector import make
from puffer_il.vector.make import env_seed, find_creator, same_environment
from puffer_il.vector.vec import make_vec
from tests.support import identified
from tests.support.identified import SEED


@pytest.mark.parametrize("name, kind", [("cartpole", "folder"), ("CartPole-v1", "gymnasium"),
                                        ("tests.support.identified:Gymnasium", "callable"),
                                        ("tests.support.identified:PufferWithFinal", "callable")])
def test_names_and_their_kinds(name, kind):
    creator = find_creator(name)
    assert creator.kind == kind and pickle.loads(pickle.dumps(creator)) == creator
    facts = creator.facts()
    assert facts.spec.name == name and facts.spec.obs_shape == (4,)
    assert facts.exact == (kind == "folder") and facts.has_final == facts.native


def test_an_environment_may_be_given_as_a_function_and_is_named_so_that_it_can_be_found_again():
    creator = find_creator(lambda length=1: gymnasium.make("CartPole-v1", max_episode_steps=length), {"length": 9})
    assert (creator.name, creator.kind) == ("lambda()", "callable") and creator().env.spec.max_episode_steps == 9
    importable = find_creator(identified.Gymnasium)
    assert importable.name == "tests.support.identified:Gymnasium"
    assert importable.facts() == find_creator(importable.name).facts()
    with pytest.raises(InputError, match=r"a TimeLimit; give a name, or a function that opens a new environment"):
        find_creator(gymnasium.make("CartPole-v1", disable_env_checker=True))


def test_an_environment_given_as_a_function_is_opened_in_workers_too():
    with make_vec(lambda: gymnasium.make("CartPole-v1"), num_envs=4, backend="multiprocessing", num_workers=2) as vec:
        named = make_vec("CartPole-v1", num_envs=4, backend="serial")
        assert np.array_equal(vec.reset(3), named.reset(3))


def test_a_folder_anywhere(tmp_path):
    folder = tmp_path / "cartpole"
    folder.symlink_to(make.env_folders()["cartpole"])
    assert find_creator(str(folder)).facts().spec.obs_shape == (4,)
    with pytest.raises(InputError, match=r"the folder has no env\.toml"):
        find_creator(str(tmp_path))


def test_a_module_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_task.py").write_text("""
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv as make
gymnasium.register("MyTask-v0", "my_task:make")
""")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert find_creator("my_task:make").kind == "callable"
    creator = find_creator("my_task:MyTask-v0")
    assert creator.kind == "gymnasium" and creator.facts().spec.action.nvec == (2,)
    gymnasium.registry.pop("MyTask-v0")
    sys.modules.pop("my_task")


def test_kwargs_reach_the_environment():
    assert find_creator("CartPole-v1", {"max_episode_steps": 7})().env.spec.max_episode_steps == 7
    assert find_creator("cartpole", {"gravity": 1.5})().step is not None
    assert find_creator("tests.support.identified:PufferWithFinal", {"num_envs": 3}).facts().num_agents == 3


@pytest.mark.filterwarnings("ignore:.*out of date")
@pytest.mark.parametrize("name, kwargs, message", [
    ("Cartpole", {}, "unknown environment 'Cartpole'; did you mean 'cartpole'?"),
    ("CartPole", {}, "unknown environment 'CartPole'; did you mean 'CartPole-v1'?"),
    ("qqqqqq", {}, "unknown environment 'qqqqqq'; known: "),
    ("", {}, "unknown environment ''; known: "),
    ("CartPole-v9", {}, "environment 'CartPole-v9': Environment version `v9` for"),
    ("CartPole-v1", {"gravitas": 3}, "env.kwargs = {'gravitas': 3}: "),
    ("cartpole", {"gravitas": 3}, "did you mean 'gravity'?"),
    ("cartpole", {"gravity": "low"}, "gravity = 'low'"),
    ("no_such_module:make", {}, "no module 'no_such_module' is in the current folder ("),
    ("tests.support.identified:nothing", {}, "module tests.support.identified has no function or class nothing"),
    ("tests.support.identified:not_an_environment", {}, "it is a int; return a Gymnasium environment"),
    ("tests.support.identified:text_observations", {}, "observation space Text has no fixed size"),
    ("HalfCheetah-v3", {}, "gymnasium-robotics"),
])
def test_wrong_names_are_told_in_one_line(name, kwargs, message):
    with pytest.raises(InputError) as error:
        find_creator(name, kwargs).facts()
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:.*out of date")
@pytest.mark.parametrize("module, name, remedy", [
    ("mujoco", "HalfCheetah-v5", "pip install 'puffer-il[mujoco]'"),
    ("imageio", "HalfCheetah-v4", "pip install 'puffer-il[mujoco]'"),
    ("Box2D", "LunarLander-v3", 'pip install "gymnasium[box2d]"'),
    ("pettingzoo", "tests.needs_pettingzoo:make", "pip install 'puffer-il[pettingzoo]'"),
])
def test_a_missing_dependency_names_the_remedy(module, name, remedy, monkeypatch):
    for loaded in list(sys.modules):
        if loaded.startswith(("gymnasium.envs.mujoco", "gymnasium.envs.box2d")):
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # makes its import fail
    monkeypatch.setitem(sys.modules, "tests.needs_pettingzoo", _Needs())
    with pytest.raises(InputError) as error:
        find_creator(name).facts()
    assert f"environment {name!r} cannot be opened: " in str(error.value) and remedy in str(error.value)


class _Needs:
    @staticmethod
    def make():
        raise ModuleNotFoundError("No module named 'pettingzoo'", name="pettingzoo")


def test_an_environment_that_breaks_when_opened_shows_its_traceback():
    with pytest.raises(EnvFailure, match=r"cannot be opened:\n(.|\n)*no display in this process"):
        find_creator("tests.support.identified:fragile_constructor", {"parent": 0}).facts()


def test_seeds_are_distinct_within_a_run_and_between_runs():
    seeds = [[env_seed(seed, index) for index in range(1000)] for seed in (0, 1, 2, SEED)]
    assert len(np.unique(seeds)) == 4000 and np.min(seeds) >= 0 and np.max(seeds) < 2**31


def test_an_environment_is_the_same_however_it_is_written():
    folder = make.env_folders()["cartpole"]
    assert same_environment("cartpole", str(folder)) and same_environment(f"{folder}/", "cartpole")
    assert not same_environment("cartpole", "CartPole-v1") and not same_environment("cartpole", "gone")
