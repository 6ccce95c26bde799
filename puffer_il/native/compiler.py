"""The C compiler, and the folder in which what it makes at run time is kept."""

import hashlib
import os
import re
import shutil
import signal
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
    """`target`; if it is not there whole, `build(path)` makes it in a folder apart. InputError if it cannot be written.

    Safe when two processes compile at once, or the machine stops: a finished file appears under its name in one go,
    once it is on the disk, and is compared with the checksum beside it whenever it is used.
    """
    if not is_whole(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                built = Path(scratch, target.name)
                build(built)
                written = built.with_name(checksum(target).name)
                written.write_text(_sha256(built))
                for path, place in ((built, target), (written, checksum(target))):
                    with path.open("rb+") as file:
                        os.fsync(file.fileno())
                    path.replace(place)
        except OSError as error:
            raise InputError(f"{what} cannot be compiled into {target.parent}: {error}") from None
    return target


def checksum(target: Path) -> Path:
    """The file beside a compiled one that holds its SHA-256."""
    return target.with_name(f"{target.name}.sha256")


def is_whole(target: Path) -> bool:
    """Whether a compiled file is there as it was written."""
    try:
        return checksum(target).read_text() == _sha256(target)
    except (OSError, UnicodeDecodeError):
        return False


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(command: list[str], what: str, error: str = ".*error:.*") -> None:
    """One step of a compilation; InputError with the first line that matches `error`. An interrupt ends the compiler
    and what that has started."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, process_group=0) as made:
        try:
            out, err = made.communicate()
        except BaseException:
            os.killpg(made.pid, signal.SIGKILL)
            raise
    if made.returncode:
        told = err + out
        found = re.search(error, told, re.MULTILINE) or re.search(".*[eE]rror.*", told)
        raise InputError(f"{what} does not compile: {found[0].strip() if found else 'the compiler gives no reason'}")
