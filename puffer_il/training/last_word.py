"""What the user is told when the process of a run is gone without a word: by a crash of C code in it, by kill -9.

A shell waits for the end of a pipe that this process holds open, and costs nothing meanwhile. It hears of an end that
has been told already, and then says nothing.
"""

from __future__ import annotations

import faulthandler
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from puffer_il.vector import processes

SHELL = "/bin/sh"
SCRIPT = 'trap "" INT TERM HUP TSTP; read -r told || printf "%s\\n" "$1" >&2'
GRACE_S = 1.0
_shells: list[subprocess.Popen] = []


def told() -> None:
    """What has ended this process is told already."""
    for shell in _shells:
        with suppress(OSError):
            assert shell.stdin is not None
            shell.stdin.write(b"told\n")
            shell.stdin.close()


@contextmanager
def last_word(run_dir: Path) -> Iterator[None]:
    """While this lasts, a crash shows where in Python it was, and any end of the process that nobody could tell of is
    told, with how to continue the run. Nothing of it where there is no such shell."""
    text = ("puffer-il: the process of this run is gone without a word, as after a crash of C code or kill -9; "
            f"continue from its last checkpoint by puffer-il train --resume {shlex.quote(str(run_dir))}")
    with suppress(RuntimeError, OSError, ValueError):  # without a standard error there is nothing to say
        if not faulthandler.is_enabled():
            faulthandler.enable()
    try:
        shell = subprocess.Popen([SHELL, "-c", SCRIPT, SHELL, text], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                 preexec_fn=partial(processes.signalled, signal.SIGCONT))  # if it was stopped
    except OSError:
        yield
        return
    _shells.append(shell)
    try:
        yield
    finally:
        told()
        _shells.remove(shell)
        with suppress(subprocess.TimeoutExpired):
            shell.wait(GRACE_S)
