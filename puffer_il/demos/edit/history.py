"""Where a file comes from: the command that wrote it, and what it was made of, as a note that goes with it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from puffer_il.demos.dataset import Demos


def with_history(demos: Demos, command: str, sources: Sequence[str]) -> Demos:
    """The demonstrations with a note that names `command` and the SHA-256 of each of the `sources`."""
    told = ", ".join(f"{source} sha256 {digest(source)}" for source in sources)
    return replace(demos, notes=(*demos.notes, f"edited by: {command} ({told})"))


def digest(source: str) -> str:
    """The SHA-256 of a file, or of a folder's files with their names; "unknown" for a data set that has no file."""
    path, made = Path(source).expanduser(), hashlib.sha256()
    if not path.exists():
        return "unknown"
    if path.is_file():
        return _of_file(path)
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        made.update(f"{file.relative_to(path)}\0{_of_file(file)}\n".encode())
    return made.hexdigest()


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
