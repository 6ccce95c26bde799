"""Rewards that are several numbers, as multi-objective environments (mo-gymnasium) give them: weighted into one."""

from typing import Any, NoReturn

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array

KEY = "reward_weights"  # among the environment's parameters, but not given to it


def read_weights(value: Any) -> Array | None:
    """float64 (k,) the weights that the user gave; None without any. InputError for anything but finite numbers."""
    if value is None:
        return None
    try:
        weights = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        weights = np.zeros(0)
    if weights.ndim != 1 or not weights.size or not np.isfinite(weights).all():
        raise InputError(f"env.kwargs.{KEY} = {value!r}: give a list of numbers, one for each part of the reward, such "
                         "as [1.0, -0.5]")
    return weights


def check_rewards(env: Any, weights: Array | None) -> None:
    """InputError if `env` declares rewards of another number of parts than there are weights (`reward_space`, as
    mo-gymnasium has it), or single ones although there are weights."""
    space = getattr(env, "reward_space", getattr(getattr(env, "unwrapped", env), "reward_space", None))
    parts = int(np.prod(space.shape)) if space is not None and getattr(space, "shape", None) else 0
    if parts and (weights is None or len(weights) != parts):
        refuse(parts, weights)


def one_number(rewards: Any, weights: Array | None, shape: tuple[int, ...] = ()) -> Any:
    """Rewards of `shape`, () for one environment: as they are, or those of (*shape, k) weighted. InputError for others,
    so that no part of a reward is lost."""
    given = np.asarray(rewards)
    if given.dtype.kind not in "biuf":
        raise InputError(f"its reward is {rewards!r}; return a number")
    if weights is None:
        if given.shape != shape and given.size != int(np.prod(shape)):
            refuse(given.shape[-1] if given.shape[:len(shape)] == shape else given.size, None)
        return given.reshape(shape)
    if given.shape != (*shape, len(weights)):
        refuse(given.shape[-1] if given.ndim > len(shape) else 1, weights)
    return given @ weights


def refuse(parts: int, weights: Array | None) -> NoReturn:
    told = "" if weights is None else f", but env.kwargs.{KEY} has {len(weights)}"
    remedy = "leave it out" if parts == 1 else (
        f"give their weights as env.kwargs.{KEY}, or wrap the environment (mo_gymnasium.wrappers.LinearReward)")
    raise InputError(f"its reward is {parts} number{'s' * (parts > 1)}{told}; {remedy}")
