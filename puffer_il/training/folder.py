"""A run's directory while the run lasts: it may be moved or deleted meanwhile, become read-only, or its disk full.

None of that ends a run. It is said at once, once each, and so is when it is over; what could not be written is tried
again, and at the end it is written elsewhere.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from puffer_il.core import checkpoint

Say = Callable[[str], None]


class Folder:
    """The directory of one run.

    path  where it is now

    `say` is told, a line each; `changed` is called when it was moved or made anew.
    """

    def __init__(self, path: Path, config: str, say: Say, changed: Callable[[], None]) -> None:
        self.path = path
        self._config, self._say, self._changed = config, say, changed
        self._said: dict[str, str] = {}  # what cannot be written, and why
        self._open()

    def look(self) -> None:
        """Find the directory again if it was moved, make it anew if it was deleted; OSError if neither can be."""
        try:
            if os.path.samestat(os.stat(self.path), os.fstat(self._handle)):
                return
            taken = True
        except OSError:
            taken = False
        if (moved := self._moved()) is not None:
            self._say(f"the run directory {self.path} was moved to {moved}, where the run goes on")
            self.path = moved
            self._changed()
        elif taken:
            raise OSError(errno.EEXIST, "another directory has taken the place of the run's")
        else:
            self._renew()

    def attempt(self, what: str, write: Callable[[], object]) -> bool:
        """Write something, after a look at the directory; whether that worked. If not, it is said."""
        try:
            self.look()
            write()
        except OSError as error:
            self.trouble(what, error.strerror or str(error))
            return False
        self.well(what)
        return True

    def trouble(self, what: str, why: str) -> None:
        if self._said.get(what) != why:
            self._said[what] = why
            self._say(f"{what} cannot be written ({why}); the run goes on, and it is tried again")

    def well(self, what: str) -> None:
        if self._said.pop(what, None):
            self._say(f"{what} is written again")

    def lacking(self) -> list[str]:
        """What has not been written since it could not be."""
        return list(self._said)

    def write_config(self) -> None:
        checkpoint.write_text(self.path / "config.toml", self._config)

    def elsewhere(self) -> None:
        """From now on another directory, for what the run's own does not take at the end, with the run's config."""
        self.path = Path(tempfile.mkdtemp(prefix="puffer_il-"))
        self._open()
        self.write_config()

    def _renew(self) -> None:
        self.path.mkdir(parents=True)
        self.write_config()
        self._open()
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._say(f"the run directory {self.path} was deleted; it is made anew, without the metrics and checkpoints of "
                  "before")
        self._changed()

    def _open(self) -> None:
        self._handle = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    def _moved(self) -> Path | None:
        """Where it is now, if it is anywhere; only Linux tells."""
        with suppress(OSError):
            path = Path(os.readlink(f"/proc/self/fd/{self._handle}"))
            if os.path.samestat(path.stat(), os.fstat(self._handle)):
                return path
        return None
