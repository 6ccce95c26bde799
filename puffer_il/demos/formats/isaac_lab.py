"""Isaac Lab's recordings (`HDF5DatasetFileHandler`), those of Isaac Lab Mimic too: robomimic's layout, see
`demos.robot_groups`, and besides

    data/demo_N   attributes success (the task was solved) and seed
    …/obs         a table (T, …), or groups of groups; `datagen_info` in it says how Mimic made the episode
    …/states      groups of groups (T, …), the state after each action
    …/initial_state, processed_actions

The observation after the last action is not stored, nor are rewards. We only read it.
"""

import math
from collections.abc import Iterator

from puffer_il.demos import robot_groups
from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import Episode, parts_of_episodes
from puffer_il.demos.formats.robomimic import check_observed
from puffer_il.demos.hdf5 import Hdf5

MARKS, KIND, LOOKS = (), "hdf5", (*robot_groups.LOOKS, "data/demo_*/initial_state")
REPLAY = "record it again with the recorder term of the policy's observations, which Isaac Lab's own recorder has"
SHOWN = 5  # names in a note


def fits(file: Hdf5) -> bool:
    return robot_groups.writer_of(file) == "isaac_lab"


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return next(parts(file, time_limit, math.inf))


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    check_observed(file, REPLAY)
    notes: list[str] = []
    return parts_of_episodes(file.source, _episodes(file, notes), notes, most=most)


def _episodes(file: Hdf5, notes: list[str]) -> Iterator[Episode]:
    failed, count = [], 0
    for episode in robot_groups.read_groups(file, notes, without=("datagen_info",), states=False):
        success = file.attribute(f"data/{episode.name}", "success")
        episode.terminated, episode.truncated = bool(success), not success
        failed += [episode.name] if success is not None and not success else []
        count += 1
        yield episode
    if failed:
        more = ", …" if len(failed) > SHOWN else ""
        notes.append(f"{len(failed)} of {count} episodes did not solve the task (success is false: "
                     f"{', '.join(failed[:SHOWN])}{more}); they are learned from as well")
