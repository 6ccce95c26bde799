"""RLlib's offline data. Its JSON (`output: FOLDER` of the old stack) has a SampleBatch of many rows on each line: obs,
actions, rewards, perhaps new_obs; terminateds and truncateds, or dones; eps_id, t, agent_index. Its Parquet
(`output_write_episodes=False`) has the same columns, a row each. A source is one file or a folder of them. We only
read it.

Columns that RLlib compressed are pickles inside, and episodes are packed with msgpack: both are refused, with the way
to record plainly. Rows of an episode may lie in several files, and RLlib's Parquet writer repeats them in every later
write: what is there already is left out.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array
from puffer_il.demos.columns import by_number
from puffer_il.demos.dataset import Demos
from puffer_il.demos.ends import split_ends
from puffer_il.demos.grown import Grown
from puffer_il.demos.logs import after_ends, demos_of_log, starts_of
from puffer_il.demos.parquet import MAGIC, Parquet, all_pieces
from puffer_il.demos.planned import Planned, numbers_of
from puffer_il.demos.rows import Lazy
from puffer_il.demos.spooled import Spooled

KIND, MARKS = ("json", "parquet", "folder"), ()
LOOKS = ("*.json", "**/*.parquet")
BATCH = re.compile(rb'"type"\s*:\s*"(SampleBatch|MultiAgentBatch)"')
HEAD = 2**16  # bytes of a JSON file in which a batch says what it is
ROWS = ("obs", "actions", "new_obs", "rewards", "terminateds", "truncateds", "dones", "t")
LABELS = ("eps_id", "agent_id", "agent_index")
PLAIN = "record it again with config.offline_data(output_write_episodes=False, output_compress_columns=[])"
PLAIN_JSON = "record it again with config.offline_data(output_compress_columns=[])"


def fits(path: Path) -> bool:
    return bool(_files(path))


def read(path: Path, time_limit: int | None = None) -> Demos:
    files = _found(path)
    if (found := _planned(path, files, time_limit)) is not None:
        return found.whole()
    parts = (part for file in files for part in _tables(file))
    return _demos(str(path), _joined(str(path), parts), time_limit)


def parts(path: Path, time_limit: int | None, most: float) -> Iterator[Demos]:
    found = _planned(path, _found(path), time_limit)
    return iter((read(path, time_limit),)) if found is None else found.parts(most)


def _found(path: Path) -> list[Path]:
    files = _files(path)
    if not files:
        raise InputError(f"demos {path}: holds no SampleBatch in JSON and no such columns in Parquet; {PLAIN}")
    return files


def _planned(path: Path, files: list[Path], time_limit: int | None) -> Planned | None:
    """Of JSON files, and of Parquet files whose rows say their time, so that what is repeated is told without
    observations."""
    if not all(map(_is_parquet, files)):
        return _spooled(str(path), files, time_limit)
    tables = [table for table in map(Parquet, files) if table.rows]
    if not tables or not all({"t", "obs"} <= set(table.columns) for table in tables):
        return None
    observed = [name for name in ("obs", "new_obs") if all(name in table.columns for table in tables)]
    for table in tables:
        _check_plain(table, observed)
    count = sum(table.rows for table in tables)

    def numbered() -> Iterator[dict[str, Array]]:
        first = 0
        for table in tables:
            numbers = {name: numbers_of(table.rows, first + k * count) for k, name in enumerate(observed)}
            yield next(_tables(table.path, tuple(observed))) | numbers
            first += table.rows

    def lazy(name: str) -> Lazy:
        first = next(all_pieces(tables, [name]))[name]
        return Lazy((count, *first.shape[1:]), first.dtype, lambda: (
            piece[name] for piece in all_pieces(tables, [name])))

    following = lazy("new_obs") if "new_obs" in observed else None
    return Planned(_demos(str(path), _joined(str(path), numbered()), time_limit), lazy("obs"), following)


def _spooled(source: str, files: list[Path], time_limit: int | None) -> Planned:
    """Of JSON files, which are read once: observations go through a temporary file."""
    held = {"obs": Spooled(source), "new_obs": Spooled(source)}

    def without_observations() -> Iterator[dict[str, Array]]:
        for batch in (batch for file in files for batch in _batches(file)):
            blank = np.zeros(len(batch["obs"]), np.uint32)
            for name in held.keys() & batch.keys() if len(blank) else ():
                try:
                    held[name].append(batch[name])
                except ValueError:
                    _refuse_shapes(source, name, batch[name], held[name].shape)
            yield batch | dict.fromkeys(held.keys() & batch.keys(), blank)

    rows = _joined(source, without_observations())
    count = len(rows["obs"])
    found = {name: held[name].lazy() for name in held if name in rows}
    numbers = {name: numbers_of(count, k * count) for k, name in enumerate(found)}
    return Planned(_demos(source, rows | numbers, time_limit), found["obs"], found.get("new_obs"))


def _demos(source: str, rows: dict[str, Array], time_limit: int | None) -> Demos:
    notes, order = list[str](), _order(rows)
    same = len(order) == len(rows["obs"]) and bool((np.diff(order) == 1).all())
    kept = rows if same else {name: array[order] for name, array in rows.items()}
    if again := len(rows["obs"]) - len(order):
        notes.append(f"{again} rows are in the files more than once: they are taken once")
    starts = _starts(kept)
    ends = _ends(kept, starts, time_limit, notes)
    if kept["actions"].dtype.kind == "f":
        notes.append("actions are as RLlib's policy gave them: neither clipped to the space nor scaled to it, unless "
                     "it was trained with normalize_actions=False")
    arrays = {"obs": kept["obs"], "actions": kept["actions"], "next_obs": kept.get("new_obs"),
              "rewards": kept.get("rewards"), **ends}
    return demos_of_log(source, starts, arrays, notes=notes)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _files(path: Path) -> list[Path]:
    """The files of this format, in the order of the numbers in their names: of a folder the JSON ones in it, or else
    the tables below it."""
    if path.is_dir():
        tables = sorted(path.glob("**/*.parquet"), key=lambda one: by_number(str(one)))
        found = [one for one in sorted(path.glob("*.json"), key=lambda one: by_number(one.name)) if _files(one)]
        return found or (tables if tables and _files(tables[0]) else [])
    if not _is_parquet(path):
        with path.open("rb") as file:
            return [path] if BATCH.search(file.read(HEAD)) else []
    names = set(Parquet(path).columns)
    return [path] if names == {"item"} or {"eps_id", "obs", "actions"} <= names else []


def _tables(path: Path, without: tuple[str, ...] = ()) -> Iterator[dict[str, Array]]:
    table = Parquet(path)
    if table.columns == ("item",):
        table.refuse(f"holds whole episodes packed with msgpack, whose layout is RLlib's own; {PLAIN}")
    found = {name: table.texts(name) for name in LABELS if name in table.columns}
    names = [name for name in ROWS if name in table.columns and name not in without]
    _check_plain(table, names)
    yield found | {name: table.array(name) for name in names} | {"write": np.full(table.rows, str(path.parent))}


def _check_plain(table: Parquet, names: list[str]) -> None:
    for name in names:
        if table.kind(name) == "string":
            table.refuse(f"column {name!r} is compressed (a pickle inside, which is never loaded); {PLAIN}")


def _batches(path: Path) -> Iterator[dict[str, Array]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                batch = json.loads(line)
                columns = _one_policy(path, number, batch)
            except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
                _refuse(path, number, f"is no SampleBatch ({one_line(error)}); remove the line, or copy the file again")
            yield _arrays(path, number, columns)


def _one_policy(path: Path, number: int, batch: dict[str, Any]) -> dict[str, Any]:
    if batch["type"] == "SampleBatch":
        return batch
    policies = batch["policy_batches"]
    if len(policies) != 1:
        _refuse(path, number, f"holds the rows of {len(policies)} policies ({', '.join(policies)}); write those of one "
                "into a file of its own")
    return next(iter(policies.values()))


def _arrays(path: Path, number: int, columns: dict[str, Any]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name in (*ROWS, *LABELS):
        if name not in columns:
            continue
        if isinstance(columns[name], str):
            _refuse(path, number, f"{name} is compressed (a pickle inside, which is never loaded); {PLAIN_JSON}")
        try:
            array = np.array(columns[name])
        except ValueError:
            array = np.array(None)
        if array.ndim == 0 or (array.dtype.kind not in "biuf" and name not in LABELS):
            _refuse(path, number, f"{name} holds no numbers, or rows of different lengths; write it with plain arrays")
        found[name] = array.astype(str) if name in LABELS else array
    for name in ("obs", "actions"):
        if name not in found:
            _refuse(path, number, f"has no column {name!r}, only {', '.join(columns)}; record it again")
    for name, array in found.items():
        if len(array) != len(found["obs"]):
            _refuse(path, number, f"{name} has {len(array)} rows but obs {len(found['obs'])}; record it again")
    return found


def _refuse(path: Path, number: int, what: str) -> NoReturn:
    raise InputError(f"demos {path}: line {number}: {what}") from None


def _refuse_shapes(source: str, name: str, rows: Array, before: tuple[int, ...]) -> NoReturn:
    raise InputError(f"demos {source}: {name} have rows of {rows.shape[1:]} and of {before[1:]}; give the files of one "
                     "environment") from None


def _joined(source: str, parts: Iterator[dict[str, Array]]) -> dict[str, Array]:
    """The columns that all parts have, end to end."""
    made: dict[str, Grown] = {}
    for part in parts:
        if not len(part["obs"]):
            continue
        made = {name: made[name] if made else Grown() for name in part if not made or name in made}
        for name, rows in made.items():
            try:
                rows.append(part[name])
            except ValueError:
                _refuse_shapes(source, name, part[name], rows.rows.shape)
    if not made:
        raise InputError(f"demos {source}: holds no rows; record it again")
    return {name: rows.array() for name, rows in made.items()}


def _order(rows: dict[str, Array]) -> Array:
    """Which rows are taken: those of an episode together, in the order of time, none twice."""
    places = np.arange(len(rows["obs"]))
    if "eps_id" not in rows:
        return places
    codes = np.zeros(len(places), np.int64)
    for name in LABELS:
        if name in rows:
            found = np.unique(rows[name], return_inverse=True)[1]
            codes = np.unique(codes * (found.max() + 1) + found, return_inverse=True)[1]
    first = np.unique(codes, return_index=True)[1]
    rows["episode"] = np.argsort(np.argsort(first))[codes]
    order = np.lexsort((places, rows.get("t", places), rows["episode"]))
    if "t" in rows:
        own, time = rows["episode"][order], rows["t"][order]
        return order[np.append(True, (np.diff(own) != 0) | (np.diff(time) != 0))]
    return np.concatenate([_once(rows, one) for one in np.split(order, starts_of(rows["episode"][order])[1:])])


def _once(rows: dict[str, Array], places: Array) -> Array:
    """The rows of an episode, of which each write may begin again with what earlier ones had written."""
    if "write" not in rows:
        return places
    taken = np.array([], np.int64)
    for part in np.split(places, starts_of(rows["write"][places])[1:]):
        again = len(part) >= len(taken) and all(
            np.array_equal(rows[name][taken], rows[name][part[:len(taken)]]) for name in ("obs", "actions"))
        taken = part if again else np.append(taken, part)
    return taken


def _starts(rows: dict[str, Array]) -> Array:
    """(episodes,) where they begin: a gap in t begins another one, because what lies between is not there."""
    ends = np.zeros(len(rows["obs"]), bool)
    for name in ("terminateds", "truncateds", "dones"):
        if name in rows:
            ends |= rows[name].reshape(-1).astype(bool)
    starts = after_ends(ends)
    if "episode" in rows:
        starts = np.union1d(starts, starts_of(rows["episode"]))
    if "t" in rows:
        starts = np.union1d(starts, np.flatnonzero(np.diff(rows["t"]) != 1) + 1)
    return starts


def _ends(rows: dict[str, Array], starts: Array, time_limit: int | None, notes: list[str]) -> dict[str, Array]:
    if "terminateds" in rows or "dones" not in rows:
        return {name: rows[own] for name, own in (("terminations", "terminateds"), ("truncations", "truncateds"))
                if own in rows}
    last = np.append(starts[1:], len(rows["dones"])) - 1  # one flag, which may mean a time limit
    terminations, truncations = split_ends(last - starts + 1, rows["dones"].reshape(-1)[last], time_limit, notes)
    return {"terminations": terminations, "truncations": truncations}
