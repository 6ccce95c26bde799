"""Demonstrated actions as rows of an environment: parts of Dicts and Tuples by their names, choices as numbers from 0.

Recorders number choices as the environment does, from where its space starts, or write them one-hot; and hold parts of
an action in an order of their own. Rows count from 0 and hold the parts in the order of the environment's space.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.actions import ActionSpec, Parts
from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array, Path
from puffer_il.core.spec import EnvSpec
from puffer_il.demos.dataset import Demos


def pack_actions(actions: Any, first: Mapping[Path, Array] | None = None) -> tuple[Array, Parts]:
    """n actions as dicts and tuples of arrays → rows (n, columns), and what their columns are.

    first: from where the choices of a part are counted, if not from 0. InputError for parts that no rows hold together.
    """
    leaves = list(_leaves(actions, ()))
    if not leaves:
        raise InputError("its actions have no parts; there is nothing to learn")
    for path, leaf in leaves:
        if leaf.dtype.kind not in "biuf" or leaf.ndim == 0 or len(leaf) != len(leaves[0][1]):
            which = f"the part {part_name(path)!r} of its actions is" if path else "its actions are"
            raise InputError(f"{which} {leaf.dtype} {leaf.shape}; give plain numbers, a row per transition")
    if len({leaf.dtype.kind == "f" for _, leaf in leaves}) > 1:
        kinds = ", ".join(f"{part_name(path)!r} {leaf.dtype}" for path, leaf in leaves)
        raise InputError(f"its actions have both choices and continuous parts ({kinds}), and a policy has one kind; "
                         "leave the parts of one kind out, in the environment too")
    rows = [leaf.reshape(len(leaf), -1) - np.ravel((first or {}).get(path, 0)) for path, leaf in leaves]
    return np.concatenate(rows, 1), tuple((path, leaf.shape[1:], leaf.dtype.name) for path, leaf in leaves)


def _leaves(part: Any, path: Path) -> Iterator[tuple[Path, Array]]:
    inner = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, tuple) else None
    if inner is None:
        yield path, np.asarray(part)
    for key, below in inner or ():
        yield from _leaves(below, (*path, key))


def part_name(path: Path) -> str:
    """A part's path, for people."""
    return ".".join(map(str, path))


def as_rows(demos: Demos, spec: EnvSpec) -> Demos:
    """Actions as rows of the environment; notes say what had to be assumed. InputError where parts are missing."""
    demos = _reordered(demos, spec)
    _check_first(demos, spec)
    return recounted(_numbered(demos, spec), spec)


def _reordered(demos: Demos, spec: EnvSpec) -> Demos:
    own, action = demos.action_parts, spec.action
    wanted = action.parts if action.nested else ()
    if demos.actions is None or _named(own) == _named(wanted):
        return demos
    if not own:
        names = ", ".join(part_name(path) for path, *_ in wanted)
        note = f"actions are rows without names: their columns are taken for {names}, in this order"
        return demos if note in demos.notes else replace(demos, notes=(*demos.notes, note))
    if not wanted and len(own) == 1:
        return replace(demos, action_parts=())
    ends = np.cumsum([math.prod(shape) for _, shape, _ in own])
    columns = {path: (shape, range(end - math.prod(shape), end))
               for (path, shape, _), end in zip(own, ends, strict=True)}
    order: list[int] = []
    for path, shape, _ in wanted:
        if columns.get(path, (None,))[0] != shape:
            break
        order += columns[path][1]
    if not len(order) == ends[-1] == demos.actions.shape[1]:
        raise InputError(f"demos {demos.source}: actions have the parts {_listed(own)} but {spec.name} takes "
                         f"{_listed(wanted) or 'an array'}; use demonstrations of this environment")
    return replace(demos, actions=np.ascontiguousarray(demos.actions[:, order]), action_parts=wanted,
                   action_first=tuple(demos.action_first[k] for k in order) if demos.action_first else ())


def _check_first(demos: Demos, spec: EnvSpec) -> None:
    """InputError where whole numbers of a Box were counted from another one than the environment's lowest."""
    start = spec.action.start or (0,) * spec.action.dim
    if demos.actions is None or not spec.action.discrete or len(demos.action_first) != len(start):
        return
    for column, (own, wanted) in enumerate(zip(demos.action_first, start, strict=True)):
        if own is not None and own != wanted:
            raise InputError(f"demos {demos.source}: actions in column {column} are whole numbers from {own} on, but "
                             f"{spec.name} takes them from {wanted} on; use demonstrations of this environment")


def _named(parts: Parts) -> list[tuple[Path, tuple[int, ...]]]:
    return [(path, shape) for path, shape, _ in parts]


def _listed(parts: Parts) -> str:
    return ", ".join(f"{part_name(path)} {shape}" for path, shape, _ in parts)


def _numbered(demos: Demos, spec: EnvSpec) -> Demos:
    """One-hot choices as numbers, if every row is one."""
    if demos.actions is None or not seems_one_hot(demos.actions, spec.action):
        return demos
    parts = np.split(demos.actions, np.cumsum(spec.action.nvec)[:-1], axis=1)
    if not all(is_one_hot(part).all() for part in parts):
        return demos  # `misfits` says which
    numbers = np.stack([part.argmax(1) for part in parts], 1).astype(np.int32)
    note = "actions are one-hot: each is taken as the number of its 1, counted from 0"
    return replace(demos, actions=numbers, notes=(*demos.notes, note))


def seems_one_hot(actions: Array, action: ActionSpec) -> bool:
    """Whether rows have a column for each choice, and not one for each number."""
    return action.discrete and action.dim != actions.shape[1] == sum(action.nvec)


def is_one_hot(rows: Array) -> Array:
    """(n,) bool, which rows (n, choices) are a single 1 and zeros."""
    return ((rows == 0) | (rows == 1)).all(1) & (rows.sum(1) == 1)


def recounted(demos: Demos, spec: EnvSpec) -> Demos:
    """Choices counted from 0, as ours are. Where a recorder has kept the environment's own numbers, which begin
    elsewhere, that is certain if some of them cannot be counted from 0; a note then says so."""
    action, actions = spec.action, demos.actions
    if actions is None or not action.start or actions.shape[1] != action.dim:
        return demos
    start, end = np.array(action.start), np.array(action.start) + action.nvec
    if not ((actions >= start) & (actions < end)).all() or ((actions >= 0) & (actions < action.nvec)).all():
        return demos
    note = f"actions are numbered as {spec.name} numbers them, from {', '.join(map(str, action.start))}"
    return replace(demos, actions=(actions - start).astype(np.int32), notes=(*demos.notes, note))
