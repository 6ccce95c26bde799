"""The parts of a run; objects in place of names; callbacks."""

from __future__ import annotations

import time
from contextlib import ExitStack

import gymnasium
import numpy as np
import pytest

import puffer_il
from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.learners.experiment import replaced, section_types
from puffer_il.learners.registry import learner_names
from puffer_il.training.assemble import assemble
from puffer_il.training.run_dir import prepare_run_dir
from puffer_il.training.trainer import train
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny


def train_with(config, **given):
    return train(config, [], prepare_run_dir(config), **given)


def test_demonstrations_given_as_an_object_teach_as_their_file_does(tmp_path):
    path = scripted_cartpole_demos(tmp_path / "d.npz")
    run(tiny("bc", tmp_path / "file", demos__source=str(path), demos__episodes=3))
    result = train_with(tiny("bc", tmp_path / "object", demos__episodes=3), demos=read_demos(path))
    assert same_state(result.policy.state_dict(), final_state(tmp_path / "file")["policy"])
    assert result.summary["demos"]["episodes"] == 3 and result.run_dir == tmp_path / "object"


def test_an_environment_given_as_a_function_is_trained_and_scored_on(tmp_path):
    made = []

    def make_env(**kwargs):
        made.append(kwargs)
        return gymnasium.make("CartPole-v1", **kwargs)

    config = tiny("ppo", tmp_path / "function", env__name="mine", env__num_envs=4, env__backend="serial",
                  env__kwargs={"max_episode_steps": 7}, eval__deterministic=False)
    result = train_with(config, make_env=make_env)
    assert made[-1] == {"max_episode_steps": 7} and result.spec.name == result.summary["env"] == "mine"
    assert result.summary["eval"]["length_mean"] == 7
    run(replaced(config, {"env.name": "CartPole-v1", "train.run_dir": str(tmp_path / "name")}))
    assert same_state(result.policy.state_dict(), final_state(tmp_path / "name")["policy"])


def test_a_function_works_in_worker_processes_too(tmp_path):
    config = tiny("ppo", tmp_path / "run", env__name="mine", env__num_envs=4, env__num_workers=2)
    result = train_with(config, make_env=lambda: gymnasium.make("CartPole-v1", max_episode_steps=7))
    assert result.summary["eval"]["episodes"] == 3


OFF_POLICY = [name for name in learner_names() if "sac" in section_types(name)]


@pytest.mark.parametrize("algo", OFF_POLICY)
def test_off_policy_learners_squash_continuous_actions_by_themselves(algo, tmp_path):
    demos = puffer_il.collect("script", "mountaincarcontinuous", episodes=2)
    config = tiny(algo, tmp_path / "run", env__name="mountaincarcontinuous", demos__source="given")
    assert config.policy.squash and not tiny("gail", tmp_path / "other").policy.squash
    given = {"demos": demos} if algo != "sac" else {}
    assert train_with(replaced(config, {"demos.source": ""}), **given).summary["eval"]["episodes"] == 3
    with pytest.raises(InputError, match=r"policy\.squash = False"):
        train_with(replaced(config, {"policy.squash": False, "train.run_dir": str(tmp_path / "no")}), demos=demos)


@pytest.mark.parametrize("algo", OFF_POLICY)
def test_off_policy_learners_refuse_actions_without_bounds_and_name_no_key_that_would_not_help(algo, tmp_path):
    def make_env():
        env = gymnasium.make("Pendulum-v1")
        env.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
        return env

    config = tiny(algo, tmp_path / "run", env__name="mine", env__backend="serial")
    with ExitStack() as stack, pytest.raises(InputError, match=f"{algo} is for actions within bounds but"):
        assemble(config, stack, make_env=make_env)


def test_a_callback_sees_every_iteration_and_may_end_the_run(tmp_path):
    seen = []

    def callback(metrics):
        seen.append(metrics["env_steps"])
        return len(seen) < 2

    summary = train_with(tiny("ppo", tmp_path / "cut"), callback=callback).summary
    assert seen == [256, 512] and summary["env_steps"] == 512
    assert summary["status"] == "finished" and summary["eval"]["episodes"] == 3
    seen.clear()
    summary = train_with(tiny("ppo", tmp_path / "whole"), callback=lambda metrics: seen.append(metrics)).summary
    assert len(seen) == 4 and summary["env_steps"] == 1024 and np.isfinite(seen[0]["SPS"])


def test_the_clock_of_a_run_counts_from_where_it_is_told(tmp_path):
    waited = train_with(tiny("ppo", tmp_path / "waited"), began=time.monotonic() - 100).summary
    fresh = train_with(tiny("ppo", tmp_path / "fresh")).summary
    assert waited["wall_s"] > 100 > fresh["wall_s"] > fresh["train_s"]


def test_what_is_missing_is_asked_for(tmp_path):
    with pytest.raises(InputError, match="--demos"):
        train_with(tiny("gail", tmp_path / "run"))


def test_the_seed_of_the_run_is_that_of_its_training_environments(tmp_path):
    def first_obs(seed: int) -> np.ndarray:
        with ExitStack() as stack:
            collector = assemble(tiny("ppo", tmp_path / "run", train__seed=seed), stack).collector
            return collector.collect().obs[0].copy()

    assert np.array_equal(first_obs(3), first_obs(3)) and not np.array_equal(first_obs(3), first_obs(4))
