"""One file is one format of demonstrations: its reader, its writer, and the keys that tell it from the others.

A module in this folder is a format, and no list names it. It has
    MARKS    alternatives of keys: named arrays are of this format if they have all keys of one alternative. () where
             it is none of named arrays. A function marks(Arrays) may give them instead
    NOT      keys that none of its files has (may be missing)
    KIND     what its sources are otherwise, told from their content: "hdf5", "folder", "parquet", "csv", "json" or
             "npy" (see `kinds`), or a tuple of those. Without MARKS and KIND its source is written "module:name"
    fits     (opened) → bool, of a source of this KIND: the open `Hdf5`, or the Path for any other. A folder's format
             may name FOLDER instead, the files by which it is known
    GENERAL  True for one that is asked only where no other of its KIND fits (may be missing)
    LOOKS    names that its sources hold, for the message when nothing fits: "data/demo_*/obs" of an HDF5 file,
             "meta/info.json" of a folder (may be missing)
    KEYS     keys of `demos` that `read` takes as well, by name (may be missing)
    read     (source, time_limit) → Demos. `source` is the Arrays (an open file, as a rule), the opened source of this
             KIND, or "module:name"; `time_limit` is the environment's own in steps, or None
    parts    (source, time_limit, most, KEYS) → Demos, some episodes after the others, each with about `most` bytes of
             observations, where not all need to be in memory (may be missing)
    OBSERVED of named arrays whose rows lie end to end, which arrays are the observations, and which the next ones: read
             is given numbers of rows in place of them first (demos/planned.py). A function observed(Arrays) may say so
             instead (may be missing)
    write    (target, demos, …), where we write the format
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


@cache
def formats() -> dict[str, ModuleType]:
    """The formats by the names of their modules, in alphabetical order."""
    return {name: import_module(f"{__name__}.{name}") for _, name, _ in iter_modules(__path__)}
