"""d3rlpy's data sets of version 2.1 (`ReplayBuffer.dump`), one HDF5 file:

    columns, num_episodes, version   what there is, how many, "2.1"
    observations_i       (T, …), or observations_i_j for each part j of a tuple
    actions_i, rewards_i (T, dim)
    terminated_i         one flag an episode: it ended, and was not cut off

The observation after an episode's last action is not stored, so that row is left out. Version 2.0 cut episodes of
different lengths short and is obsolete in d3rlpy as well. We only read it.
"""

import math
from collections.abc import Iterator
from typing import Any

from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import Episode, parts_of_episodes
from puffer_il.demos.hdf5 import Hdf5

MARKS, KIND, LOOKS = (), "hdf5", ("columns", "observations_*", "actions_*", "rewards_*", "terminated_*")


def fits(file: Hdf5) -> bool:
    return "columns" in file and bool(file.numbered("actions_*")) and "data" not in file


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return next(parts(file, time_limit, math.inf))


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    names, notes = file.numbered("actions_*"), list[str]()
    if "num_episodes" in file and file.number("num_episodes") != len(names):
        notes.append(f"num_episodes is {file.number('num_episodes')}, but there are {len(names)} episodes, which are "
                     "used")
    episodes = (_episode(file, name.removeprefix("actions_")) for name in names)
    return parts_of_episodes(file.source, episodes, notes, most=most)


def _episode(file: Hdf5, number: str) -> Episode:
    ended = bool(file.number(f"terminated_{number}"))
    return Episode(f"episode {number}", _parts(file, f"observations_{number}"), _parts(file, f"actions_{number}"),
                   rewards=file.get(f"rewards_{number}"), terminated=ended, truncated=not ended)


def _parts(file: Hdf5, name: str) -> Any:
    """An array, or the tuple of those that have a number more in their names."""
    return file.rows(name) if name in file else tuple(file.rows(part) for part in file.numbered(f"{name}_*")) or (
        file.rows(name))
