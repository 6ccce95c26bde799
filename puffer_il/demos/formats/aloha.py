"""Recordings of ALOHA and ACT: a folder of `episode_0.hdf5`, `episode_1.hdf5`, …, or one such file. We only read it.

    action                     (T, dim) the targets of joints; base_action (T, 2) too, of a robot on wheels
    observations/qpos, qvel    (T, dim); effort may be there
    observations/images/NAME   (T, height, width, 3), or (T, bytes): JPEGs, which are filled up with zeros
    attributes                 sim: whether it is a simulation; compress

A row holds an observation and the action chosen then. Neither the observation after the last action nor an end is
stored, so each episode is read without its last row and counts as cut off. Pictures are read where `obs_columns` names
them: "images/top".

JPEGs are made by OpenCV, which takes the first channel of a picture for blue, out of pictures whose first channel is
red; so the channels of what a JPEG shows are turned round, into those that were recorded.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import nested
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import Episode, parts_of_episodes
from puffer_il.demos.hdf5 import Hdf5, in_order
from puffer_il.demos.packed_pictures import picture_shape, unpack_pictures

MARKS, KIND, KEYS = (), ("folder", "hdf5"), ("obs_columns",)
LOOKS = ("observations/qpos", "action")
FILES = ("episode_*.hdf5", "episode_*.h5")
BELOW, JPEG = "observations", ("JPEG",)
REAL = ("recorded on a robot: ACT pairs the observations of such rows with the action of the row before, which "
        "`demos edit --shift 1` does too")


def fits(opened: Hdf5 | Path) -> bool:
    return bool(_files(opened)) if isinstance(opened, Path) else all(name in opened for name in LOOKS)


def read(opened: Hdf5 | Path, time_limit: int | None = None, obs_columns: Sequence[str] = ()) -> Demos:
    """`obs_columns` are the columns below `observations/` that make up the observation, by default all that are no
    pictures. One is the observation itself, several are a Dict's parts."""
    return next(parts(opened, time_limit, math.inf, obs_columns))


def parts(opened: Hdf5 | Path, time_limit: int | None, most: float, obs_columns: Sequence[str] = ()
          ) -> Iterator[Demos]:
    """The same, some episodes after the others."""
    notes: list[str] = []
    episodes = (iter((_episode(opened, obs_columns or _numbers(opened, notes), notes),)) if isinstance(opened, Hdf5)
                else _episodes(_files(opened), obs_columns, notes))
    source = opened.source if isinstance(opened, Hdf5) else str(opened)
    yield from parts_of_episodes(source, episodes, notes, most=most)


def _files(folder: Path) -> list[Path]:
    return sorted((path for pattern in FILES for path in folder.glob(pattern)), key=lambda path: in_order(path.name))


def _episodes(files: list[Path], wanted: Sequence[str], notes: list[str]) -> Iterator[Episode]:
    chosen = list(wanted)
    for path in files:
        with Hdf5(path) as file:
            chosen = chosen or _numbers(file, notes)
            yield _episode(file, chosen, notes)


def _numbers(file: Hdf5, notes: list[str]) -> list[str]:
    """The columns that are no pictures, of which a note says that they are left out."""
    columns = list(_columns(file, BELOW))
    if pictures := [name for name in columns if "/" in name]:
        notes.append(f"pictures are left out: {', '.join(pictures)}; --demos.obs-columns names the columns to read, "
                     "these too")
    return [name for name in columns if name not in pictures]


def _episode(file: Hdf5, chosen: Sequence[str], notes: list[str]) -> Episode:
    columns, told = list(_columns(file, BELOW)), list[str]()
    for name in chosen:
        if name not in columns:
            file.refuse(f"the column {name!r} is asked for, but {BELOW}/ holds {', '.join(columns) or 'nothing'}; "
                        "choose of these with --demos.obs-columns")
    if file.attribute("", "sim") is False:
        told.append(REAL)
    actions = file.rows("action")
    if "base_action" in file:
        actions = _beside(file, actions, file.rows("base_action"))
        told.append("base_action is appended to action, as ACT does for robots on wheels")
    notes += [note for note in told if note not in notes]
    parts = {name: _pictures(file, name) if "/" in name else file.rows(f"{BELOW}/{name}") for name in chosen}
    obs = next(iter(parts.values())) if len(parts) == 1 else nested(
        [(tuple(name.split("/")), part) for name, part in parts.items()])
    return Episode(Path(file.source).stem, obs, actions)


def _columns(file: Hdf5, below: str) -> Iterator[str]:
    """What lies below `observations`; pictures are in groups of their own."""
    for name in file.names(below):
        path = f"{below}/{name}"
        inner = file.names(path) if file.is_group(path) else None
        yield from [path.removeprefix(f"{BELOW}/")] if inner is None else [f"{name}/{camera}" for camera in inner]


def _pictures(file: Hdf5, name: str) -> Array:
    path = f"{BELOW}/{name}"
    if len(file.row_shape(path) or ()) > 1:
        return file.rows(path)
    count, pieces = file.pieces(path, 0)
    if not count:
        return np.empty((0, 1, 1, 3), np.uint8)
    shape = picture_shape(next(pieces), path, file.refuse, JPEG)
    count, pieces = file.pieces(path, math.prod(shape))
    return np.ascontiguousarray(unpack_pictures(count, pieces, shape, path, file.refuse, JPEG)[..., ::-1])


def _beside(file: Hdf5, actions: Array, more: Array) -> Array:
    if actions.ndim != 2 or more.ndim != 2 or len(actions) != len(more):
        raise InputError(f"{file.where}: action is {actions.shape} and base_action {more.shape}; they must have a row "
                         "for each step")
    return np.concatenate([actions, more], 1)
