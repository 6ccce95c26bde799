"""The process in which `env check` opens an environment from Python, so that nothing of it can take the checker down.

`Child` is the checker's end, `_serve` the child's. The child answers one of
    {"folder": …, "values": …}          a C environment; its parameters and arrays are in the file `input`
    {"folder": None, "about": …, "seconds": …}  any other environment, and how long it took to open
    {"refused": …}                      wrong input, one line
    {"failed": …}                       what it raised
and then, once it is told to go on, for each of its checks the name and the Check, and None at the end.
"""

import contextlib
import multiprocessing
import os
import signal
import struct
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import EnvFailure, InputError, one_line
from puffer_il.envkit.check.results import Check
from puffer_il.native.catalogue import env_folders
from puffer_il.native.envdata import open_env

SLOWEST_S = 300.0  # to open an environment: compilers and simulators take their time
PATIENCE_S = 60.0  # for a check, beyond the time that opening environments takes
OPENINGS = 32  # environments that a check opens at most, one after the other: the rows of 1, 2 and 8 processes


class Child:
    """The environment, opened from Python in a process that may crash or hang, and is then told so by name."""

    def __init__(self, name: str, kwargs: dict[str, Any], seconds: float, scratch: Path) -> None:
        self.given, self._stderr, self._seconds = scratch / "input", scratch / "stderr", seconds
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, kwargs, seconds, scratch))
        self._process.start()
        theirs.close()
        self._opening = 0.0  # seconds that one environment takes to open

    def _answer(self, timeout: float, what: str) -> Any:
        """The next answer; {"failed": …} if none comes any more."""
        try:
            if self._pipe.poll(timeout):
                return self._pipe.recv()
            return {"failed": f"{what} within {timeout:.0f} s"}
        except (EOFError, OSError):  # the process has died
            self._process.join()
            code = self._process.exitcode or 0
            said = self._stderr.read_text(errors="replace")[-2000:].split("\n")
            last = next((f": {line.strip()[:200]}" for line in reversed(said) if line.strip()), "")
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return {"failed": f"the process dies ({how}){last}"}

    def opened(self) -> dict[str, Any]:
        """What it is: the first answer. InputError for wrong input; "failed" where it cannot be opened."""
        answer = self._answer(SLOWEST_S, "it is not open")
        self._opening = answer.get("seconds", 0.0)
        if "refused" in answer:
            raise InputError(answer["refused"])
        return answer

    def checks(self) -> Iterator[str | Check]:
        """The name of each check as it begins, then what became of it."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send("go")
        name, limit = "gymnasium", SLOWEST_S
        while (answer := self._answer(limit, "does not come to an end")) is not None:
            if isinstance(answer, dict):
                failed = Check(name)
                failed.add(f"stopped: {answer.get('failed') or answer['refused']}",
                           "the checks after this one were not made; mend this and check again")
                yield failed
                return
            if isinstance(answer, str):
                name, limit = answer, max(PATIENCE_S, 5 * self._seconds) + OPENINGS * self._opening
            yield answer

    def close(self) -> None:
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its workers end with it
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, name: str, kwargs: dict[str, Any], seconds: float, scratch: Path) -> None:
    """Open the environment, say what it is, and check it when told to."""
    os.setsid()
    for path, descriptor in ((os.devnull, 1), (scratch / "stderr", 2)):  # environments may print
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    try:
        folder = folder_of(name)
        if folder is not None:
            pipe.send({"folder": folder, "values": write_input(folder, kwargs, scratch / "input")})
        from puffer_il.envkit.check.checked_env import CheckedEnv
        from puffer_il.envkit.check.python_checks import PYTHON_CHECKS

        env = CheckedEnv(name, kwargs, folder, seconds)
        if folder is None:
            begin = time.monotonic()
            pipe.send({"folder": None, "about": env.open(), "seconds": time.monotonic() - begin})
        pipe.recv()
        for check, look in ((Check(name), look) for name, look in PYTHON_CHECKS.items() if env.has(name)):
            pipe.send(check.name)
            begin = time.monotonic()
            look(env, check)
            check.seconds = time.monotonic() - begin
            pipe.send(check)
        pipe.send(None)
    except InputError as error:
        pipe.send({"refused": str(error)})
    except EnvFailure as error:
        pipe.send({"failed": str(error).strip().splitlines()[-1]})
    except Exception as error:
        pipe.send({"failed": last_line(error)})


def folder_of(name: str) -> Path | None:
    """The folder of a C environment, by its name or its path; None if `name` is something else."""
    path = env_folders().get(name) or Path(name).expanduser()
    return path.resolve() if name and (path / "env.toml").is_file() else None


def write_input(folder: Path, kwargs: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write what the C program reads: Params, the arrays, the observations' bounds. Returns parameters' values."""
    env, values, arrays = open_env(folder, kwargs)
    numbers, space = env.numbers(values), env.observation
    with path.open("wb") as out:
        out.write(struct.pack("=" + "".join("d" if type(v) is float else "q" for v in numbers), *numbers))
        for array in arrays.values():
            out.write(struct.pack("=qq", array.nbytes, array.size) + array.tobytes())
        for bound in (space.low, space.high):  # as the elements have them
            out.write(np.broadcast_to(np.array(bound, space.dtype), space.size).astype(np.float64).tobytes())
    return values


def last_line(error: BaseException) -> str:
    """What went wrong and where, in one line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/puffer_il/" not in frame.filename]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error)}{place}"
