"""Compiled extensions only: puffer_il/**/_*.pyx and envs/*/. No network, no torch, no CUDA at build time."""

import shutil
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

if shutil.which("gcc") is None and shutil.which("cc") is None:
    sys.exit("puffer_il needs a C compiler: install gcc (Debian: apt install gcc) and run this again")

sys.path.insert(0, str(Path(__file__).parent))
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import env_extension

HEADERS = sorted(map(str, Path("csrc").rglob("*.h")))
FLAGS = ["-O3", "-fno-math-errno", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"]

ROOMS = Path("puffer_il")
kernels = cythonize(
    [Extension(".".join(pyx.with_suffix("").parts), [str(pyx)], include_dirs=["csrc", numpy.get_include()],
               depends=HEADERS, define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
               extra_compile_args=FLAGS)
     for pyx in sorted(ROOMS.rglob("_*.pyx"))],
    compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                         "initializedcheck": False, "embedsignature": True},
    build_dir="build/cython",
)
env_folders = sorted(toml.parent for toml in Path("envs").glob("*/env.toml"))
# Those that need another package's library are compiled on first use, where that package is installed.
envs = [env_extension(folder) for folder in env_folders if not read_env(folder).packages]

DATA = ["*.toml", "*.h", "*.md", "demos/*", "*/*.toml", "*/*.h"]
setup(
    ext_modules=[*kernels, *envs],
    # The top-level folders envs/, configs/ and csrc/ are installed inside the package, never as "envs" of their own.
    package_dir={"puffer_il": "puffer_il", "puffer_il.envs": "envs", "puffer_il.configs": "configs",
                 "puffer_il.csrc": "csrc"},
    packages=[*find_packages(include=["puffer_il", "puffer_il.*"]), "puffer_il.envs", "puffer_il.configs",
              "puffer_il.csrc", *(f"puffer_il.envs.{folder.name}" for folder in env_folders)],
    package_data={"": DATA, "puffer_il": ["py.typed"], "puffer_il.envkit": ["template/*/*"]},
)
