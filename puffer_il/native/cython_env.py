"""A folder with a .pyx → the one PufferEnv that it defines: translated, compiled and imported on first use.

It is made of the folder's .pyx, .pxd, .pxi and .h files and of the headers in csrc/. The class takes `num_envs`, `buf`
and `seed`, like any PufferEnv that steps many environments at once, and preferably `first_env` as well.
"""

import functools
import hashlib
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.native import glue
from puffer_il.native.compiler import build_once, cache_dir, compiler, compiler_id, run
from puffer_il.native.glue import CSRC
from puffer_il.native.pufferlib import pufferlib

# Cython's C is not the user's: its warnings, and its dialect, are its own.
FLAGS = (*(flag for flag in glue.FLAGS if flag.startswith(("-O", "-fno", "-ffp"))),
         "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION")
SOURCES = (".pyx", ".pxd", ".pxi", ".h")
FIRST_ERROR = r"^(?!warning:).*\.p(?:yx|xd|xi):\d+:\d+: .*"


def load_cython(folder: Path | str) -> type:
    """The PufferEnv that the .pyx in `folder` defines; InputError if there is none, or if it does not compile."""
    folder = Path(folder).resolve()
    source = _source(folder)
    return _load(source, compile_cython(source))


@functools.cache  # the class is one and the same however often it is asked for
def _load(source: Path, built: Path) -> type:
    spec = spec_from_file_location(source.stem, built)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {name: value for name, value in vars(module).items() if isinstance(value, type)
             and issubclass(value, pufferlib.PufferEnv) and value.__module__ == module.__name__}
    if len(found) != 1:
        raise InputError(f"{source}: defines {' and '.join(found) or 'no'} subclass of PufferEnv; define one")
    return found.popitem()[1]


def _source(folder: Path) -> Path:
    """The one .pyx in a folder: the one with the folder's name where there are several."""
    found = sorted(folder.glob("*.pyx"))
    named = [path for path in found if path.stem == folder.name]
    if not found or (len(found) > 1 and not named):
        raise InputError(f"environment {folder}: {len(found)} .pyx files; the environment's is {folder.name}.pyx")
    path = (named or found)[0]
    if not path.stem.isidentifier():
        raise InputError(f"{path}: {path.stem!r} is not a name for a module; use letters, digits and _")
    return path


def compile_cython(source: Path, cache: Path | None = None) -> Path:
    """The module, compiled at most once per sources, compiler and versions into `cache` (by default the user's own)."""
    try:
        cython = version("cython")
    except PackageNotFoundError:
        raise InputError(f"{source}: needs Cython to be compiled; pip install 'cython>=3.1'") from None
    try:
        made_of = _digest(source.parent, cython, compiler_id())
    except InputError as error:
        raise InputError(f"{source} must be compiled but {error}") from None

    def build(built: Path) -> None:
        c_file = built.with_name(f"{source.stem}.c")
        run([sys.executable, "-m", "cython", "-3", "-I", str(source.parent), str(source), "-o", str(c_file)],
            str(source), FIRST_ERROR)
        places = (source.parent, CSRC, sysconfig.get_path("include"), np.get_include())
        dynamic = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
        run([*compiler(), *FLAGS, "-shared", "-fPIC", *dynamic, *(f"-I{place}" for place in places), str(c_file), "-o",
             str(built), "-lm"], str(source), FIRST_ERROR)

    return build_once((cache or cache_dir()) / f"{source.stem}-{made_of}{EXTENSION_SUFFIXES[0]}", str(source), build)


def _digest(folder: Path, cython: str, compiler: str) -> str:
    """16 hexadecimal digits that change with anything that goes into the compiled module."""
    digest = hashlib.sha256(repr((FLAGS, cython, compiler, np.__version__, EXTENSION_SUFFIXES[0])).encode())
    for path in sorted([*(p for p in folder.iterdir() if p.suffix in SOURCES), *CSRC.glob("*.h")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
