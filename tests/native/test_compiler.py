"""The compiler as a process."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from puffer_il.native.compiler import run


def test_an_interrupt_ends_a_compiler_and_what_it_has_started(tmp_path: Path):
    note = tmp_path / "pid"
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", f"sleep 60 & echo $! > {note}; wait"], "environment x")
    assert time.monotonic() - begin < 3
    started = int(note.read_text())
    deadline = time.monotonic() + 2
    while psutil.pid_exists(started) and psutil.Process(started).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
