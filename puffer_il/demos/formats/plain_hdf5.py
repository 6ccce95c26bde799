"""HDF5 files of any recorder under the usual names: what `plain` reads from an .npz, as datasets of the file or of a
group for each episode ("episode_0/obs"), where no other format fits. We only read it.
"""

from collections.abc import Iterator

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats import plain
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.npz import Arrays

MARKS, KIND, GENERAL, LOOKS = (), "hdf5", True, ("obs", "actions")


def fits(file: Hdf5) -> bool:
    return bool(list(plain.marks(Named(file))))


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return plain.read(Named(file), time_limit)


class Named(Arrays):
    """The datasets of a file and of its groups by their paths, each read when it is asked for."""

    def __init__(self, file: Hdf5) -> None:
        super().__init__(dict.fromkeys(_paths(file)), file.source)
        self._file = file

    def _decoded(self, key: str) -> Array:
        return self._file.rows(key)

    def shape(self, key: str) -> tuple[int, ...]:
        try:
            return self._file.shape(key)
        except InputError:  # told when it is read
            return ()


def _paths(file: Hdf5) -> Iterator[str]:
    for name in file.names():
        if file.links_to_group(name):
            yield from (f"{name}/{below}" for below in file.names(name) if not file.links_to_group(f"{name}/{below}"))
        else:
            yield name
