"""env.toml: what an environment says about itself, read and checked.

An environment is a folder `<name>/` with `<name>.h` (its contract is csrc/env.h) and `env.toml`:

    description = "…"            # what it is about, in a sentence; also `source`, where it comes from, and
    gymnasium_id = "CartPole-v1"  # what it equals step for step, if anything
    agents = 1                   # per environment; 1 if left out
    max_episode_steps = 500      # truncates; 0 or left out: no limit
    autoreset = true             # false: c_step itself restarts each agent that it ends
    log = ["distance"]           # what an episode counts in io.log, reported as the mean over episodes
    state = 4                    # numbers of c_get_state and c_set_state, or of doubles that make up Env
    packages = ["mujoco"]        # Python packages that carry the headers and the library that it is built with
    [observation]                # of one agent; dtype float32, uint8, int8, int16 or int32
    dtype = "float32"
    shape = [4]
    low = -inf                   # one number for all elements, or a flat list
    high = [4.8, inf, 0.42, inf]
    discrete = 16                # instead of all these: one category number
    [action]                     # `discrete` choices, a list of them, or a box like the observation's (float32)
    discrete = 2
    [parameters]                 # keyword arguments with their defaults: true or false, whole numbers, numbers,
    gravity = 9.8
    tau = { default = 0.02, low = 1e-6, high = 1.0, help = "seconds per step" }
    map = { default = "4x4", choices = ["4x4", "8x8"] }  # one of several names, and text that only `load` sees
    [data]                       # arrays that all environments read: keyword arguments, or from load() in <name>.py
    transitions = "float64"
    # or a file, whose path C reads: one beside env.toml or of a Python package, unless a text parameter names another
    model = { package = "gymnasium", file = "envs/mujoco/assets/ant.xml", parameter = "xml_file" }
    [render]                     # the picture of c_render
    width = 600
    height = 400
    fps = 50

`agents`, the elements of `shape` and `discrete` may be whole-number expressions over the parameters, such as
"2 * vehicles + 3"; true counts as 1 and a choice as its place among the choices.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from puffer_il.core.config import read_toml
from puffer_il.core.errors import InputError, unknown

RANGES = {"float32": (-math.inf, math.inf), "uint8": (0, 255), "int8": (-2**7, 2**7 - 1),
          "int16": (-2**15, 2**15 - 1), "int32": (-2**31, 2**31 - 1)}
DATA_TYPES = ("float64", "float32", "int64", "int32", "uint8")
RESERVED = {"folder", "num_envs", "buf", "seed", "first_env", "threads", "render_mode", "self", "max_episode_steps"}
MOST_ELEMENTS = 2**24  # of an observation or an action
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}

Value = bool | int | float | str


@dataclass(frozen=True)
class Space:
    """What one agent sees or does. A discrete one has `nvec`; `shape` () is a single choice, (k,) are k at once.

    `low` and `high` hold one number for all elements or one for each, in C order. `choices` is the expression of a
    single choice whose number depends on parameters.
    """

    dtype: str
    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    nvec: tuple[int, ...] = ()
    choices: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Parameter:
    """A keyword argument of the environment: a bool, an int, a float or a text by the type of its default."""

    name: str
    default: Value
    low: float = -math.inf
    high: float = math.inf
    help: str = ""
    choices: tuple[str, ...] = ()

    @property
    def in_c(self) -> bool:
        """False for a free text, which C never sees."""
        return bool(self.choices) or not isinstance(self.default, str)

    def check(self, value: Any, origin: str) -> Value:
        """`value` in the parameter's own type; InputError if it is of another type or out of range."""
        kind = type(self.default)
        if kind is str and self.choices and value not in self.choices:
            raise InputError(f"{origin}: {self.name} = {value!r}: choose one of {', '.join(self.choices)}")
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = isinstance(value, kind) if kind in (bool, str) else whole or (kind is float and isinstance(value, float))
        if not fits:
            wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
            raise InputError(f"{origin}: {self.name} = {value!r}: expected {wanted}, such as {self.default!r}")
        if kind in (int, float) and not (self.low <= value <= self.high
                                         and abs(value) < (2**63 if whole else math.inf)):
            raise InputError(f"{origin}: {self.name} = {value!r}: must be a number from {self.low} to {self.high}")
        return kind(value)

    def number(self, value: Value) -> int | float:
        """What stands for `value` in C."""
        if isinstance(value, str):
            return self.choices.index(value)
        return value if isinstance(value, float) else int(value)


@dataclass(frozen=True)
class DataFile:
    """The file whose path is an array of [data], as uint8 that end in 0.

    file       in the package, or beside env.toml without one; by the choices of a parameter, if it depends on one
    parameter  the text parameter that may name another file, or empty
    """

    file: str | Mapping[str, str]
    package: str = ""
    parameter: str = ""


@dataclass(frozen=True)
class EnvFile:
    """A checked env.toml, its sizes for one choice of parameters; the header is `<name>.h`.

    gymnasium_id  the Gymnasium environment that it equals step for step, or empty
    agents        per environment; each has the same spaces
    autoreset     True: the glue starts a new episode in the step in which the last agent ended, and keeps the time
                  limit. False: c_step restarts every agent that it ends, by itself
    parameters    begin with max_episode_steps (0: no limit)
    render        width and height in pixels and frames per second; zeros without [render]
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
    log: tuple[str, ...] = ()
    state: int = 0
    packages: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)  # name → dtype
    files: Mapping[str, DataFile] = field(default_factory=dict)  # for those of `data` that are files
    render: tuple[int, int, int] = (0, 0, 0)

    @property
    def name(self) -> str:
        return self.folder.name

    def values(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Every parameter's value, `given` ones checked; InputError names the nearest parameter to an unknown one."""
        return _values(self.name, self.parameters, given)

    def numbers(self, values: Mapping[str, Value]) -> list[int | float]:
        """The C struct Params, field by field."""
        return [p.number(values[p.name]) for p in self.parameters if p.in_c]


def _values(name: str, parameters: tuple[Parameter, ...], given: Mapping[str, Any]) -> dict[str, Value]:
    known = {p.name: p for p in parameters}
    for key in given:
        if key not in known:
            raise InputError(f"environment {name}: {unknown('parameter', key, list(known))}")
    return {key: p.check(given.get(key, p.default), f"environment {name}") for key, p in known.items()}


def read_env(folder: Path | str, given: Mapping[str, Any] | None = None) -> EnvFile:
    """The description in `folder` with the parameters `given`; InputError names the file, the key and the remedy."""
    folder = Path(folder).resolve()
    path = folder / "env.toml"
    table = read_toml(path)
    if not re.fullmatch(r"[A-Za-z_]\w*", folder.name):
        raise InputError(f"{folder}: the folder's name becomes a name in C; use letters, digits and _")
    if not (folder / f"{folder.name}.h").is_file():
        raise InputError(f"{path}: there is no {folder.name}.h beside it; the header carries the folder's name")
    top = _Table(path, "", table, ("description", "source", "gymnasium_id", "agents", "max_episode_steps", "autoreset",
                                   "log", "state", "packages", "observation", "action", "parameters", "data", "render"))
    limit = top.get("max_episode_steps", int, default=0)
    autoreset = top.get("autoreset", bool, default=True)
    if limit < 0:
        raise top.error("max_episode_steps", f"{limit}: at least 0")
    if limit and not autoreset:
        raise InputError(f"{path}: max_episode_steps = {limit}: without autoreset c_step sets the limits; leave it out")
    clock = Parameter("max_episode_steps", limit, 0, 2**62 if autoreset else 0, "steps of an episode; 0 for no limit")
    parameters = (clock, *(_parameter(path, name, entry)
                           for name, entry in top.get("parameters", dict, default={}).items()))
    top.numbers = {p.name: p.number(value) for p, value in
                   zip(parameters, _values(folder.name, parameters, given or {}).values(), strict=True) if p.in_c}
    description, source, gymnasium_id = (top.get(key, str, default="")
                                         for key in ("description", "source", "gymnasium_id"))
    log, packages = (top.names(key) for key in ("log", "packages"))
    state = top.size("state", top.get("state", int, str, default=0), low=0)
    data, files = _data(top, parameters)
    picture = _Table(path, "render.", top.get("render", dict, default={}), ("width", "height", "fps"))
    width, height, fps = (picture.size(key, picture.get(key, int), high=4096) if picture.table else 0
                          for key in ("width", "height", "fps"))
    agents = top.size("agents", top.get("agents", int, str, default=1))
    return EnvFile(folder, description, source, gymnasium_id, agents, autoreset,
                   _space(top, "observation", tuple(RANGES)), _space(top, "action", ("float32",)), parameters, log,
                   state, packages, data, files, (width, height, fps))


class _Table:
    """A TOML table whose keys are known, and whose values are asked for by type. `numbers` are parameters' values."""

    def __init__(self, path: Path, prefix: str, table: dict[str, Any], known: tuple[str, ...],
                 numbers: Mapping[str, int | float] | None = None) -> None:
        self.path, self.prefix, self.table, self.numbers = path, prefix, table, numbers or {}
        for key in table:
            if key not in known:
                raise InputError(f"{path}: {unknown('key', prefix + key, [prefix + name for name in known])}")

    def within(self, key: str, known: tuple[str, ...]) -> _Table:
        """The table at `key`."""
        return _Table(self.path, f"{key}.", self.get(key, dict), known, self.numbers)

    def get(self, key: str, *kinds: type, default: Any = None) -> Any:
        value = self.table.get(key, default)
        if value is None:
            raise self.error(key, "missing; add it")
        if type(value) not in kinds:
            raise self.error(key, f"expected {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """A list of different names."""
        names = self.get(key, list, default=[])
        if not all(type(x) is str and re.fullmatch(r"[a-z]\w*", x) for x in names) or len(set(names)) != len(names):
            raise self.error(key, f"{names!r}: expected a list of different names in lower case")
        return tuple(names)

    def size(self, key: str, value: Any, low: int = 1, high: int = 2**31 - 1) -> int:
        """A whole number, or an expression of parameters that makes one."""
        try:
            number = evaluate(ast.parse(value, mode="eval").body, self.numbers) if type(value) is str else value
        except (SyntaxError, ValueError) as error:
            raise self.error(key, f"{value!r}: {error}") from None
        if type(number) is not int or not low <= number <= high:
            made = f" makes {number}, but it" if type(value) is str else ""
            raise self.error(key, f"{value!r}{made} must be a whole number from {low} to {high}")
        return number

    def error(self, key: str, text: str) -> InputError:
        return InputError(f"{self.path}: {self.prefix}{key}: {text}")


def evaluate(node: ast.expr, numbers: Mapping[str, int | float]) -> int | float:
    """The value of an expression of whole numbers, parameters, + - * and parentheses; ValueError for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name) and node.id in numbers:
        return numbers[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](evaluate(node.left, numbers), evaluate(node.right, numbers))
    raise ValueError(f"{ast.unparse(node)!r} is not a parameter ({', '.join(numbers)}) or a whole number; + - * and "
                     "parentheses may join them")


def _space(top: _Table, key: str, dtypes: tuple[str, ...]) -> Space:
    """`discrete = n`, for actions also `discrete = [n, m, …]`, or a box of one of `dtypes`."""
    if "discrete" not in top.get(key, dict):
        return _box(top.within(key, ("dtype", "shape", "low", "high", "discrete")), dtypes)
    table, action = top.within(key, ("discrete",)), key == "action"
    value = table.get("discrete", int, str, *[list] * action)
    if value == []:
        raise table.error("discrete", "[] must be a number of choices or a list of them, each above 0")
    nvec = tuple(table.size("discrete", n) for n in (value if isinstance(value, list) else [value]))
    shape = () if action and not isinstance(value, list) else (len(nvec),)
    return Space("int32", shape, (0,) * len(nvec), tuple(n - 1 for n in nvec), nvec,
                 value if action and isinstance(value, str) else "")


def _box(table: _Table, dtypes: tuple[str, ...]) -> Space:
    dtype = table.get("dtype", str)
    if dtype not in dtypes:
        raise table.error("dtype", f"{dtype!r} is not one of {', '.join(dtypes)}")
    listed = table.get("shape", list)
    if not listed or not all(type(n) in (int, str) for n in listed):
        raise table.error("shape", f"{listed} must hold whole numbers above 0")
    shape = tuple(table.size("shape", n) for n in listed)
    size = math.prod(shape)
    if size > MOST_ELEMENTS:
        raise table.error("shape", f"{listed} are {size:,} numbers, more than {MOST_ELEMENTS:,}; make it smaller")
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
    pairs = zip(low, high, strict=True) if len(low) == len(high) else [(max(low), min(high))]
    if any(not a <= b for a, b in pairs):
        raise table.error("low", "above high")
    return Space(dtype, shape, low, high)


def _data(top: _Table, parameters: tuple[Parameter, ...]) -> tuple[dict[str, str], dict[str, DataFile]]:
    """`name = dtype`, or `name = { file = …, package = …, parameter = … }`."""
    data, files = top.get("data", dict, default={}), {}
    for name, entry in data.items():
        if isinstance(entry, dict):
            files[name] = _file(_Table(top.path, f"data.{name}.", entry, ("file", "package", "parameter")), parameters)
        elif entry not in DATA_TYPES:
            raise top.error(f"data.{name}", f"{entry!r}: give one of {', '.join(DATA_TYPES)}, or a file")
        if not re.fullmatch(r"[A-Za-z]\w*", name) or name in RESERVED | {p.name for p in parameters}:
            raise top.error(f"data.{name}", "give it a name of its own, of letters, digits and _")
    return data | dict.fromkeys(files, "uint8"), files


def _file(table: _Table, parameters: tuple[Parameter, ...]) -> DataFile:
    file = table.get("file", str, dict)
    if isinstance(file, dict) and not (set(file) in [set(p.choices) for p in parameters if p.choices]
                                       and all(type(path) is str for path in file.values())):
        raise table.error("file", "give a path, or one for each choice of a parameter: { small = …, large = … }")
    parameter = table.get("parameter", str, default="")
    if parameter and parameter not in [p.name for p in parameters if not p.in_c]:
        raise table.error("parameter", f"{parameter!r} is not a parameter that takes a text without choices")
    return DataFile(file, table.get("package", str, default=""), parameter)


def _parameter(path: Path, name: str, entry: Any) -> Parameter:
    """`name = default`, or `name = { default = …, low = …, high = …, choices = […], help = … }`."""
    fields = entry if isinstance(entry, dict) else {"default": entry}
    table = _Table(path, f"parameters.{name}.", fields, ("default", "low", "high", "choices", "help"))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED:
        raise InputError(f"{path}: parameters.{name}: choose another name: lower-case letters, digits and _, and none "
                         f"of {', '.join(sorted(RESERVED))}")
    choices = table.get("choices", list, default=[])
    if "choices" in fields and not (choices and all(type(x) is str for x in choices)):
        raise table.error("choices", f"{choices!r} must be a list of strings")
    parameter = Parameter(name, table.get("default", bool, int, float, str),
                          table.get("low", int, float, default=-math.inf),
                          table.get("high", int, float, default=math.inf), table.get("help", str, default=""),
                          tuple(choices))
    parameter.check(parameter.default, str(path))
    return parameter
