"""Several agents, one policy: cloning and GAIL on every environment that has more than one agent, quickly."""

from __future__ import annotations

import numpy as np
import pytest

import puffer_il
from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.demos import collect
from puffer_il.native.envfile import read_env
from puffer_il.training.resolve import resolve
from puffer_il.vector.vec import make_vec
from tests.support.environments import FOLDERS
from tests.support.runs import run, tiny

# What makes several agents of each: a new environment whose `agents` follow from a parameter is to be named here.
SEVERAL = {"highway": {"controlled": 4}, "merge": {"controlled": 4}, "tron": {"players": 4}}
QUICK = {"eval__final_episodes": 6, "env__num_envs": 12, "train__num_steps": 16, "train__total_steps": 3 * 12 * 16}


def test_every_environment_with_several_agents_is_here():
    assert set(SEVERAL) == {name for name, folder in FOLDERS.items() if "\nagents" in (folder / "env.toml").read_text()}
    assert all(read_env(FOLDERS[name], kwargs).agents == 4 for name, kwargs in SEVERAL.items())


@pytest.fixture(scope="module", params=SEVERAL)
def shown(request, tmp_path_factory):
    """An environment, its parameters, and a few episodes of each agent of its scripted expert."""
    name, kwargs = request.param, SEVERAL[request.param]
    path = tmp_path_factory.mktemp(name) / "demos.npz"
    with make_vec(name, num_envs=8, kwargs=kwargs, seed=1) as vec:
        vec.reset(1)
        collect(vec, lambda obs, starts: vec.expert_actions(), 8, name, seed=1).save(path)
    return name, kwargs, str(path)


@pytest.mark.parametrize("algo", ["bc", "gail"])
def test_a_shared_policy_trains(algo, shown, tmp_path):
    name, kwargs, path = shown
    settings = QUICK | {"env__name": name, "env__kwargs": kwargs, "demos__source": path}
    settings |= {"train__total_steps": 3000} if algo == "bc" else {"gail__disc_updates": 50}
    recorder = run(tiny(algo, tmp_path / "run", **settings))
    assert recorder.info.num_agents == 4
    summary = recorder.summary
    assert summary["status"] == "finished" and summary["eval"]["episodes"] == 6
    assert np.isfinite(summary["eval"]["return_mean"])
    first, last = recorder.metrics[0], [m for m in recorder.metrics if "SPS" in m][-1]
    if algo == "bc":
        assert last["bc/train_nll"] < first["bc/train_nll"]
    else:
        assert last["disc/loss"] < 0.6 and last["env_steps"] == 3 * 12 * 16  # ln 2 for one that knows nothing


def test_a_shared_policy_plays_with_any_number_of_agents(tmp_path):
    """Trained on four cycles, it meets the scripted expert alone, or drives eight."""
    run(tiny("ppo", tmp_path / "run", **QUICK, env__name="tron", env__kwargs={"players": 4}))
    against, crowd = (puffer_il.evaluate(tmp_path / "run", episodes=40, seed=1, **kwargs)
                      for kwargs in ({"players": 2, "scripted": 1}, {"players": 8}))
    assert against["log"]["won"] < 0.2 < crowd["log"]["won"], "of one agent, and of any of eight"
    out = tmp_path / "games.npz"
    assert main(["demos", "collect", "tron", "--policy", str(tmp_path / "run"), "--env.kwargs.players", "2",
                 "--env.kwargs.scripted", "1", "--episodes", "4", "--out", str(out)]) == 0


def test_agents_that_have_left_teach_nothing(tmp_path):
    """Tron's cycles crash one by one: until the game is over their rows do not count."""
    with make_vec("tron", num_envs=12, kwargs={"players": 4}, seed=3) as vec:
        vec.reset(3)
        rng = np.random.default_rng(0)
        valid = [vec.step(rng.integers(0, 3, (12, 1)).astype(np.int32)).valid.copy() for _ in range(200)]
    gone = ~np.array(valid)
    assert gone.any() and not gone.all(0).any(), "some leave early, and come back in the next game"


def test_rows_must_be_whole_environments(shown, tmp_path):
    name, kwargs, path = shown
    with pytest.raises(InputError, match=r"env\.num_envs = 6: must be a multiple of 4"):
        run(tiny("gail", tmp_path / "run", env__num_envs=6, env__name=name, env__kwargs=kwargs,
                 demos__source=path))


@pytest.mark.parametrize("players", [3, 4, 7])
def test_the_default_number_of_rows_is_of_whole_environments(players):
    told: list[str] = []
    layers = [("here", {"env": {"kwargs": {"players": players}}})]
    default = resolve("ppo", "tron", [("here", {"env": {"kwargs": {"players": 2}}})]).env.num_envs
    fitting = resolve("ppo", "tron", layers, say=told.append).env.num_envs
    assert fitting == max(default // players, 1) * players
    assert bool(told) is (fitting != default)
    given = [*layers, ("here", {"env": {"num_envs": 16}})]
    assert resolve("ppo", "tron", given).env.num_envs == 16  # refused where the environments are made
