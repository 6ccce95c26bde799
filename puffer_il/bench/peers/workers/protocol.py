"""The peers' side of the conversation with run.py: one JSON line each way, and no work between the lines.

    settings, the argument → {"ready": true, "versions": …, …}
    "go"                   → {"steps": n, "seconds": s, "stages": {name: seconds}, …}
    "quit" ends it, and so does the end of the input, at once, whatever it is doing: run.py is gone
"""

from __future__ import annotations

import json
import math
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import chdir, suppress
from importlib.metadata import version
from typing import Any

STARTED = time.perf_counter()  # before the peer is imported: its import is part of what a person waits for
WARM_UP = 2  # units that are not counted: first touch of memory, threads starting

Unit = Callable[[], dict[str, Any]]  # works once and says {"steps": n}, with {"stages": {name: seconds}} if it knows
Work = tuple[Unit, dict[str, Any]]  # and what the ready line adds; {"once": True} for what cannot be warmed up


class Stages:
    """Seconds per stage, by wrapping methods of the peer: its own code stays as it is."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, owner: Any, method: str, stage: str) -> None:
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin

        setattr(owner, method, timed)

    def take(self) -> dict[str, float]:
        """The seconds since the last call."""
        seconds, self.seconds = self.seconds, {}
        return seconds


def serve(prepare: Callable[[dict[str, Any]], Work], packages: tuple[str, ...]) -> None:
    """Set up with the settings, warm up, then measure at every "go". Whatever the peer prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    # Some peers write files where they are.
    with suppress(BrokenPipeError), tempfile.TemporaryDirectory() as folder, chdir(folder):
        commands: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=listen, args=(commands, folder), daemon=True).start()
        set_threads(settings)
        unit, facts = prepare(settings)
        repeats = 1 if facts.pop("once", False) else warm_up(unit, settings.get("unit_seconds", 1.0))
        say(answers, {"ready": True, "versions": {p: version(p) for p in packages}, "repeats": repeats, **facts})
        while (command := commands.get()) != "quit":
            if command == "go":
                say(answers, measure(unit, repeats))


def listen(commands: queue.SimpleQueue[str], folder: str) -> None:
    """The commands as they come, read unbuffered: a thread waiting in sys.stdin could block the interpreter's end."""
    with open(0, "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            command = line.decode().strip()
            commands.put(command)
            if command == "quit":
                return
    shutil.rmtree(folder, ignore_errors=True)
    if os.getpgrp() == os.getpid():  # run.py gives us a group of our own
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def set_threads(settings: dict[str, Any]) -> None:
    """torch's threads where the settings name them; else the peer's own default, which is torch's."""
    if settings.get("threads"):
        import torch

        torch.set_num_threads(settings["threads"])


def warm_up(unit: Unit, seconds: float) -> int:
    """How often a unit must be repeated to last `seconds`, so that the clock and the pipe do not count."""
    for _ in range(WARM_UP):
        begin = time.perf_counter()
        unit()
    return max(1, math.ceil(seconds / (time.perf_counter() - begin)))


def measure(unit: Unit, repeats: int) -> dict[str, Any]:
    steps, begin = 0, time.perf_counter()
    stages: dict[str, float] = {}
    extra: dict[str, Any] = {}
    for _ in range(repeats):
        result = unit()
        steps += result.pop("steps")
        for stage, seconds in result.pop("stages", {}).items():
            stages[stage] = stages.get(stage, 0.0) + seconds
        extra = result
    return {"steps": steps, "seconds": time.perf_counter() - begin, "stages": stages, **extra}


def say(answers: Any, message: dict[str, Any]) -> None:
    print(json.dumps(message), file=answers, flush=True)


def since_start() -> float:
    return time.perf_counter() - STARTED
