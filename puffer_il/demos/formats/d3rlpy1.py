"""d3rlpy's data sets of version 1 (`MDPDataset.dump`): one HDF5 file of flat rows.

    observations        (n, …)
    actions             (n,) or (n, dim), whole numbers where discrete_action is set
    rewards             (n,)
    terminals           (n,) 1 where the task ended
    episode_terminals   (n,) 1 on the last row of each episode, however it ended
    version             text

The observation after an episode's last action is not stored, so that row is left out. We only read it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats.d4rl import without_last
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.hdf5_arrays import Named
from puffer_il.demos.npz import Arrays
from puffer_il.demos.planned import parts_of_rows, read_rows

MARKS, KIND = (), "hdf5"
LOOKS = ("observations", "actions", "rewards", "terminals", "episode_terminals")
OBSERVED = (("observations",), ())


def fits(file: Hdf5) -> bool:
    return all(name in file for name in LOOKS)


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return read_rows(_read, Named(file, LOOKS), OBSERVED, time_limit)


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    return parts_of_rows(_read, Named(file, LOOKS), OBSERVED, time_limit, most)


def _read(file: Arrays, time_limit: int | None) -> Demos:
    arrays: dict[str, Any] = {name: file.rows(name) for name in LOOKS}
    terminals, last = (arrays[name].reshape(-1) > 0 for name in ("terminals", "episode_terminals"))
    if not len(last):
        file.refuse("holds no transitions; record it again")
    notes = []
    if not last[-1]:
        notes.append("the last episode has no end in episode_terminals; it is taken to end with the file")
        last[-1] = True
    if stray := int(np.sum(terminals[:len(last)] & ~last[:len(terminals)])):
        notes.append(f"terminals is set in {stray} rows that do not end an episode by episode_terminals; it is not "
                     "believed there")
    none = np.zeros(len(last), bool)
    columns = {"obs": arrays["observations"], "actions": arrays["actions"], "terminations": none, "truncations": none,
               "rewards": arrays["rewards"]}
    return without_last(file, columns, np.append(0, np.flatnonzero(last)[:-1] + 1), notes)
