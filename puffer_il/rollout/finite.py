"""Whether what environments and policies give is finite: a whole rollout is looked at, before anything learns of it.

What an environment gives is not mended by smaller steps of the learner: it is named and ends the run (NotFinite), or
its rows are left out (`env.on_nan`). What a policy does that is not finite has diverged (Diverged).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from puffer_il.core.errors import Diverged, NotFinite
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.vector.vec import Vec

REMEDY = "let it give finite numbers (0 for a reward that it does not know), or set env.on_nan = 'mask'"


def all_finite(array: Array) -> bool:
    """By the sum, which NaN and infinity do not leave: one pass without memory. A sum that is too large is no sum of
    numbers that are not finite, so that then each is looked at."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def not_finite(rows: Array, spec: EnvSpec) -> Array | None:
    """(n,) bool of observations (n, *obs_shape), where a number is NaN or infinite; None where all are finite."""
    bad: Array | None = None
    plain = not spec.structured
    for field in (f for f in spec.obs_fields if f.dtype.kind == "f"):
        values = rows if plain else field.of(rows)
        if not all_finite(values):
            wrong = ~np.isfinite(values).reshape(len(rows), -1).all(1)
            bad = wrong if bad is None else bad | wrong
    return bad


def seen(rows: Array, spec: EnvSpec) -> str:
    """What is not finite in observations of which some row is not, and where: "nan in column 3 of 'speed'"."""
    for field in (f for f in spec.obs_fields if f.dtype.kind == "f"):
        values = field.of(rows).reshape(len(rows), field.size)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            part = f" of {field.name!r}" if len(spec.obs_fields) > 1 else ""
            return f"{values[tuple(bad[0])]} in column {bad[0][1]}{part}"
    raise ValueError("all rows are finite")


class Faults:
    """What an environment gave in a rollout that is not finite.

    rows  (num_steps, num_envs) bool: where an observation, its successor or the reward is not
    """

    def __init__(self, buffer: RolloutBuffer, spec: EnvSpec, wrong: dict[str, Array | None]) -> None:
        size = (buffer.num_steps, buffer.num_envs)
        self.buffer, self.spec = buffer, spec
        self.rewards = np.zeros(size, bool) if wrong["rewards"] is None else wrong["rewards"]
        self.obs = np.zeros(size, bool) if wrong["obs"] is None else wrong["obs"].reshape(size)
        self.last = np.zeros(size[1], bool) if wrong["last"] is None else wrong["last"]
        goes_on = ~(buffer.terminations | buffer.truncations)
        self.rows = self.rewards | self.obs
        self.rows[:-1] |= self.obs[1:] & goes_on[:-1]
        self.rows[-1] |= self.last & goes_on[-1]
        if wrong["final"] is not None:
            self.rows.reshape(-1)[buffer.final_index[wrong["final"]]] = True

    @classmethod
    def of(cls, buffer: RolloutBuffer, spec: EnvSpec) -> Faults | None:
        """None where all is finite, which takes a pass over the observations."""
        flat = buffer.obs.reshape(-1, *spec.obs_shape)
        wrong = {"rewards": None if all_finite(buffer.env_rewards) else ~np.isfinite(buffer.env_rewards),
                 "obs": not_finite(flat, spec), "last": not_finite(buffer.last_obs, spec),
                 "final": not_finite(buffer.final_obs, spec)}
        return None if all(x is None for x in wrong.values()) else cls(buffer, spec, wrong)

    @property
    def first(self) -> tuple[int, int] | None:
        """Step and row of the first; None if there is none in rows that count."""
        found = np.argwhere(self.rows & self.buffer.valid)
        return (int(found[0][0]), int(found[0][1])) if len(found) else None

    def told(self) -> str:
        """What the first of them is."""
        assert self.first is not None
        (step, row), buffer = self.first, self.buffer
        if self.rewards[step, row]:
            return (f"the reward of row {row} in step {step} of the rollout is {buffer.env_rewards[step, row]} (look "
                    "for a division by zero, or the log of 0)")
        if not self.obs[step, row]:  # its successor is not
            which = np.flatnonzero(buffer.final_index == step * buffer.num_envs + row)
            given = buffer.final_obs[which] if len(which) else buffer.last_obs[row:row + 1]
            if not len(which) and step + 1 < buffer.num_steps:
                given = buffer.obs[step + 1, row:row + 1]
            return f"an observation is {seen(given, self.spec)}, after step {step} of the rollout in row {row}"
        return (f"an observation is {seen(buffer.obs[step, row:row + 1], self.spec)}, in step {step} of the rollout in "
                f"row {row}")

    def leave_out(self, recurrent: bool) -> int:
        """Leave those rows out of the rollout, and of a `recurrent` policy all that follow, as it remembers; how many
        rows those are."""
        if recurrent:
            self.rows = np.logical_or.accumulate(self.rows)
        dropped = int((self.rows & self.buffer.valid).sum())
        self.buffer.drop(self.rows, self.obs, self.last)
        return dropped


class Guard:
    """Looks at the rollouts of a vector before anything learns of them.

    left_out  rows of the last one that are left out
    notices   what the user should be told, once
    """

    def __init__(self, vec: Vec) -> None:
        self.vec, self.left_out, self.warned = vec, 0, False
        self.notices: list[str] = []

    def look(self, buffer: RolloutBuffer, steps: int, recurrent: bool) -> Array:
        """(num_envs,) bool, where the last row is left out. NotFinite names what the environment gave, `steps` after it
        had begun, and Diverged what the policy did."""
        spec, faults = self.vec.spec, Faults.of(buffer, self.vec.spec)
        self.left_out = 0
        check_actions(buffer, faults, recurrent)
        if faults is None:
            return np.zeros(buffer.num_envs, bool)
        if faults.first is not None:
            step, row = faults.first
            told = (f"environment {spec.name!r}: {faults.told()}; that is step {steps + step + 1:,} of "
                    f"{self.vec.origin(row)}")
            if not self.vec.masks_nan:
                raise NotFinite(f"{told}; {REMEDY}")
            if (buffer.valid <= faults.rows).all():
                raise NotFinite(f"{told}, and no row of the rollout is left; let it give finite numbers")
            if not self.warned:
                self.notices.append(f"{told}; such rows are left out, as env.on_nan = 'mask' says")
            self.warned = True
        self.left_out = faults.leave_out(recurrent)
        return faults.rows[-1]


def check_rollout(vec: Vec, buffer: RolloutBuffer, playing: Array, steps: int) -> None:
    """NotFinite names what the environment gave in an evaluation, in one of the rows (num_envs,) bool that still play,
    `steps` after it had begun."""
    faults = Faults.of(buffer, vec.spec)
    if faults is not None:
        faults.rows &= playing
        if faults.first is not None:
            raise _of_evaluation(vec, faults.told(), faults.first[1], steps + faults.first[0] + 1)


def wrong_rows(vec: Vec, obs: Array, rewards: Array, playing: Array, ended: Array, step: int) -> Array | None:
    """(num_envs,) bool of those rows, in a step of an evaluation by single steps, in which the reward is not finite or
    the observation that the policy is to act on; None where all is finite. NotFinite unless such rows are masked."""
    bad, unpaid = not_finite(obs, vec.spec), None if all_finite(rewards) else ~np.isfinite(rewards)
    if bad is None and unpaid is None:
        return None
    wrong = playing & ((bad & ~ended if bad is not None else False) | (unpaid if unpaid is not None else False))
    if not wrong.any():
        return None
    row = int(np.argmax(wrong))
    if not vec.masks_nan:
        told = f"the reward of row {row} is {rewards[row]}" if unpaid is not None and unpaid[row] else (
            f"an observation is {seen(obs[row:row + 1], vec.spec)}, in row {row}")
        raise _of_evaluation(vec, told, row, step)
    return wrong


def _of_evaluation(vec: Vec, told: str, row: int, step: int) -> NotFinite:
    return NotFinite(f"environment {vec.spec.name!r}: in an evaluation, {told}; that is step {step:,} of "
                     f"{vec.origin(row)}; {REMEDY}")


def check_actions(buffer: RolloutBuffer, faults: Faults | None, recurrent: bool) -> None:
    """Diverged if the policy's own action is not finite, although it saw nothing of the kind before."""
    if buffer.action.discrete or all_finite(buffer.actions):
        return
    wrong = ~np.isfinite(buffer.actions).all(-1) & buffer.valid
    if faults is not None:
        before = np.logical_or.accumulate(faults.obs) if recurrent else faults.obs
        wrong &= ~before
    found = np.argwhere(wrong)
    if len(found) and (faults is None or faults.first is None or found[0][0] <= faults.first[0]):
        step, row = found[0]
        action: Any = buffer.actions[step, row]
        raise Diverged(f"the policy's action of row {row} in step {step} of the rollout is "
                       f"{action[~np.isfinite(action)][0]}, for an observation that is finite")


def check_answers(buffer: RolloutBuffer, spec: EnvSpec) -> None:
    """NotFinite if what the expert would have done is not."""
    answers = buffer.expert_actions
    if answers is None or buffer.action.discrete or all_finite(answers):
        return
    found = np.argwhere(~np.isfinite(answers).all(-1) & buffer.valid)
    if len(found):
        step, row = found[0]
        raise NotFinite(f"environment {spec.name!r}: the expert's action of row {row} in step {step} of the rollout is "
                        "NaN or infinite; mend the expert (c_expert) that is asked")
