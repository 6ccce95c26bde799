"""The environments that come with puffer_il and with installed packages."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path


def env_folders() -> dict[str, Path]:
    """name → folder with an env.toml, for the built-in environments and the entry-point group `puffer_il.envs`."""
    roots = [Path(p) for p in importlib.import_module("puffer_il.envs").__path__]
    found = {toml.parent.name: toml.parent for root in roots for toml in sorted(root.glob("*/env.toml"))}
    for entry in entry_points(group="puffer_il.envs"):
        found[entry.name] = Path(str(entry.load()))
    return found


def twin_of(gymnasium_id: str) -> str | None:
    """The C environment whose env.toml says that it equals `gymnasium_id` step for step; None if there is none."""
    if not re.fullmatch(r"[\w./-]+-v\d+", gymnasium_id):
        return None
    return next((name for name, folder in env_folders().items()
                 if tomllib.loads((folder / "env.toml").read_text()).get("gymnasium_id") == gymnasium_id), None)
