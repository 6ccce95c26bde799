"""The datasets of an HDF5 file as named arrays, for formats that are read alike from an .npz."""

from collections.abc import Iterable

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.npz import Arrays
from puffer_il.demos.rows import Lazy


class Named(Arrays):
    """Those of the datasets `names` that the file has, each read when it is asked for."""

    def __init__(self, file: Hdf5, names: Iterable[str]) -> None:
        super().__init__({name: None for name in names if name in file}, file.source)
        self._file = file

    def __getitem__(self, key: str) -> Array:
        return self._file.rows(key)  # which says what the file holds instead, where it is not there

    def lazy(self, key: str) -> Lazy | None:
        found = self._file.lazy(key)
        return found if found.shape else None

    def shape(self, key: str) -> tuple[int, ...]:
        try:
            return self._file.shape(key)
        except InputError:  # told when it is read
            return ()
