"""The buffers against the memory they live in: advantages, writes, gathers, copies, replays. One thread each."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from puffer_il.bench.limits import Limits, Stage, measure_stage
from puffer_il.bench.measure import Effort, Say
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.rollout.buffer import ACTION_FIELDS, OUTCOME_FIELDS, ROW_FIELDS, RolloutBuffer
from puffer_il.rollout.replay import FIELDS, ReplayBuffer

CARTPOLE = EnvSpec("cartpole", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
END_SHARE = 0.02  # of all rows


def buffers(results: list[dict[str, Any]], num_envs: tuple[int, ...], num_steps: int, effort: Effort, say: Say) -> None:
    """Buffers of CartPole's rows: the usual one fits the shared cache, a large one does not."""
    limits = Limits()
    for n in num_envs:
        buffer = random_rollout(CARTPOLE, num_steps, n)
        for stage in (*buffer_stages(buffer, limits), *replay_stages(CARTPOLE, buffer, limits)):
            say(f"buffer: {stage.name}, {n:,} environments")
            results.append({**measure_stage(stage, effort), "num_envs": n, "num_steps": num_steps})


def random_rollout(spec: EnvSpec, num_steps: int, num_envs: int) -> RolloutBuffer:
    """A buffer as if a rollout had filled it."""
    rng, buffer = np.random.default_rng(0), RolloutBuffer(spec, num_steps, num_envs)
    buffer.obs[:] = rng.standard_normal(buffer.obs.shape, np.float32)
    if spec.action.discrete:
        buffer.actions[:] = rng.integers(0, spec.action.nvec, buffer.actions.shape)
    else:
        buffer.actions[:] = rng.standard_normal(buffer.actions.shape, np.float32)
    for array in (buffer.rewards, buffer.values, buffer.advantages, buffer.returns, buffer.last_values):
        array[:] = rng.standard_normal(array.shape, np.float32)
    buffer.logprobs[:] = -rng.random(buffer.logprobs.shape, np.float32)
    buffer.terminations[:] = rng.random(buffer.terminations.shape) < END_SHARE
    buffer.valid[:] = True
    return buffer


def row_bytes(buffer: RolloutBuffer, names: tuple[str, ...]) -> int:
    """Of one environment step in these fields."""
    return sum(getattr(buffer, name).nbytes for name in names) // (buffer.num_steps * buffer.num_envs)


def buffer_stages(buffer: RolloutBuffer, limits: Limits) -> Iterator[Stage]:
    """The bytes are those that must move at least; the limit moves as many, in arrays of about the same size."""
    n, steps = buffer.num_envs, buffer.num_steps
    rows, everything = n * steps, row_bytes(buffer, ROW_FIELDS)
    gae = row_bytes(buffer, ("rewards", "values", "final_values", "terminations", "truncations", "valid", "advantages",
                             "returns"))
    yield Stage("GAE", lambda: buffer.compute_advantages(0.99, 0.95), rows, 1,
                [limits.bytes("triad", gae * rows, gae * rows)])
    written = row_bytes(buffer, (*ACTION_FIELDS, *OUTCOME_FIELDS))
    yield Stage("buffer: writes", _writer(buffer), rows, 1, [limits.bytes("fill", written * rows, written * rows)])
    rng = np.random.default_rng(0)
    columns = np.sort(rng.permutation(n)[:max(1, n // 4)])
    yield Stage("minibatch: a quarter, columns", lambda: buffer.minibatch(columns), len(columns) * steps, 1,
                [limits.bytes("copy", 2 * everything * len(columns) * steps, everything * rows)])
    index = rng.permutation(rows)[:max(1, rows // 4)]
    yield Stage("minibatch: a quarter, rows", lambda: buffer.minibatch_rows(index), len(index), 1,
                [limits.bytes("copy", 2 * everything * len(index), everything * rows)])
    yield Stage("copies: next observations", buffer.next_obs, rows, 1,
                [limits.bytes("copy", 2 * buffer.obs.nbytes, 2 * buffer.obs.nbytes)])


def replay_stages(spec: EnvSpec, buffer: RolloutBuffer, limits: Limits) -> Iterator[Stage]:
    """A replay of four rollouts. Drawing its indices takes time as well, but moves no bytes of a row."""
    rows = buffer.num_steps * buffer.num_envs
    replay = ReplayBuffer(spec, 4 * rows, 0)
    for _ in range(4):
        replay.append_rollout(buffer)
    width = sum(getattr(replay.rows, name).nbytes for name in FIELDS) // replay.capacity
    yield Stage("replay: append a rollout", lambda: replay.append_rollout(buffer), rows, 1,
                [limits.bytes("copy", 2 * width * rows, 2 * width * rows)])
    yield Stage("replay: draw minibatches", lambda: replay.sample(32, 128), 32 * 128, 1,
                [limits.bytes("copy", 2 * width * 32 * 128, width * replay.capacity)])


def _writer(buffer: RolloutBuffer) -> Any:
    """Writes a whole rollout, step by step, as a collector does that cannot use the kernels. What is written comes
    from the cache, as it would from the environments, so only the writing counts."""
    obs, actions, logprobs, values, rewards = (array[0].copy() for array in (
        buffer.obs, buffer.actions, buffer.logprobs, buffer.values, buffer.rewards))
    ends, valid, rows = np.zeros(buffer.num_envs, bool), np.ones(buffer.num_envs, bool), slice(0, buffer.num_envs)

    def work() -> None:
        for t in range(buffer.num_steps):
            buffer.write_actions(t, rows, obs, actions, logprobs, values)
            buffer.write_outcome(t, rows, rewards, ends, ends, valid, obs)

    return work
