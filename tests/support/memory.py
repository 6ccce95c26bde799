"""How much memory a process takes, by what Linux tells of it."""

import threading
import time
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident(kind: str = "RssAnon") -> int:
    """Bytes of this process that are in memory now: by default those that are no mapped file's, all as "VmRSS"."""
    return int(STATUS.read_text().partition(f"{kind}:")[2].split()[0]) * 1024


class Watched:
    """Within it the process is watched; `grew` is by how many bytes its own pages became more at most."""

    def __enter__(self) -> "Watched":
        self._before = self._most = resident()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._over.is_set():
            self._most = max(self._most, resident())
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    @property
    def grew(self) -> int:
        return self._most - self._before


def highest() -> int:
    """The most bytes of this process that were ever in memory together, mapped files' too, since `forget_highest`."""
    return resident("VmHWM")


def forget_highest() -> None:
    """From now on `highest` tells of what comes."""
    Path("/proc/self/clear_refs").write_text("5")
