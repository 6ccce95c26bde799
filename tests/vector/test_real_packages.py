"""Real environments of other packages, beside themselves: parallel ones of PettingZoo, Dict and Tuple observations.

PettingZoo: rock-paper-scissors (time limits, categories), Knights Archers Zombies (agents die one by one).
MiniGrid: a Dict of a category and an image, once its text is left out. Gymnasium: Blackjack (a Tuple), CartPole with
a clock (a Dict).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FilterObservation, TimeAwareObservation, TransformObservation

from puffer_il import cli
from puffer_il.core.errors import InputError
from puffer_il.demos import collect
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.make import env_seed, find_creator
from puffer_il.vector.vec import Vec, make_vec
from tests.support.runs import run, tiny
from tests.vector.test_emulation import read

SEED = 5
BACKENDS = {"serial": {"backend": "serial"}, "2 workers": {"backend": "multiprocessing", "num_workers": 2}}
RPS = "pettingzoo.classic.rps_v2"
KAZ = "pettingzoo.butterfly.knights_archers_zombies_v11"
KAZ_KWARGS = {"max_cycles": 60, "line_death": True}  # who touches the border is dead


def minigrid(mission: bool = False) -> gymnasium.Env:
    """MiniGrid's smallest room: five steps to the goal."""
    env = gymnasium.make("minigrid:MiniGrid-Empty-5x5-v0", max_steps=20)
    return env if mission else FilterObservation(env, ["direction", "image"])


def minigrid_symbols() -> gymnasium.Env:
    """Its image holds symbols from 0 to 10: numbers, which are learned from more easily than as brightnesses."""
    env = minigrid()
    space = spaces.Dict({"direction": env.observation_space["direction"], "image": spaces.Box(0, 10, (7, 7, 3))})
    return TransformObservation(env, lambda obs: obs | {"image": obs["image"].astype(np.float32)}, space)


def minigrid_image() -> gymnasium.Env:
    return importlib.import_module("minigrid.wrappers").ImgObsWrapper(minigrid(mission=True))


def cartpole_with_clock() -> gymnasium.Env:
    return TimeAwareObservation(gymnasium.make("CartPole-v1", max_episode_steps=20), flatten=False)


def leaves(obs: Any) -> Iterator[Any]:
    if isinstance(obs, dict):
        for key in sorted(obs):
            yield from leaves(obs[key])
    elif isinstance(obs, tuple):
        for leaf in obs:
            yield from leaves(leaf)
    else:
        yield np.asarray(obs)


def assert_row(vec: Vec, row: np.ndarray, obs: Any) -> None:
    """The row holds the environment's own observation."""
    for ours, theirs in zip(read(vec.spec, row).values(), leaves(obs), strict=True):
        assert np.array_equal(ours, theirs.astype(ours.dtype))


# One agent

@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make, name, fields, steps", [
    (partial(gymnasium.make, "Blackjack-v1"), "Blackjack-v1", [((), 32), ((), 11), ((), 2)], 60),
    (minigrid, "tests.vector.test_real_packages:minigrid", [((), 4), ((7, 7, 3), 0)], 100),
    (minigrid_image, "tests.vector.test_real_packages:minigrid_image", [((7, 7, 3), 0)], 100),
    (cartpole_with_clock, "tests.vector.test_real_packages:cartpole_with_clock", [((4,), 0), ((1,), 0)], 100),
], ids=["Blackjack", "MiniGrid", "MiniGrid image", "CartPole with clock"])
def test_rows_of_structured_observations(make: Any, name: str, fields: list, steps: int, backend: str) -> None:
    rng, ends = np.random.default_rng(0), np.zeros(2, int)
    with make_vec(name, num_envs=4, **BACKENDS[backend]) as vec:
        assert [(f.shape, f.categories) for f in vec.spec.obs_fields] == fields
        envs, over = [make() for _ in range(4)], [False] * 4
        for index, (env, row) in enumerate(zip(envs, vec.reset(SEED), strict=True)):
            assert_row(vec, row, env.reset(seed=env_seed(SEED, index))[0])
        for _ in range(steps):
            actions = rng.integers(0, min(3, vec.spec.action.nvec[0]), (4, 1), dtype=np.int32)  # 3: walks in MiniGrid
            batch = vec.step(actions)
            for index, env in enumerate(envs):
                assert batch.valid[index] != over[index]
                if over[index]:
                    assert_row(vec, batch.obs[index], env.reset()[0])
                    over[index] = False
                    continue
                obs, reward, terminated, truncated, _ = env.step(int(actions[index, 0]))
                assert_row(vec, batch.final_obs[index], obs)
                assert batch.rewards[index] == np.float32(reward)
                assert (batch.terminations[index], batch.truncations[index]) == (terminated, truncated > terminated)
                over[index] = terminated or truncated
                ends += terminated, truncated
    assert ends[0] > 0 and (ends[1] > 0 or "Blackjack" in name)


def test_minigrid_as_it_is_names_the_remedy() -> None:
    with pytest.raises(InputError) as error:
        find_creator("minigrid:MiniGrid-Empty-5x5-v0").facts()
    assert "\n" not in str(error.value) and "observation space MissionSpace has no fixed size" in str(error.value)
    assert str(error.value).endswith("or leave 'mission' out, as gymnasium.wrappers.FilterObservation does")


def test_bc_learns_minigrid(tmp_path: Path) -> None:
    name, demos = "tests.vector.test_real_packages:minigrid_symbols", tmp_path / "demos.npz"
    with make_vec(name, num_envs=4, backend="serial") as vec:
        inside = [e.env.unwrapped for e in vec._puffer.envs]

        def there(obs: np.ndarray, starts: np.ndarray) -> np.ndarray:
            """Along the upper wall, then, after a turn to the right, down to the goal."""
            return np.array([[1 if e.agent_pos[0] == 3 and e.agent_dir == 0 else 2] for e in inside], np.int32)

        collect(vec, there, 20, str(demos)).save(demos)
    recorder = run(tiny("bc", tmp_path / "run", env__name=name, env__num_envs=4, env__backend="serial",
                        demos__source=str(demos), train__total_steps=6400, eval__final_episodes=4))
    assert recorder.summary["eval"]["return_mean"] > 0.77 and recorder.summary["eval"]["length_mean"] == 5


def test_ppo_learns_blackjack(tmp_path: Path) -> None:
    recorder = run(tiny("ppo", tmp_path / "run", env__name="Blackjack-v1", env__backend="serial",
                        train__total_steps=8 * 32 * 16, ppo__learning_rate=5e-3, eval__final_episodes=300))
    assert recorder.summary["eval"]["return_mean"] > -0.25  # chance: -0.39


# Many agents

@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("module, kwargs, choices, ended", [
    (RPS, {}, 3, (0, 48)),  # 15 steps and one to begin anew: twelve episodes of four agents
    (KAZ, KAZ_KWARGS, 4, None),
], ids=["rps", "knights_archers_zombies"])
def test_rows_of_parallel_environments(module: str, kwargs: dict, choices: int, ended: Any, backend: str) -> None:
    make, rng = importlib.import_module(module).parallel_env, np.random.default_rng(0)
    ends, lonely = np.zeros(2, int), 0
    with make_vec(f"{module}:parallel_env", num_envs=2 * len(make(**kwargs).possible_agents), kwargs=kwargs,
                  **BACKENDS[backend]) as vec:
        envs, rows, count = [make(**kwargs) for _ in range(2)], vec.reset(SEED), vec.spec.num_agents
        for index, env in enumerate(envs):
            for agent, obs in env.reset(seed=env_seed(SEED, index))[0].items():
                assert_row(vec, rows[index * count + env.possible_agents.index(agent)], obs)
        for _ in range(200):
            actions = rng.integers(0, choices, (2 * count, 1), dtype=np.int32)
            batch = vec.step(actions)
            for index, env in enumerate(envs):
                own = {agent: index * count + k for k, agent in enumerate(env.possible_agents)}
                acting = list(env.agents)
                lonely += 0 < len(acting) < count
                assert [agent for agent, row in own.items() if batch.valid[row]] == acting
                if not acting:
                    for agent, obs in env.reset()[0].items():
                        assert_row(vec, batch.obs[own[agent]], obs)
                    continue
                told = env.step({agent: int(actions[own[agent], 0]) for agent in acting})
                for agent in acting:
                    row, (obs, reward, terminated, truncated) = own[agent], (part[agent] for part in told[:4])
                    assert_row(vec, batch.final_obs[row], obs)
                    assert batch.rewards[row] == np.float32(reward)
                    assert (batch.terminations[row], batch.truncations[row]) == (terminated, truncated > terminated)
                    ends += terminated, truncated
    assert tuple(ends) == ended if ended else lonely > 10 and ends.all()


def test_pettingzoo_is_opened_by_its_own_ids() -> None:
    assert find_creator("pettingzoo:classic/rps-v2").facts().num_agents == 2
    with pytest.raises(InputError, match=r"environment 'pettingzoo:classic/rps-v9': Environment .* not found"):
        find_creator("pettingzoo:classic/rps-v9").facts()


def test_ids_of_earlier_versions_name_the_later_ones() -> None:
    with pytest.raises(InputError, match=r"no module '.*zombies_v10'; did you mean '.*knights_archers_zombies_v11'\?"):
        find_creator(f"{KAZ[:-3]}v10:parallel_env")
    with pytest.raises(InputError, match=r"no 'butterfly/knights.*'; did you mean 'butterfly/knights_.*-v11'\?"):
        find_creator("pettingzoo:butterfly/knights-archers-zombies-v10").facts()


def test_turns_are_refused() -> None:
    with pytest.raises(InputError, match=r"turn-based PettingZoo environment.* open its module's parallel_env"):
        find_creator(f"{RPS}:env").facts()


def test_ppo_of_many_agents_from_the_command_line(tmp_path: Path) -> None:
    assert cli.main(["train", "ppo", f"{RPS}:parallel_env", "--env.num-envs", "8", "--env.num-workers", "2",
                     "--train.num-steps", "64", "--total-steps", "2000", "--eval.final-episodes", "4",
                     "--run-dir", str(tmp_path / "run")]) == 0


def test_ppo_of_agents_that_die(tmp_path: Path) -> None:
    config = tiny("ppo", tmp_path / "run", env__name=f"{KAZ}:parallel_env", env__backend="serial",
                  env__kwargs=KAZ_KWARGS, train__total_steps=1024, eval__final_episodes=2)
    recorder = run(config)
    assert recorder.summary["status"] == "finished" and recorder.summary["eval"]["episodes"] == 2


def test_bc_learns_from_many_agents(tmp_path: Path) -> None:
    """Mostly, both players beat what the other has just played; 3 stands for nothing yet."""
    name, demos = f"{RPS}:parallel_env", tmp_path / "demos.npz"
    rng = np.random.default_rng(0)

    def mostly(obs: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.where(rng.random(obs.shape) < 0.8, (obs + 1) % 3, rng.integers(0, 3, obs.shape)).astype(np.int32)

    with make_vec(name, num_envs=4, backend="serial") as vec:
        noisy = collect(vec, mostly, 40, str(demos))
    assert noisy.obs.shape == (40 * 15, 1) and noisy.truncations.sum() == 40 and not noisy.terminations.any()
    noisy.save(demos)
    run(tiny("bc", tmp_path / "run", env__name=name, env__num_envs=4, env__backend="serial", demos__source=str(demos),
             train__total_steps=12_800))
    policy, *_ = load_policy(tmp_path / "run")
    assert [int(policy.predict(np.array(last), deterministic=True)[0]) for last in range(3)] == [1, 2, 0]
