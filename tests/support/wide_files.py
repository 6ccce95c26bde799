"""One recording in the layouts of other packages: `WIDE[name](folder, episodes, length, width)` is its file or folder.

Observation t of episode e is e + t / 1000 in every column, in each format's own dtype.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from puffer_il.core.spec import Array
from puffer_il.demos import read_demos
from puffer_il.demos.formats import formats

INFO = {"codebase_version": "v3.0", "fps": 30, "features": {"observation.state": {"dtype": "float32", "shape": [1]}}}


def rows_of(episode: int, count: int, width: int, dtype: Any) -> Array:
    return np.repeat((episode + np.arange(count) / 1000).astype(dtype)[:, None], width, 1)


def grouped(episodes: int, length: int, width: int, **names: Any) -> Callable[[h5py.File], None]:
    """A dataset for each episode, of names such as obs="traj_{0}/obs"; `more` rows of observations than steps."""
    more, dtype = names.pop("more", 1), names.pop("dtype", np.float32)
    constant = {key: (path, np.asarray(value)) for key, (path, value) in names.pop("once", {}).items()}

    def write(file: h5py.File) -> None:
        for k in range(episodes):
            rows, steps = rows_of(k, length + 1, width, dtype), np.arange(length)
            made = {"obs": rows[:length + more], "next_obs": rows[1:], "actions": np.sin(steps)[:, None],
                    "rewards": np.ones(length), "ended": steps == length - 1, "never": np.zeros(length, bool)}
            for name, path in names.items():
                file[path.format(k)] = made[name]
            for path, value in constant.values():
                file[path.format(k)] = value
    return write


def flat(episodes: int, length: int, width: int, **names: Any) -> Callable[[h5py.File], None]:
    """Rows of all episodes end to end, in datasets of their names, `more` rows in each than steps."""
    more, dtype = names.pop("more", 0), names.pop("dtype", np.float32)
    constant = names.pop("once", {})

    def write(file: h5py.File) -> None:
        n, count = length + more, episodes * (length + more)
        steps = np.tile(np.arange(n), episodes)
        made = {"actions": np.sin(steps)[:, None], "rewards": np.ones(count), "never": np.zeros(count, bool),
                "ended": steps == n - 1}
        for name, path in names.items():
            if name in ("obs", "next_obs"):
                data = file.create_dataset(path, (count, width), dtype)
                for k in range(episodes):
                    later = int(name == "next_obs")
                    data[k * n:(k + 1) * n] = rows_of(k, n + 1, width, dtype)[later:later + n]
            else:
                file[path] = made[name]
        for path, value in constant.items():
            file[path] = value
    return write


def _hdf5(make: Callable[..., Callable[[h5py.File], None]], **names: Any) -> Callable[..., Path]:
    def write(folder: Path, episodes: int, length: int, width: int) -> Path:
        with h5py.File(folder / "d.hdf5", "w") as file:
            make(episodes, length, width, **{k: v.copy() if isinstance(v, dict) else v for k, v in names.items()})(file)
        return folder / "d.hdf5"
    return write


def _ogbench(folder: Path, episodes: int, length: int, width: int) -> Path:
    steps = np.tile(np.arange(length + 1), episodes)
    np.savez(folder / "d.npz", terminals=(steps == length).astype(np.float32), actions=np.sin(steps)[:, None],
             observations=np.concatenate([rows_of(k, length + 1, width, np.float32) for k in range(episodes)]))
    return folder / "d.npz"


def _tables(path: Path, columns: Callable[[int], dict[str, Any]], episodes: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    for k in range(episodes):
        table = pa.table(columns(k))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()
    return path


def _lists(rows: Array) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def _lerobot(folder: Path, episodes: int, length: int, width: int) -> Path:
    (folder / "meta").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(INFO))
    _tables(folder / "data" / "chunk-000" / "file-000.parquet", lambda k: {
        "observation.state": _lists(rows_of(k, length, width, np.float32)),
        "action": _lists(np.sin(np.arange(length, dtype=np.float32))[:, None]),
        "episode_index": np.full(length, k), "frame_index": np.arange(length)}, episodes)
    return folder


def _rllib(folder: Path, episodes: int, length: int, width: int) -> Path:
    return _tables(folder / "d.parquet", lambda k: {
        "obs": _lists(rows_of(k, length, width, np.float32)), "actions": _lists(np.sin(np.arange(length))[:, None]),
        "new_obs": _lists(rows_of(k, length + 1, width, np.float32)[1:]), "rewards": np.ones(length),
        "terminateds": np.arange(length) == length - 1, "truncateds": np.zeros(length, bool),
        "eps_id": np.full(length, k), "t": np.arange(length)}, episodes)


def _table(folder: Path, episodes: int, length: int, width: int) -> Path:
    (folder / "d.toml").write_text('obs = ["x"]\nactions = ["u"]\nepisode = "run"\ntime = "t"\n')
    return _tables(folder / "d.parquet", lambda k: {
        "x": _lists(rows_of(k, length, width, np.float32)), "u": np.sin(np.arange(length)),
        "run": np.full(length, k), "t": np.arange(length) / 10}, episodes)


def _rllib_json(folder: Path, episodes: int, length: int, width: int) -> Path:
    with (folder / "d.json").open("w") as file:
        for k in range(episodes):
            rows = rows_of(k, length + 1, width, np.float64)
            for first in range(0, length, 50):
                steps = np.arange(first, min(first + 50, length))
                batch = {"type": "SampleBatch", "obs": rows[steps].tolist(), "new_obs": rows[steps + 1].tolist(),
                         "actions": np.sin(steps)[:, None].tolist(), "rewards": [1.0] * len(steps),
                         "terminateds": (steps == length - 1).tolist(), "truncateds": [False] * len(steps),
                         "eps_id": [k] * len(steps), "t": steps.tolist()}
                file.write(json.dumps(batch) + "\n")
    return folder / "d.json"


def _csv(folder: Path, episodes: int, length: int, width: int) -> Path:
    (folder / "d.toml").write_text('obs = ["x*"]\nactions = ["u"]\nepisode = "run"\ntime = "t"\n')
    with (folder / "d.csv").open("w") as file:
        file.write(",".join(("run", "t", "u", *(f"x{k}" for k in range(width)))) + "\n")
        for k in range(episodes):
            for t, row in enumerate(rows_of(k, length, 1, np.float64)):
                file.write(f"{k},{t / 10},{np.sin(t)}" + f",{row[0]}" * width + "\n")
    return folder / "d.csv"


WIDE: dict[str, Callable[..., Path]] = {
    "robomimic": _hdf5(grouped, more=0, dtype=np.float64, obs="data/demo_{}/obs/x", next_obs="data/demo_{}/next_obs/x",
                       actions="data/demo_{}/actions", rewards="data/demo_{}/rewards"),
    "isaac_lab": _hdf5(grouped, more=0, obs="data/demo_{}/obs/x", actions="data/demo_{}/actions",
                       once={"state": ("data/demo_{}/initial_state/q", np.zeros(2))}),
    "minari_hdf5": _hdf5(grouped, dtype=np.float64, obs="episode_{}/observations", actions="episode_{}/actions",
                         rewards="episode_{}/rewards", ended="episode_{}/terminations",
                         never="episode_{}/truncations"),
    "maniskill": _hdf5(grouped, obs="traj_{}/obs", actions="traj_{}/actions", rewards="traj_{}/rewards",
                       ended="traj_{}/terminated", never="traj_{}/truncated"),
    "d3rlpy2": _hdf5(grouped, more=0, obs="observations_{}", actions="actions_{}", rewards="rewards_{}",
                     once={"end": ("terminated_{}", 1)}),
    "d3rlpy1": _hdf5(flat, obs="observations", actions="actions", rewards="rewards", ended="episode_terminals",
                     never="terminals"),
    "d4rl_hdf5": _hdf5(flat, obs="observations", next_obs="next_observations", actions="actions", rewards="rewards",
                       ended="timeouts", never="terminals"),
    "d4rl_hdf5 without successors": _hdf5(flat, obs="observations", actions="actions", rewards="rewards",
                                          ended="timeouts", never="terminals"),
    "plain_hdf5": _hdf5(flat, dtype=np.float64, obs="states", actions="act", rewards="rew", ended="truncated"),
    "plain_hdf5 by episodes": _hdf5(grouped, obs="episode_{}/obs", actions="episode_{}/act",
                                    rewards="episode_{}/reward", ended="episode_{}/done"),
    "tianshou": _hdf5(flat, obs="_meta/obs", next_obs="_meta/obs_next", actions="_meta/act", rewards="_meta/rew",
                      ended="_meta/truncated", never="_meta/terminated"),
    "ogbench": _ogbench, "lerobot": _lerobot, "rllib": _rllib, "table": _table}
def _saved(format: str, name: str) -> Callable[..., Path]:
    def write(folder: Path, episodes: int, length: int, width: int) -> Path:
        ends = np.arange(1, episodes * length + 1) % length == 0
        demos = read_demos({
            "obs": np.concatenate([rows_of(k, length, width, np.float32) for k in range(episodes)]),
            "actions": np.sin(np.arange(len(ends), dtype=np.float32))[:, None], "terminations": ends,
            "truncations": np.zeros(len(ends), bool), "rewards": np.ones(len(ends)),
            "episode_starts": np.arange(0, len(ends), length), "final_obs": np.zeros((episodes, width), np.float32)})
        if format == "puffer_il":
            demos.save(folder / name)
        else:
            formats()[format].write(folder / name, demos)
        return folder / name
    return write


# What is read as a whole, however large it is.
WHOLE: dict[str, Callable[..., Path]] = {
    "npz": _saved("puffer_il", "d.npz"), "imitation": _saved("imitation", "d.npz"),
    "imitation_folder": _saved("imitation_folder", "d")}
TEXTS: dict[str, Callable[..., Path]] = {"rllib in json": _rllib_json, "table in text": _csv}


def told(name: str, folder: Path, episodes: int, length: int, width: int) -> Path:
    """The file or folder of a format, in a folder of its own."""
    own = folder / name.replace(" ", "_")
    own.mkdir()
    path = (WIDE | TEXTS | WHOLE)[name](own, episodes, length, width)
    if name == "d3rlpy2":
        with h5py.File(path, "a") as file:
            file["columns"] = np.array([0])
    return path
