"""The HDF5 library on files from outside: it is tried in a process of its own first, whose crash or endless loop on a
damaged file is an answer. What is tried is read twice, so that the rows of large arrays are left out of it."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from puffer_il.core.errors import InputError

SECONDS, BYTES_A_SECOND = 5, 2**24  # of processor time: for any file, and one more for so much of it
LARGE = 2**26  # bytes of an array whose rows are left out
STUCK = (signal.SIGXCPU, signal.SIGKILL)  # of the limit, and of what comes a second after it


def check_hdf5(path: Path | str, where: str) -> None:
    """InputError, which begins with `where`, for a damaged file on which the HDF5 library crashes or never ends."""
    if ends := fate(lambda: _walk(path), SECONDS + Path(path).stat().st_size // BYTES_A_SECOND):
        raise InputError(f"{where}: is damaged (the HDF5 library {ends}); copy or record it again")


def fate(look: Callable[[], object], seconds: int) -> str:
    """What becomes of a process that calls `look` for at most so many seconds of processor time: "" if it returns or
    raises, or else how the sentence "the library …" ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other threads are not copied, which the child does not need
        child = os.fork()
    if child == 0:
        try:
            _alone(seconds)
            with suppress(BaseException):
                look()
        finally:
            os._exit(0)
    try:
        status = os.waitpid(child, 0)[1]
    except ChildProcessError:  # somebody else has waited for it
        return ""
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if not os.WIFSIGNALED(status):
        return ""
    sign = os.WTERMSIG(status)
    return f"had not come to an end after {seconds} s" if sign in STUCK else f"crashes ({signal.Signals(sign).name})"


def _alone(seconds: int) -> None:
    """In the child: nothing is printed, and neither a core nor more time is taken."""
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _walk(path: Path | str) -> None:
    """Look at all that is in a file, as whoever reads it does."""
    import h5py

    with h5py.File(path, "r", locking="best-effort") as file:
        file.visititems(_look)


def _look(name: str, item: Any) -> None:
    import h5py

    with suppress(Exception):
        dict(item.attrs)
    with suppress(Exception):
        if isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external and item.dtype.kind in "biuf":
            if item.chunks:
                item.id.get_num_chunks()
            if item.nbytes <= LARGE:
                item[...]
