"""Demonstrations → a CSV table, and the TOML file beside it that says which columns are what (see demos/columns.py)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from puffer_il.core.checkpoint import whole
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array
from puffer_il.demos.build import trajectories
from puffer_il.demos.dataset import Demos
from puffer_il.demos.kept import PREFIX, ROWS, check_written, columns_beside

MOST = 4096  # columns; what has more are pictures
KEYS = {"rewards": "reward", "weights": "weight", "terminated": "terminated", "truncated": "truncated"}
USUAL = {"obs": (np.float32,), "action": (np.float32, np.int32), "state": (np.float64,)}  # dtypes that readers take


def write(target: Path | str, demos: Demos) -> None:
    """A table with a row for each step and one for each final observation, whose other cells are empty; and its TOML.

    InputError for demonstrations that are subsampled or have no actions, for pictures and Tuples, and for a target that
    cannot be written.
    """
    path = Path(target)
    obs, actions = trajectories(demos)
    check_written(demos, "a table")
    steps, final = _places(demos)
    episode = np.repeat(np.arange(demos.num_episodes), demos.lengths + 1)
    cells: dict[str, list[str]] = {"episode": _texts(episode), "step": _texts(
        np.arange(len(obs)) - np.repeat(final - demos.lengths, demos.lengths + 1))}
    told: dict[str, Any] = {"episode": "episode", "time": "step", "final_rows": True, "open_ends": True}
    told["obs"] = _columns(demos, "obs", _leaves_of_obs(demos, obs), cells)
    told["actions"] = _columns(demos, "action", _leaves_of_actions(demos, actions), cells, steps)
    for name, array in (("rewards", demos.rewards), ("weights", demos.weights),
                        ("terminated", demos.terminations.astype(int)), ("truncated", demos.truncations.astype(int))):
        if array is not None:
            told[name] = KEYS[name]
            cells[KEYS[name]] = _spread(_texts(array), steps, len(obs))
    if demos.states is not None:
        told["states"] = _columns(demos, "state", iter([((), demos.states)]), cells, steps)
    for name, array in columns_beside(demos, held=ROWS).items():
        told[name.removeprefix(PREFIX)] = name
        cells[name] = _spread(_texts(array), steps, len(obs))
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(cells)
    lines.writerows(zip(*cells.values(), strict=True))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for one, content in ((path, text.getvalue()), (path.with_suffix(".toml"), _toml(demos, told))):
            with whole(one) as temporary:
                temporary.write_text(content)
    except OSError as error:
        raise InputError(f"demos {path}: cannot be written ({one_line(error)}); choose another place") from None


def _toml(demos: Demos, told: dict[str, Any]) -> str:
    notes = "".join(f"# {' '.join(line.split())}\n" for line in (f"written by puffer-il from {demos.source}",
                                                                 *demos.notes))
    return notes + tomli_w.dumps(told)


def _places(demos: Demos) -> tuple[Array, Array]:
    """The rows of the table that are steps, and those that are final observations."""
    final = demos.episode_ends + np.arange(demos.num_episodes)
    return np.setdiff1d(np.arange(len(demos) + demos.num_episodes), final), final


def _leaves_of_obs(demos: Demos, obs: Array) -> Iterator[tuple[tuple[str | int, ...], Array]]:
    if demos.layout is None or not demos.layout.nested:
        yield (), obs
        return
    for field in demos.layout.own:
        yield field.path or (), field.of(obs)


def _leaves_of_actions(demos: Demos, actions: Array) -> Iterator[tuple[tuple[str | int, ...], Array]]:
    ends = np.cumsum([math.prod(shape) for _, shape, _ in demos.action_parts])
    for (path, shape, _), part in zip(demos.action_parts, np.split(actions, ends[:-1], axis=1), strict=False):
        yield path, part.reshape(len(part), *shape)
    if not demos.action_parts:
        yield (), actions


def _columns(demos: Demos, name: str, leaves: Iterator[tuple[tuple[str | int, ...], Array]],
             cells: dict[str, list[str]], steps: Array | None = None) -> Any:
    """Put the columns of the leaves into `cells`; what the TOML says of them."""
    told: dict[str, Any] = {}
    for path, array in leaves:
        if any(not isinstance(key, str) or "." in key or key == "columns" for key in path):
            raise InputError(f"demos {demos.source}: {name} has the part {'.'.join(map(str, path))}, of a Tuple or "
                             "with a dot in its name, which a table cannot hold; keep our own .npz")
        flat = array.reshape(len(array), -1)
        if flat.shape[1] > MOST:
            raise InputError(f"demos {demos.source}: {name} {'.'.join(map(str, path))} has {flat.shape[1]} numbers, as "
                             "pictures have, too many for columns; keep our own .npz")
        names = [".".join(map(str, (name, *path, *index))) for index in np.ndindex(array.shape[1:])]
        for one, column in zip(names, flat.T, strict=True):
            texts = _texts(column)
            cells[one] = texts if steps is None else _spread(texts, steps, len(cells["episode"]))
        leaf: Any = names
        if path or array.ndim != 2 or array.dtype not in USUAL[name]:
            leaf = {"columns": names, "dtype": str(array.dtype), "shape": list(array.shape[1:])}
        if not path:
            return leaf
        inner = told
        for key in path[:-1]:
            inner = inner.setdefault(str(key), {})
        inner[str(path[-1])] = leaf
    return told


def _spread(texts: list[str], steps: Array, rows: int) -> list[str]:
    """In the rows that are steps; the others are empty."""
    cells = [""] * rows
    for row, text in zip(steps.tolist(), texts, strict=True):
        cells[row] = text
    return cells


def _texts(array: Array) -> list[str]:
    """Numbers as texts, which are read back as they were: the shortest of a float, or all of its digits where the
    shortest one would be rounded otherwise by way of float64."""
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    texts = array.astype(str)
    if array.dtype.kind == "f":
        changed = set(np.flatnonzero(texts.astype(np.float64).astype(array.dtype) != array).tolist())
        return [repr(float(array[k])) if k in changed else text for k, text in enumerate(texts.tolist())] if len(
            changed) else texts.tolist()
    return texts.tolist()
