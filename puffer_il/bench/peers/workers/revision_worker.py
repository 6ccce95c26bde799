"""puffer_il itself, of whatever commit is installed: one unit is one iteration of a training loop."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields
from typing import Any

from protocol import Work, serve


def prepare(settings: dict[str, Any]) -> Work:
    from puffer_il.bench import loops

    types = loops.section_types(settings["algo"])
    known = {f"{section}.{field.name}" for section, cls in types.items() for field in fields(cls)}
    keys = {key: value for key, value in settings["keys"].items() if key in known}
    loop = loops.Loop(settings["algo"], keys, ExitStack(), settings["seconds"])
    return loop, {"once": True, "unknown": sorted(set(settings["keys"]) - set(keys))}


serve(prepare, ("puffer_il",))
