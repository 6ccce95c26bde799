"""Which environments a file may open: those that run no code but what is shipped, installed or trusted by the user.

A run directory, a checkpoint, a learned reward and a file of demonstrations name an environment, and may come from
somebody else. Shipped environments and Gymnasium ids open as ever. Other code (a folder, module:function) opens if the
user has named it before, in the very form that it has now, or gives --trust. What is trusted is remembered by a hash of
its files, never by what a file from outside says of itself.
"""

import functools
import hashlib
import importlib.machinery
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from puffer_il.core.errors import InputError
from puffer_il.core.text import shown
from puffer_il.native.catalogue import env_folders
from puffer_il.native.compiler import cache_dir

CODE = {".h", ".c", ".pyx", ".pxd", ".pxi", ".py", ".toml"}  # what an environment's folder is made of
MOST_FILES = 10_000
IMPORTS = re.compile(r"[A-Za-z_][\w.]*:[\w./-]+")  # Gymnasium imports the module before a colon


def check(name: str, kwargs: dict[str, Any], source: str, trust: bool = False) -> None:
    """InputError, beginning with `source`, if to open this environment runs code that the user has not trusted; with
    `trust` it is trusted from now on. For names that were read from a file."""
    code = fingerprint(name, kwargs)
    if code is None or code in _trusted():
        return
    if not trust:
        raise InputError(f"{source}: to open the environment {shown(repr(name))} runs code that you have not used in "
                         "this form before; look at it, then give --trust (in Python trust=True) if it is safe")
    remember(name, kwargs)


def remember(name: Any, kwargs: dict[str, Any]) -> None:
    """Trust what the user has named; a read-only home forgets it."""
    forms = ({}, kwargs) if isinstance(name, str) else ()  # also without arguments, as a policy's spec names it
    new = {code for form in forms if (code := fingerprint(name, form)) is not None} - _trusted()
    if not new:
        return
    with suppress(OSError):
        path = _store()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(f"{code} {shown(name)}\n" for code in sorted(new))


def fingerprint(name: str, kwargs: dict[str, Any]) -> str | None:
    """64 hexadecimal digits that change with the code that opening `name` runs, and for a function with its arguments;
    None where it is shipped or installed as a Gymnasium environment. Nothing is imported."""
    if name in env_folders():
        return None
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _digest("folder", *_folder(folder))
    module, _, attribute = name.partition(":")
    arguments = json.dumps(kwargs, sort_keys=True, default=str)
    if not attribute or (module == "gymnasium" and _gymnasium_has(attribute)):
        return _digest("arguments", name, arguments) if any(map(IMPORTS.fullmatch, _texts(kwargs))) else None
    return _digest("function", name, arguments, *(path.read_bytes() for path in sources_of(module).values()))


def check_callable(name: str, found: Any) -> None:
    """InputError for what cannot make an environment, before it is called: a function of the standard library or a
    built-in one, and a class that has no `reset` and `step`."""
    if isinstance(found, functools.partial):
        return check_callable(name, found.func)
    module = str(getattr(found, "__module__", "") or "").split(".")[0]
    bare = isinstance(found, type) and not (hasattr(found, "reset") and hasattr(found, "step"))
    if bare or module in sys.stdlib_module_names:
        what = "a class without reset and step" if bare else f"a function of Python's own module {module}"
        raise InputError(f"environment {name!r} is {what}, and makes no environment; name one that does")


def same_name(one: str, other: str, same: Callable[[str, str], bool]) -> bool:
    """`same` of two names that need no import, and whether they are equal otherwise."""
    imports = any(":" in name and not Path(name).expanduser().is_dir() for name in (one, other))
    return one == other if imports else same(one, other)


def _gymnasium_has(name: str) -> bool:
    import gymnasium

    return name in gymnasium.registry


def _store() -> Path:
    return cache_dir() / "trusted"


def _trusted() -> set[str]:
    with suppress(OSError, UnicodeDecodeError):
        return {line.split(" ")[0] for line in _store().read_text().splitlines()}
    return set()


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _folder(folder: Path) -> Iterator[str | bytes]:
    """Names and contents of the code in an environment's folder, deeper ones too."""
    if not any(path.suffix == ".pyx" or path.name == "env.toml" for path in folder.iterdir()):
        return
    paths = [Path(root, name) for root, _, names in islice(os.walk(folder), MOST_FILES) for name in names[:MOST_FILES]
             if Path(name).suffix in CODE]
    if len(paths) > MOST_FILES:
        raise InputError(f"environment {str(folder)!r}: the folder holds more than {MOST_FILES:,} files of code; give "
                         "the environment one of its own")
    for path in sorted(paths):
        if path.is_file():
            yield str(path.relative_to(folder))
            yield path.read_bytes()


def sources_of(module: str) -> dict[str, Path]:
    """The files of the packages that a module is in, and its own, by their names in these packages ("a/b/__init__.py"),
    wherever those lie. Found as Python would find them, without running any."""
    places = None if os.getcwd() in sys.path or "" in sys.path else [*sys.path, os.getcwd()]
    found, parts = dict[str, Path](), module.split(".")
    for k, part in enumerate(parts):  # not by its whole name, for which folders without an __init__ must be imported
        spec = importlib.machinery.PathFinder.find_spec(part, places) or (None if k else _hooked(part))
        if spec is None:
            break
        if spec.origin and (path := Path(spec.origin)).is_file():
            inside = parts[:k + 1] if spec.submodule_search_locations is not None else parts[:k]
            found["/".join([*inside, path.name])] = path
        places = list(spec.submodule_search_locations or ())
    return found


def _hooked(package: str) -> importlib.machinery.ModuleSpec | None:
    """What import hooks find, which editable installs have; they are asked last, as they come after the path."""
    for finder in sys.meta_path:
        if finder is not importlib.machinery.PathFinder and hasattr(finder, "find_spec"):
            with suppress(Exception):  # other people's
                if (spec := finder.find_spec(package, None)) is not None:
                    return spec
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
