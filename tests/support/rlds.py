"""RLDS as tensorflow_datasets has it, and a stand-in that gives the same arrays where it is not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

LENGTHS = (3, 4)  # steps, of which the last is the final observation


def steps(episode: int, n: int) -> dict[str, Any]:
    k = np.arange(n)
    return {"observation": {"state": np.stack([k * 0 + episode, k], 1).astype("f4"), "image": np.full((n, 4, 4, 3), k[
        :, None, None, None], np.uint8), "text": np.array([b"x"] * n)}, "action": k[:, None].astype("f4"),
        "reward": k.astype("f4"), "discount": np.ones(n, "f4"), "is_first": k == 0, "is_last": k == n - 1,
        "is_terminal": (k == n - 1) & (episode == 1)}


def folder(path: Path, name: str = "tensorflow_datasets.core.features.dataset_feature.Dataset") -> Path:
    path.mkdir()
    content = {"featuresDict": {"features": {"steps": {"pythonClassName": name}}}}
    (path / "features.json").write_text(json.dumps(content))
    (path / "dataset_info.json").write_text("{}")
    return path


def stand_in(monkeypatch: Any) -> None:
    """The package as far as it is used."""
    class Batched:
        def __init__(self, columns: Any) -> None:
            self.columns = columns

        def batch(self, most: int) -> list[Any]:
            return [self.columns]

    examples = [{"steps": Batched(steps(e, n))} for e, n in enumerate(LENGTHS)]
    builder = SimpleNamespace(info=SimpleNamespace(splits={"train": 1, "val": 1}),
                              as_dataset=lambda split, shuffle_files: examples)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", SimpleNamespace(
        builder_from_directory=lambda path: builder, as_numpy=lambda given: given))
