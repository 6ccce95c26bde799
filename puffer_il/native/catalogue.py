"""Names → folders of C and Cython environments: those under `envs/`, and those of other packages (the entry-point group
`puffer_il.envs`)."""

import importlib
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path


def env_folders() -> dict[str, Path]:
    """name → folder with an env.toml."""
    roots = [Path(p) for p in importlib.import_module("puffer_il.envs").__path__]
    found = {toml.parent.name: toml.parent for root in roots for toml in sorted(root.glob("*/env.toml"))}
    for entry in entry_points(group="puffer_il.envs"):
        found[entry.name] = Path(str(entry.load()))
    return found


def env_folder(name: str) -> Path:
    """The folder of an environment's name, or else the path that the name may be."""
    return env_folders().get(name, Path(name))


def gymnasium_names(folder: Path) -> tuple[str, str | None]:
    """The name under which puffer_il.gym registers an environment, and that of Gymnasium's own that it equals step for
    step, if there is one: "puffer_il/CartPole-v0" and "CartPole-v1"; "puffer_il/MyEnv-v0" and None for my_env."""
    twin = tomllib.loads((folder / "env.toml").read_text()).get("gymnasium_id")
    name = twin.rpartition("-v")[0] if twin else "".join(part.capitalize() for part in folder.name.split("_"))
    return f"puffer_il/{name}-v0", twin


def twin_of(gymnasium_id: str) -> str | None:
    """The C environment that has this name at Gymnasium, or equals the one that has it; None if there is none."""
    if not re.fullmatch(r"[\w./-]+-v\d+", gymnasium_id):
        return None
    return next((name for name, folder in env_folders().items() if gymnasium_id in gymnasium_names(folder)), None)
