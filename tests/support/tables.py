"""Folders and tables as LeRobot, RLlib and loggers write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    """A table; a two-dimensional array becomes a column of lists."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    made = {name: values.tolist() if isinstance(values, np.ndarray) else values for name, values in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(made), path)
    return path


def write_lerobot(folder: Path, lengths: tuple[int, ...] = (3, 4), version: str = "v2.1", *, names: str = "",
                  columns: dict[str, Any] | None = None, **info: Any) -> Path:
    """A data set whose observation in frame k of episode e is (e, k), without an end or a final observation. Version 2
    has a file for each episode, version 3 one for all; `names` goes before the files' names, `columns` are added."""
    tables = []
    for e, n in enumerate(lengths):
        k = np.arange(n)
        tables.append({"observation.state": np.stack([k * 0 + e, k], 1).astype(np.float32), "action": np.stack(
            [k, -k], 1).astype(np.float32), "episode_index": k * 0 + e, "frame_index": k, "timestamp": k / 10,
            **{key: make(e, k) for key, make in (columns or {}).items()}})
    if version.startswith("v3"):
        write_parquet(folder / "data/chunk-000/file-000.parquet", {
            key: [row for table in tables for row in table[key]] for key in tables[0]})
        write_parquet(folder / "meta/episodes/chunk-000/file-000.parquet", {
            "episode_index": list(range(len(lengths))), "length": list(lengths)})
    for e, table in enumerate(tables if version.startswith("v2") else []):
        write_parquet(folder / f"data/chunk-000/{names}episode_{e:d}.parquet", table)
    features = {key: {"dtype": "image" if isinstance(values, list) else "float32",
                      "shape": list(np.shape(values)[1:]) or [1], "names": None} for key, values in tables[0].items()}
    content = {"codebase_version": version, "fps": 10, "total_episodes": len(lengths), "total_frames": sum(lengths),
               "features": features | {"observation.images.top": {"dtype": "video", "shape": [4, 4, 3]}}} | info
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta/info.json").write_text(json.dumps(content))
    if version.startswith("v2"):
        lines = [json.dumps({"episode_index": e, "length": n, "tasks": ["x"]}) for e, n in enumerate(lengths)]
        (folder / "meta/episodes.jsonl").write_text("\n".join(lines))
    return folder
