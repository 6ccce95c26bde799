"""The parts of Dict observations by their names: rows whose columns have none are never mapped by their place.

Gymnasium sorts the keys of a Dict, so that a recorder that lays its parts side by side as they were declared has them
in another order than the environment's rows. Both have the same width, and a policy that learns from one acts blindly
in the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array, Layout, ObsField, nested
from puffer_il.core.spec import EnvSpec
from puffer_il.demos.dataset import Demos

PARTED = ("obs", "next_obs", "final_obs", "actions")  # arrays that may be stored part by part, as "obs/goal"


def with_fields(demos: Demos, fields: Sequence[str], spec: EnvSpec | None) -> Demos:
    """The demonstrations with the names of `fields` for the columns of their rows, from left to right, as many columns
    for each as the environment has (demos.fields). Where the recording has names and the environment an array, or none
    is given: those of its parts side by side. InputError for names that are not there, and other numbers of columns.
    """
    if not fields:
        return demos
    refuse = f"demos {demos.source}: demos.fields = {','.join(fields)}"
    if demos.layout is not None and demos.layout.nested and (spec is None or not spec.layout.nested):
        return _side_by_side(demos, fields, spec, refuse)
    if spec is None:
        raise InputError(f"{refuse}: names the parts of an environment's observations; name it with --env ENV")
    if demos.layout is not None:
        raise InputError(f"{refuse}: its observations have names already ({_listed(demos.layout.own)}); leave it out")
    known = {field.name: field for field in spec.raw.layout.own}
    if sorted(fields) != sorted(known):
        raise InputError(f"{refuse}: {spec.name} has the parts {', '.join(known)}; name each of them once, in the "
                         "order of the recording's columns")
    rows = demos.obs.reshape(len(demos), -1)
    total = sum(field.size for field in known.values())
    if rows.shape[1] != total:
        raise InputError(f"{refuse}: rows have {rows.shape[1]} columns, but these parts have {total} "
                         f"({_listed(known.values())}); use demonstrations of this environment")
    made, offset = [], 0
    for name in fields:
        own = known[name]
        made.append(ObsField(name, rows.dtype, own.shape, offset, path=own.path))
        offset = made[-1].end
    return replace(demos, obs=rows, next_obs=np.asarray(demos.next_obs).reshape(rows.shape),
                   layout=Layout(tuple(made), (total,), rows.dtype))


def _side_by_side(demos: Demos, fields: Sequence[str], spec: EnvSpec | None, refuse: str) -> Demos:
    """Some parts of a recording as the array that an environment makes of them."""
    assert demos.layout is not None
    known = {field.name: field for field in demos.layout.own}
    if not set(fields) <= known.keys():
        raise InputError(f"{refuse}: its observations have the parts {_listed(known.values())}; name some of those, in "
                         "the order in which the environment lays them side by side")
    made: dict[str, Any] = {}
    for name in ("obs", "next_obs"):
        parts = [known[field].of(getattr(demos, name)) for field in fields]
        flat = [part.reshape(len(demos), -1) for part in parts]
        made[name] = parts[0] if len(parts) == 1 else np.concatenate(flat, 1)
        if made[name].dtype.kind == "f":
            made[name] = made[name].astype(np.float32)
    rows = made["obs"]
    if spec is not None and math.prod(rows.shape[1:]) != math.prod(spec.obs_shape):
        raise InputError(f"{refuse}: these parts have {math.prod(rows.shape[1:])} numbers "
                         f"({_listed(known[field] for field in fields)}), but the observations of {spec.name} "
                         f"{math.prod(spec.obs_shape)}; name the parts that it consists of")
    if spec is not None:
        made = {name: array.reshape(len(array), *spec.obs_shape) for name, array in made.items()}
    note = f"observations are the parts {', '.join(fields)}, side by side, as demos.fields says"
    return replace(demos, layout=None, notes=(*demos.notes, note), **made)


def check_named(demos: Demos, spec: EnvSpec) -> None:
    """InputError for rows without names where the environment's observations are a Dict of several parts, and for parts
    with names where they are a single array."""
    own, wanted = demos.layout, spec.layout
    if own is not None and own.nested and not wanted.nested:
        raise InputError(f"demos {demos.source}: observations have the parts {_listed(own.own)}, but those of "
                         f"{spec.name} are an array {spec.obs_shape}; use demonstrations of this environment, or name "
                         "the parts that it lays side by side, in its order: --demos.fields "
                         f"{','.join(field.name for field in own.own[:2])}")
    if own is None and wanted.by_name:
        parts = ",".join(field.name for field in wanted.own)
        slashed = "/".join(("obs", *map(str, wanted.own[0].path or ())))
        raise InputError(f"demos {demos.source}: observations are rows {demos.obs.shape[1:]} without names, but those "
                         f"of {spec.name} have the parts {_listed(wanted.own)}; store each under its own name "
                         f"({slashed} …), or tell the order of the columns with --demos.fields {parts}")


def left_out(demos: Demos, spec: EnvSpec) -> tuple[str, ...]:
    """A note of the parts that the environment does not have, which nothing reads."""
    known = {field.path for field in spec.layout.own}
    more = [field for field in (demos.layout.own if demos.layout else ()) if field.path not in known]
    note = f"observations have parts that {spec.name} does not have, which are left out: {_listed(more)}"
    return (note,) if more and note not in demos.notes else ()


def gathered(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays named as "obs/goal", which are gathered in a dict "obs"; the others as they are."""
    made = {name: array for name, array in arrays.items() if _head(name) not in PARTED}
    for head in PARTED:
        parts = [(tuple(name.split("/")[1:]), array) for name, array in arrays.items() if _head(name) == head]
        if parts and head in arrays:
            raise InputError(f"has both {head!r} and {head}/{'/'.join(parts[0][0])!r}; keep one of them")
        if parts:
            made[head] = nested(sorted(parts, key=lambda part: part[0]))
    return made


def is_parted(names: Any) -> bool:
    """Whether any of these names is that of a part, as "obs/goal"."""
    return any(_head(name) in PARTED for name in names)


def fields_of(demos: Demos) -> list[dict[str, Any]]:
    """What there is in a row, for people and JSON: "name", "shape", "dtype", "min" and "max" of each part."""
    layout = demos.layout
    obs = [("obs", demos.obs)] if layout is None else [
        (f"obs {field.name}" if field.path != () else "obs", field.of(demos.obs)) for field in layout.fields]
    return [_told(name, array) for name, array in [*obs, *_actions(demos)]]


def _actions(demos: Demos) -> list[tuple[str, Array]]:
    if demos.actions is None:
        return []
    sizes = [math.prod(shape) for _, shape, _ in demos.action_parts]
    if not sizes or sum(sizes) != demos.actions.shape[1]:
        return [("actions", demos.actions)]
    cut = np.split(demos.actions, np.cumsum(sizes)[:-1], axis=1)
    return [(f"actions {'.'.join(map(str, path))}" if path else "actions", part.reshape(len(part), *shape))
            for (path, shape, _), part in zip(demos.action_parts, cut, strict=True)]


def _told(name: str, array: Array) -> dict[str, Any]:
    ends = {"min": array.min().item(), "max": array.max().item()} if array.size else {"min": None, "max": None}
    return {"name": name, "shape": list(array.shape[1:]), "dtype": str(array.dtype), **ends}


def _head(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _listed(fields: Any) -> str:
    return ", ".join(f"{field.name} {field.shape}" for field in fields)
