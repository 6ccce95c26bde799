"""A described environment → C translation unit around the author's header → compiled environment.

setup.py compiles those under envs/ through `env_extension`; `compile_env` does the same at run time for a folder
anywhere. Nothing that is generated is kept among the sources.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from puffer_il.envfile import EnvFile, Space, read_env
from puffer_il.types import InputError

if TYPE_CHECKING:
    from setuptools import Extension

# No -march: one build runs everywhere. No contraction: the same bits with and without fused multiply-add.
FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden",
         "-Wall", "-Wextra", "-Wno-unused-parameter")
HERE = Path(__file__).parent
CSRC = HERE / "csrc" if (HERE / "csrc").is_dir() else HERE.parent / "csrc"  # installed, or in a repository
ELEMENT_TYPES = {"float32": "float", "uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t"}
PARAMETER_TYPES = {bool: "int64_t", int: "int64_t", float: "double"}


def c_source(env: EnvFile) -> str:
    """The whole translation unit."""
    return f'#define ENV_SOURCE_HASH "{source_hash(env)}"\n{_c_body(env)}'


def source_hash(env: EnvFile) -> str:
    """16 hexadecimal digits that change with anything that goes into the compiled environment."""
    digest = hashlib.sha256(" ".join(FLAGS).encode() + _c_body(env).encode())
    for header in headers(env):
        digest.update(header.read_bytes())
    return digest.hexdigest()[:16]


def _c_body(env: EnvFile) -> str:
    """What env.toml says as C, then the author's header, then the batch loop."""
    return "\n".join([
        "#include <math.h>",
        "#include <stdint.h>",
        "enum {",
        f"    ENV_AGENTS = {env.agents},",
        f"    ENV_OBS_SIZE = {env.observation.size},",
        f"    ENV_ACTION_SIZE = {env.action.size},",
        f"    ENV_AUTORESET = {int(env.autoreset)},",
        "};",
        f"typedef {ELEMENT_TYPES[env.observation.dtype]} Obs;",
        f"typedef {ELEMENT_TYPES[env.action.dtype]} Action;",
        f"static const Action ACTION_LOW[] = {{{_c_numbers(env.action.low, env.action)}}};",
        f"static const Action ACTION_HIGH[] = {{{_c_numbers(env.action.high, env.action)}}};",
        "typedef struct {",
        *(f"    {PARAMETER_TYPES[type(p.default)]} {p.name};" for p in env.parameters),
        "} Params;",
        f'#include "{env.name}.h"',
        '#include "vec_env.h"',
        "",
    ])


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
    target = (cache or root) / f"{env.name}-{source_hash(env)}.so"
    if target.is_file():
        return target
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise InputError(f"environment {env.name} must be compiled but there is no C compiler; install gcc, or set CC")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            source, built = Path(scratch, f"{env.name}.c"), Path(scratch, f"{env.name}.so")
            source.write_text(c_source(env))
            done = subprocess.run([*compiler.split(), *FLAGS, "-shared", "-fPIC", f"-I{env.folder}", f"-I{CSRC}",
                                   str(source), "-o", str(built), "-lm"], capture_output=True, text=True)
            if done.returncode:
                first = next((x for x in done.stderr.splitlines() if "error:" in x), "the compiler gives no reason")
                raise InputError(f"environment {env.name} does not compile: {first}")
            built.replace(target)
    except OSError as error:
        raise InputError(f"environment {env.name} cannot be compiled into {target.parent}: {error}") from None
    return target
