"""What other packages' formats have no place for. Our writers keep it beside their columns, where those packages do not
look; what cannot be kept is refused, but for the seeds of episodes, which are left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, unknown
from puffer_il.core.rows import Array
from puffer_il.core.spaces import lay_out
from puffer_il.demos.dataset import WHOLE, Demos
from puffer_il.demos.rows import blocks
from puffer_il.demos.spaces import space_of

PREFIX = "puffer_il_"
ROWS = ("weights", "states")
MASKS = "masks"
KIND = {"weights": "a number", "states": "numbers", "episode_returns": "a number", "episode_lengths": "a whole number",
        "episode_terminations": "true or false", "episode_truncations": "true or false"}
DROPPED = ("rewards", *ROWS, *WHOLE, MASKS)  # what `without` knows


def columns_beside(demos: Demos, held: Collection[str] = ()) -> dict[str, Array]:
    """(n, …) each, under names that are ours: weights and states, and in every row what is known of its whole episode.
    The format itself has those of `held`."""
    found = {}
    for name in (*ROWS, *WHOLE):
        array = getattr(demos, name)
        if array is not None and name not in held:
            found[PREFIX + name] = array if name in ROWS else np.repeat(array, demos.lengths)
    return found


def known(names: Collection[str]) -> dict[str, str]:
    """Those of ours among the names of columns, and the field of Demos that each is."""
    return {PREFIX + name: name for name in (*ROWS, *WHOLE) if PREFIX + name in names}


def fields_of(source: str, columns: Mapping[str, Array], starts: Array, rows: int) -> dict[str, Any]:
    """The same columns as fields of Demos, whose episodes begin at `starts` of so many `rows`; other columns are left
    out. InputError for those that have another length, or numbers of another kind."""
    found: dict[str, Any] = {}
    for key, name in known(columns).items():
        column = columns[key]
        wide = column.ndim > 1 and (name != "states" or column.ndim > 2)
        if len(column) != rows or wide or not np.can_cast(column.dtype, WHOLE.get(name, np.float64), "same_kind"):
            raise InputError(f"demos {source}: {name} is {column.dtype} {column.shape} but must be {KIND[name]} for "
                             f"each of {rows} rows; correct it, or export the file again")
        found[name] = column if name in ROWS else column[starts]
    return found


def check_written(demos: Demos, format: str, masks: bool = True, counts: bool = True) -> None:
    """InputError for what `format` would not give back as it is. Not `masks`: those may be lost; not `counts`: it tells
    from where choices are counted."""
    if masks and _masked(demos):
        raise InputError(f"demos {demos.source}: which actions may be taken is stored beside its observations, for "
                         f"which {format} has no place; leave that out with --drop {MASKS}, or keep our own .npz")
    column = next((k for k, first in enumerate(demos.action_first) if first), None) if counts else None
    if column is not None:
        raise InputError(f"demos {demos.source}: the numbers from {demos.action_first[column]} on that are actions in "
                         f"column {column} are stored counted from 0, which {format} cannot tell; write a Minari data "
                         "set, or keep our own .npz")
    check_rounding(demos)


def check_rounding(demos: Demos) -> None:
    """InputError for observations that would be read back as other numbers: readers make float32 of floats."""
    for part in blocks(demos.obs) if demos.obs.dtype.kind == "f" and demos.obs.dtype.itemsize > 4 else ():
        for rows in (demos.obs[part], np.asarray(demos.next_obs[part])):
            changed = (rows.astype(np.float32) != rows).reshape(len(rows), -1).any(1)
            if changed.any():
                raise InputError(f"demos {demos.source}: obs is {demos.obs.dtype}, and row "
                                 f"{part.start + int(np.argmax(changed))} would be read back rounded to float32; give "
                                 "float32, after subtracting what is large in it")


def without(demos: Demos, names: Collection[str]) -> Demos:
    """The same without the arrays of these names, of DROPPED; "masks" are those that lie beside observations."""
    for name in names:
        if name not in DROPPED:
            raise InputError(unknown("--drop", name, list(DROPPED)))
    if MASKS in names and _masked(demos):
        demos = _unmasked(demos)
    dropped: dict[str, Any] = dict.fromkeys(set(names) - {MASKS})
    return replace(demos, **dropped)


def _masked(demos: Demos) -> bool:
    return demos.layout is not None and any(field.path is None for field in demos.layout.fields)


def _unmasked(demos: Demos) -> Demos:
    layout = demos.layout
    assert layout is not None
    if not layout.nested:
        return demos.with_obs(layout.unpack, layout=None)
    own = lay_out(space_of(layout.unpack(demos.obs[:1])), exact=True)
    return demos.with_obs(lambda rows: own.pack(layout.unpack(rows))[0], layout=own)
