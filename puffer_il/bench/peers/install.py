"""The peers' virtual environments: built on first use in a cache folder, from PyPI alone, and kept.

An environment that was not finished, or was made from another recipe, is built anew. PUFFER_IL_PEERS names the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from puffer_il.bench.measure import Say

TORCH = "torch==2.13.0"  # what we are tested with, for all alike: the peers differ in their own code, not in torch's
NUMPY = "numpy==1.26.4"  # both are made for NumPy 1; PufferLib 3.0.0 asks for it
GYMNASIUM = "gymnasium==0.29.1"  # imitation asks for ~=0.29, PufferLib for <=0.29.1
MUJOCO = ("mujoco==2.3.7", "imageio")  # of the time of that Gymnasium, whose environments import both
# imitation imports datasets, whose newest needs a pyarrow that itself asks for NumPy 2.
DATASETS = ("datasets==5.0.1", "pyarrow==23.0.0")
IMITATION = ("imitation==1.0.1", "stable-baselines3==2.2.1", *DATASETS)
TORCHRL = "torchrl==0.14.1"
PYTHONS = ((3, 11), (3, 12))  # NumPy 1.26 has wheels for no later Python
PUFFERLIB = "pufferlib==3.0.0"  # the last release with its own trainer and environments
SAY_EVERY = 5.0  # seconds between two lines about the same step


class PeerError(Exception):
    """A peer cannot be installed, started or measured: one line that says why."""


@dataclass(frozen=True)
class Recipe:
    """What is installed, step by step; then what `finish` builds, whose source is part of the recipe unless `key` names
    what it makes."""

    steps: tuple[tuple[str, ...], ...]
    finish: Callable[[Build], None] | None = None
    key: str = ""
    python: str = ""  # the one to build with; empty: one that the other packages can live in

    def digest(self) -> str:
        """Another recipe makes another environment."""
        finish = self.key or (inspect.getsource(self.finish) + SITECUSTOMIZE if self.finish else "")
        return hashlib.sha256(f"{self.steps}{finish}".encode()).hexdigest()


class Build:
    """One environment while it is built: runs commands, reports, keeps the log."""

    def __init__(self, name: str, folder: Path, progress: Say) -> None:
        self.name, self.folder, self.progress, self.begin = name, folder, progress, time.perf_counter()
        self.python, self.log = folder / "bin" / "python", folder / "build.log"

    def say(self, text: str) -> None:
        self.progress(f"{self.name}: {text} ({time.perf_counter() - self.begin:.0f} s)")

    def run(self, what: str, command: list[str], environment: dict[str, str] | None = None,
            cwd: Path | None = None) -> None:
        """Run to the end, with a line now and then; PeerError with its last words if it fails."""
        self.say(what)
        said, last, cause = time.perf_counter(), "", ""
        variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        with self.log.open("a") as log, subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", env={**variables, **(environment or {})}, cwd=cwd) as process:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                if line.strip() and not line.startswith("WARNING"):
                    last = line.strip()
                if "error:" in last.lower() and "subprocess-exited" not in last:
                    cause = cause or last  # the first says what happened, the others follow from it
                if time.perf_counter() - said > SAY_EVERY:
                    said = time.perf_counter()
                    self.say(f"… {last[:90]}")
        if process.returncode:
            raise PeerError(f"{what} failed with exit code {process.returncode} ({(cause or last)[:300]}); "
                            f"all of it is in {self.log}")

    def pip(self, what: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.run(what, [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
                        *arguments], environment)


def ensure_environment(name: str, progress: Say) -> Path:
    """The Python of a peer's finished environment, built first if need be; PeerError if it cannot be."""
    return ensure(name, RECIPES[name], progress)


def ensure(name: str, recipe: Recipe, progress: Say) -> Path:
    """The same by a recipe."""
    folder = cache_folder() / name
    stamp, python = folder / "complete", folder / "bin" / "python"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not (stamp.is_file() and stamp.read_text() == recipe.digest()):
                _build(Build(name, folder, progress), recipe)
                stamp.write_text(recipe.digest())  # the last thing: without it all of this is done again
    except OSError as error:
        raise PeerError(f"{folder} cannot be built ({error}); name another folder with PUFFER_IL_PEERS") from None
    return python


def cache_folder() -> Path:
    return Path(os.environ.get("PUFFER_IL_PEERS") or Path.home() / ".cache" / "puffer_il" / "peers").expanduser()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One build at a time: a second process waits for the first."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(build: Build, recipe: Recipe) -> None:
    shutil.rmtree(build.folder, ignore_errors=True)
    build.folder.mkdir()
    build.run("creating the virtual environment", [recipe.python or find_python(), "-m", "venv", str(build.folder)])
    for number, packages in enumerate(recipe.steps, 1):
        build.pip(f"installing {' '.join(p for p in packages if not p.startswith('-'))} (step {number} of "
                  f"{len(recipe.steps)})", *packages)
    if recipe.finish:
        recipe.finish(build)
    build.say("installed")


def find_python() -> str:
    """This Python if the peers can live in it, else the newest that can and is on the PATH."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    names = [f"python{major}.{minor}" for major, minor in reversed(PYTHONS)]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise PeerError(f"the peers need {' or '.join(names)}, and neither is on the PATH: install one")
    return found


# Its setup.py forgets to define this name if its environments are not built, takes any nvcc for a working CUDA, and
# downloads what draws. All three are settled from outside: Python runs a module of this name before anything else.
SITECUSTOMIZE = """\
import builtins, shutil
builtins.c_extension_paths = []
which = shutil.which
shutil.which = lambda name, *args, **kwargs: None if name == "nvcc" else which(name, *args, **kwargs)
"""


def _finish_pufferlib(build: Build) -> None:
    """PufferLib from its source archive, with its compiled `_C`; then the one environment that is measured.

    The archive stays as it is. Its CartPole includes raylib's header, which the archive holds; the functions are never
    called, so none are linked (the worker loads it lazily).
    """
    work = build.folder / "pufferlib-source"
    work.mkdir()
    (work / "sitecustomize.py").write_text(SITECUSTOMIZE)
    settings = {"NO_OCEAN": "1", "PYTHONPATH": str(work)}
    build.run(f"downloading the source of {PUFFERLIB}", [
        str(build.python), "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--no-binary", ":all:", "--no-build-isolation", "-d", str(work), PUFFERLIB], settings)
    archive, = work.glob("*.tar.gz")
    build.pip("compiling PufferLib", "--no-deps", "--no-build-isolation", "--no-cache-dir", str(archive),
              environment=settings)
    with tarfile.open(archive) as tar:
        tar.extractall(work, [m for m in tar.getmembers() if m.name.endswith("/include/raylib.h")], filter="data")
    header, = work.rglob("raylib.h")
    code = "import numpy, pathlib, sysconfig as s; print(s.get_path('include'), numpy.get_include(), sep='\\n'); "
    code += "print(s.get_path('purelib'), s.get_config_var('EXT_SUFFIX'), sep='\\n')"
    answer = subprocess.run([str(build.python), "-c", code], check=True, capture_output=True, text=True).stdout
    python_include, numpy_include, packages, suffix = answer.splitlines()
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise PeerError("PufferLib's environment needs a C compiler: install gcc")
    source = Path(packages, "pufferlib", "ocean", "cartpole")
    build.run("compiling PufferLib's CartPole", [  # its own flags
        compiler, "-shared", "-fPIC", "-O2", "-flto", "-fwrapv", "-DPLATFORM_DESKTOP",
        "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION", f"-I{python_include}", f"-I{numpy_include}",
        f"-I{header.parent}", str(source / "binding.c"), "-lm", "-o", str(source / f"binding{suffix}")])
    shutil.rmtree(work)


def _imports_datasets(build: Build) -> None:
    """What imitation needs for files, and what breaks first when one of its own requirements moves on."""
    build.run("importing imitation and datasets", [
        str(build.python), "-W", "ignore", "-c", "import datasets, imitation.data.serialize"])


RECIPES = {
    # Stable-Baselines3 2.2.1 is the only release that imitation 1.0.1 (~=2.2.1) accepts. torch comes first and alone,
    # so that nothing later chooses another.
    "imitation": Recipe(((TORCH,), (*IMITATION, GYMNASIUM, NUMPY, TORCH)), _imports_datasets),
    "imitation-mujoco": Recipe(((TORCH,), (*IMITATION, GYMNASIUM, *MUJOCO, NUMPY, TORCH)), _imports_datasets),
    "torchrl": Recipe(((TORCH,), (TORCHRL, GYMNASIUM, *MUJOCO, NUMPY, TORCH))),
    # PufferLib's requirements but for loggers and wrappers of other interfaces, which its trainer does not import. gym
    # 0.23 is what it asks for; heavyball 2 has no ForeachMuon. setuptools, wheel and Cython build it.
    "pufferlib": Recipe(((TORCH,), ("gym==0.23.0", "heavyball==1.7.2", "pyro-ppl==1.9.2", "psutil", "rich",
                                    "rich_argparse", "setuptools", "wheel", "Cython", GYMNASIUM, NUMPY, TORCH)),
                        _finish_pufferlib),
    "envpool": Recipe((("envpool==1.2.5",),)),
}
