"""What a file or folder is, told from its content, never from its name; and which format it therefore has."""

from __future__ import annotations

import codecs
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from puffer_il.core.errors import InputError, unknown
from puffer_il.demos.formats import formats
from puffer_il.demos.hdf5 import Hdf5, is_hdf5
from puffer_il.demos.npz import SAVE_DEMOS

KINDS = {"hdf5": "an HDF5 file", "folder": "a folder", "parquet": "a Parquet file", "csv": "a table in a text file",
         "json": "a JSON file", "npy": "a single array (.npy)"}
HEAD = 2**14  # bytes that are looked at
SHOWN = 12  # names that a message lists


def kind_of(path: Path) -> str | None:
    """One of KINDS; None for an .npz, for what is none of them, and for what cannot be looked at."""
    try:
        if path.is_dir():
            return "folder"
        with path.open("rb") as file:
            head = file.read(HEAD)
        if is_hdf5(path):
            return "hdf5"
    except (OSError, ValueError):
        return None
    if head.startswith(b"PAR1"):
        return "parquet"
    return "npy" if head.startswith(b"\x93NUMPY") else _kind_of_text(head)


def _kind_of_text(head: bytes) -> str | None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in head[2:4]:
        return "csv"  # whose reader says what is to be done
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head).lstrip()
    except UnicodeDecodeError:
        text = head.decode("latin-1").lstrip()
    if not text or any(ord(letter) < 32 and letter not in "\t\r\n\f" for letter in text):
        return None
    if text[0] in "{[":
        return "json"
    return "csv" if set(text.splitlines()[0]) & set(",;\t") else None


def of_kind(kind: str) -> dict[str, ModuleType]:
    """The formats of such files."""
    return {name: format for name, format in formats().items() if kind in kinds_of(format)}


def kinds_of(format: ModuleType) -> tuple[str, ...]:
    kind = getattr(format, "KIND", "folder" if hasattr(format, "FOLDER") else ())
    return (kind,) if isinstance(kind, str) else kind


def opened(path: Path, kind: str) -> AbstractContextManager[Any]:
    """What formats of this kind are given: the open file for "hdf5", the path for the others."""
    return Hdf5(path) if kind == "hdf5" else nullcontext(path)


def which(source: Any, path: Path, kind: str, chosen: str) -> ModuleType:
    """The format of an opened source. InputError unless it is exactly one, or the `chosen` one ("auto" for none)."""
    known = of_kind(kind)
    if chosen != "auto":
        if chosen not in known:
            raise InputError(f"demos {path}: is {KINDS[kind]}, and demos.format = {chosen!r} is not a format of those; "
                             f"choose one of {', '.join(known)}, or auto")
        return known[chosen]
    general = [name for name, format in known.items() if hasattr(format, "GENERAL")]
    fitting = [name for name, format in known.items() if name not in general and _fits(format, source)]
    fitting = fitting or [name for name in general if _fits(known[name], source)]
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        raise InputError(f"demos {path}: may be of the formats {' or '.join(fitting)}; say which with --demos.format "
                         f"{fitting[0]}")
    raise InputError(f"demos {path}: is {KINDS[kind]}{_listing(source, kind)}, which matches no known format "
                     f"({_missed(known, source)}); {SAVE_DEMOS}")


def check_name(chosen: str) -> None:
    """InputError unless there is such a format, or "auto"."""
    if chosen != "auto" and chosen not in formats():
        raise InputError(unknown("demos.format", chosen, ["auto", *formats()]))


def _fits(format: ModuleType, source: Any) -> bool:
    return format.fits(source) if hasattr(format, "fits") else not _missing(format.FOLDER, source)


def _missed(known: dict[str, ModuleType], source: Any) -> str:
    """What the formats miss of which something is there; without any, what each is known by."""
    looks = {name: getattr(format, "LOOKS", getattr(format, "FOLDER", ())) for name, format in known.items()}
    missing = {name: _missing(parts, source) for name, parts in looks.items()}
    near = {name: parts for name, parts in missing.items() if parts and len(parts) < len(looks[name])}
    if near:
        return "; ".join(f"{name} also has {' and '.join(parts)}" for name, parts in near.items())
    return "; ".join(f"{name}: {', '.join(parts)}" if parts else name for name, parts in looks.items())


def _missing(looks: tuple[str, ...], source: Any) -> list[str]:
    """Which of these names ("data/demo_*/obs") are neither in an HDF5 file nor in a folder."""
    if isinstance(source, Hdf5):
        return [name for name in looks if source.find(name) is None]
    return [name for name in looks if next(source.glob(name), None) is None] if source.is_dir() else list(looks)


def _listing(source: Any, kind: str) -> str:
    if isinstance(source, Hdf5):
        return f" that holds {source.listing()}"
    if kind != "folder":
        return ""
    names = sorted(path.name for path in source.iterdir())
    return f" that holds {', '.join(names[:SHOWN]) or 'nothing'}{', …' if len(names) > SHOWN else ''}"
