"""Minari's data sets in HDF5 as a file or folder, read without minari: `main_data.hdf5` itself, the folder `data` that
it lies in, or the data set's folder above that. `metadata.json` beside it declares the spaces; without it they are
guessed.

    episode_N/observations   (T + 1, …), for a Dict a group of its keys, for a Tuple one of _index_0, _index_1, …;
                             pictures may be JPEGs, a row of bytes each
    episode_N/actions        (T, …), likewise
    episode_N/rewards, terminations, truncations   (T,)
    episode_N/infos          only what we wrote there is read; and the attribute `seed` of episode_N

`minari` writes this format.
"""

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from puffer_il.core.spaces import kind_of, lay_out, parts_of
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.declared import declared_spaces, read_metadata
from puffer_il.demos.formats import minari
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.kept import known
from puffer_il.demos.packed_pictures import unpack_pictures
from puffer_il.demos.spaces import space_of

MARKS, KIND = (), ("hdf5", "folder")
LOOKS = ("episode_*/observations", "episode_*/actions", "episode_*/rewards")
FILES = ("main_data.hdf5", "data/main_data.hdf5")
REQUIRED = ("observations", "actions", "rewards", "terminations", "truncations")


def fits(opened: Hdf5 | Path) -> bool:
    if isinstance(opened, Path):
        return any((opened / name).is_file() for name in FILES)
    return all(opened.find(name) is not None for name in LOOKS)


def read(opened: Hdf5 | Path, time_limit: int | None) -> Demos:
    return next(parts(opened, time_limit, math.inf))


def parts(opened: Hdf5 | Path, time_limit: int | None, most: float) -> Iterator[Demos]:
    if isinstance(opened, Path):
        with Hdf5(next(path for name in FILES if (path := opened / name).is_file())) as file:
            yield from _parts(file, most)
    else:
        yield from _parts(opened, most)


def _parts(file: Hdf5, most: float) -> Iterator[Demos]:
    beside = Path(file.source).with_name("metadata.json")
    spaces = declared_spaces(beside, read_metadata(beside)) if beside.is_file() else (None, None)
    if spaces[0] is not None:
        lay_out(spaces[0])  # what has no fixed size is refused before anything is read
    episodes = _episodes(file, spaces)
    first = next(episodes, None)
    if first is None:
        file.refuse("holds no episodes with a step; record it again")
    if spaces[0] is None:
        spaces = space_of(first.observations), space_of(first.actions)
    return minari.parts_from(file.source, chain((first,), episodes), spaces[0], spaces[1], most)


def _episodes(file: Hdf5, spaces: tuple[Any, Any]) -> Iterator[SimpleNamespace]:
    for path in file.numbered("episode_*"):
        found = {name: _decoded(file, f"{path}/{name}", space) for name, space in zip(
            REQUIRED, (*spaces, None, None, None), strict=True)}
        if len(found["rewards"]):
            infos = {name: file.rows(f"{path}/infos/{name}") for name in known(
                file.names(f"{path}/infos"))} if f"{path}/infos" in file else {}
            yield SimpleNamespace(id=path.removeprefix("episode_"), infos=infos, seed=file.attribute(path, "seed"),
                                  **found)


def _decoded(file: Hdf5, path: str, space: Any) -> Any:
    """An episode's observations or actions, in the form that their space says, or else their groups' names."""
    parts = parts_of(space) if space is not None else _named(file, path)
    if parts is not None:
        found = {key: _decoded(file, f"{path}/{f'_index_{key}' if isinstance(key, int) else key}", part)
                 for key, part in parts}
        return tuple(found.values()) if kind_of(space) == "Tuple" or (parts and isinstance(parts[0][0], int)) else found
    if space is not None and _is_picture(space) and file.row_shape(path) != space.shape:
        return _pictures(file, path, space.shape)
    return file.rows(path)


def _named(file: Hdf5, path: str) -> list[tuple[str | int, Any]] | None:
    if not file.is_group(path):
        return None
    names = file.names(path)
    numbered = [name for name in names if name.startswith("_index_") and name[7:].isdecimal()]
    return [(k, None) for k in range(len(names))] if names and len(numbered) == len(names) else [
        (name, None) for name in names]


def _is_picture(space: Any) -> bool:
    return kind_of(space) == "Box" and space.dtype == np.uint8 and len(space.shape) == 3


def _pictures(file: Hdf5, path: str, shape: tuple[int, ...]) -> Array:
    """(T, *shape) uint8 out of JPEGs, whose loss is theirs."""
    count, pieces = file.pieces(path, math.prod(shape))
    return unpack_pictures(count, pieces, shape, path, file.refuse, ("JPEG",))
