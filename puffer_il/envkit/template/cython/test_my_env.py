"""Tests of my_env. Run them with `pytest my_env` in the parent folder."""

from pathlib import Path

import numpy as np

from puffer_il.native.cython_env import load_cython

MyEnv = load_cython(Path(__file__).parent)


def play(num_envs: int = 64, seed: int = 1, first_env: int = 0) -> np.ndarray:
    """All that environments under one sequence of random actions showed, (steps, num_envs, 2)."""
    env = MyEnv(num_envs, seed=seed, first_env=first_env)
    actions = np.random.default_rng(0).integers(0, 3, (300, 64))[:, first_env:first_env + num_envs]
    seen = [env.reset(seed)[0].copy()]
    for row in actions:
        seen.append(env.step(row)[0].copy())
    return np.stack(seen)


def test_the_same_seed_gives_the_same_bytes():
    assert play().tobytes() == play().tobytes() != play(seed=2).tobytes()


def test_it_does_not_matter_how_a_batch_is_split():
    assert np.array_equal(play(), np.concatenate([play(40), play(24, first_env=40)], axis=1))


def test_it_can_be_solved():
    env = MyEnv(64, seed=0)
    obs, _ = env.reset(0)
    docked = np.zeros(64, bool)
    for _ in range(300):
        missing = -0.1 - 0.5 * obs[:, 0] - obs[:, 1]  # slow down as it comes closer
        obs, rewards, *_ = env.step(np.where(np.abs(missing) < 0.05, 1, np.where(missing > 0, 2, 0)))
        docked |= rewards == 1
        assert not np.any(rewards < -0.1)  # no crash
    assert docked.all()
