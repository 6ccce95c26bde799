"""Files, data sets and arrays → Demos. A source is recognised by its content: see puffer_il.demos.formats."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from puffer_il.core.checkpoint import fitting
from puffer_il.core.errors import InputError
from puffer_il.core.spaces import lay_out
from puffer_il.demos.actions import pack_actions
from puffer_il.demos.dataset import Demos
from puffer_il.demos.fields import gathered, is_parted
from puffer_il.demos.formats import formats
from puffer_il.demos.formats.plain import numbered_lists
from puffer_il.demos.kinds import check_name, kind_of, kinds_of, of_kind, opened, which
from puffer_il.demos.npz import SAVE_DEMOS, Arrays, Npz
from puffer_il.demos.planned import parts_of_rows, read_rows
from puffer_il.demos.rows import PART_BYTES
from puffer_il.demos.spaces import is_nested, space_of

Source = str | Path | Demos | Mapping[str, Any] | tuple
COLUMNS = ("obs", "actions", "next_obs", "terminations", "truncations", "rewards")  # of a tuple of arrays


def read_demos(source: Source, time_limit: int | None = None, format: str = "auto", **keys: Any) -> Demos:
    """Demonstrations of a file or folder of any format that we know, of a data set ("minari:ID"), or of arrays in
    memory: named as in an .npz, or a tuple of COLUMNS, of which the rewards may be missing. Observations and actions in
    memory may be dicts and tuples of arrays, as the environment's are.

    `time_limit` is the environment's own, in steps; it matters only where the two ends are not told apart. `format`
    names the format of a source that may be of several. `keys` are those that one format alone takes (its KEYS), such
    as `columns` of a table; empty ones say nothing. Nothing is ever unpickled.
    Raises InputError for what is missing, damaged, unknown or inconsistent.
    """
    if isinstance(source, Demos):
        return source
    check_name(format)
    named = source if isinstance(source, str | Path) else "arrays"
    with fitting(f"demos {named}", SAVE_DEMOS):
        return _demos(source, time_limit, format, {key: value for key, value in keys.items() if value})


def read_parts(source: Source, time_limit: int | None = None, format: str = "auto", **keys: Any) -> Iterator[Demos]:
    """The same, some whole episodes after the others, where the format can be read so (its `parts`): only those at hand
    are in memory. All of them together from any other."""
    path = Path(source) if isinstance(source, str | Path) else None
    kind = None if path is None else kind_of(path)
    if path is not None and kind is not None and of_kind(kind):
        check_name(format)
        given = {key: value for key, value in keys.items() if value}
        with fitting(f"demos {path}", SAVE_DEMOS), opened(path, kind) as what:
            one = which(what, path, kind, format)
            if hasattr(one, "parts"):
                _check_taken(path, given, getattr(one, "KEYS", ()))
                yield from one.parts(what, time_limit, PART_BYTES, **given)
                return
    elif path is not None and kind is None and path.is_file() and not any(keys.values()):
        with fitting(f"demos {path}", SAVE_DEMOS), Npz(path) as file:
            if not is_parted(file.keys):
                chosen = _format_of(file, format)
                yield from parts_of_rows(chosen.read, file, _observed(chosen, file), time_limit, PART_BYTES)
                return
    yield read_demos(source, time_limit, format, **keys)


def _demos(source: str | Path | Mapping[str, Any] | tuple, time_limit: int | None, chosen: str, keys: dict[str, Any]
           ) -> Demos:
    if isinstance(source, tuple):
        source = dict(zip(COLUMNS, source, strict=False))
    if isinstance(source, Mapping):
        return _in_memory(source, time_limit, chosen)
    named = formats().get(str(source).partition(":")[0])
    if named is not None and not kinds_of(named) and not named.MARKS and ":" in str(source):
        return named.read(str(source), time_limit)
    path = Path(source)
    kind = kind_of(path)
    if kind is not None and of_kind(kind):
        with opened(path, kind) as what:
            format = which(what, path, kind, chosen)
            _check_taken(path, keys, getattr(format, "KEYS", ()))
            return format.read(what, time_limit, **keys)
    _check_taken(path, keys)
    with Npz(source) as file:
        if is_parted(file.keys):
            return _in_memory({name: file[name] for name in sorted(file.keys)}, time_limit, chosen, file.source)
        return _read(file, time_limit, chosen)


def _check_taken(path: Path, keys: dict[str, Any], taken: tuple[str, ...] = ()) -> None:
    """InputError for a key that the format of this source does not take."""
    for key in keys:
        if key not in taken:
            takers = [name for name, format in formats().items() if key in getattr(format, "KEYS", ())]
            raise InputError(f"demos {path}: demos.{key} is given, but only the format {', '.join(takers)} takes it; "
                             "leave it out")


def _in_memory(source: Mapping[str, Any], time_limit: int | None, chosen: str, named: str = "arrays") -> Demos:
    """Arrays, of which observations and actions may be dicts and tuples of them, or named as "obs/goal"."""
    more: dict[str, Any] = {}
    try:
        source = gathered(numbered_lists(source))
        made: dict[str, Any] = dict(source)
        if is_nested(source.get("obs")):
            layout = more["layout"] = lay_out(space_of(source["obs"]), exact=True)
            for name in ("obs", "next_obs", "final_obs"):
                if name in made:
                    made[name] = layout.pack(made[name])[0]
        if _has_parts(source.get("actions"), len(made["obs"]) if "obs" in made else 0):
            made["actions"], more["action_parts"] = pack_actions(source["actions"])
    except InputError as error:
        raise InputError(f"demos {named}: {error}") from None
    return replace(_read(Arrays(made, named), time_limit, chosen), **more)


def _has_parts(actions: Any, rows: int) -> bool:
    """Whether actions are a Dict's or Tuple's, and no sequence of rows."""
    return isinstance(actions, Mapping) or (isinstance(actions, tuple) and len(actions) > 0 and all(
        _has_parts(part, rows) or (isinstance(part, np.ndarray) and part.ndim > 0 and len(part) == rows)
        for part in actions))


def _read(file: Arrays, time_limit: int | None, chosen: str) -> Demos:
    format = _format_of(file, chosen)
    return read_rows(format.read, file, _observed(format, file), time_limit)


def _observed(format: ModuleType, file: Arrays) -> Any:
    return format.observed(file) if hasattr(format, "observed") else getattr(format, "OBSERVED", None)


def _format_of(file: Arrays, chosen: str) -> ModuleType:
    known = {name: format for name, format in formats().items() if format.MARKS or hasattr(format, "marks")}
    alike = {name: [keys for keys in _marks(format, file) if file.keys.issuperset(keys)]
             for name, format in known.items() if not file.keys.intersection(getattr(format, "NOT", ()))}
    fitting = [(max(map(len, found)), hasattr(known[name], "marks"), name) for name, found in alike.items() if found]
    if chosen != "auto":
        if chosen not in known:
            file.refuse(f"holds named arrays, and demos.format = {chosen!r} is not a format of those; choose one of "
                        f"{', '.join(known)}, or auto")
        return known[chosen]
    if fitting:  # the one that says most of the keys
        return known[max(fitting)[-1]]
    file.refuse(f"holds {file.listing()}, which matches no known format{_nearest(known, file)}; {file.remedy}")


def _nearest(known: Mapping[str, ModuleType], file: Arrays) -> str:
    """What the format that most of the keys are of misses, "" where none are of any."""
    marks = [(name, keys, sorted(set(keys) - file.keys)) for name, format in known.items() for keys in format.MARKS]
    near = [(len(missing), name != "puffer_il", name, missing) for name, keys, missing in marks
            if len(missing) < len(keys)]
    return f" ({min(near)[2]} also has {' and '.join(min(near)[3])})" if near else ""


def _marks(format: ModuleType, file: Arrays) -> Iterable[Collection[str]]:
    return format.marks(file) if hasattr(format, "marks") else format.MARKS
