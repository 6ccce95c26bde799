"""Every kind of space from the environment to a learned policy: mixed Dicts, images, memory; PPO, BC and GAIL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy

from puffer_il.demos import collect
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec
from tests.support.runs import Recorder, run, tiny
from tests.support.spaces import STEPS, Deep, Mixed, Picture, Remember

ENVS = {"Mixed": Mixed, "Picture": Picture, "Remember": Remember}


def config(algo: str, env: str, folder: Path, **overrides):
    settings = {"env__name": f"tests.support.spaces:{env}", "env__num_envs": 16, "env__backend": "serial",
                "train__num_steps": 20, "train__total_steps": 16 * 20 * 40, "eval__final_episodes": 20,
                "policy__lstm": 16 if env == "Remember" else 0, "policy__hidden": [32]}
    if algo != "bc":
        settings |= {"ppo__learning_rate": 5e-3, "ppo__gamma": 0.5, "ppo__num_minibatches": 2}
    return tiny(algo, folder, **settings | overrides)


def demonstrations(env: str, path: Path) -> Path:
    """The right actions, read off the environments themselves."""
    with make_vec(f"tests.support.spaces:{env}", num_envs=8, backend="serial") as vec:
        envs = [e.env.unwrapped for e in vec._puffer.envs]

        def right(obs: np.ndarray, starts: np.ndarray) -> np.ndarray:
            return np.array([np.atleast_1d(e.right) for e in envs], np.int32)

        collect(vec, right, 80, str(path)).save(path)
    return path


def score(recorder: Recorder) -> float:
    return recorder.summary["eval"]["return_mean"] / STEPS


@pytest.mark.parametrize("env", ENVS)
def test_ppo_learns_what_the_observation_says(env, tmp_path):
    assert score(run(config("ppo", env, tmp_path / "run"))) > 0.9


@pytest.mark.parametrize("env", ENVS)
def test_bc_learns_what_was_demonstrated(env, tmp_path):
    demos = demonstrations(env, tmp_path / "demos.npz")
    recorder = run(config("bc", env, tmp_path / "run", demos__source=str(demos), train__total_steps=40_000))
    assert score(recorder) > 0.85
    policy, *_ = load_policy(tmp_path / "run")
    mean, _ = evaluate_policy(policy, ENVS[env](), n_eval_episodes=10, warn=False)
    assert mean > 0.8 * STEPS  # Stable-Baselines3 hands over the unpacked observations


@pytest.mark.parametrize("env", ["Mixed", "Picture"])  # chance gives 0.17 and 0.5
def test_gail_learns_what_was_demonstrated(env, tmp_path):
    demos = demonstrations(env, tmp_path / "demos.npz")
    recorder = run(config("gail", env, tmp_path / "run", demos__source=str(demos), gail__disc_hidden=[32],
                          gail__disc_batch_size=256, gail__disc_updates=8, gail__disc_learning_rate=1e-2,
                          gail__gp_coef=0, ppo__learning_rate=2e-3, ppo__ent_coef=0.03))
    assert score(recorder) > 0.75


@pytest.mark.parametrize("env", [Deep, Mixed])
def test_a_trained_policy_plays_the_environment_by_its_own_observations(env, tmp_path):
    run(config("ppo", env.__name__, tmp_path / "run", train__total_steps=16 * 20))
    policy, *_ = load_policy(tmp_path / "run")
    own = env()
    obs, _ = own.reset(seed=3)
    assert policy.spec.same_spaces(find_creator(env).facts().spec)  # also once it was written and read
    for _ in range(5):
        action, _ = policy.predict(obs)
        assert own.action_space.contains(action)
        obs, *_ = own.step(action)
