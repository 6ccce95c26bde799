"""Small HDF5 files in other packages' layouts, as their writers lay them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def write_hdf5(path: Path, arrays: dict[str, Any], attributes: dict[str, dict[str, Any]] | None = None) -> Path:
    """Datasets by their paths, and the attributes of members by theirs."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
        for name, more in (attributes or {}).items():
            file.require_group(name).attrs.update(more)
    return path


def robomimic(lengths: list[int], next_obs: bool = True, first: int = 0, **changes: Any) -> tuple[dict, dict]:
    """What `write_hdf5` takes: episodes whose numbers name their episode and row. `changes` are arrays of demo_0's."""
    arrays: dict[str, Any] = {}
    for episode, length in enumerate(lengths):
        below = f"data/demo_{first + episode}"
        eef, rows = 100.0 * episode + np.arange(length + 1), np.arange(length)
        obs = {"eef_pos": eef[:, None] + [0, 0.1, 0.2], "object": -eef[:, None]}
        arrays |= {f"{below}/actions": np.stack([np.sin(rows), np.cos(rows)], 1), f"{below}/dones": rows >= length - 2,
                   f"{below}/rewards": rows == length - 1, f"{below}/states": 1000.0 * eef[:length, None]}
        arrays |= {f"{below}/obs/{name}": column[:length] for name, column in obs.items()}
        if next_obs:
            arrays |= {f"{below}/next_obs/{name}": column[1:] for name, column in obs.items()}
    arrays |= {f"data/demo_{first}/{name}": array for name, array in changes.items()}
    attributes = {f"data/demo_{first + episode}": {"num_samples": length} for episode, length in enumerate(lengths)}
    return arrays, attributes | {"data": {"total": sum(lengths), "env_args": json.dumps(
        {"env_name": "Lift", "env_version": "1.4.1", "type": 1, "env_kwargs": {}})}}


def write_robomimic(path: Path, lengths: list[int], **options: Any) -> Path:
    return write_hdf5(path, *robomimic(lengths, **options))


def write_d3rlpy1(path: Path, **changes: Any) -> Path:
    """Two episodes of three and two rows; the first terminates."""
    arrays = {"observations": np.arange(5.0)[:, None], "actions": np.arange(5) % 2, "rewards": np.ones(5),
              "terminals": np.array([0, 0, 1.0, 0, 0]), "episode_terminals": np.array([0, 0, 1.0, 0, 1]),
              "discrete_action": True, "version": "1.0"}
    return write_hdf5(path, arrays | changes)


EXAMPLES = [lambda path: write_robomimic(path, [3, 2]), lambda path: write_robomimic(path, [2, 2], next_obs=False),
            write_d3rlpy1]  # one of each kind, which fuzzing changes
