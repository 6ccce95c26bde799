"""One file is one format of demonstrations: its reader, its writer, and the keys that tell it from the others.

A module in this folder is a format, and no list names it. It has
    MARKS    alternatives of keys: named arrays are of this format if they have all keys of one alternative. () where
             the data lies in no file; then its source is written "module:name"
    NOT      keys that none of its files has (may be missing)
    FOLDER   the files by which a folder of this format is known, where it is no single file; its source is the folder
    read     (source, time_limit) → Demos. `source` is the Arrays (an open file, as a rule), or "module:name";
             `time_limit` is the environment's own in steps, or None
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
