"""Checks from Python's side: the rows of a vector, Gymnasium's checker, and the speed. They run in child.py."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array
from puffer_il.core.text import quantity
from puffer_il.envkit.check.checked_env import SEED, CheckedEnv, difference_of, random_actions, random_steps, recorded
from puffer_il.envkit.check.results import Check, at_step
from puffer_il.native.native_env import NativeEnv
from puffer_il.vector.vec import Vec

SLOW_C, SLOW_PYTHON = 500, 20  # steps per second below which something is likely to be wrong
OVERHEAD = 0.2  # of the speed in C that should be left in a vector of many environments


def look_at_observations(env: CheckedEnv, check: Check) -> None:
    """Finite, in the space and changing; `rewards` are looked at in the same steps."""
    with env.vec(env.in_process) as vec:
        space, first, varies = env.facts.single_observation_space, None, False
        for step, batch in enumerate(random_steps(vec, SEED, 2_000, env.seconds / 4), 1):
            first = batch.obs.copy() if first is None else first
            varies |= bool((batch.obs != first).any())
            if not np.isfinite(batch.rewards).all():
                check.add(f"a reward is not finite, {at_step(step)}", "look for a division by zero or log of 0")
            if isinstance(space, gymnasium.spaces.Box) and not vec.spec.structured:
                for obs in (batch.obs, batch.final_obs[batch.terminations | batch.truncations]):
                    _in_space(obs, space, step, check)
        check.about = f"{step * vec.num_envs:,} steps"
        if not varies:
            check.add(f"constant: the observation never changes in {step} steps",
                      "does step() return the state that it has moved?")


def _in_space(obs: Array, space: gymnasium.spaces.Box, step: int, check: Check) -> None:
    if check.findings:
        return
    for bad, text in ((~np.isfinite(obs), "becomes"), (obs < space.low, "is below its space:"),
                      (obs > space.high, "is above its space:")):
        if bad.any():
            row, *element = (int(k[0]) for k in np.nonzero(bad))
            check.add(f"{'out of space: ' if 'space' in text else ''}observation{element} {text} "
                      f"{obs[row][tuple(element)]}, {at_step(step)}", "clip it, or correct observation_space")
            return


def look_at_determinism(env: CheckedEnv, check: Check) -> None:
    backend = env.in_process
    difference = difference_of(recorded(env, backend), recorded(env, backend))
    if difference:
        check.add(f"not deterministic: the same seed gives different rows the second time: {difference}",
                  "take all random numbers from self.np_random, after super().reset(seed=seed)")


def look_at_workers(env: CheckedEnv, check: Check) -> None:
    """The rows of 1, 2 and 8 processes and of threads against those of this process."""
    backend = env.in_process
    here = recorded(env, backend)
    if backend == "native" and not env.facts.indexed:
        check.about = "not compared: the batch seeds its environments by itself (it takes no first_env)"
        return
    if env.folder is not None:
        difference = difference_of(*(recorded(env, "native", copies=64, threads=n) for n in (1, 3)))
        if difference:
            check.add(f"3 threads give different rows from one: {difference}",
                      "no static variables: nothing may be shared",
                      compared=True)
    for workers in (1, 2, 8):
        difference = difference_of(here, recorded(env, "multiprocessing", workers=workers))
        if difference:
            check.add(f"{workers} worker{'s give' if workers > 1 else ' process gives'} different rows from this "
                      f"process: {difference}",
                      "the seed and an environment's index must decide everything", compared=True)
            return
    check.about = f"1, 2 and 8 processes{', 3 threads' * (env.folder is not None)}"


def look_at_gymnasium(env: CheckedEnv, check: Check) -> None:
    try:
        single = env.creator.as_gymnasium()
    except InputError:  # several agents, or a PufferEnv
        check.about = "not asked: it only looks at Gymnasium environments with one agent"
        return
    if env.facts.spec.mask is not None:
        check.about = "not asked: it takes actions that the environment says may not be taken"
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about symmetric or unbounded spaces
        try:
            check_env(single.unwrapped, skip_render_check=True)
        except Exception as error:
            check.add(f"gymnasium.utils.env_checker: {one_line(error)}", "see https://gymnasium.farama.org/api/env",
                      compared=True)
    single.close()


def look_at_speed(env: CheckedEnv, check: Check) -> None:
    """Steps per second: of C alone, where it is C, and through the vector as training does it."""
    share = env.seconds / 8
    if env.folder is None:
        with env.vec(env.in_process) as vec:
            rate = _rate(vec.step, vec, share)
        check.about = f"{quantity(rate)} steps/s in one process"
        if rate < SLOW_PYTHON:
            check.add(f"only {quantity(rate)} steps/s", "profile step(): it bounds how fast anything can learn", False)
        return
    for copies in (64, 1_024):
        native = NativeEnv(env.folder, copies, **env.kwargs)
        native.reset(0)
        with env.vec("native", copies=copies) as vec:
            alone, whole = _rate(native.step, vec, share / 2), _rate(vec.step, vec, share / 2)
        native.close()
        if alone < 20_000:
            break
    check.about = f"{quantity(alone)} steps/s in C on one core, {quantity(whole)} through the vector of {copies:,}"
    if alone < SLOW_C:
        check.add(f"only {quantity(alone)} steps/s in C", "profile c_step: no malloc, no files, nothing that is "
                  "computed anew although it never changes", False)
    elif whole < OVERHEAD * alone:
        check.add(f"the vector has only {whole / alone:.0%} of the speed in C", "large observations are copied; see "
                  "'puffer-il env bench'", False)


def _rate(step: Callable[[Array], Any], vec: Vec, seconds: float) -> float:
    """Rows per second."""
    rng = np.random.default_rng(0)
    vec.reset(0)
    actions = random_actions(vec, rng)
    step(actions)
    count, begin = 0, time.perf_counter()
    while (took := time.perf_counter() - begin) < seconds:
        if vec.spec.mask is not None:
            actions = random_actions(vec, rng)
        step(actions)
        count += 1
    return max(count, 1) * vec.num_envs / took


PYTHON_CHECKS: dict[str, Callable[[CheckedEnv, Check], None]] = {
    "observations": look_at_observations, "determinism": look_at_determinism, "workers": look_at_workers,
    "gymnasium": look_at_gymnasium, "speed": look_at_speed,
}
