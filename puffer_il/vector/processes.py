"""Worker processes that end with this one, however it ends, and take along what they have started."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection
from typing import Any

import psutil

PR_SET_PDEATHSIG = 1  # of prctl(2)
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def launch(process: Any) -> None:
    """Start a worker process, in a thread that lasts: Linux holds the end of the thread that has started a process for
    the end of its parent (prctl(2))."""
    if threading.current_thread() is threading.main_thread():
        process.start()
        return
    answers: queue.Queue[BaseException | None] = queue.Queue()
    _launcher().put((process, answers))
    if (error := answers.get()) is not None:
        raise error


def end_with_parent() -> None:
    """To be called in a worker: it ends as soon as its parent has, on Linux even if it is stopped (SIGSTOP)."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    signalled(signal.SIGKILL)
    if os.getppid() != parent.pid:  # it was quicker
        os._exit(1)
    threading.Thread(target=_leave_with_parent, args=(parent.sentinel,), daemon=True).start()


def signalled(number: int) -> None:
    """Have this process sent a signal when the thread that has started it ends; nothing of it where that cannot be."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, number)


def kill(process: Any) -> None:
    """End a worker by force, with the processes that its environments have started."""
    started: list[psutil.Process] = []
    with suppress(psutil.Error):
        started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    for child in started:
        with suppress(psutil.Error):
            child.kill()


def apart(ask: Callable[[], str], context: Any, timeout_s: float) -> str:
    """What `ask` says in a process of its own, which may crash or hang; then that is said instead."""
    ours, theirs = context.Pipe(False)
    process = context.Process(target=_answer, args=(ask, theirs), name="puffer_il question")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as of workers
        launch(process)
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            return f"it was not known after {timeout_s:.0f} s"
        return ours.recv()
    except EOFError:
        return "its process crashes"
    finally:
        kill(process)
        ours.close()


def _answer(ask: Callable[[], str], pipe: connection.Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent()
    pipe.send(ask())
    os._exit(0)  # whatever its environments have left behind


def _leave_with_parent(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


_queues: dict[int, queue.Queue] = {}  # by process, as a fork has no threads of its parent
_lock = threading.Lock()


def _launcher() -> queue.Queue:
    with _lock:
        if os.getpid() not in _queues:
            _queues[os.getpid()] = queue.Queue()
            threading.Thread(target=_launch, args=(_queues[os.getpid()],), name="puffer_il launcher",
                             daemon=True).start()
        return _queues[os.getpid()]


def _launch(requests: queue.Queue) -> None:
    while True:
        process, answers = requests.get()
        try:
            process.start()
        except BaseException as error:
            answers.put(error)
        else:
            answers.put(None)
