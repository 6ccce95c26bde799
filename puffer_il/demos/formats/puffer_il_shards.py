"""Our own folder, for demonstrations that are larger than memory: a file for each array, which is mapped and not read.

    puffer_il_shards.json   {"format": "puffer_il shards", "version": 1, "arrays": {name: {"dtype": …, "shape": […],
                            "crc32": …}}, "meta": that of our .npz, "sha256": of all else}
    NAME.npy                an array as NumPy writes it, for each name in "arrays"

The names are those of our .npz: obs, final_obs (the last successors; or next_obs, a successor for each row, where rows
are subsampled), actions, terminations, truncations, rewards, weights, states, episode_starts, …

Opening looks at the manifest, its checksum, each file's header and size, and where episodes start and end; numbers were
checked when they were written. `verify` reads all there is and compares the checksums.
"""

import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.errors import one_line
from puffer_il.core.npz import DAMAGED
from puffer_il.core.rows import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats import puffer_il
from puffer_il.demos.npz import Arrays
from puffer_il.demos.shard_writer import MANIFEST, NAME, VERSION, ShardWriter, seal
from puffer_il.demos.subset import some_episodes, stretches

KIND = "folder"
MARKS = ()
FOLDER = (MANIFEST,)
LARGEST_MANIFEST = 2**24
AGAIN = "copy the folder or write it again"


def is_folder(path: Path | str) -> bool:
    """Whether demonstrations saved under this name become such a folder: it ends in "/" or ".shards", or is one."""
    return str(path).endswith("/") or Path(path).suffix == ".shards" or (Path(path) / MANIFEST).is_file()


def write(folder: Path | str, demos: Demos, env: str, collected: str, recording: dict[str, Any] | None = None) -> None:
    """See `Demos.save`."""
    with ShardWriter(folder, env=env, collected=collected, recording=recording) as writer:
        writer.add(demos)


def read(folder: Path, time_limit: int | None = None) -> Demos:
    return puffer_il.read(Shards(folder))


def read_meta(folder: Path | str) -> dict[str, Any]:
    """What the folder says about itself."""
    return puffer_il.meta_in(Shards(Path(folder)))


def parts(folder: Path, time_limit: int | None, most: float) -> Iterator[Demos]:
    """All episodes in order, in memory, so many together as make about `most` bytes of observations."""
    demos = read(folder)
    row = math.prod(demos.obs.shape[1:]) * demos.obs.dtype.itemsize
    for first, last in stretches(demos, most / max(1, row)):
        yield some_episodes(demos, first, last).in_memory()


def verify(folder: Path | str) -> None:
    """InputError for the first file whose content is not what was written; reads all."""
    shards = Shards(Path(folder))
    for name, told in shards.told.items():
        with (Path(folder) / f"{name}.npy").open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            crc = 0
            while piece := file.read(2**24):
                crc = zlib.crc32(piece, crc)
        if crc != told.get("crc32"):
            shards.refuse(f"{name}.npy is damaged: its checksum is {crc}, but {told.get('crc32')} was written; {AGAIN}")


class Shards(Arrays):
    """The arrays of such a folder, mapped. InputError, in one line, for a folder that is damaged or cut short."""

    def __init__(self, folder: Path) -> None:
        super().__init__({}, str(folder))
        self.folder = folder
        manifest = self._manifest()
        self.told: dict[str, dict[str, Any]] = manifest["arrays"]
        self._meta = json.dumps(manifest["meta"])
        self.keys = frozenset((*self.told, "meta"))
        for name in self.told:
            self._check_file(name)

    def _decoded(self, key: str) -> Array:
        if key == "meta":
            return np.array(self._meta)
        told = self.told[key]
        if math.prod(told["shape"]) == 0:  # nothing to map
            return np.empty(told["shape"], np.dtype(told["dtype"]))
        return np.load(self.folder / f"{key}.npy", mmap_mode="r", allow_pickle=False)

    def _manifest(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        try:
            if path.stat().st_size > LARGEST_MANIFEST:
                raise ValueError(f"{path.stat().st_size:,} bytes")
            manifest = json.loads(path.read_text())
            format, version = manifest["format"], manifest["version"]
            intact = manifest["sha256"] == seal(manifest) and isinstance(manifest["meta"], dict)
            names = all(name in ("next_obs", "final_obs", *puffer_il.STORED) and set(told) >= {"dtype", "shape"}
                        for name, told in manifest["arrays"].items())
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            self.refuse(f"{MANIFEST} cannot be read ({one_line(error)}); {AGAIN}")
        if format != NAME or type(version) is not int or version > VERSION:
            self.refuse(f"{MANIFEST} says {format!r} version {version!r}, but this puffer_il reads {NAME!r} up to "
                        f"version {VERSION}; upgrade it")
        if not (intact and names):
            self.refuse(f"{MANIFEST} does not have the checksum that it names, so it was changed or damaged; {AGAIN}")
        return manifest

    def _check_file(self, name: str) -> None:
        """InputError unless the file's header and size are those of the manifest."""
        told = self.told[name]
        try:
            with (self.folder / f"{name}.npy").open("rb") as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError("its header is of another version")
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                start = file.tell()
            size = (self.folder / f"{name}.npy").stat().st_size
        except FileNotFoundError:
            self.refuse(f"{name}.npy is missing, which {MANIFEST} names; {AGAIN}")
        except DAMAGED as error:
            self.refuse(f"{name}.npy cannot be read ({one_line(error)}); {AGAIN}")
        if list(shape) != told["shape"] or dtype.str != told["dtype"] or fortran or dtype.hasobject:
            self._differs(name, f"is {dtype.str} {list(shape)}", f"{told['dtype']} {told['shape']}")
        if size != start + math.prod(shape) * dtype.itemsize:
            self._differs(name, f"has {size - start:,} bytes", f"{math.prod(shape) * dtype.itemsize:,}")

    def _differs(self, name: str, what: str, told: str) -> NoReturn:
        self.refuse(f"{name}.npy {what}, but {MANIFEST} says {told}; it is cut off or of another folder: {AGAIN}")
