"""Measures in a process beside this one, which survives whatever they do to theirs: hang, crash, break a device."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
START_S = 30.0  # for a process to import torch and find the device


def take(names: Sequence[str], target: Callable[..., None], arguments: tuple[Any, ...], cap: float, limit: float,
         heard: Callable[[str, Row], None]) -> None:
    """Have measures taken in another process, each within `cap` seconds and all within `limit`; `heard` is given every
    row as it comes, also of what failed.

    `target(connection, names, *arguments)`, of a module's top, takes them in that order and sends a row of each with
    the key `took_s`. A row with a true `broken` is its last one, after which another process begins with what is left.
    """
    left, end = list(names), time.monotonic() + limit
    context = multiprocessing.get_context("spawn")
    while left:
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(theirs, left, *arguments), daemon=True)
        process.start()
        theirs.close()
        try:
            whole, patience = True, cap + START_S
            while left and whole:
                row = _heard(ours, process, min(patience, end - time.monotonic()))
                if "error" in row and time.monotonic() >= end:
                    row = {"error": f"out of time: {limit:g} s for all measures"}
                heard(left.pop(0), row)
                whole, patience = not row.get("broken") and "took_s" in row, cap
        finally:
            process.kill()
            process.join()
            ours.close()
        if time.monotonic() >= end:
            for name in left:
                heard(name, {"error": f"out of time: {limit:g} s for all measures"})
            return


def _heard(connection: Any, process: Any, seconds: float) -> Row:
    """The next row, or why there is none."""
    if not connection.poll(max(0.0, seconds)):
        return {"error": f"no answer within {max(0.0, seconds):.0f} s"}
    try:
        return connection.recv()
    except EOFError:
        process.join(1)
        return {"error": f"its process ended with exit code {process.exitcode}"}
