"""env.toml: what an environment says about itself, read and checked.

An environment is a folder `<name>/` with `<name>.h` (its contract is csrc/env.h) and `env.toml`:

    description = "…"            # what it is about, in a sentence; also `source`, where it comes from, and
    gymnasium_id = "CartPole-v1"  # what it equals step for step, if anything
    agents = 1                   # per environment; 1 if left out
    max_episode_steps = 500      # truncates; 0 or left out: no limit
    autoreset = true             # false: c_step itself restarts each agent that it ends
    [observation]                # of one agent; dtype float32, uint8, int8, int16 or int32
    dtype = "float32"
    shape = [4]
    low = -inf                   # one number for all elements, or a flat list
    high = [4.8, inf, 0.42, inf]
    [action]                     # `discrete` choices, a list of them, or a box like the observation's (float32)
    discrete = 2
    [parameters]                 # keyword arguments with their defaults: true or false, whole numbers, numbers
    gravity = 9.8
    tau = { default = 0.02, low = 1e-6, high = 1.0, help = "seconds per step" }
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puffer_il.config import read_toml
from puffer_il.registry import unknown
from puffer_il.types import InputError

RANGES = {"float32": (-math.inf, math.inf), "uint8": (0, 255), "int8": (-2**7, 2**7 - 1),
          "int16": (-2**15, 2**15 - 1), "int32": (-2**31, 2**31 - 1)}
RESERVED = {"folder", "num_envs", "buf", "seed", "first_env", "self", "max_episode_steps"}


@dataclass(frozen=True)
class Space:
    """What one agent sees or does. A discrete one has `nvec`; `shape` () is a single choice, (k,) are k at once.

    `low` and `high` hold one number for all elements or one for each, in C order.
    """

    dtype: str
    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    nvec: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Parameter:
    """A keyword argument of the environment: a bool, an int or a float by the type of its default."""

    name: str
    default: bool | int | float
    low: float = -math.inf
    high: float = math.inf
    help: str = ""

    def check(self, value: Any, origin: str) -> bool | int | float:
        """`value` in the parameter's own type; InputError if it is of another type or out of range."""
        kind = type(self.default)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (isinstance(value, bool) if kind is bool else whole or (kind is float and isinstance(value, float))):
            wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
            raise InputError(f"{origin}: {self.name} = {value!r}: expected {wanted}, such as {self.default}")
        if kind is not bool and not (self.low <= value <= self.high and abs(value) < (2**63 if whole else math.inf)):
            raise InputError(f"{origin}: {self.name} = {value!r}: must be a number from {self.low} to {self.high}")
        return kind(value)


@dataclass(frozen=True)
class EnvFile:
    """A checked env.toml; the header is `<name>.h`.

    gymnasium_id  the Gymnasium environment that it equals step for step, or empty
    agents        per environment; each has the same spaces
    autoreset     True: the glue starts a new episode in the step in which the last agent ended, and keeps the time
                  limit. False: c_step restarts every agent that it ends, by itself
    parameters    begin with max_episode_steps (0: no limit)
    """

    folder: Path
    description: str
    source: str
    gymnasium_id: str
    agents: int
    autoreset: bool
    observation: Space
    action: Space
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    def values(self, given: dict[str, Any]) -> dict[str, bool | int | float]:
        """Every parameter's value, `given` ones checked; InputError names the nearest parameter to an unknown one."""
        known = {p.name: p for p in self.parameters}
        for name in given:
            if name not in known:
                raise InputError(f"environment {self.name}: {unknown('parameter', name, list(known))}")
        return {name: p.check(given.get(name, p.default), f"environment {self.name}") for name, p in known.items()}


def read_env(folder: Path | str) -> EnvFile:
    """The description in `folder`; InputError names the file, the key and the remedy."""
    folder = Path(folder).resolve()
    path = folder / "env.toml"
    table = read_toml(path)
    if not (folder / f"{folder.name}.h").is_file():
        raise InputError(f"{path}: there is no {folder.name}.h beside it; the header carries the folder's name")
    top = _Table(path, "", table, ("description", "source", "gymnasium_id", "agents", "max_episode_steps", "autoreset",
                                   "observation", "action", "parameters"))
    agents = top.get("agents", int, default=1)
    limit = top.get("max_episode_steps", int, default=0)
    autoreset = top.get("autoreset", bool, default=True)
    if agents < 1 or limit < 0:
        raise InputError(f"{path}: agents = {agents}, max_episode_steps = {limit}: at least 1 and 0")
    if limit and not autoreset:
        raise InputError(f"{path}: max_episode_steps = {limit}: without autoreset c_step sets the limits; leave it out")
    clock = Parameter("max_episode_steps", limit, 0, 2**62 if autoreset else 0, "steps of an episode; 0 for no limit")
    parameters = [_parameter(path, name, entry) for name, entry in top.get("parameters", dict, default={}).items()]
    description, source, gymnasium_id = (top.get(key, str, default="")
                                         for key in ("description", "source", "gymnasium_id"))
    box = _Table(path, "observation.", top.get("observation", dict), ("dtype", "shape", "low", "high"))
    return EnvFile(folder, description, source, gymnasium_id, agents, autoreset, _box(box, tuple(RANGES)),
                   _action(path, top.get("action", dict)), (clock, *parameters))


class _Table:
    """A TOML table whose keys are known, and whose values are asked for by type."""

    def __init__(self, path: Path, prefix: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
        self.path, self.prefix, self.table = path, prefix, table
        for key in table:
            if key not in known:
                raise InputError(f"{path}: {unknown('key', prefix + key, [prefix + name for name in known])}")

    def get(self, key: str, *kinds: type, default: Any = None) -> Any:
        value = self.table.get(key, default)
        if value is None:
            raise self.error(key, "missing; add it")
        if type(value) not in kinds:
            raise self.error(key, f"expected {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")
        return value

    def error(self, key: str, text: str) -> InputError:
        return InputError(f"{self.path}: {self.prefix}{key}: {text}")


def _box(table: _Table, dtypes: tuple[str, ...]) -> Space:
    dtype = table.get("dtype", str)
    if dtype not in dtypes:
        raise table.error("dtype", f"{dtype!r} is not one of {', '.join(dtypes)}")
    shape = tuple(table.get("shape", list))
    if not shape or not all(type(n) is int and n > 0 for n in shape):
        raise table.error("shape", f"{list(shape)} must hold whole numbers above 0")
    size = math.prod(shape)
    kinds = (int, float) if dtype == "float32" else (int,)
    bounds = []
    for key in ("low", "high"):
        value = table.get(key, list, *kinds)
        numbers = tuple(value) if isinstance(value, list) else (value,)
        if not all(type(x) in kinds and RANGES[dtype][0] <= x <= RANGES[dtype][1] for x in numbers):
            raise table.error(key, f"{value!r} must be {dtype} numbers")
        if isinstance(value, list) and len(numbers) != size:
            raise table.error(key, f"has {len(numbers)} numbers but shape {list(shape)} needs {size} (or one for all)")
        bounds.append(numbers)
    low, high = bounds
    if any(not a <= b for a, b in zip(low * (size // len(low)), high * (size // len(high)), strict=True)):
        raise table.error("low", "above high")
    return Space(dtype, shape, low, high)


def _action(path: Path, entries: dict[str, Any]) -> Space:
    """`discrete = n`, `discrete = [n, m, …]`, or a float32 box."""
    if "discrete" not in entries:
        return _box(_Table(path, "action.", entries, ("dtype", "shape", "low", "high", "discrete")), ("float32",))
    table = _Table(path, "action.", entries, ("discrete",))
    value = table.get("discrete", int, list)
    nvec = tuple(value) if isinstance(value, list) else (value,)
    if not nvec or not all(type(n) is int and 0 < n < 2**31 for n in nvec):
        raise table.error("discrete", f"{value!r} must be a number of choices or a list of them, each above 0")
    shape = (len(nvec),) if isinstance(value, list) else ()
    return Space("int32", shape, (0,) * len(nvec), tuple(n - 1 for n in nvec), nvec)


def _parameter(path: Path, name: str, entry: Any) -> Parameter:
    """`name = default`, or `name = { default = …, low = …, high = …, help = … }`."""
    fields = entry if isinstance(entry, dict) else {"default": entry}
    table = _Table(path, f"parameters.{name}.", fields, ("default", "low", "high", "help"))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED:
        raise InputError(f"{path}: parameters.{name}: choose another name: lower-case letters, digits and _, and none "
                         f"of {', '.join(sorted(RESERVED))}")
    parameter = Parameter(name, table.get("default", bool, int, float), table.get("low", int, float, default=-math.inf),
                          table.get("high", int, float, default=math.inf), table.get("help", str, default=""))
    parameter.check(parameter.default, str(path))
    return parameter
