"""The environments simulated by MuJoCo against Gymnasium's: the same library, so the same doubles, bit for bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.native.envdata import open_env
from puffer_il.native.envfile import read_env
from puffer_il.native.native_env import NativeEnv
from tests.support.environments import FOLDERS, random_actions, wild_actions

mujoco = pytest.importorskip("mujoco", reason="needs MuJoCo: pip install mujoco")

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")  # v4 is old
ENVS = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2d", "ant": "Ant", "swimmer": "Swimmer",
        "humanoid": "Humanoid", "reacher": "Reacher"}
VERSIONS = ("v5", "v4")
MUJOCO = tuple(map(int, mujoco.__version__.split(".")[:2]))
SEALS = {"terminate_when_unhealthy": False, "exclude_current_positions_from_observation": False}
OTHER_PARAMETERS = [
    ("hopper", "v5", {"forward_reward_weight": 2.0, "ctrl_cost_weight": 0.1, "healthy_reward": 0.5, "frame_skip": 2,
                      "exclude_current_positions_from_observation": False}),
    ("hopper", "v5", {"healthy_z_min": 1.22, "healthy_z_max": 1.251}),
    ("hopper", "v5", {"healthy_angle_min": -0.05, "healthy_angle_max": 0.003}),
    ("hopper", "v4", {"healthy_state_min": -3.0, "healthy_state_max": 2.0, "terminate_when_unhealthy": False}),
    ("hopper", "v4", SEALS),
    ("halfcheetah", "v5", {"forward_reward_weight": 2.0, "ctrl_cost_weight": 0.3, "frame_skip": 3,
                           "exclude_current_positions_from_observation": False}),
    ("walker2d", "v4", SEALS),
    ("walker2d", "v5", {"healthy_z_min": 1.22, "healthy_z_max": 1.251}),
    ("walker2d", "v5", {"healthy_angle_min": -0.05, "healthy_angle_max": 0.003, "terminate_when_unhealthy": False}),
    ("ant", "v5", {"forward_reward_weight": 2.0, "ctrl_cost_weight": 0.1, "contact_cost_weight": 0.01,
                   "healthy_reward": 2.0, "contact_force_min": -3.0, "contact_force_max": 2.0,
                   "healthy_z_min": 0.55, "healthy_z_max": 0.85, "exclude_current_positions_from_observation": False}),
    ("ant", "v5", {"include_cfrc_ext_in_observation": False, "terminate_when_unhealthy": False}),
    ("ant", "v4", {"use_contact_forces": True, "contact_cost_weight": 0.01}),
    ("ant", "v4", SEALS),
    ("swimmer", "v5", {"forward_reward_weight": 2.0, "ctrl_cost_weight": 0.1, "frame_skip": 2,
                       "exclude_current_positions_from_observation": False}),
    ("humanoid", "v5", {"forward_reward_weight": 2.0, "ctrl_cost_weight": 0.5, "contact_cost_weight": 1e-4,
                        "contact_cost_max": 2.0, "healthy_reward": 1.0, "healthy_z_min": 1.3,
                        "include_cvel_in_observation": False, "include_cfrc_ext_in_observation": False}),
    ("humanoid", "v5", {"include_cinert_in_observation": False, "include_qfrc_actuator_in_observation": False}),
    ("humanoid", "v4", SEALS),
    ("reacher", "v5", {"reward_dist_weight": 2.0, "reward_control_weight": 0.5, "frame_skip": 3}),
]


def their_env(name: str, version: str, params: dict[str, Any] | None = None) -> gymnasium.Env:
    """Gymnasium's without wrappers. Where we have x_min and x_max, it has x_range, and it knows its own bounds."""
    given = dict(params or {})
    defaults = NativeEnv(FOLDERS[name], version=version).env_file.values({})
    for key in sorted({key[:-4] for key in given if re.search("_(min|max)$", key)}):
        low, high = (given.pop(f"{key}_{end}", defaults.get(f"{key}_{end}", -np.inf)) for end in ("min", "max"))
        given[f"{key}_range"] = (low, np.inf if high == 1e308 else high)
    return gymnasium.make(f"{ENVS[name]}-{version}", **given).unwrapped


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gymnasium lets MuJoCo write its warnings about models into the working directory."""
    monkeypatch.chdir(tmp_path)


def put(theirs: Any, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """Starts an episode of theirs from these positions and velocities; its observation."""
    theirs.reset()
    mujoco.mj_resetData(theirs.model, theirs.data)
    theirs.set_state(qpos, qvel)
    return theirs._get_obs()


def their_state(theirs: Any) -> np.ndarray:
    return np.concatenate([theirs.data.qpos, theirs.data.qvel, theirs.data.qacc_warmstart])


def check_free_run(name: str, version: str, episodes: int, steps: int, draw: Any = random_actions,
                   **params: Any) -> np.ndarray:
    """Both run freely from our starts under the same actions, as `draw` draws them, and may never differ. Our ends,
    (steps, episodes).

    The states are compared as doubles and are equal to the bit, the observations as the float32 that ours are. The
    rewards, sums in another order, and theirs partly in float32, are equal to float32 rounding. Where an episode ends,
    theirs starts its next one where ours does.
    """
    env = NativeEnv(FOLDERS[name], episodes, seed=3, max_episode_steps=0, version=version, **params)
    env.reset()
    params.pop("reset_noise_scale", None)  # only of the starts, which are ours
    theirs: Any = their_env(name, version, params)
    assert env.single_observation_space.shape == theirs.observation_space.shape
    size = theirs.model.nq + 2 * theirs.model.nv
    actions = draw(env, steps)
    obs, states, rewards, ends = [env.observations.copy()], [env.env_states()], [], []
    finals = []
    for row in actions:
        env.step(row)
        assert not env.truncations.any()
        obs.append(env.observations.copy())
        finals.append(np.where(env.terminals[:, None], env.final_observations, env.observations))
        states.append(env.env_states())
        rewards.append(env.rewards.copy())
        ends.append(env.terminals.copy())
    for e in range(episodes):
        for t in range(steps):
            if t == 0 or ends[t - 1][e]:
                first = put(theirs, *np.split(states[t][e, :theirs.model.nq + theirs.model.nv], [theirs.model.nq]))
                np.testing.assert_array_equal(first.astype(np.float32), obs[t][e])
                np.testing.assert_array_equal(their_state(theirs), states[t][e, :size])
            seen, reward, terminated, _, _ = theirs.step(actions[t, e])
            np.testing.assert_array_equal(seen.astype(np.float32), finals[t][e])
            np.testing.assert_allclose(rewards[t][e], reward, rtol=1e-6, atol=1e-6)
            assert terminated == ends[t][e]
            if not terminated:
                np.testing.assert_array_equal(their_state(theirs), states[t + 1][e, :size])
    return np.array(ends)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ENVS)
def test_runs_are_equal_to_the_bit(name: str, version: str) -> None:
    check_free_run(name, version, episodes=3, steps=80)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ENVS)
def test_actions_beyond_the_range_are_paid_for_as_theirs(name: str, version: str) -> None:
    """The motors do what they can, and all that was asked of them is charged for; 200 actions from N(0, 3²)."""
    check_free_run(name, version, episodes=1, steps=200, draw=wild_actions)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ENVS)
def test_long_runs_are_equal_to_the_bit(name: str, version: str) -> None:
    """The above, 1,000 steps from 20 starts."""
    ends = check_free_run(name, version, episodes=20, steps=1000)
    assert ends.any() == (name in ("hopper", "walker2d", "ant", "humanoid"))


@pytest.mark.parametrize("name", [name for name in ENVS if name != "reacher"])
def test_wild_starts_run_equally(name: str) -> None:
    """In mid-air or in the ground, limbs past their limits: where a random policy does not go."""
    check_free_run(name, "v5", episodes=10, steps=10, reset_noise_scale=0.6)


@pytest.mark.parametrize(("name", "version", "params"), OTHER_PARAMETERS)
def test_parameters_mean_what_gymnasium_means(name: str, version: str, params: dict[str, Any]) -> None:
    ends = check_free_run(name, version, episodes=2, steps=40, **params)
    if not params.get("terminate_when_unhealthy", True):
        assert not ends.any()


@pytest.mark.parametrize(("name", "version", "params"), OTHER_PARAMETERS)
def test_each_parameter_does_something(name: str, version: str, params: dict[str, Any]) -> None:
    def shape(given: dict[str, Any]) -> tuple[int, ...]:
        return read_env(FOLDERS[name], {"version": version, **given}).observation.shape

    def run(given: dict[str, Any]) -> bytes:
        env = NativeEnv(FOLDERS[name], 16, version=version, **given)
        env.reset()
        rows = []
        for row in random_actions(env, 40):
            env.step(row)
            rows += [env.observations.tobytes(), env.rewards.tobytes(), env.terminals.tobytes()]
        return b"".join(rows)

    whole = run(params)
    for left_out in params:
        others = {key: value for key, value in params.items() if key != left_out}
        assert shape(others) != shape(params) or run(others) != whole, left_out


@pytest.mark.parametrize("name", ENVS)
def test_spaces_limit_and_frame_rate(name: str) -> None:
    ours, theirs = NativeEnv(FOLDERS[name]), gymnasium.make(f"{ENVS[name]}-v5")
    assert ours.env_file.gymnasium_id == f"{ENVS[name]}-v5"
    assert ours.single_action_space == theirs.action_space
    assert theirs.spec is not None
    assert ours.env_file.values({})["max_episode_steps"] == theirs.spec.max_episode_steps
    assert ours.env_file.render[2] == theirs.metadata["render_fps"]


@pytest.mark.parametrize("name", ENVS)
def test_episodes_start_as_theirs(name: str) -> None:
    """Kolmogorov-Smirnov distance of each position and velocity to Gymnasium's; all independent of each other."""
    count = 1000
    env, theirs = NativeEnv(FOLDERS[name], count, seed=1), their_env(name, "v5")
    env.reset()
    theirs.reset(seed=1)
    rows = []
    for _ in range(count):
        theirs.reset()
        rows.append(their_state(theirs)[:theirs.model.nq + theirs.model.nv])
    start = env.env_states()[:, :len(rows[0])]
    for ours, other in zip(start.T, np.array(rows).T, strict=True):
        points = np.concatenate([ours, other])
        distance = np.abs(np.searchsorted(np.sort(ours), points, "right")
                          - np.searchsorted(np.sort(other), points, "right")).max()
        assert distance / count < 2.4 * np.sqrt(2 / count)  # p = 2e-5, about 150 times
    start = start[:, np.ptp(start, axis=0) > 0]
    assert np.abs(np.corrcoef(start.T) - np.eye(start.shape[1])).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize(("name", "recorded"), [("hopper", "Hopper-v4"), ("halfcheetah", "HalfCheetah-v4")])
def test_recorded_transitions_replay(test_data: Path, name: str, recorded: str) -> None:
    """Transitions that others recorded (Berkeley's course CS 285) by one step each from the recorded observation.

    What an observation leaves out is chosen: x is 0, and the solver's warm start, which the contacts converge from, 0
    as well. Hopper observes velocities within ±10 only, so that a sixth of its rows cannot be set. The others replay to
    1e-10, contacts or not, up to MuJoCo 3.4. From 3.5 on Hopper's contacts give other results: then three quarters of
    the rows replay, and the largest difference is 0.5. HalfCheetah is the same throughout.
    """
    path = test_data / "cs285_mujoco_v4" / f"{recorded}.npz"
    if not path.is_file():
        pytest.skip(f"no recording at {path}")
    rows = np.load(path)
    before, actions, after, rewards = (rows[key] for key in ("observation", "action", "next_observation", "reward"))
    env = NativeEnv(FOLDERS[name], len(before), version="v4")
    env.reset()
    count = env.state_size // 3
    env.set_env_states(np.concatenate([np.zeros((len(before), 1)), before, np.zeros((len(before), count))], axis=1))
    env.step(actions)
    state = env.env_states()[:, 1:2 * count]
    limit = 10 if name == "hopper" else np.inf
    state[:, count - 1:] = state[:, count - 1:].clip(-limit, limit)
    known = ~(np.abs(before[:, count - 1:]) >= limit).any(axis=1) & ~env.terminals
    assert known.mean() > 0.8
    errors = np.abs(state - after).max(axis=1)[known]
    if name == "hopper" and MUJOCO >= (3, 5):
        assert np.median(errors) < 1e-14 and errors.max() < 1
        return
    assert errors.max() < 1e-10
    assert np.abs(env.rewards - rewards)[known].max() < 1e-5  # of actions of up to 5


def model(name: str, **given: str) -> Path:
    return Path(bytes(open_env(FOLDERS[name], given)[2]["model"])[:-1].decode())


def test_models_are_gymnasiums_own() -> None:
    for name in ENVS:
        for version in VERSIONS:
            own = gymnasium.make(f"{ENVS[name]}-{version}").unwrapped
            assert model(name, version=version).samefile(own.fullpath)


def test_another_model(tmp_path: Path) -> None:
    xml = model("hopper").read_text()
    slippery = tmp_path / "slippery.xml"
    slippery.write_text(xml.replace('friction="2.0"', 'friction="0.1"'))
    check_free_run("hopper", "v5", episodes=2, steps=100, xml_file=str(slippery))


def test_a_wrong_model_is_named(tmp_path: Path) -> None:
    missing, broken = tmp_path / "missing.xml", tmp_path / "broken.xml"
    broken.write_text("<mujoco><worldbody><geom typ='x'/></worldbody></mujoco>")
    for path, text in ((missing, f"xml_file = '{missing}': there is no such file; give the path of a model"),
                       (broken, "unrecognized attribute"), (model("ant"), "15 positions, 14 veloc")):
        with pytest.raises(InputError, match=text) as error:
            NativeEnv(FOLDERS["hopper"], xml_file=str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ENVS)
def test_an_unstable_simulation_cuts_the_episode(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """MuJoCo would complain on stderr and in MUJOCO_LOG.TXT, and go on from the initial pose as if nothing had been."""
    env = NativeEnv(FOLDERS[name], 4)
    env.reset()
    states = env.env_states()
    states[0, 1], states[1, 6], states[2, 3] = np.nan, 1e300, -np.inf
    env.set_env_states(states)
    env.step(env.actions * 0)
    assert env.truncations.tolist() == [True, True, True, False] and not env.terminals.any()
    assert (env.rewards[:3] == 0).all() and np.isfinite(env.observations).all()
    for actions in random_actions(env, 5):
        env.step(actions)
        assert np.isfinite(env.observations).all() and not env.truncations.any()
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "episodes", "least"), [("reacher", 200, -3.75), ("swimmer", 4, 340)])
def test_experts(name: str, episodes: int, least: float) -> None:
    """The mean return; Gymnasium calls them solved at -3.75 and 360."""
    env = NativeEnv(FOLDERS[name], episodes, threads=2)
    env.reset()
    returns = np.zeros(episodes)
    for _ in range(env.env_file.values({})["max_episode_steps"]):
        env.step(env.expert_actions())
        returns += env.rewards
    assert env.truncations.all() and returns.mean() > least


def test_log() -> None:
    env = NativeEnv(FOLDERS["swimmer"], 4, max_episode_steps=50)
    env.reset()
    total = np.zeros(4)
    for _ in range(50):
        env.step(env.expert_actions())
        total += env.rewards
    log = env.pop_log_means()  # the reward is the speed, per 0.04 s, less 1e-4 of the squared actions
    np.testing.assert_allclose(log["distance"] / 0.04 - log["control_cost"], total.mean(), rtol=1e-4)
