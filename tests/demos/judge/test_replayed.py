"""Recordings of environments of Gymnasium's, and of several agents, against the environment itself: whether the actions
lead to the observations, from the states that these show, or from the seeds that are stored."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import puffer_il
from puffer_il.demos import as_rows, judge, read_demos, relaid
from puffer_il.demos.edit.pieces import shifted_by
from puffer_il.demos.judge.replay import together
from puffer_il.demos.load import clipped
from puffer_il.vector.world import World
from tests.demos.judge import damage

CLASSIC = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCarContinuous-v0")
MUJOCO = ("Hopper-v5", "HalfCheetah-v5", "Reacher-v5", "Walker2d-v5", "Ant-v5")


def recorded(make, episodes=8, steps=60, keep_action=4):
    """The arrays of random episodes, whose actions are held for some rows as a demonstrator's are."""
    env, rng = make(), np.random.default_rng(0)
    env.action_space.seed(0)
    columns: dict[str, list] = {name: [] for name in (
        "obs", "actions", "next_obs", "rewards", "terminations", "truncations")}
    starts = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        starts.append(len(columns["obs"]))
        for step in range(steps):
            if step % keep_action == 0 or rng.random() < 0.2:
                action = env.action_space.sample()
            after, reward, ended, cut, _ = env.step(action)
            cut = cut or step == steps - 1
            for name, value in zip(columns, (obs, action, after, reward, ended, cut and not ended), strict=True):
                columns[name].append(value)
            obs = after
            if ended or cut:
                break
    made = {name: np.array(values) for name, values in columns.items()} | {"episode_starts": np.array(starts)}
    return made | {"obs": made["obs"].astype(np.float32), "next_obs": made["next_obs"].astype(np.float32)}


def said(d, world):
    demos = relaid(as_rows(d if not isinstance(d, dict) else read_demos(dict(d)), world.spec), world.spec)
    return {finding.kind: finding.line for finding in judge(demos, world.spec, world)}


@pytest.fixture(scope="module")
def sets():
    pytest.importorskip("mujoco", reason="the extra 'mujoco' is not installed")
    made = {name: (recorded(lambda name=name: gymnasium.make(name)), World(name)) for name in (*CLASSIC, *MUJOCO)}
    yield made
    for _, world in made.values():
        world.__exit__()


REPLAYED = {"late-frames", "early-frames", "unreproduced", "rewards", "ends", "states"}


@pytest.mark.parametrize("name", [*CLASSIC, *MUJOCO])
def test_a_sound_recording_of_gymnasium_is_reproduced(sets, name):
    d, world = sets[name]
    assert world.states_of(d["obs"]) is not None
    assert not REPLAYED & said(d, world).keys()


@pytest.mark.parametrize("name", [*CLASSIC, *MUJOCO])
def test_frames_a_row_late_are_called_so(sets, name):
    d, world = ({k: v.copy() for k, v in sets[name][0].items()}, sets[name][1])
    damage.late(d)
    line = said(d, world)["late-frames"]
    assert "episode 0, row" in line and "--shift 1" in line


@pytest.mark.parametrize("name", ["Hopper-v5", "CartPole-v1", "Pendulum-v1"])
def test_actions_a_row_late_are_called_so(sets, name):
    d, world = ({k: v.copy() for k, v in sets[name][0].items()}, sets[name][1])
    damage.late_actions(d)
    assert "--shift -1" in said(d, world)["early-frames"]


def test_other_parameters_and_other_rewards_are_told(sets):
    d, world = sets["Hopper-v5"]
    assert "the environment rewards it with" in said(d | {"rewards": d["rewards"] + 1}, world)["rewards"]
    heavy = recorded(lambda: gymnasium.make("Pendulum-v1", g=4.0))
    assert "--env.kwargs" in said(heavy, sets["Pendulum-v1"][1])["unreproduced"]


def test_real_recordings_of_mujoco_are_reproduced(test_data):
    """Two episodes of somebody else's expert, recorded years ago with another MuJoCo."""
    pytest.importorskip("mujoco", reason="the extra 'mujoco' is not installed")
    with World("Hopper-v4") as world:
        demos = clipped(read_demos(test_data / "cs285_mujoco_v4" / "Hopper-v4.npz"), world.spec)
        assert world.states_of(demos.obs) is not None and not REPLAYED & said(demos, world).keys()


class Walker(gymnasium.Env):
    """It shows half of its state, and draws its walk from its seed."""

    observation_space = spaces.Dict({"at": spaces.Box(-9, 9, (2,), np.float32),
                                     "goal": spaces.Box(-9, 9, (1,), np.float32)})
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.speed = self.np_random.normal(size=2), np.zeros(2)
        self.goal, self.steps = self.np_random.normal(size=1), 0
        return self.seen(), {}

    def seen(self):
        return {"at": self.at.astype(np.float32), "goal": self.goal.astype(np.float32)}

    def step(self, action):
        self.speed = 0.9 * self.speed + 0.1 * action + 0.02 * self.np_random.normal(size=2)
        self.at, self.steps = self.at + self.speed, self.steps + 1
        return self.seen(), 0.0, False, self.steps == 30, {}


@pytest.fixture(scope="module")
def seeded():
    """Episodes of a Walker with their seeds."""
    env, rng, parts = Walker(), np.random.default_rng(1), []
    for episode in range(6):
        obs, _ = env.reset(seed=2**63 + episode)
        while True:
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            after, _, _, cut, _ = env.step(action)
            parts.append((obs["at"], obs["goal"], after["at"], after["goal"], action, cut))
            obs = after
            if cut:
                break
    names = ("obs/at", "obs/goal", "next_obs/at", "next_obs/goal", "actions", "truncations")
    made = {name: np.array(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}
    return made | {"terminations": np.zeros(180, bool), "episode_starts": np.arange(0, 180, 30),
                   "episode_seeds": 2**63 + np.arange(6, dtype=np.uint64)}


@pytest.fixture(scope="module")
def walker():
    with World(Walker) as world:
        yield world


def test_actions_are_played_from_stored_seeds(seeded, walker):
    assert not {"unrepeated", "late-frames", "early-frames"} & said(seeded, walker).keys()
    other = seeded | {"actions": np.random.default_rng(5).permutation(seeded["actions"])}
    assert "played from its seed, an episode goes elsewhere" in said(other, walker)["unrepeated"]


def test_late_rows_are_told_by_stored_seeds(seeded, walker):
    late = {name: array.copy() for name, array in seeded.items()}
    for a in late["episode_starts"]:
        for name in ("at", "goal"):
            late[f"next_obs/{name}"][a:a + 30] = late[f"obs/{name}"][a:a + 30].copy()
            late[f"obs/{name}"][a + 1:a + 30] = late[f"next_obs/{name}"][a:a + 29]
    assert "a row ahead" in said(late, walker)["late-frames"]
    actions = {name: array.copy() for name, array in seeded.items()}
    for a in actions["episode_starts"]:
        actions["actions"][a + 1:a + 30] = seeded["actions"][a:a + 29]
    assert "a row behind" in said(actions, walker)["early-frames"]


def test_seeds_of_another_version_of_the_environment_say_nothing(seeded, walker):
    assert "unrepeated" not in said(seeded | {"episode_seeds": np.arange(6, dtype=np.uint64)}, walker)


def test_seeds_go_where_their_episodes_go(seeded):
    demos = read_demos(dict(seeded))
    assert shifted_by(demos, 1).episode_seeds is None
    from puffer_il.demos.edit.episodes import keep, merged

    assert keep(demos, "2,4").episode_seeds.tolist() == [2**63 + 2, 2**63 + 4]
    assert merged([demos, demos]).episode_seeds.tolist() == 2 * demos.episode_seeds.tolist()


def test_several_agents_are_replayed_together():
    demos = puffer_il.collect("script", "tron", episodes=24)
    with World("tron") as world:
        agents = world.spec.num_agents
        rows = together(demos.states, agents)
        assert agents > 1 and len(rows) > len(demos) / 2
        played = world.replay(demos.states[rows], demos.actions[rows])
        np.testing.assert_array_equal(played.next_obs, np.asarray(demos.next_obs)[rows])
        assert not REPLAYED & said(demos, world).keys()
        d = {name: np.array(getattr(demos, name)) for name in (
            "obs", "actions", "next_obs", "terminations", "truncations", "episode_starts", "rewards", "states")}
        damage.late_actions(d)
        assert {"early-frames", "unreproduced"} & said(d, world).keys()
