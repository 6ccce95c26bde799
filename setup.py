"""Compiled extensions and where packages lie; all else is in pyproject.toml. No network, no torch at build time."""

import shutil
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, find_namespace_packages, setup

if shutil.which("gcc") is None and shutil.which("cc") is None:
    sys.exit("puffer_il needs a C compiler: install gcc (Debian: apt install gcc) and run this again")

sys.path.insert(0, str(Path(__file__).parent))
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import env_extension

# The top-level folders envs/, configs/ and csrc/ are installed inside the package, never as "envs" of their own.
FOLDERS = {"puffer_il": "puffer_il"} | {f"puffer_il.{folder}": folder for folder in ("envs", "configs", "csrc")}
FLAGS = ["-O3", "-fno-math-errno", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"]

cython = cythonize(
    [Extension(".".join(pyx.with_suffix("").parts), [str(pyx)], include_dirs=["csrc", numpy.get_include()],
               depends=sorted(map(str, Path("csrc").rglob("*.h"))),
               define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")], extra_compile_args=FLAGS)
     for pyx in sorted(Path("puffer_il").rglob("_*.pyx"))],
    compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                         "initializedcheck": False, "embedsignature": True},
    build_dir="build/cython",
)
# Those that need another package's library are compiled on first use, where that package is installed.
envs = [env_extension(toml.parent) for toml in sorted(Path("envs").glob("*/env.toml"))
        if not read_env(toml.parent).packages]

setup(
    ext_modules=[*cython, *envs],
    package_dir=FOLDERS,
    # Every folder is a package to setuptools, those of data alone too; MANIFEST.in says what data there is.
    packages=[name for top, folder in FOLDERS.items()
              for name in (top, *(f"{top}.{below}" for below in find_namespace_packages(folder)))
              if "__pycache__" not in name],
)
