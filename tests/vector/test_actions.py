"""Who clips actions: the vector, once, on the way to the environment; the rollout keeps what was sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.core.config import EnvConfig, PolicyConfig
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import FunctionActor, PolicyActor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.evaluate import evaluate, make_eval_vec
from puffer_il.rollout.labeller import Labeller
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec

# The reward of a push a away from the goal is -0.1 a², and the range is -1 to 1.
NAMES = ["mountaincarcontinuous", "gymnasium:MountainCarContinuous-v0"]
SPLITS = [{"backend": "auto"}, {"backend": "multiprocessing", "num_workers": 2}]
CPU = torch.device("cpu")


def paid(actions: np.ndarray, clip: bool) -> np.ndarray:
    return -0.1 * (np.clip(actions, -1, 1) if clip else actions)[..., 0].astype(np.float64) ** 2


def wide_policy(spec) -> Policy:
    torch.manual_seed(0)
    return Policy(spec, PolicyConfig(hidden=(8,), init_log_std=1.0))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_a_c_environment_and_gymnasiums_own_are_paid_alike(name: str, split: dict, clip: bool) -> None:
    actions = np.random.default_rng(0).normal(0, 3, (4, 1)).astype(np.float32)
    with make_vec(name, num_envs=4, clip_actions=clip, **split) as vec:
        vec.reset(1)
        np.testing.assert_allclose(vec.step(actions).rewards, paid(actions, clip), rtol=1e-5)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("name, rows", [(NAMES[0], 32), (NAMES[0], 4), (NAMES[1], 4)])  # by kernels, and step by step
def test_a_rollout_keeps_what_was_sampled_whatever_the_environment_is_given(name: str, rows: int, clip: bool) -> None:
    with make_vec(name, num_envs=rows, clip_actions=clip) as vec:
        policy, buffer = wide_policy(vec.spec), RolloutBuffer(vec.spec, 8, rows)
        Collector(vec, policy, buffer, CPU, seed=3).collect()
        logprobs, _, _ = policy.evaluate(*(torch.from_numpy(x.reshape(-1, x.shape[-1]))
                                           for x in (buffer.obs, buffer.actions)))
    assert np.abs(buffer.actions).max() > 2
    np.testing.assert_allclose(buffer.logprobs.reshape(-1), logprobs.detach(), atol=1e-5)
    np.testing.assert_allclose(buffer.env_rewards, paid(buffer.actions, clip), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_is_paid_as_training_is(name: str) -> None:
    """By the key env.clip_actions, in whole rollouts and step by step: what is beyond the range costs more."""
    returns = {}
    for clip in (True, False):
        config = EnvConfig(num_envs=4, clip_actions=clip, kwargs={"max_episode_steps": 20})
        with make_eval_vec(config, 4, find_creator(name, config.kwargs)) as vec:
            scores = evaluate(vec, PolicyActor(wide_policy(vec.spec), 4, deterministic=False), 4, seed=0)
            returns[clip] = scores.returns.mean()
    assert returns[True] >= -0.1 * 20 and returns[False] < 2 * returns[True]


def full_throttle(obs: np.ndarray) -> np.ndarray:
    """Three times as much as there is."""
    return np.full((len(obs), 1), 3.0, np.float32)


def test_demonstrations_hold_what_was_executed_and_paid_for() -> None:
    demos = puffer_il.collect(full_throttle, NAMES[0], episodes=1, max_episode_steps=5)
    assert demos.actions is not None and (demos.actions == 1).all()
    assert demos.rewards is not None and np.allclose(demos.rewards, -0.1)


class PolicyActs:
    """Of a labelled rollout; the expert is only asked."""

    expert_acts, policy_acts, greedy = False, True, False

    def mix(self, own, expert, starts, rows, obs):
        return own


@pytest.mark.parametrize("stepwise", [True, False])
def test_an_experts_labels_are_what_it_would_execute(stepwise: bool) -> None:
    with make_vec(NAMES[0], num_envs=4) as vec:
        expert = FunctionActor(full_throttle, vec.spec)
        expert.stepwise = stepwise
        buffer = RolloutBuffer(vec.spec, 8, 4, expert=True)
        Collector(vec, wide_policy(vec.spec), buffer, CPU, seed=3, labeller=Labeller(expert, PolicyActs())).collect()
    assert (buffer.expert_actions == 1).all() and np.abs(buffer.actions).max() > 1


def test_how_a_policy_is_paid_can_be_asked_for() -> None:
    clipped, given = (puffer_il.evaluate(full_throttle, NAMES[0], episodes=1, max_episode_steps=5, clip_actions=clip)
                      for clip in (None, False))
    assert clipped["return_mean"] == pytest.approx(-0.5) and given["return_mean"] == pytest.approx(-4.5)
