"""The C compiler, and the folder in which what it makes at run time is kept."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from puffer_il.core.errors import InputError


def compiler() -> list[str]:
    """The command of the C compiler; InputError if there is none."""
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        raise InputError("there is no C compiler; install gcc (Debian: apt install gcc), or set CC")
    return found.split()


def compiler_id() -> str:
    """8 hexadecimal digits that change with the compiler; InputError if there is none."""
    path = Path(shutil.which(compiler()[0]) or compiler()[0]).resolve()
    stat = path.stat() if path.is_file() else None
    return hashlib.sha256(f"{compiler()} {path} {stat and (stat.st_size, stat.st_mtime_ns)}".encode()).hexdigest()[:8]


def cache_dir() -> Path:
    """Where what is compiled at run time is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "puffer_il"


def build_once(target: Path, what: str, build: Callable[[Path], None]) -> Path:
    """`target`; if it is not there, `build(path)` makes it in a folder apart. InputError if it cannot be written.

    Safe when two processes compile at once: a finished file appears under its name in one go.
    """
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                built = Path(scratch, target.name)
                build(built)
                built.replace(target)
        except OSError as error:
            raise InputError(f"{what} cannot be compiled into {target.parent}: {error}") from None
    return target


def run(command: list[str], what: str, error: str = ".*error:.*") -> None:
    """One step of a compilation; InputError with the first line that matches `error`."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        told = done.stderr + done.stdout
        found = re.search(error, told, re.MULTILINE) or re.search(".*[eE]rror.*", told)
        raise InputError(f"{what} does not compile: {found[0].strip() if found else 'the compiler gives no reason'}")
