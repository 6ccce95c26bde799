"""One drawn environment held against the slow reference: collecting, training rows, files, and predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puffer_il.core.checkpoint import spec_from_state, spec_to_state
from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec
from puffer_il.demos import collect, load_demos, read_demos
from puffer_il.nn import Policy
from puffer_il.nn.observations import Flatten
from puffer_il.rollout.actors import RandomActor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.vector.vec import make_vec
from tests.support.anything import Anything, Plan, Step, leaves, read, seen, told_inside

ENVS, STEPS, EPISODES = 2, 6, 3


def check(plan: Plan, folder: Path) -> None:
    """AssertionError wherever anything arrives as another number than was given."""
    if told_inside(plan) and len(list(leaves(plan.observation))) == 1:
        with pytest.raises(InputError, match="nothing but 'action_mask'"):
            make_vec(lambda: Anything(plan), num_envs=ENVS, backend="serial")
        return
    with make_vec(lambda: Anything(plan), num_envs=ENVS, backend="serial") as vec:
        spec, envs = vec.spec, [env.original for env in vec.envs]
        restored = spec_from_state(spec_to_state(spec))
        assert restored == spec
        demos = collect(vec, RandomActor(spec, plan.seed), EPISODES, "drawn", seed=plan.seed)
        rows = [env.steps[:_episodes(env.steps, count)] for env, count in zip(envs, (2, 1), strict=True)]
        _same_demos(plan, spec, demos, rows[0] + rows[1])
        demos.save(folder / "d.npz")
        fitted = load_demos(demos, spec)
        again = load_demos(folder / "d.npz", spec)
        for name in ("obs", "actions", "next_obs", "rewards", "terminations", "truncations"):
            np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name), strict=True)
        _same_demos(plan, spec, read_demos(folder / "d.npz"), rows[0] + rows[1])

        policy = Policy(spec, PolicyConfig(hidden=(3,)))
        buffer = RolloutBuffer(spec, STEPS, ENVS)
        collector = Collector(vec, policy, buffer, torch.device("cpu"), plan.seed)
        for first in (0, 1):  # episodes go on from one rollout to the next
            kept = [len(env.steps) for env in envs] if first else [0] * ENVS
            collector.collect()
            _same_rollout(plan, spec, buffer, [env.steps[n:] for env, n in zip(envs, kept, strict=True)])
        _same_predictions(plan, policy, [step for env in envs for step in env.steps][:3])


def _episodes(steps: list[Step], count: int) -> int:
    """How many steps the first `count` episodes have."""
    ends = [k + 1 for k, step in enumerate(steps) if step.terminated or step.truncated]
    return ends[count - 1]


def same(space: Any, found: Any, given: Any) -> None:
    """The same leaves: found ones (of a batch of one) and given ones."""
    for (path, a), (other, b) in zip(read(space, found), read(space, given), strict=True):
        assert path == other
        np.testing.assert_array_equal(a.reshape(b.shape), b, err_msg=str(path))


def one(batch: Any, k: int = 0) -> Any:
    """The k-th of a batch."""
    if isinstance(batch, dict):
        return {key: one(part, k) for key, part in batch.items()}
    return tuple(one(part, k) for part in batch) if isinstance(batch, tuple) else batch[k]


def _same_rows(plan: Plan, spec: EnvSpec, obs: np.ndarray, next_obs: np.ndarray, actions: np.ndarray,
               steps: list[Step]) -> None:
    """Rows (n, …) are what the environment gave and took in n steps, and networks see that of them."""
    assert len(obs) == len(steps)
    if not steps:
        return
    before, after, done = spec.unpack(obs), spec.unpack(next_obs), spec.action.to_env(actions)
    sees = Flatten(spec)(torch.tensor(obs)).numpy()
    for k, step in enumerate(steps):
        same(plan.observation, one(before, k), step.obs)
        same(plan.observation, one(after, k), step.next_obs)
        same(plan.action, one(done, k), step.action)
        if step.mask is not None:
            assert spec.mask is not None
            np.testing.assert_array_equal(spec.mask.of(obs[k:k + 1])[0] != 0, step.mask != 0)
    np.testing.assert_allclose(sees, np.stack([seen(plan, step.obs) for step in steps]), rtol=1e-6)


def _same_demos(plan: Plan, spec: EnvSpec, demos: Any, steps: list[Step]) -> None:
    _same_rows(plan, spec, demos.obs, demos.next_obs, spec.action.chosen(demos.actions), steps)
    for name, wanted in (("rewards", "reward"), ("terminations", "terminated"), ("truncations", "truncated")):
        np.testing.assert_array_equal(getattr(demos, name), [getattr(step, wanted) for step in steps])


def _same_rollout(plan: Plan, spec: EnvSpec, buffer: RolloutBuffer, taken: list[list[Step]]) -> None:
    following = buffer.next_obs().reshape(buffer.obs.shape)
    for env, steps in enumerate(taken):
        valid = buffer.valid[:, env]
        _same_rows(plan, spec, buffer.obs[valid, env], following[valid, env], buffer.actions[valid, env], steps)
        for name, wanted in (("rewards", "reward"), ("terminations", "terminated"), ("truncations", "truncated")):
            np.testing.assert_array_equal(getattr(buffer, name)[valid, env], [getattr(step, wanted) for step in steps])


def _same_predictions(plan: Plan, policy: Policy, steps: list[Step]) -> None:
    """An action for the environment's own observation is that of its row, alone and in a batch, and in its space."""
    spec, rows = policy.spec, []
    for step in steps:
        masks = {} if step.mask is None else {"action_masks": step.mask}
        row, _ = spec.pack(step.obs, step.mask)
        rows.append(row)
        action, _ = policy.predict(step.obs, deterministic=True, **masks)
        assert plan.action.contains(action), f"{action!r} is not in {plan.action}"
        acted = policy.act(torch.tensor(row), deterministic=True)[0].numpy()
        same(plan.action, action, one(spec.action.to_env(acted)))
    whole = np.concatenate(rows)
    batch, _ = policy.predict(spec.unpack(whole), deterministic=True, **(
        {} if steps[0].mask is None else {"action_masks": np.stack([step.mask for step in steps])}))
    np.testing.assert_array_equal(spec.pack(spec.unpack(whole), None if steps[0].mask is None else np.stack(
        [step.mask for step in steps]))[0], whole)
    acted = spec.action.to_env(policy.act(torch.tensor(whole), deterministic=True)[0].numpy())
    for (_, _, a), (_, _, b) in zip(leaves(plan.action, batch), leaves(plan.action, acted), strict=True):
        np.testing.assert_array_equal(a, b)
