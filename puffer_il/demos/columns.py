"""Which columns of a table are what: a small TOML file (`demos.columns`).

    obs = ["x", "y", "vx"]      the observation, in this order; "joint_*" takes all such columns by their numbers. A
                                table of lists instead makes a Dict: obs.position = ["x", "y"]. A list may also be a
                                table {columns = [...], dtype = "uint8", shape = [2, 3]}; without dtype they are floats
    actions = ["steer"]         likewise; columns of whole numbers are choices. May be missing
    episode = "run"             what tells episodes apart; a list of columns together, such as ["file", "vehicle"]
    time = "t"                  rows are put in its order: numbers, or dates such as 2024-05-01 12:00:00
    gap = 1.0                   a longer step of time begins another episode
    terminated, truncated       columns that are true in the last row of an episode that ended by itself, or was cut off
    rewards, weights            columns of the reward of a row's action, and of how much it counts
    states = ["q1", "q2"]       columns of the environment's whole state, to put it back there
    episode_returns, episode_lengths, episode_terminations, episode_truncations
                                of a table whose rows are only a part of each episode: columns that hold in each row
                                what is so of the whole one
    final_rows = true           the last row of each episode is only its final observation
    open_ends = true            an episode that is neither terminated nor truncated is open, instead of cut off
    choices.steer = ["left", "straight", "right"]      what texts mean, counted from 0
    units.steer = "deg"         brought to SI units, see UNITS; then times scale.steer, plus offset.steer
    decimal = ","               of numbers in a text file
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.config import read_toml
from puffer_il.core.errors import InputError, unknown
from puffer_il.demos.dataset import WHOLE

UNITS = {"deg": np.pi / 180, "rad": 1.0, "m": 1.0, "cm": 0.01, "mm": 0.001, "km": 1000.0, "ft": 0.3048, "m/s": 1.0,
         "km/h": 1 / 3.6, "mph": 0.44704, "kn": 1852 / 3600, "ft/s": 0.3048, "m/s2": 1.0, "g": 9.80665, "s": 1.0,
         "ms": 0.001, "min": 60.0, "h": 3600.0, "%": 0.01, "rpm": np.pi / 30}
ONE = ("time", "terminated", "truncated", "rewards", "weights", *WHOLE)
NUMBERS = ("scale", "offset")
LEAF = {"columns", "dtype", "shape"}


@dataclass(frozen=True)
class Leaf:
    """Columns that make up one array: of this dtype ("" for floats) and shape (None for a vector of them)."""

    columns: tuple[str, ...]
    dtype: str = ""
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Columns:
    """See above; "" and () for what is not given. `obs` and `actions` are a Leaf, or dicts of Leaves to any depth."""

    where: str
    obs: Any
    actions: Any = None
    episode: tuple[str, ...] = ()
    time: str = ""
    terminated: str = ""
    truncated: str = ""
    rewards: str = ""
    weights: str = ""
    states: tuple[str, ...] = ()
    episode_returns: str = ""
    episode_lengths: str = ""
    episode_terminations: str = ""
    episode_truncations: str = ""
    gap: float = 0.0
    final_rows: bool = False
    open_ends: bool = False
    decimal: str = "."
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    offset: Mapping[str, float] = field(default_factory=dict)

    def factor(self, name: str) -> tuple[float, float]:
        """What a column's numbers are multiplied by, and what is then added."""
        return UNITS[self.units.get(name, "m")] * self.scale.get(name, 1.0), self.offset.get(name, 0.0)


def read_columns(path: Path) -> Columns:
    """InputError for a file that is missing, or says something else than the above."""
    return _Reader(path, read_toml(path)).columns()


def expand(names: Sequence[str], known: Sequence[str], where: str) -> list[str]:
    """The columns that names and patterns stand for. InputError for one that stands for none."""
    found, given = list[str](), set(known)
    for name in names:
        if name in given:
            found.append(name)
            continue
        fitting = sorted((one for one in known if "*" in name and fnmatchcase(one, name)), key=by_number)
        if not fitting:
            raise InputError(f"{where}: {unknown('column', name, list(known))}")
        found += fitting
    return found


def by_number(name: str) -> list[Any]:
    """A key by which joint_10 comes after joint_9."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]


class _Reader:
    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.where, self.table = f"columns {path}", table
        for key in table:
            if key not in Columns.__dataclass_fields__ or key == "where":
                raise InputError(f"{self.where}: {unknown('key', key, [k for k in Columns.__dataclass_fields__][1:])}")

    def columns(self) -> Columns:
        if "obs" not in self.table:
            raise InputError(f"{self.where}: has no key 'obs'; name the columns of the observation: obs = [\"x\", …]")
        found: dict[str, Any] = {"where": self.where, "obs": self._leaves("obs", self.table["obs"])}
        if "actions" in self.table:
            found["actions"] = self._leaves("actions", self.table["actions"])
        episode = self.table.get("episode", [])
        found["episode"] = self._texts("episode", [episode] if isinstance(episode, str) else episode)
        found["states"] = self._texts("states", self.table.get("states", []))
        found |= {key: self._given(key, str, "") for key in ONE}
        found |= {"gap": float(self._given("gap", (int, float), 0)), "decimal": self._given("decimal", str, "."),
                  **{key: self._given(key, bool, False) for key in ("final_rows", "open_ends")}}
        for key in (*NUMBERS, "choices", "units"):
            found[key] = self._given(key, dict, {})
        for key in NUMBERS:
            for name, number in found[key].items():
                if isinstance(number, bool) or not isinstance(number, int | float):
                    self._refuse(f"{key}.{name}", number, "a number")
        for name, unit in found["units"].items():
            if unit not in UNITS:
                raise InputError(f"{self.where}: {unknown(f'unit of {name}', str(unit), list(UNITS))}")
        for name, texts in found["choices"].items():
            self._texts(f"choices.{name}", texts)
        return Columns(**found)

    def _leaves(self, key: str, given: Any) -> Any:
        """A Leaf, or dicts of them."""
        if isinstance(given, dict) and "columns" in given:
            shape, dtype = given.get("shape"), given.get("dtype", "")
            odd = sorted(set(given) - LEAF)
            if odd:
                raise InputError(f"{self.where}: {unknown(f'key of {key}', odd[0], sorted(LEAF))}")
            if shape is not None and not (isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)):
                self._refuse(f"{key}.shape", shape, "a list of whole numbers")
            try:
                plain = not dtype or np.dtype(dtype).kind in "biuf"
            except TypeError:
                plain = False
            if not plain:
                self._refuse(f"{key}.dtype", dtype, "a NumPy dtype such as \"uint8\"")
            return Leaf(self._texts(key, given["columns"]), str(dtype), None if shape is None else tuple(shape))
        if isinstance(given, dict) and given:
            return {name: self._leaves(f"{key}.{name}", part) for name, part in given.items()}
        return Leaf(self._texts(key, [given] if isinstance(given, str) else given))

    def _texts(self, key: str, given: Any) -> tuple[str, ...]:
        plain = isinstance(given, list) and all(isinstance(one, str) for one in given)
        if not plain or (not given and key == "obs"):
            self._refuse(key, given, "a list of names")
        return tuple(given)

    def _given(self, key: str, kind: Any, default: Any) -> Any:
        value = self.table.get(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self._refuse(key, value, {str: "a name", bool: "true or false", dict: "a table"}.get(kind, "a number"))
        return value

    def _refuse(self, key: str, value: Any, wanted: str) -> None:
        raise InputError(f"{self.where}: {key} = {value!r} must be {wanted}; see docs/formats/table.md")
