"""Merging into motorway traffic: what counts as a crash, who yields, and that the scripted driver manages."""

import numpy as np
import pytest

from puffer_il.native.native_env import NativeEnv
from tests.support.environments import FOLDERS

FOLDER = FOLDERS["merge"]


def put(env: NativeEnv, **fields: dict[int, float]) -> None:
    """Change x, y, heading or speed of some vehicles, everywhere; all others are moved far behind."""
    states = env.env_states()
    table = states[:, :-1].reshape(env.num_envs, 6, -1)
    others = np.setdiff1d(np.arange(table.shape[2]), sorted({k for field in fields.values() for k in field}))
    table[:, 0, others] = -5000 - 50 * others
    for row, name in enumerate(("x", "y", "heading", "speed")):
        for vehicle, value in fields.get(name, {}).items():
            table[:, row, vehicle] = value
            if name == "y":
                table[:, 4, vehicle] = value
    env.set_env_states(states)


def act(env: NativeEnv, acceleration: float, steering: float) -> None:
    env.step(np.tile(np.array([acceleration, steering], np.float32), (env.num_agents, 1)))


@pytest.fixture
def env() -> NativeEnv:
    env = NativeEnv(FOLDER, 2, seed=1)
    env.reset()
    return env


@pytest.mark.parametrize("observation", ["table", "lidar"])
@pytest.mark.parametrize("controlled", [1, 4])
def test_the_expert_merges(controlled: int, observation: str):
    env = NativeEnv(FOLDER, 64, seed=2, controlled=controlled, observation=observation)
    env.reset()
    for _ in range(800):
        env.step(env.expert_actions())
    log = env.pop_log_means()
    assert log["merged"] > 0.98 and log["crashed"] < 0.01 and 15 < log["seconds"] < 40


def test_who_does_nothing_ends_with_the_lane(env: NativeEnv):
    for _ in range(400):
        act(env, 0, 0)
        if env.terminals.any():
            break
    assert env.terminals.any() and env.rewards[env.terminals].max() < -0.5
    assert (env.final_observations[env.terminals, 3] < 0).all()  # past the end


@pytest.mark.parametrize("where", [{"x": 50.0, "y": -2.1}, {"x": 50.0, "y": 10.1}, {"x": 201.0, "y": 7.0}])
def test_off_the_road_is_a_crash(env: NativeEnv, where: dict[str, float]):
    put(env, **{name: {0: value} for name, value in where.items()}, heading={0: 0.0}, speed={0: 10.0})
    act(env, 0, 0)
    assert env.terminals.all() and (env.rewards < -0.5).all()


def test_touching_is_a_crash_and_passing_is_not(env: NativeEnv):
    for y, crashes in ((4.0, True), (5.9, True), (6.2, False)):
        put(env, x={0: 50.0, 1: 52.0}, y={0: y, 1: 4.0}, heading={0: 0.0, 1: 0.0}, speed={0: 20.0, 1: 20.0})
        act(env, 0, 0)
        assert env.terminals.all() == crashes


def test_arriving_ends_the_episode_with_a_reward(env: NativeEnv):
    put(env, x={0: 299.5}, y={0: 4.0}, heading={0: 0.0}, speed={0: 25.0})
    act(env, 0, 0)
    assert env.terminals.all() and env.rewards == pytest.approx(1 + 0.02 * 2.5 - 0.01, abs=1e-4)


def test_the_background_brakes_for_who_reaches_into_its_lane(env: NativeEnv):
    speeds = []
    for y in (8.0, 4.5):
        put(env, x={0: 80.0, 2: 55.0}, y={0: y, 2: 4.0}, heading={0: 0.0, 2: 0.0}, speed={0: 10.0, 2: 22.0})
        for _ in range(5):
            act(env, 0, 0)
        speeds.append(env.env_states()[0, :-1].reshape(6, -1)[3, 2])
    assert speeds[1] < speeds[0] - 1


@pytest.mark.parametrize(("politeness", "changes"), [(0.0, 2), (0.3, 4)])
def test_a_slow_leader_is_overtaken_or_lets_the_follower_pass(politeness: float, changes: int):
    env = NativeEnv(FOLDER, 2, seed=1, politeness=politeness)
    env.reset()
    put(env, x={0: -300.0, 2: 40.0, 4: 80.0}, y={0: 8.0, 2: 4.0, 4: 4.0}, heading={2: 0.0, 4: 0.0},
        speed={0: 20.0, 2: 24.0, 4: 10.0})
    for _ in range(60):
        act(env, 0, 0)
    lanes = env.env_states()[:, :-1].reshape(2, 6, -1)[:, 4]
    assert (lanes[:, changes] == 0).all() and (lanes[:, 6 - changes] == 4).all()


def test_agents_leave_one_by_one():
    env = NativeEnv(FOLDER, 16, seed=3, controlled=3)
    env.reset()
    present = []
    for _ in range(400):
        env.step(env.expert_actions())
        present.append(env.masks.reshape(16, 3).sum(1))
    assert {1, 2, 3} <= set(np.concatenate(present).tolist())
