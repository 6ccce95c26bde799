"""The checker's end of child.py: a process that may crash or hang, and is then told so by name."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puffer_il.core.errors import InputError
from puffer_il.envkit.check.types import Check, Finding

SLOWEST_S = 120.0  # to open an environment: compilers and simulators take their time


class Child:
    """The environment, opened from Python in a process of its own."""

    def __init__(self, name: str, kwargs: dict[str, Any], seconds: float, scratch: Path) -> None:
        self.given = scratch / "input"
        self._seconds = seconds
        self._said = (scratch / "stderr").open("w+", errors="replace")
        self._process = subprocess.Popen([sys.executable, "-m", "puffer_il.envkit.check.child"], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
                                         start_new_session=True)  # its workers end with it
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._tell(json.dumps({"name": name, "kwargs": kwargs, "seconds": seconds, "input": str(self.given)}))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _answer(self, timeout: float) -> dict[str, Any]:
        """The next answer; {"failed": …} if none comes any more."""
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            return {"failed": f"does not come to an end within {timeout:.0f} s"}
        return answer if answer is not None else {"failed": self._ending()}

    def _ending(self) -> str:
        """How the process died."""
        code = self._process.wait()
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read()[-2000:].splitlines() if line.strip()]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process dies ({how}){f': {lines[-1][:200]}' if lines else ''}"

    def opened(self) -> dict[str, Any]:
        """What it is: the first answer. InputError for wrong input; "failed" where it cannot be opened."""
        answer = self._answer(SLOWEST_S)
        if "refused" in answer:
            raise InputError(answer["refused"])
        return answer

    def checks(self) -> Iterator[str | Check]:
        """The name of each check as it begins, then what became of it."""
        self._tell("go")
        name, limit = "gymnasium", SLOWEST_S
        while "end" not in (answer := self._answer(limit)):
            if "begin" in answer:
                name, limit = answer["begin"], max(20.0, 5 * self._seconds)
                yield name
            elif "check" in answer:
                told = answer["check"]
                yield Check(**told | {"findings": [Finding(**finding) for finding in told["findings"]]})
            else:
                text = answer.get("failed") or answer["refused"]
                yield Check(name, [Finding(f"stopped: {text}", "the checks after this one were not made; mend this "
                                                               "and check again")])
                return

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._said.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
