"""HDF5 files of any recorder under the usual names: what `plain` reads from an .npz, as datasets of the file or of a
group for each episode ("episode_0/obs"), where no other format fits. We only read it.
"""

from collections.abc import Iterator

from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats import plain
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.hdf5_arrays import Named
from puffer_il.demos.planned import parts_of_rows, read_rows

MARKS, KIND, GENERAL, LOOKS = (), "hdf5", True, ("obs", "actions")


def fits(file: Hdf5) -> bool:
    return bool(list(plain.marks(_named(file))))


def read(file: Hdf5, time_limit: int | None) -> Demos:
    named = _named(file)
    return read_rows(plain.read, named, plain.observed(named), time_limit)


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    named = _named(file)
    return parts_of_rows(plain.read, named, plain.observed(named), time_limit, most)


def _named(file: Hdf5) -> Named:
    return Named(file, _paths(file))


def _paths(file: Hdf5) -> Iterator[str]:
    for name in file.names():
        if file.links_to_group(name):
            yield from (f"{name}/{below}" for below in file.names(name) if not file.links_to_group(f"{name}/{below}"))
        else:
            yield name
