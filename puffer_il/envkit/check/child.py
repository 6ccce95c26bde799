"""The process in which `env check` opens an environment from Python, so that nothing of it can take the checker down.

`python -m puffer_il.envkit.check.child` reads a JSON line {"name", "kwargs", "seconds", "input"}, and answers:
    {"folder": …, "values": …}          a C environment; its parameters and arrays are in the file `input`
    {"folder": null, "about": …}        any other environment
    {"refused": …}                      wrong input, one line
    {"failed": …}                       what it raised
After another line on its input it makes its checks: {"begin": name}, {"check": …} for each, {"end": true}.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.envkit.check.types import Check
from puffer_il.native.catalogue import env_folders
from puffer_il.native.envdata import open_env


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
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{place}"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # environments may print

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    asked = json.loads(sys.stdin.readline())
    folder = folder_of(asked["name"])
    try:
        if folder is not None:
            values = write_input(folder, asked["kwargs"], Path(asked["input"]))
            answer(folder=str(folder), values=values)
        from puffer_il.envkit.check.subject import Subject
        from puffer_il.envkit.check.views import CHECKS

        subject = Subject(asked["name"], asked["kwargs"], folder, asked["seconds"])
        if folder is None:
            answer(folder=None, about=subject.open())
        if sys.stdin.readline():
            for name, look in CHECKS.items():
                if subject.has(name):
                    answer(begin=name)
                    check, begin = Check(name), time.monotonic()
                    look(subject, check)
                    check.seconds = time.monotonic() - begin
                    answer(check=asdict(check))
            answer(end=True)
    except InputError as error:
        answer(refused=str(error))
    except EnvFailure as error:
        answer(failed=str(error).strip().splitlines()[-1])
    except Exception as error:
        answer(failed=last_line(error))


if __name__ == "__main__":
    main()
