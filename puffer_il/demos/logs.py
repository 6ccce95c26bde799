"""Rows of a log, end to end → Demos. A log holds a row for each step and, as a rule, neither the observation after an
episode's last action nor how it ended. See `episodes` for files that hold episodes one by one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import Layout
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import Array
from puffer_il.demos.build import build_demos, split_off
from puffer_il.demos.dataset import WHOLE, Demos
from puffer_il.demos.episodes import NO_ENDS
from puffer_il.demos.kept import PREFIX, fields_of
from puffer_il.demos.spaces import space_of


def demos_of_log(source: str, starts: Array, arrays: Mapping[str, Array | None], *, notes: Sequence[str] = (),
                 layout: Layout | None = None, final_rows: bool = False, open_ends: bool = False, **more: Any) -> Demos:
    """Demonstrations of `arrays`, named as the fields of Demos, (n, …) each, cut into episodes at `starts`. Those that
    are of whole episodes are the same in all of its rows.

    Observations may be written over. Without `next_obs` the successor of a row is the next row's observation; an
    episode's last row has none and is left out. An episode without a termination counts as cut off after its last row.
    Notes say both.

    final_rows   the last row of each episode is nothing but its final observation, so nothing is lost with it
    open_ends    episodes without an end stay so, because whoever wrote them said both
    more         as in `build_demos`
    Raises InputError where arrays disagree in length, or where no episode has a successor.
    """
    made: dict[str, Any] = {name: array for name, array in arrays.items() if array is not None}
    told = list(notes)
    n, last = len(made["obs"]), np.append(starts[1:], len(made["obs"])) - 1
    for name, array in made.items():
        if len(array) != n:
            raise InputError(f"demos {source}: {name} has {len(array)} rows but there are {n} observations; every "
                             "array must hold one row per step")
    if "states" in made:
        made["states"] = made["states"].reshape(n, -1)
    known = "terminations" in made or "truncations" in made
    for name in ("terminations", "truncations"):
        made[name] = made[name].reshape(-1).astype(bool) if name in made else np.zeros(n, bool)
    made["truncations"] &= ~made["terminations"]
    if "next_obs" not in made:
        if final_rows:  # an end may be told in the row of the last action, or beside the final observation
            for name in ("terminations", "truncations"):
                made[name][np.maximum(last - 1, 0)] |= made[name][last]
        made, starts, returns = _with_successors(source, made, starts, last, final_rows, told)
        more["episode_returns"], last = returns, np.append(starts[1:], len(made["obs"])) - 1
    is_open = ~(made["terminations"] | made["truncations"])[last] & (not open_ends)
    made["truncations"][last[is_open]] = True
    if not known:
        told.append(NO_ENDS)
    elif "next_obs" in arrays and is_open.any():
        told.append(f"{is_open.sum()} of {len(last)} episodes have no end: they count as cut off after their last row")
    whole = {PREFIX + name: made.pop(name) for name in WHOLE if name in made}
    more |= fields_of(source, whole, starts, len(made["obs"]))
    return build_demos(source, episode_starts=starts, notes=told, layout=layout, **made, **more)


def _with_successors(source: str, made: dict[str, Any], starts: Array, last: Array, final_rows: bool,
                     notes: list[str]) -> tuple[dict[str, Any], Array, Array | None]:
    """The rows that have one, with `next_obs`; where their episodes begin; the returns of the whole episodes."""
    lengths = last - starts
    long = lengths > 0
    if not long.any():
        raise InputError(f"demos {source}: every episode is a single row, so that no observation after an action is "
                         "known; give rows in the order of time, and the column that tells episodes apart")
    if not final_rows:
        notes.append(f"the last row of each of {len(starts)} episodes is left out: the observation after it is not "
                     "stored")
    elif not long.all():
        notes.append(f"skipped {np.sum(~long)} episodes without a step")
    kept = np.ones(len(made["obs"]), bool)
    kept[last] = False
    returns = None
    if "rewards" in made and not final_rows:
        returns = np.add.reduceat(made["rewards"].reshape(-1), starts, dtype=np.float64)[long]
    following = split_off(made.pop("obs"), lengths)
    rows = {name: array[kept] for name, array in made.items()}
    return rows | {"obs": following.obs, "next_obs": following}, following.starts, returns


def packed(source: str, parts: Any) -> tuple[Array, Layout | None]:
    """Rows of observations, and what they are made of, where `parts` is a dict of arrays to any depth; arrays as they
    are. InputError for what are no numbers."""
    if not isinstance(parts, Mapping):
        return parts, None
    try:
        layout = lay_out(space_of(parts), exact=True)
        return layout.pack(parts)[0], layout
    except InputError as error:
        raise InputError(f"demos {source}: {error}") from None


def starts_of(*labels: Array) -> Array:
    """(episodes,) the rows in which one of the labels (n,) differs from the row before."""
    changes = np.zeros(max(len(labels[0]) - 1, 0), bool)
    for label in labels:
        changes |= label[1:] != label[:-1]
    return np.append(0, np.flatnonzero(changes) + 1)


def after_ends(ends: Array) -> Array:
    """(episodes,) the first row, and those that follow one whose flag in `ends` (n,) is set."""
    return np.append(0, np.flatnonzero(ends[:-1]) + 1)
