"""The highway is highway-env's, step for step, and what is learned in one drives in the other."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.native.native_env import NativeEnv
from puffer_il.rollout.actors import RandomActor, policy_actor
from puffer_il.rollout.evaluate import evaluate
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.vec import make_vec
from tests.support.environments import FOLDERS

FOLDER = FOLDERS["highway"]


def vehicles_of(env) -> np.ndarray:
    """highway-env's vehicles as rows of our state: the agents' first."""
    rows = []
    for v in sorted(env.road.vehicles, key=lambda v: v not in env.controlled_vehicles):
        push = np.zeros(2) if v.impact is None else v.impact
        rows.append([*v.position, v.heading, v.speed, v.target_lane_index[2], v.target_speed, getattr(v, "DELTA", 4.0),
                     getattr(v, "timer", 0.0), v in env.controlled_vehicles, v.crashed, *push])
    return np.array(rows, float)


@pytest.mark.parametrize(("name", "options"), [
    ("highway-fast-v0", {}), ("highway-v0", {"traffic_collisions": True, "ego_spacing": 2.0})])
def test_a_step_is_highway_envs(name: str, options: dict):
    """Ours is put into their state before each step. A driver's comparison of two accelerations may tip over by
    rounding, ours being floats; that is allowed in one step of a hundred."""
    pytest.importorskip("highway_env")
    theirs = gymnasium.make(f"highway_env:{name}").unwrapped
    config, rng = theirs.config, np.random.default_rng(0)
    ours = NativeEnv(FOLDER, vehicles=config["vehicles_count"], lanes=config["lanes_count"], max_episode_steps=0,
                     simulation_frequency=config["simulation_frequency"], **options)
    steps = tipped = 0
    for episode in range(8 if name == "highway-fast-v0" else 1):
        theirs.reset(seed=episode)
        over = False
        while not over:
            ours.set_env_states(np.append(vehicles_of(theirs), 0)[None])
            action = int(rng.integers(5)) if episode % 2 else int(rng.choice([1, 1, 1, 0, 2, 3, 4]))
            obs, reward, terminated, truncated, _ = theirs.step(action)
            ours.step(np.array([action], np.int32))
            over = terminated or truncated
            steps += 1
            assert bool(ours.terminals[0]) == terminated
            seen = (ours.final_observations if terminated else ours.observations)[0]
            close = np.allclose(seen, obs, atol=2e-3) and abs(float(ours.rewards[0]) - reward) < 2e-3
            tipped += not close
    assert steps >= 5 and tipped <= 1 + steps // 100


def test_crashing_ends_and_lanes_have_their_limits():
    env = NativeEnv(FOLDER, 32, seed=1)
    env.reset()
    for _ in range(30):
        env.step(np.full(32, 3, np.int32))  # faster, without looking
    log = env.pop_log_means()
    assert log["crashed"] > 0.5
    env = NativeEnv(FOLDER, 32, seed=1, vehicles=0)
    env.reset()
    for _ in range(10):
        env.step(np.zeros(32, np.int32))  # to the left, where the road ends
    assert (abs(env.env_states().reshape(32, -1)[:, 1]) < 0.1).all()  # and stay in the leftmost lane


def test_the_expert_hardly_ever_crashes():
    env = NativeEnv(FOLDER, 256, seed=2)
    env.reset()
    for _ in range(60):
        env.step(env.expert_actions())
    log = env.pop_log_means()
    assert log["crashed"] < 0.02 and log["speed"] > 21 and log["offroad"] == 0


@pytest.mark.parametrize("controlled", [4, 8])
def test_several_agents_share_the_road(controlled: int):
    env = NativeEnv(FOLDER, 64, seed=3, controlled=controlled, observation="lidar")
    env.reset()
    for _ in range(60):
        env.step(env.expert_actions())
    assert env.num_agents == 64 * controlled and env.pop_log_means()["crashed"] < 0.05


def test_a_policy_of_ours_drives_in_highway_env(tmp_path: Path):
    pytest.importorskip("highway_env")
    demos, run = str(tmp_path / "highway.npz"), tmp_path / "run"
    assert main(["demos", "collect", "highway", "--expert", "--episodes", "600", "--out", demos]) == 0
    assert main(["train", "bc", "highway", "--demos", demos, "--run-dir", str(run), "--total-steps", "600000",
                 "--env.num-envs", "64", "--eval.interval-steps", "0"]) == 0
    here = json.loads((run / "summary.json").read_text())["eval"]["return_mean"]
    policy, _, _ = load_policy(run)
    with make_vec("highway_env:highway-fast-v0", num_envs=4, backend="serial") as vec:
        there = evaluate(vec, policy_actor(policy, vec), 4, 1).returns.mean()
        random = evaluate(vec, RandomActor(vec.spec, 0), 4, 1).returns.mean()
    assert there > random + 5 and abs(there - here) < 6
