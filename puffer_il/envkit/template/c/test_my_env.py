"""Tests of my_env. Run them with `pytest my_env` in the parent folder."""

from pathlib import Path

import numpy as np

from puffer_il.cli import main
from puffer_il.native.native_env import NativeEnv

FOLDER = Path(__file__).parent


def play(seed: int, steps: int = 300) -> tuple[NativeEnv, np.ndarray]:
    """64 environments under the scripted expert, and all of their observations."""
    env = NativeEnv(FOLDER, 64, seed=seed)
    seen = [env.reset(seed)[0].copy()]
    for _ in range(steps):
        actions = env.expert_actions()
        assert actions is not None
        seen.append(env.step(actions)[0].copy())
    return env, np.stack(seen)


def test_the_same_seed_gives_the_same_bytes():
    assert play(seed=1)[1].tobytes() == play(seed=1)[1].tobytes() != play(seed=2)[1].tobytes()


def test_the_expert_solves_it():
    env, _ = play(seed=0)
    assert env.pop_log_means()["docked"] == 1.0


def test_a_harder_touch_is_a_crash():
    env = NativeEnv(FOLDER, 64, seed=0)
    env.reset()
    for _ in range(300):
        env.step(np.zeros(64, np.int32))  # full thrust towards the station
    assert env.pop_log_means()["docked"] == 0.0


def test_the_contract():
    assert main(["env", "check", str(FOLDER)]) == 0
