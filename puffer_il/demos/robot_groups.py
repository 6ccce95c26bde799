"""What robomimic's layout has in common with those that grew out of it: `data/demo_0`, `data/demo_1`, …, a group each.

    data/demo_N/actions    (T, dim)
    data/demo_N/obs/KEY    (T, …) or (T + 1, …), perhaps in groups of groups; next_obs/KEY (T, …) may be there
    data/demo_N/rewards, dones, states   (T, …) each, may be missing
    attributes             data: total, env_args (JSON); demo_N: num_samples, success

Groups may be missing in between, so their numbers are no count; `total` and `num_samples` are compared with the rows
and not trusted. Which file is whose is told by `writer_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from puffer_il.core.spec import Array
from puffer_il.demos.episodes import Episode
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.kept import known

DEMOS, LOOKS = "demo_*", ("data/demo_*/actions", "data/demo_*/obs")


def demo_paths(file: Hdf5) -> list[str]:
    return file.numbered(DEMOS, "data") if "data" in file else []


def writer_of(file: Hdf5) -> str:
    """The format that wrote this layout: "robomimic", "mimicgen", "robosuite" or "isaac_lab"; "" for another layout."""
    first = next((path for path in demo_paths(file) if f"{path}/actions" in file), None)
    if first is None:
        return ""
    if file.attribute(first, "success") is not None or file.is_group(f"{first}/states") or (
            f"{first}/initial_state" in file):
        return "isaac_lab"
    if f"{first}/datagen_info" in file or f"{first}/src_demo_inds" in file:
        return "mimicgen"
    return "robosuite" if file.attribute("data", "repository_version") is not None else "robomimic"


def read_groups(file: Hdf5, notes: list[str], without: tuple[str, ...] = (), states: bool = True) -> Iterator[Episode]:
    """The episodes, without their ends. Observations `without` are left out; states are those before the actions, and
    are taken if `states` and if they are one array."""
    paths = demo_paths(file)
    rows, wrong, empty, skipped = 0, list[str](), list[str](), set[str]()
    for path in paths:
        if f"{path}/actions" not in file:  # what was broken off before its first step
            empty.append(path.removeprefix("data/"))
            continue
        actions = file.rows(f"{path}/actions")
        rows += len(actions)
        if file.attribute(path, "num_samples") not in (None, len(actions)):
            wrong.append(path)
        obs, following = (_parts(file, f"{path}/{name}", without, skipped) for name in ("obs", "next_obs"))
        if obs is None:
            file.refuse(f"{path} has no obs, only {', '.join(file.names(path))}; extract the observations first")
        beside = {name: file.rows(f"{path}/{name}") for name in known(file.names(path))}
        yield Episode(path.removeprefix("data/"), obs, actions, following, file.get(f"{path}/rewards"),
                      _states(file, path) if states else None, beside=beside)
    total = file.attribute("data", "total")
    if wrong or total not in (None, rows):
        said = f"{len(wrong)} of the attributes num_samples" if wrong else f"the attribute total, {total},"
        notes.append(f"{said} disagree{'' if wrong else 's'} with the {rows} actions there are, which are used")
    if "mask" in file and (subsets := file.names("mask")):
        notes.append(f"all episodes are read, whichever of the file's subsets they are in ({', '.join(subsets[:8])})")
    if empty:
        notes.append(f"skipped {', '.join(empty[:3])}{', …' if len(empty) > 3 else ''}: no actions")
    if skipped:
        notes.append(f"left out of the observations: {', '.join(sorted(skipped))}")


def _parts(file: Hdf5, path: str, without: tuple[str, ...], skipped: set[str]) -> Any:
    if path not in file:
        return None
    if not file.is_group(path):
        return file.rows(path)
    names = file.names(path)
    skipped.update(name for name in names if name in without)
    found = {name: file.tree(f"{path}/{name}") for name in names if name not in without}
    if not found:
        file.refuse(f"{path} holds no observations; extract them first")
    return found


def _states(file: Hdf5, path: str) -> Array | None:
    return None if file.is_group(f"{path}/states") else file.get(f"{path}/states")
