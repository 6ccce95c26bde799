"""The fuzzer finds what it is there to find: its judgement, on readers that are wrong on purpose."""

from __future__ import annotations

import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.demos.formats import formats
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.kinds import kinds_of
from tests.fuzz import corpus, engine
from tests.fuzz.engine import Target, in_child, judged, lay
from tests.fuzz.mutate import KINDS, Files, mutated
from tests.fuzz.targets import TARGETS

SEEDS = {"minari": "minari", "imitation_folder": "huggingface"}  # formats with a target of their own


def refuse(text: str) -> Any:
    raise InputError(text)


class Rude(InputError):
    """Longer than any line."""

    def __str__(self) -> str:
        return "x" * 5000


def misused() -> Any:
    raise Rude


def endless(_: Path) -> None:
    while True:
        pass


def swallowed(_: Path) -> None:
    try:
        raise MemoryError
    except MemoryError:
        raise InputError("the file is too large") from None


@pytest.mark.parametrize(("read", "refused", "found"), [
    (lambda _: None, False, ""),
    (lambda _: refuse("d.npz: holds nothing; give another"), True, ""),
    (lambda _: refuse("two\nlines"), True, ""),  # become one
    (lambda _: {}["a"], False, "KeyError"),
    (lambda _: misused(), True, "not one line"),
    (lambda _: np.ones(2**23), False, "memory: 6"),
    (swallowed, True, "memory: more than there is"),
    (endless, False, "Hang"),
])
def test_what_is_wrong_with_an_answer_is_found(monkeypatch, tmp_path, read, refused, found):
    monkeypatch.setattr(engine, "SECONDS", 0.5)
    monkeypatch.setattr(engine, "MEMORY", 2**25)
    judgement = judged(read, tmp_path)
    assert judgement[0] is refused and judgement[1].startswith(found) and bool(judgement[1]) is bool(found)


def test_a_crash_and_a_stop_outside_python_are_findings_and_the_rest_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "STUCK", 0.3)

    def read(folder: Path) -> None:
        (first, *_) = (folder / "x").read_bytes() or b"\0"
        if first == 7:
            os.abort()
        if first == 8:
            time.sleep(60)

    def chosen(rng: random.Random, files: Files) -> Files:
        return {"x": bytes([rng.randrange(12)])}

    outcome = in_child(Target("toy", lambda: [{"x": b"\1"}], read, chosen), 1, 40, 20, tmp_path, [])
    assert outcome.count == 40 and set(outcome.findings) == {"killed by SIGABRT", "stuck for 0.3 s outside Python"}
    assert {files["x"] for files in outcome.findings.values()} == {b"\7", b"\x08"}


def test_inputs_that_reach_new_lines_are_gone_on_from(tmp_path):
    """Four bytes of 16 kinds, one of which is right for each line: by chance alone once in 65,536 inputs."""
    from tests.fuzz import guided

    def chosen(rng: random.Random, files: Files) -> Files:
        made = bytearray(files["x"])
        made[rng.randrange(4)] = 0x11 * rng.randrange(16)
        return {"x": bytes(made)}

    def read(folder: Path) -> None:
        guided.read((folder / "x").read_bytes())

    target = Target("guided", lambda: [{"x": struct.pack("4B", 0, 0, 0, 0)}], read, chosen)
    engine.OURS, before = (*engine.OURS, str(Path(guided.__file__))), engine.OURS
    try:
        outcome = in_child(target, 1, 8_000, 60, tmp_path, [])
    finally:
        engine.OURS = before
    assert any(name.startswith("ZeroDivisionError") for name in outcome.findings)


def test_every_format_of_demonstrations_has_a_target(tmp_path):
    inputs = [np.load(data, allow_pickle=False).files for data in map(_opened, TARGETS["demos"].seeds())]
    for name, format in formats().items():
        if name in SEEDS:
            assert SEEDS[name] in TARGETS, f"no target of tests/fuzz reads {name}"
        elif "hdf5" in kinds_of(format):
            assert any(_fits(format, files, tmp_path) for files in TARGETS["hdf5"].seeds()), (
                f"no valid input of the target 'hdf5' is of the format {name}: add one to tests/support/hdf5.py")
        elif kinds_of(format):
            assert name in TARGETS or set(kinds_of(format)) <= TARGETS.keys(), f"no target of tests/fuzz reads {name}"
        else:
            assert any(set(marks) <= set(keys) for keys in inputs for marks in format.MARKS), (
                f"no valid input of the target 'demos' is of the format {name}: add one to tests/fuzz/seeds.py")


def _fits(format: Any, files: Files, folder: Path) -> bool:
    lay(files, folder)
    with Hdf5(folder / "d.npz") as file:
        return format.fits(file)


def _opened(files: Files) -> Any:
    import io

    return io.BytesIO(files["d.npz"])


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"resume"}))  # whose every input is a run
def test_valid_inputs_are_read_and_the_corpus_is_answered_in_one_line(name, tmp_path):
    """And a few changed ones: `make fuzz` reads many more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # who is forked has no others
    seeds, kept = TARGETS[name].seeds(), corpus.load(name)
    try:
        valid = in_child(TARGETS[name], 7, len(seeds), 60, tmp_path / "valid", [])
        outcome = in_child(TARGETS[name], 7, len(seeds) + len(kept) + 5, 60, tmp_path / "changed", kept)
    finally:
        torch.set_num_threads(threads)
    assert valid.refused <= len(seeds) // 4 and not valid.findings
    assert not outcome.ours() and outcome.count == len(seeds) + len(kept) + 5


def test_the_corpus_is_small_and_changes_are_of_every_kind():
    files = [path for path in corpus.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400_000
    rng = random.Random(1)
    for end in KINDS:
        given = {f"a{end}" if end.startswith(".") else end: b'{"a": [1, 2]}\n[b]\nc = 1\n'}
        assert len({*(tuple(mutated(rng, given).items()) for _ in range(50))}) > 10
