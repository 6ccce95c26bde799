"""Inputs that are worth beginning with: small files of our own making, each of which reaches lines that the valid ones
do not. A folder for each target, in it a folder for each input, of an environment only with what differs from envs/."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.engine import digest, lay, read_back
from tests.fuzz.mutate import Files
from tests.fuzz.seeds import env_tomls

FOLDER = Path(__file__).parent / "corpus"
LARGEST, MOST = 4_000, 24  # bytes of an input, inputs of a target


def load(name: str) -> list[Files]:
    found = [read_back(folder) for folder in sorted((FOLDER / name).glob("*"))]
    return [_unchanged(files) | files for files in found]


def keep(name: str, found: list[Files]) -> None:
    """Add the smallest of what was found, as far as there is room."""
    there = len(list((FOLDER / name).glob("*")))
    small = sorted((sum(map(len, files.values())), digest(files), files) for files in found)
    for size, key, files in small[:MOST - there]:
        if size <= LARGEST and all(name.isascii() and name.isprintable() for name in files):
            (FOLDER / name / key).mkdir(parents=True, exist_ok=True)
            lay(dict(files.items() - _unchanged(files).items()), FOLDER / name / key)


def _unchanged(files: Files) -> Files:
    """The environment that an input changes, as it is in envs/; nothing of other inputs."""
    return next((seed for seed in env_tomls() if seed.keys() & files.keys()), {})
