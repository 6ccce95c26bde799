"""What demonstrations are, and whether they fit an environment."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos.actions import is_one_hot, seems_one_hot
from puffer_il.demos.dataset import Demos
from puffer_il.demos.fields import fields_of
from puffer_il.demos.rows import blocks

TOLERANCE = 1e-5  # how far an action may lie outside its range, relative to it: float32 rounding of a recorder
SHOWN = 5  # how many columns a line names


def check_fit(demos: Demos, spec: EnvSpec) -> None:
    """InputError, naming both sides, unless observations (once `relaid`) and actions are those of `spec`."""
    for misfit in misfits(demos, spec):
        raise InputError(f"demos {demos.source}: {misfit}")


def describe(demos: Demos) -> dict[str, Any]:
    """Numbers for people and JSON: episodes, transitions, lengths, returns, ends, arrays, the parts of observations and
    actions ("fields"), notes.

    Lengths and returns are those of whole episodes, `sd` is the population's; `open` episodes have no end flag.
    """
    terminated, truncated = int(demos.terminated.sum()), int(demos.truncated.sum())
    arrays = {name: getattr(demos, name) for name in ("obs", "actions", "weights", "states")}
    return {
        "source": demos.source, "episodes": demos.num_episodes, "transitions": len(demos),
        "lengths": _summary(demos.whole_lengths),
        "returns": None if demos.returns is None else _summary(demos.returns),
        "terminated": terminated, "truncated": truncated, "open": demos.num_episodes - terminated - truncated,
        **{name: None if array is None else {"shape": list(array.shape[1:]), "dtype": str(array.dtype),
                                             "min": array.min().item(), "max": array.max().item()}
           for name, array in arrays.items()},
        "fields": fields_of(demos),
        "pictures": None if demos.pictures is None else str(demos.pictures), "notes": list(demos.notes),
    }


def _summary(values: Array) -> dict[str, float]:
    return {"mean": float(values.mean()), "sd": float(values.std()), "min": float(values.min()),
            "max": float(values.max())}


def misfits(demos: Demos, spec: EnvSpec) -> Iterator[str]:
    """What makes the demonstrations unusable in that environment, a line each."""
    shape = demos.obs.shape[1:]
    if shape != spec.obs_shape and (shape, spec.obs_shape) != ((), (1,)):  # `fit` makes rows of bare numbers
        yield (f"observations have shape {shape} but {spec.name} has {spec.obs_shape}; use demonstrations of this "
               "environment")
    elif (bad := inexact(demos.obs, spec.obs_dtype)) is not None:
        yield (f"obs holds {bad} but {spec.name} has {spec.obs_dtype} observations; record them as the environment "
               "gives them")
    else:
        yield from _pixel_misfits(demos.obs, spec)
    if demos.actions is None:
        return
    columns, action = demos.actions.shape[1], spec.action
    if seems_one_hot(demos.actions, action):
        yield _no_choice(demos.actions, spec)
    elif columns not in (action.dim, action.width):
        yield f"actions have {columns} columns but {spec.name} takes {action.width}; use demonstrations of it"
    elif action.discrete:
        wrong = list(_discrete_misfits(demos.actions, spec))
        yield from wrong or _masked_misfits(demos, spec)
    else:
        yield from _range_misfits(demos.actions, action, spec.name)


def _no_choice(actions: Array, spec: EnvSpec) -> str:
    """Of actions with a column for each choice, which row is not one-hot."""
    parts = np.split(actions, np.cumsum(spec.action.nvec)[:-1], axis=1)
    wrong = ~np.stack([is_one_hot(part) for part in parts]).all(0)
    first = int(np.argmax(wrong))
    row = ", ".join(f"{x:.4g}" for x in actions[first][:SHOWN]) + (", …" if actions.shape[1] > SHOWN else "")
    return (f"actions have a column for each of {actions.shape[1]} choices of {spec.name}, but row {first} is {row}, "
            "not a single 1 and zeros; give the number of the choice, not how likely it was")


def _pixel_misfits(obs: Array, spec: EnvSpec) -> Iterator[str]:
    """Pictures of bytes where the environment has floats, which as a rule are shares of 1."""
    if obs.dtype == np.uint8 and obs.ndim == 4 and spec.obs_dtype.kind == "f" and obs.max() > 1:
        yield (f"pictures are bytes up to {obs.max()} but {spec.name} has {spec.obs_dtype} ones; bring them to its "
               f"scale and to {spec.obs_dtype}")


def inexact(array: Array, dtype: np.dtype) -> Any:
    """A value that `dtype`, if it is one of integers, cannot hold; None if there is none."""
    if dtype.kind not in "biu" or array.dtype == dtype:
        return None
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    wrong = (array < low) | (array > high) | (array != np.floor(array))
    return array[wrong][0].item() if wrong.any() else None


def _discrete_misfits(actions: Array, spec: EnvSpec) -> Iterator[str]:
    for column, count in enumerate(spec.action.nvec):
        values = actions[:, column]
        wrong = np.flatnonzero((values < 0) | (values >= count) | (values != np.floor(values)))
        if len(wrong):
            yield (f"action {values[wrong[0]].item()} in row {wrong[0]} but {spec.name} takes whole numbers "
                   f"{_numbers(spec.action, column)} in column {column}; use demonstrations of that environment")


def _numbers(action: ActionSpec, column: int) -> str:
    """The choices of a column as the environment numbers them, and how demonstrations do."""
    count, start = action.nvec[column], action.start[column] if action.start else 0
    stored = f", or 0..{count - 1} counted from 0," if start else ""
    return f"{start}..{start + count - 1}{stored}"


def _masked_misfits(demos: Demos, spec: EnvSpec) -> Iterator[str]:
    if spec.mask is None or demos.actions is None or demos.obs.shape[1:] != spec.obs_shape:
        return
    wrong = np.flatnonzero(np.concatenate(
        [spec.forbidden(demos.obs[part], demos.actions[part]) for part in blocks(demos.obs)]))
    if len(wrong):
        yield (f"action {demos.actions[wrong[0]].tolist()} in row {wrong[0]} is one that its observation says may not "
               f"be taken ({len(wrong)} of {len(demos)} rows); remove those episodes, or correct the recorder's masks")


def _range_misfits(actions: Array, action: ActionSpec, name: str) -> Iterator[str]:
    low, high = (np.asarray(bound, np.float64) for bound in (action.low, action.high))
    if actions.shape[1] != action.dim:  # the locked ones too
        low, high = (action.whole(bound[None])[0] for bound in (low, high))
    finite = np.isfinite(low) & np.isfinite(high)
    slack = TOLERANCE * np.where(finite & (high > low), high - low, np.maximum(1.0, np.abs(np.where(finite, low, 1.0))))
    wrong = (actions < low - slack) | (actions > high + slack)
    if wrong.any():
        column = int(np.argmax(wrong.any(0)))
        values = actions[:, column]
        yield (f"row {np.argmax(wrong.any(1))}: actions in column {column} range over [{values.min():.4g}, "
               f"{values.max():.4g}] but {name} takes [{low[column]:.4g}, {high[column]:.4g}] "
               f"({wrong.any(1).sum()} of {len(actions)} rows); {_units(values, low[column], high[column])}")


def _units(values: Array, low: float, high: float) -> str:
    """What to do with actions that lie outside the range of an environment, by a guess at what they are measured in."""
    bound = max(abs(low), abs(high))
    ratio = float(np.abs(values).max()) / bound if 0 < bound < np.inf else 0.0
    for factor, what in ((180 / np.pi, "degrees"), (100, "percent"), (1000, "thousandths"),
                         (255, "bytes")):
        if 0.8 * factor < ratio <= 1.05 * factor:
            return f"{ratio:.3g} times: {what}? demos edit --rescale-actions=LOW,HIGH"
    return "give --demos.clip-actions true, or rescale them (demos edit)"
