"""A tiny source of every format that is read, as its own writers lay it out."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos.formats import formats
from tests.support import hdf5, rlds, tables
from tests.support.demos import make_demos, write_cs285, write_imitation, write_ours

Source = tuple[Path | str, dict[str, Any]]  # and the keys that it is read with
ENDS = np.array([0, 0, 1, 0, 1], bool)
ROWS = np.arange(10.0).reshape(5, 2)
NEEDS = {"aloha": "h5py", "d3rlpy1": "h5py", "d3rlpy2": "h5py", "d4rl_hdf5": "h5py", "imitation_folder": "pyarrow",
         "isaac_lab": "h5py", "lerobot": "pyarrow", "maniskill": "h5py", "mimicgen": "h5py", "minari": "minari",
         "minari_hdf5": "h5py", "plain_hdf5": "h5py", "rllib parquet": "pyarrow", "robomimic": "h5py",
         "robosuite": "h5py", "table parquet": "pyarrow", "tianshou": "h5py"}


def _npz(**arrays: Any) -> Callable[[Path, Any], Source]:
    def written(folder: Path, _: Any) -> Source:
        np.savez(folder / "d.npz", **arrays)
        return folder / "d.npz", {}
    return written


def _file(write: Callable[[Path], Any], name: str = "d.h5", **keys: Any) -> Callable[[Path, Any], Source]:
    def written(folder: Path, _: Any) -> Source:
        write(folder / name)
        return folder / name, keys
    return written


def _aloha(folder: Path, _: Any) -> Source:
    (folder / "set").mkdir()
    for k in range(2):
        hdf5.write_aloha(folder / f"set/episode_{k}.hdf5", k)
    return folder / "set", {}


def _ours(name: str, file: str) -> Callable[[Path, Any], Source]:
    return _file(lambda path: formats()[name].write(path, make_demos((3, 2), continuous=True)), file)


def _minari(folder: Path, monkeypatch: Any) -> Source:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    spec = EnvSpec("toy", (2,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
    formats()["minari"].write("minari:own/x-v0", make_demos((3, 2)), spec)
    return "minari:own/x-v0", {}


def _rlds(folder: Path, monkeypatch: Any) -> Source:
    rlds.stand_in(monkeypatch)
    return rlds.folder(folder / "d"), {}


def _rllib(folder: Path, _: Any) -> Source:
    lines = [{"type": "SampleBatch", "obs": ROWS[:n].tolist(), "new_obs": ROWS[1:n + 1].tolist(), "eps_id": [n] * n,
              "rewards": [1.0] * n, "terminateds": [False] * (n - 1) + [True], "t": list(range(n)),
              "actions": [0, 1] * (n // 2)} for n in (2, 4)]
    (folder / "o.json").write_text("\n".join(map(json.dumps, lines)))
    return folder / "o.json", {}


def _rllib_parquet(folder: Path, _: Any) -> Source:
    tables.write_parquet(folder / "out/x.parquet", {
        "eps_id": ["a"] * 4, "obs": ROWS[:4], "new_obs": ROWS[1:], "actions": [0, 1, 0, 1], "rewards": [1.0] * 4,
        "terminateds": [False] * 3 + [True], "truncateds": [False] * 4})
    return folder / "out", {}


def _csv(folder: Path, _: Any) -> Source:
    (folder / "d.csv").write_text("x,y,u\n" + "".join(f"{k},{-k},{k % 2}\n" for k in range(5)))
    (folder / "d.toml").write_text('obs = ["x", "y"]\nactions = ["u"]\n')
    return folder / "d.csv", {}


def _parquet(folder: Path, _: Any) -> Source:
    tables.write_parquet(folder / "d.parquet", {"q": ROWS, "u": [0.5, 1, 0, 1, 0], "e": ["a"] * 3 + ["b"] * 2})
    (folder / "d.toml").write_text('obs = ["q"]\nactions = ["u"]\nepisode = "e"\n')
    return folder / "d.parquet", {}


EXAMPLES: dict[str, Callable[[Path, Any], Source]] = {  # by "format" or "format, and which of its kinds"
    "aloha": _aloha, "aloha file": _file(hdf5.write_aloha),
    "cs285": _file(lambda path: write_cs285(path, (3, 2)), "d.npz"),
    "d3rlpy1": _file(hdf5.write_d3rlpy1), "d3rlpy2": _file(hdf5.write_d3rlpy2),
    "d4rl": _npz(observations=ROWS, actions=ROWS / 10, rewards=np.ones(5), terminals=ENDS, timeouts=~ENDS & False),
    "d4rl_hdf5": _file(hdf5.write_d4rl),
    "imitation": _file(lambda path: write_imitation(path, (3, 2)), "d.npz"),
    "imitation_folder": _ours("imitation_folder", "d"),
    "isaac_lab": _file(hdf5.write_isaac_lab),
    "lerobot v2.0": _file(lambda path: tables.write_lerobot(path, version="v2.0"), "d"),
    "lerobot v2.1": _file(lambda path: tables.write_lerobot(path, version="v2.1"), "d"),
    "lerobot v3.0": _file(lambda path: tables.write_lerobot(path, version="v3.0"), "d"),
    "lerobot ours": _ours("lerobot", "d"),
    "maniskill": _file(hdf5.write_maniskill), "mimicgen": _file(hdf5.write_mimicgen), "minari": _minari,
    "minari_hdf5": _file(hdf5.write_minari),
    "ogbench": _npz(observations=ROWS, actions=ROWS / 10, terminals=ENDS),
    "plain": _npz(obs=ROWS, act=[0, 1, 0, 1, 0], done=ENDS),
    "plain numbered": _npz(obs_0=np.eye(3), act_0=[0, 1, 0], obs_1=np.eye(3), act_1=[1, 1, 0]),
    "plain episodes": _npz(states=np.zeros((2, 4, 3)), acts=np.zeros((2, 3), int), done=np.zeros((2, 3))),
    "plain_hdf5": _file(hdf5.write_plain),
    "puffer_il": _file(lambda path: write_ours(path, (3, 2)), "d.npz"),
    "puffer_il_shards": _file(lambda path: make_demos((3, 2), continuous=True).save(path), "d.shards"),
    "rlds": _rlds, "rllib": _rllib, "rllib parquet": _rllib_parquet,
    "robomimic": _file(lambda path: hdf5.write_robomimic(path, [3, 2])),
    "robomimic without successors": _file(lambda path: hdf5.write_robomimic(path, [2, 2], next_obs=False)),
    "robosuite": _file(lambda path: hdf5.write_robosuite(path, obs=True)),
    "stable_baselines2": _npz(obs=ROWS, actions=ROWS[:, :1], rewards=np.ones(5), episode_returns=np.array([3.0, 2]),
                              episode_starts=np.array([1, 0, 0, 1, 0], bool)),
    "table": _csv, "table parquet": _parquet,
    "tianshou": _file(hdf5.write_tianshou), "tianshou rings": _file(lambda path: hdf5.write_tianshou(path, rings=True))}


def missing(name: str) -> str:
    """The package that reading an example needs and that is not installed; "" for none."""
    need = NEEDS.get(name) or NEEDS.get(name.partition(" ")[0], "")
    return need if need and importlib.util.find_spec(need) is None else ""
