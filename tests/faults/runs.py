"""Runs of the command line in a process of their own, to which things are done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from tests.support.runs import final_state, same_state

PATIENCE_S = 900.0  # on a busy machine
SAME = ("learner", "policy", "kept", "collector", "env_steps", "last_eval")


class Live:
    """`puffer-il train` as `config` says, and what it has printed; `options` of Popen go to it."""

    def __init__(self, config: Config, resume: bool = False, **options: Any) -> None:
        self.folder = Path(config.train.run_dir)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        said = self.folder.with_suffix(".toml")
        said.write_text(config.to_toml())
        what = ["--resume", str(self.folder)] if resume else [config.algo, config.env.name, "--config", str(said)]
        ours, theirs = os.pipe()  # not a file, which may not grow where files may not
        self.process = subprocess.Popen(
            [sys.executable, "-m", "puffer_il", "train", *what], preexec_fn=_as_in_a_terminal,
            **{"stdout": theirs, "stderr": theirs} | options)
        os.close(theirs)
        self._said: list[bytes] = []
        self._reader = threading.Thread(target=self._listen, args=(ours,), daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return b"".join(self._said).decode(errors="replace")

    def _listen(self, handle: int) -> None:
        with open(handle, "rb", buffering=0) as file:
            while part := file.read(4096):
                self._said.append(part)

    @property
    def steps(self) -> int:
        """Steps that metrics.jsonl tells of."""
        return steps_of(self.folder)

    def until(self, true: Callable[[], object], what: str = "it") -> float:
        """Wait for something; how long that took. AssertionError if it does not come, or the run ends before."""
        begin = time.monotonic()
        while not true():
            assert time.monotonic() - begin < PATIENCE_S, f"{what} did not happen:\n{self.output}"
            if self.process.poll() is not None and not true():
                raise AssertionError(f"the run ended before {what}:\n{self.output}")
            time.sleep(0.01)
        return time.monotonic() - begin

    def until_steps(self, steps: int) -> None:
        self.until(lambda: self.steps >= steps, f"step {steps}")

    def end(self, number: int | None = None) -> int:
        """The exit code, after a signal if one is given."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self._reader.join(1.0)  # a stopped worker would hold the pipe for ever
        return code

    def workers(self) -> list[int]:
        """The worker processes, those of evaluations first: of its children, those that it has forked itself into."""
        with suppress(psutil.Error):
            own = psutil.Process(self.process.pid)
            return [child.pid for child in own.children() if child.cmdline() == own.cmdline()]
        return []

    def said(self, pattern: str) -> str:
        """The last line of its output that has `pattern`; "" if there is none."""
        return next((line.strip() for line in reversed(self.output.splitlines()) if re.search(pattern, line)), "")


def _as_in_a_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's children do not hear it


def steps_of(folder: Path) -> int:
    try:
        lines = (folder / "metrics.jsonl").read_bytes().splitlines()
        return max((json.loads(line)["step"] for line in lines[-2:] if line.endswith(b"}")), default=0)
    except (OSError, ValueError, KeyError):
        return 0


def saved_steps(folder: Path) -> int:
    """Steps of the newest checkpoint."""
    return int(checkpoint.latest(folder).stem.removeprefix("step_"))


def whole(config: Config) -> Path:
    """A run that nobody disturbs."""
    live = Live(config)
    assert live.end() == 0, live.output
    return live.folder


def finished(config: Config) -> None:
    """Resume a run to its end."""
    live = Live(config, resume=True)
    assert live.end() == 0, live.output


def differences(one: Path, other: Path) -> list[str]:
    """The parts of two runs' last checkpoints that are not the same bit by bit."""
    a, b = final_state(one), final_state(other)
    return [key for key in SAME if not same_state(a[key], b[key])]


def orphans(pids: list[int], grace: float = 3.0) -> list[int]:
    """Those of the processes that still run, after so many seconds."""
    until = time.monotonic() + grace
    while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def stop(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
