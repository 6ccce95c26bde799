"""Packages as they really behave: each test needs its package, and is skipped without it; docs/packages.md tells which
versions it has been run with. PettingZoo, MiniGrid and Gymnasium itself are in test_real_packages.py."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import collect
from puffer_il.vector.make import env_seed, find_creator
from puffer_il.vector.vec import make_vec
from tests.support.alone import Alone, compare
from tests.support.runs import run, tiny

SEED = 5


def equals_its_copies(name: str, steps: int = 60, kwargs: dict[str, Any] | None = None, rows: int = 2) -> np.ndarray:
    """Rows of an id are those of the package's own environments; how many episodes ended in either way."""
    with make_vec(name, num_envs=rows, backend="serial", kwargs=kwargs) as vec:
        vec.reset(SEED)
        make = [gymnasium.make(name, disable_env_checker=True, **(kwargs or {})) for _ in range(rows)]
        ends = compare(vec, [Alone(env, env_seed(SEED, i), "NEXT_STEP") for i, env in enumerate(make)], steps)
        for env in make:
            env.close()
    return ends


@pytest.mark.parametrize("name", ["FetchReach-v4", "PointMaze_UMaze-v3", "AdroitHandDoor-v1"])
def test_gymnasium_robotics(name: str):
    """A Dict of float64 with goals, and a hand of 28 joints."""
    pytest.importorskip("gymnasium_robotics")
    assert equals_its_copies(f"gymnasium_robotics:{name}", kwargs={"max_episode_steps": 20})[1] > 1


def test_meta_world():
    """Its observations lie outside the space that it declares: they are taken, and that is told."""
    pytest.importorskip("metaworld")
    kwargs = {"env_name": "reach-v3", "seed": 1, "max_episode_steps": 20}
    name = "metaworld:Meta-World/MT1"
    with make_vec(name, num_envs=1, kwargs=kwargs) as vec:
        assert vec.spec.obs_shape == (39,) and vec.spec.action.dim == 4
        vec.reset(SEED)
        own = gymnasium.make(name, disable_env_checker=True, **kwargs)
        compare(vec, [Alone(own, env_seed(SEED, 0), "NEXT_STEP")], 45)


def test_meta_worlds_ten_tasks_are_one_batch():
    pytest.importorskip("metaworld")
    kwargs = {"vector_strategy": "sync", "seed": 1, "use_one_hot": True}
    with make_vec("metaworld:Meta-World/MT10", num_envs=10, kwargs=kwargs) as vec:
        assert vec.backend == "native" and vec.reset(SEED).shape == (10, 49)
        batch = vec.step(np.zeros((10, 4), np.float32))
        assert np.isfinite(batch.obs).all() and batch.valid.all()
        assert [int(row[39:].argmax()) for row in batch.obs] == list(range(10)), "which task it is, one-hot"


def test_minigrid_with_a_picture():
    pytest.importorskip("minigrid")
    with pytest.raises(InputError, match=r"leave 'mission' out, as gymnasium\.wrappers\.FilterObservation does"):
        make_vec("minigrid:MiniGrid-DoorKey-5x5-v0", num_envs=1)


@pytest.mark.parametrize("name, config", [("highway-fast-v0", {"vehicles_count": 4, "duration": 3}),
                                          ("parking-v0", {"duration": 1})])
def test_highway_env(name: str, config: dict[str, Any]):
    """An array of vehicles, and a Dict with goals."""
    pytest.importorskip("highway_env")
    equals_its_copies(f"highway_env:{name}", 8, {"config": config}, rows=1)


def test_ale_py():
    pytest.importorskip("ale_py")
    equals_its_copies("ale_py:ALE/Pong-v5", 40)


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_ale_pys_vector(mode: str):
    """Every row as in a vector of one; it is another environment than its copies (84 x 84, four frames)."""
    vectors = pytest.importorskip("ale_py.vector_env")
    kwargs = {"autoreset_mode": gymnasium.vector.AutoresetMode[mode], "max_num_frames_per_episode": 80, "noop_max": 5}
    with make_vec("ale_py:ALE/Breakout-v5", num_envs=3, backend="vector", kwargs=kwargs) as vec:
        obs, rng, ends = vec.reset(SEED), np.random.default_rng(0), 0
        own = [vectors.AtariVectorEnv("breakout", 1, repeat_action_probability=0.25, **kwargs) for _ in range(3)]
        over = np.zeros(3, bool)
        for i, env in enumerate(own):
            assert np.array_equal(obs[i], env.reset(seed=env_seed(SEED, i))[0][0])
        for _ in range(60):
            actions = rng.integers(0, 4, (3, 1)).astype(np.int32)
            batch = vec.step(actions)
            for i, env in enumerate(own):
                after, reward, terminated, truncated, infos = env.step(actions[i].astype(np.int64))
                assert batch.valid[i] != over[i] and np.array_equal(batch.obs[i], after[0])
                assert batch.rewards[i] == reward[0]
                ended = bool(terminated[0] or truncated[0])
                assert ended == (batch.terminations[i] or batch.truncations[i])
                ends += ended
                if ended:
                    final = after[0] if mode == "NEXT_STEP" else infos["final_obs"][0]
                    assert np.array_equal(batch.final_obs[i], final)
                over[i] = ended and mode == "NEXT_STEP"
    assert ends > 5


def test_dm_control_through_shimmy():
    """A Dict of float64 parts, some of them without axes."""
    pytest.importorskip("shimmy")
    pytest.importorskip("dm_control.suite", exc_type=Exception)
    for name in ("cartpole-balance-v0", "humanoid-stand-v0"):
        equals_its_copies(f"shimmy:dm_control/{name}", 30, {"max_episode_steps": 12})


def test_a_package_that_does_not_know_this_mujoco_names_the_remedy():
    """As dm_control 1.0.50 beside MuJoCo 4.0.0."""
    mujoco = pytest.importorskip("mujoco")

    def opened() -> Any:
        return mujoco.MjModel.from_xml_string("<mujoco/>").flex_that_is_gone

    with pytest.raises(InputError, match=r"was not made for MuJoCo .*; pip install 'mujoco<\d+\.\d+\.\d+'$"):
        find_creator(opened).facts()


def test_mo_gymnasium():
    """Weighted, and beside its own wrapper."""
    mo = pytest.importorskip("mo_gymnasium")
    name, weights = "mo_gymnasium:deep-sea-treasure-v0", [0.7, 0.3]
    with make_vec(name, num_envs=2, backend="serial", kwargs={"reward_weights": weights}) as vec:
        vec.reset(SEED)
        own = [mo.wrappers.LinearReward(mo.make("deep-sea-treasure-v0"), np.array(weights)) for _ in range(2)]
        ends = compare(vec, [Alone(env, env_seed(SEED, i), "NEXT_STEP") for i, env in enumerate(own)], 200)
    assert ends.sum() > 0
    with pytest.raises(InputError, match=r"its reward is 2 numbers; give their weights as env\.kwargs\.reward_weights"):
        make_vec(name, num_envs=2)


def pool(num_envs: int = 1, seed: int = 0) -> Any:
    return import_module("envpool").make_gymnasium("CartPole-v1", num_envs=num_envs, seed=seed, max_episode_steps=20)


@pytest.mark.parametrize("name, kwargs", [("envpool:CartPole-v1", {"max_episode_steps": 20}), (pool, {})])
def test_envpool(name: Any, kwargs: dict[str, Any]):
    """One batch, seeded by the run's seed although it takes a seed only when it is opened."""
    pytest.importorskip("envpool")
    with make_vec(name, num_envs=6, kwargs=kwargs) as vec:
        for seed in (SEED, SEED + 1, SEED):
            obs, own, over = vec.reset(seed), pool(6, env_seed(seed, 0)), np.zeros(6, bool)
            assert vec.backend == "native" and np.array_equal(obs, own.reset()[0])
            rng, ends = np.random.default_rng(0), np.zeros(2, int)
            for _ in range(60):
                actions = rng.integers(0, 2, (6, 1)).astype(np.int32)
                batch = vec.step(actions)
                after, rewards, terminated, truncated, _ = own.step(actions[:, 0])
                assert np.array_equal(batch.obs, after) and np.array_equal(batch.rewards, rewards)
                assert np.array_equal(batch.valid, ~over)
                over = (terminated | truncated) & ~over
                assert np.array_equal(batch.terminations | batch.truncations, over)
                assert np.array_equal(batch.final_obs[over], after[over])
                ends += int(terminated.sum()), int(truncated.sum())
            assert (ends > 0).all()


def test_envpool_learns(tmp_path):
    pytest.importorskip("envpool")
    recorder = run(tiny("ppo", tmp_path / "run", env__name="envpool:CartPole-v1", env__num_envs=16,
                        env__kwargs={"max_episode_steps": 20}, train__total_steps=16 * 32 * 16,
                        ppo__learning_rate=3e-3, eval__final_episodes=16))
    assert recorder.summary["eval"]["return_mean"] > 19, "of 20; chance is 16"


def test_demonstrations_of_gymnasium_robotics():
    """Dict observations, all parts of them."""
    pytest.importorskip("gymnasium_robotics")
    with make_vec("gymnasium_robotics:FetchReach-v4", num_envs=2, backend="serial",
                  kwargs={"max_episode_steps": 10}) as vec:
        demos = collect(vec, lambda obs, starts: np.zeros((2, 4), np.float32), 4, "d", seed=1)
        assert demos.num_episodes == 4 and demos.truncations.sum() == 4
        assert set(vec.spec.unpack(demos.obs)) == {"observation", "achieved_goal", "desired_goal"}
    assert find_creator("gymnasium_robotics:FetchReach-v4").facts().spec.obs_fields
