"""D4RL's own HDF5 files: the flat arrays that `d4rl` reads from an .npz, and beside them the groups `infos` and
`metadata`, which are not read. We only read it.
"""

from collections.abc import Iterator

from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats import d4rl
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.hdf5_arrays import Named
from puffer_il.demos.planned import parts_of_rows, read_rows

MARKS, KIND, LOOKS = (), "hdf5", ("observations", "actions", "terminals")
NOT = ("episode_terminals",)  # d3rlpy's


def fits(file: Hdf5) -> bool:
    flags = any(name in file for name in (*d4rl.TERMINALS, *d4rl.TIMEOUTS))
    return flags and all(name in file and not file.is_group(name) for name in LOOKS[:2]) and NOT[0] not in file


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return read_rows(d4rl.read, Named(file, d4rl.KNOWN), d4rl.OBSERVED, time_limit)


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    return parts_of_rows(d4rl.read, Named(file, d4rl.KNOWN), d4rl.OBSERVED, time_limit, most)
