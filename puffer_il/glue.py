"""env.toml → checked description → C translation unit around the author's header → compiled environment.

An environment is a folder `<name>/` with `<name>.h` (the contract is csrc/env.h) and `env.toml`. setup.py compiles
those it ships through `env_extension`; `compile_env` does the same at run time for a folder anywhere.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puffer_il.config import read_toml
from puffer_il.registry import unknown
from puffer_il.types import InputError

if TYPE_CHECKING:
    from setuptools import Extension

# No -march: one build runs everywhere. No contraction: the same bits with and without fused multiply-add.
FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden",
         "-Wall", "-Wextra", "-Wno-unused-parameter")
CSRC = next(folder for folder in (Path(__file__).parent / "csrc", Path(__file__).parents[1] / "csrc") if folder.is_dir())
OBS_TYPES = {"float32": "float", "uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t"}
RANGES = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-2**15, 2**15 - 1), "int32": (-2**31, 2**31 - 1),
          "float32": (-math.inf, math.inf)}
PARAMETER_TYPES = {bool: "int64_t", int: "int64_t", float: "double"}
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
    """A checked env.toml. `parameters` begins with max_episode_steps (0: no limit); the header is `<name>.h`."""

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
    agents = top.get("agents", int, 1)
    limit = top.get("max_episode_steps", int, 0)
    autoreset = top.get("autoreset", bool, True)
    if agents < 1 or limit < 0:
        raise InputError(f"{path}: agents = {agents}, max_episode_steps = {limit}: at least 1 and 0")
    if limit and not autoreset:
        raise InputError(f"{path}: max_episode_steps = {limit}: without autoreset c_step sets the limits; leave it out")
    clock = Parameter("max_episode_steps", limit, 0, 2**62 if autoreset else 0, "steps of an episode; 0 for no limit")
    parameters = [_parameter(path, name, entry) for name, entry in top.get("parameters", dict, {}).items()]
    return EnvFile(folder, top.get("description", str, ""), top.get("source", str, ""),
                   top.get("gymnasium_id", str, ""), agents, autoreset,
                   _box(_Table(path, "observation.", top.get("observation", dict), ("dtype", "shape", "low", "high")),
                        tuple(OBS_TYPES)),
                   _action(path, top.get("action", dict)), (clock, *parameters))


class _Table:
    """A TOML table whose keys are known, and whose values are asked for by type (`object`: any)."""

    def __init__(self, path: Path, prefix: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
        self.path, self.prefix, self.table = path, prefix, table
        for key in table:
            if key not in known:
                raise InputError(f"{path}: {unknown('key', prefix + key, [prefix + name for name in known])}")

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.table.get(key, default)
        if value is None:
            raise self.error(key, "missing; add it")
        if kind is not object and type(value) is not kind:
            raise self.error(key, f"expected {kind.__name__}, got {value!r}")
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
    bounds = []
    for key in ("low", "high"):
        value = table.get(key, object)
        numbers = tuple(value) if isinstance(value, list) else (value,)
        if not all(type(x) in (int, float) and RANGES[dtype][0] <= x <= RANGES[dtype][1] for x in numbers):
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
    value = table.get("discrete", object)
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
        raise table.error("default", "give the parameter another name: lower-case letters, digits and _, and none of "
                                     + ", ".join(sorted(RESERVED)))
    if type(table.get("default", object)) not in PARAMETER_TYPES:
        raise table.error("default", f"{fields['default']!r} must be true, false or a number")
    parameter = Parameter(name, **fields)
    parameter.check(parameter.default, str(path))
    return parameter


def c_source(env: EnvFile) -> str:
    """The translation unit: what env.toml says as C, the author's header, the batch loop; and a hash of it all."""
    action = env.action
    element = "int32_t" if action.nvec else "float"
    body = "\n".join([
        "#include <math.h>",
        "#include <stdint.h>",
        "enum {",
        f"    ENV_AGENTS = {env.agents},",
        f"    ENV_OBS_SIZE = {env.observation.size},",
        f"    ENV_ACTION_SIZE = {action.size},",
        f"    ENV_AUTORESET = {int(env.autoreset)},",
        "};",
        f"typedef {OBS_TYPES[env.observation.dtype]} Obs;",
        f"typedef {element} Action;",
        f"static const Action ACTION_LOW[] = {{{_c_numbers(action.low, action)}}};",
        f"static const Action ACTION_HIGH[] = {{{_c_numbers(action.high, action)}}};",
        "typedef struct {",
        *(f"    {PARAMETER_TYPES[type(p.default)]} {p.name};" for p in env.parameters),
        "} Params;",
        f'#include "{env.name}.h"',
        '#include "vec_env.h"',
        "",
    ])
    digest = hashlib.sha256(" ".join(FLAGS).encode() + body.encode())
    for header in headers(env):
        digest.update(header.read_bytes())
    return f'#define ENV_SOURCE_HASH "{digest.hexdigest()[:16]}"\n{body}'


def source_hash(env: EnvFile) -> str:
    """16 hexadecimal digits that change with anything that goes into the compiled environment."""
    return c_source(env).split('"')[1]


def _c_numbers(numbers: tuple[float, ...], space: Space) -> str:
    """One C literal per element: exact for whole numbers, and for floats as hexadecimal."""
    literals = [str(x) if space.nvec else f"{'-' if x < 0 else ''}INFINITY" if math.isinf(x) else float(x).hex()
                for x in numbers]
    return ", ".join(literals * (space.size // len(literals)))


def headers(env: EnvFile) -> list[Path]:
    """Every header that the environment includes with quotes, directly or not, its own folder before csrc/."""
    found: list[Path] = []
    names = [f"{env.name}.h", "vec_env.h"]
    for name in names:
        path = next((p for p in (env.folder / name, CSRC / name) if p.is_file()), None)
        if path and path not in found:
            found.append(path)
            names += re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE)
    return found


def env_extension(folder: Path | str, extra_compile_args: tuple[str, ...] = FLAGS) -> Extension:
    """The shipped environment in `envs/<name>` as a build target; its C file goes to build/glue, below the root."""
    from setuptools import Extension

    env = read_env(folder)
    source = Path("build", "glue", f"{env.name}.c")
    source.parent.mkdir(parents=True, exist_ok=True)
    text = c_source(env)
    if not source.is_file() or source.read_text() != text:  # an unchanged file is not compiled again
        source.write_text(text)
    return Extension(f"puffer_il.envs.{env.name}._{env.name}", [str(source)],
                     include_dirs=[os.path.relpath(env.folder), os.path.relpath(CSRC)],
                     libraries=["m"], depends=[os.path.relpath(header) for header in headers(env)],
                     extra_compile_args=list(extra_compile_args))


def compile_env(env: EnvFile, cache: Path | None = None) -> Path:
    """The shared object of `env`, compiled at most once per source hash into `cache` (by default the user's own).

    Safe when two processes compile at once: each works apart, and a finished file appears under its name in one go.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "puffer_il"
    text = c_source(env)
    target = (cache or root) / f"{env.name}-{text.split(chr(34))[1]}.so"
    if target.is_file():
        return target
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise InputError(f"environment {env.name} must be compiled but there is no C compiler; install gcc, or set CC")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            source, built = Path(scratch, f"{env.name}.c"), Path(scratch, f"{env.name}.so")
            source.write_text(text)
            done = subprocess.run([*compiler.split(), *FLAGS, "-shared", "-fPIC", f"-I{env.folder}", f"-I{CSRC}",
                                   str(source), "-o", str(built), "-lm"], capture_output=True, text=True)
            if done.returncode:
                first = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr.strip() or "no message")
                raise InputError(f"environment {env.name} does not compile: {first}")
            built.replace(target)
    except OSError as error:
        raise InputError(f"environment {env.name} cannot be compiled into {target.parent}: {error}") from None
    return target
