"""Names → learners and environments. Built-ins and third-party entry points are found the same way.

A learner is a class decorated with `@register("name")`; a built-in one lives in `puffer_il/learners/<name>.py`, another
package offers its own through the entry-point group `puffer_il.learners`. An environment is a folder with an
`env.toml`: one under `envs/`, a path, or an entry point in the group `puffer_il.envs`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from puffer_il.types import InputError, Learner

C = TypeVar("C", bound=type)
_learners: dict[str, type[Learner]] = {}


def register(name: str, *, uses: tuple[str, ...] = ()) -> Callable[[C], C]:
    """Class decorator: make a learner known by `name`. `uses` names the learners whose config sections it needs too."""

    def wrap(cls: C) -> C:
        cls.name, cls.uses = name, uses  # type: ignore[attr-defined]
        _learners[name] = cls
        return cls

    return wrap


def learner_names() -> list[str]:
    """All names, without importing a learner: built-in files, entry points, and what was registered by hand."""
    package = importlib.import_module("puffer_il.learners")
    built_in = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    offered = [entry.name for entry in entry_points(group="puffer_il.learners")]
    return sorted({*built_in, *offered, *_learners})


def get_learner(name: str) -> type[Learner]:
    """The class registered as `name`; InputError with the nearest name if there is none."""
    if name not in _learners:
        offered = {entry.name: entry for entry in entry_points(group="puffer_il.learners")}
        if name in offered:
            cls = offered[name].load()
            if name not in _learners:  # loading it may have run a @register of its own
                register(name, uses=getattr(cls, "uses", ()))(cls)
        elif name in learner_names():
            importlib.import_module(f"puffer_il.learners.{name}")
        else:
            raise InputError(unknown("algorithm", name, learner_names()))
    return _learners[name]


def env_folders() -> dict[str, Path]:
    """name → folder with an env.toml, for the built-in environments and the entry-point group `puffer_il.envs`."""
    roots = [Path(p) for p in importlib.import_module("puffer_il.envs").__path__]
    found = {toml.parent.name: toml.parent for root in roots for toml in sorted(root.glob("*/env.toml"))}
    for entry in entry_points(group="puffer_il.envs"):
        found[entry.name] = Path(str(entry.load()))
    return found


def unknown(kind: str, name: str, known: list[str]) -> str:
    """One line: what is unknown, what comes nearest, what there is."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}; {hint}"
