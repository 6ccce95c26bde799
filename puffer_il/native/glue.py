"""A described environment → C translation unit around the author's header → compiled environment.

setup.py compiles those under envs/ through `env_extension`; `compile_env` does the same at run time for a folder
anywhere. Nothing that is generated is kept among the sources.
"""

import ast
import hashlib
import importlib
import importlib.util
import math
import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from puffer_il.core.errors import InputError, one_line
from puffer_il.native.compiler import build_once, cache_dir, compiler, compiler_id, is_whole, run
from puffer_il.native.envfile import EnvFile, Space, read_env

# No -march: one build runs everywhere. No contraction: the same bits with and without fused multiply-add.
FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden",
         "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror=implicit-function-declaration")
HERE = Path(__file__).parents[1]
CSRC = HERE / "csrc" if (HERE / "csrc").is_dir() else HERE.parent / "csrc"  # installed, or in a repository
C_TYPES = {"float64": "double", "float32": "float", "int64": "int64_t", "int32": "int32_t", "int16": "int16_t",
           "int8": "int8_t", "uint8": "uint8_t", bool: "int64_t", int: "int64_t", str: "int64_t", float: "double"}
OURS = ("env.h", "vec_env.h", "vec_api.h", "canvas.h", "rng.h")  # headers of the contract: no environment's hooks
HOOKS = {"EXPERT": ("c_expert",), "STATE": ("c_get_state", "c_set_state"), "RENDER": ("c_render",),
         "SHARE": ("c_share", "c_unshare"), "OPEN": ("c_open", "c_close"), "MASK": ("c_mask",)}
PLAIN_STATE = """
_Static_assert(sizeof(Env) == ENV_STATE_SIZE * sizeof(double), "env.toml: `state` is the number of doubles in Env");
static inline void c_get_state(const Env *env, Io io, double *state) {
    memcpy(state, env, sizeof *env);
}
static inline void c_set_state(Env *env, Io io, const double *state) {
    memcpy(env, state, sizeof *env);
    c_observe(env, io);
}
"""


def c_source(env: EnvFile) -> str:
    """The whole translation unit."""
    return f'#define ENV_SOURCE_HASH "{source_hash(env)}"\n{_c_body(env)}'


def source_hash(env: EnvFile) -> str:
    """16 hexadecimal digits that change with anything that goes into the compiled environment."""
    digest = hashlib.sha256(" ".join([*FLAGS, *package_flags(env)]).encode() + _c_body(env).encode())
    for header in [*headers(env), *[CSRC / "vec_mask.h"] * ("MASK" in hooks(env))]:
        digest.update(header.read_bytes())
    return digest.hexdigest()[:16]


def hooks(env: EnvFile) -> set[str]:
    """Which of HOOKS the environment's own headers define; InputError where a part of one is missing.

    PLAIN_STATE is there as well where the glue writes c_get_state and c_set_state, which copy Env.
    """
    text = "\n".join(re.sub(r"/\*.*?\*/|//[^\n]*", "", text_of(header), flags=re.DOTALL)
                     for header in headers(env) if header.parent != CSRC or header.name not in OURS)
    defined = {name for names in (*HOOKS.values(), ("c_observe",)) for name in names
               if re.search(rf"\b{name}\s*\([^;]*?\)\s*{{", text)}
    for names in HOOKS.values():
        there, missing = (" and ".join(n for n in names if (n in defined) == wanted) for wanted in (True, False))
        if there and missing:
            raise InputError(f"environment {env.name}: there is {there} but no {missing}; they go together")
    found = {hook for hook, names in HOOKS.items() if set(names) <= defined}
    if "OPEN" in found and "STATE" not in found:
        raise InputError(f"environment {env.name}: with c_open, a copy of Env no longer saves all of it; define "
                         "c_get_state and c_set_state as well")
    if "MASK" in found and (not env.action.nvec or env.action.choices):
        raise InputError(f"environment {env.name}: c_mask says which of a fixed number of choices may be taken; give "
                         "action.discrete as a number or a list of numbers in env.toml")
    if env.state and "c_observe" in defined and "STATE" not in found and _only_doubles(text):
        found |= {"STATE", "PLAIN_STATE"}
    for hook, given, key, needed in (
            ("STATE", env.state, "state = n", "c_get_state and c_set_state, or c_observe and an Env of doubles alone,"),
            ("RENDER", env.render[0], "[render] width and height", "c_render")):
        if (hook in found) != bool(given):
            wanted = f"{needed} must be there with {key}" if given else f"add {key}"
            raise InputError(f"{env.folder / 'env.toml'}: {env.name}.h defines {'no ' * bool(given)}{HOOKS[hook][0]}; "
                             f"{wanted}")
    return found


def text_of(header: Path) -> str:
    """A header's text; InputError where it is no text."""
    try:
        return header.read_text()
    except UnicodeDecodeError as error:
        raise InputError(f"{header}: cannot be read ({one_line(error)}); save it as UTF-8") from None


def _only_doubles(text: str) -> bool:
    """Whether all fields of the struct Env are numbers or arrays of type double: no pointers, nothing nested."""
    struct = re.search(r"typedef\s+struct\s*\w*\s*{([^{}]*)}\s*Env\s*;", text)
    return struct is not None and all(re.match(r"\s*double\b[^*()]*$", field) for field in struct[1].split(";")[:-1])


def package_folder(package: str) -> Path | None:
    """Where a Python package is installed, without importing it; None if it is not."""
    spec = importlib.util.find_spec(package)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def import_failure(package: str) -> str:
    """Why a package that is installed cannot be imported, in its own words; "" where it can be, or is not there. Parts
    of it that it says to install again get its own version: the newest ones need not belong to it."""
    try:
        if package_folder(package) is not None:
            importlib.import_module(package)
    except ImportError as error:
        return re.sub(r"(?<=--force-reinstall --no-deps )[\w -]+", lambda names: _pinned(names[0], package),
                      one_line(error))
    return ""


def _pinned(names: str, package: str) -> str:
    try:
        return " ".join(f"{name}=={version(package)}" for name in names.split())
    except PackageNotFoundError:
        return names


def package_flags(env: EnvFile) -> list[str]:
    """Compiler flags for the headers and the library inside each of `packages`; InputError if one is not there."""
    flags = []
    for package in env.packages:
        root = package_folder(package)
        if root is None:
            raise InputError(f"environment {env.name} is built with the package {package}, which is not installed; "
                             f"pip install {package}")
        libraries = sorted(path for pattern in (f"lib{package}.so*", f"lib{package}*.dylib", f"{package}.lib")
                           for path in root.glob(pattern))
        if not libraries or not (root / "include").is_dir():
            raise InputError(f"environment {env.name}: the package {package} in {root} has no include/ or no "
                             f"lib{package}; {import_failure(package) or 'install one of its wheels'}")
        flags += [f"-I{root / 'include'}", str(libraries[0]), f"-Wl,-rpath,{root}"]
    return flags


def _c_body(env: EnvFile) -> str:
    """What env.toml says as C, then the author's header, then the batch loop."""
    found = hooks(env)
    return "\n".join([
        "#include <math.h>",
        "#include <stdint.h>",
        *(f"#define ENV_HAS_{hook}" for hook in sorted(found)),
        f"#define ENV_LOG_SIZE {len(env.log)}",  # macros, where the preprocessor must know
        "enum {",
        f"    ENV_AGENTS = {env.agents},",
        f"    ENV_OBS_SIZE = {env.observation.size},",
        f"    ENV_ACTION_SIZE = {env.action.size},",
        *[f"    ENV_CHOICES = {sum(env.action.nvec)},"] * ("MASK" in found),
        f"    ENV_AUTORESET = {int(env.autoreset)},",
        f"    ENV_PARAMS = {sum(p.in_c for p in env.parameters)},",
        f"    ENV_STATE_SIZE = {env.state},",
        f"    ENV_RENDER_WIDTH = {env.render[0]},",
        f"    ENV_RENDER_HEIGHT = {env.render[1]},",
        "};",
        f"typedef {C_TYPES[env.observation.dtype]} Obs;",
        f"typedef {C_TYPES[env.action.dtype]} Action;",
        *_c_bounds(env.action),
        *(f"enum {{ {', '.join(_c_name(f'{p.name}_{choice}') for choice in p.choices)} }};"
          for p in env.parameters if p.choices),
        "typedef struct {",
        *(f"    {C_TYPES[type(p.default)]} {p.name};" for p in env.parameters if p.in_c),
        "} Params;",
        "typedef struct {",
        *(f"    const {C_TYPES[dtype]} *{name};\n    int64_t {name}_size;" for name, dtype in env.data.items()),
        *["    int64_t none;"] * (not env.data),
        "} Data;",
        "typedef struct {",
        *(f"    float {name};" for name in env.log or ("none",)),
        "} Log;",
        f'#include "{env.name}.h"',
        *[PLAIN_STATE] * ("PLAIN_STATE" in found),
        '#include "vec_env.h"',
        *['#include "vec_mask.h"'] * ("MASK" in found),
        "",
    ])


def _c_name(text: str) -> str:
    return re.sub(r"\W", "_", text.upper())


def _c_bounds(action: Space) -> list[str]:
    """ACTION_LOW(params, k) and ACTION_HIGH(params, k) of element k."""
    if action.choices:  # a bound at run time, so that one build serves any number of choices
        tree = ast.parse(action.choices, mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = f"(params)->{node.id}"
        return ["#define ACTION_LOW(params, k) ((Action)0)",
                f"#define ACTION_HIGH(params, k) ((Action)({ast.unparse(tree)} - 1))"]
    return [f"static const Action ACTION_LOWS[] = {{{_c_numbers(action.low, action)}}};",
            f"static const Action ACTION_HIGHS[] = {{{_c_numbers(action.high, action)}}};",
            "#define ACTION_LOW(params, k) ACTION_LOWS[k]",
            "#define ACTION_HIGH(params, k) ACTION_HIGHS[k]"]


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
            names += re.findall(r'^\s*#\s*include\s+"([^"]+)"', text_of(path), re.MULTILINE)
    return found


def env_extension(folder: Path | str) -> Any:
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
                     extra_compile_args=list(FLAGS))


def compile_env(env: EnvFile, cache: Path | None = None) -> Path:
    """The shared object of `env`, compiled at most once per source hash and compiler into `cache` (by default the
    user's own)."""
    cache, wanted, what = cache or cache_dir(), f"{env.name}-{source_hash(env)}", f"environment {env.name}"
    try:
        target = cache / f"{wanted}-{compiler_id()}.so"
    except InputError as error:
        for built in filter(is_whole, cache.glob(f"{wanted}-*.so")):  # by a compiler that has gone since
            return built
        raise InputError(f"{what} must be compiled but {error}") from None

    def build(built: Path) -> None:
        source = built.with_name(f"{env.name}.c")
        source.write_text(c_source(env))
        try:
            run([*compiler(), *FLAGS, "-shared", "-fPIC", f"-I{env.folder}", f"-I{CSRC}", str(source), "-o", str(built),
                 *package_flags(env), "-lm"], what)
        except InputError:  # which half of a package explains
            for broken in filter(None, map(import_failure, env.packages)):
                raise InputError(f"{what} cannot be built: {broken}") from None
            raise

    return build_once(target, what, build)
