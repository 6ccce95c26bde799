"""Valid tables, LeRobot folders and RLlib files for the fuzzer, small and always the same ones."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from puffer_il.demos.formats import table
from puffer_il.demos.formats.lerobot import write as write_lerobot_v3
from tests.fuzz.mutate import Files
from tests.support.demos import make_demos
from tests.support.tables import write_lerobot, write_parquet

TOML = b"""obs = ["x", "v*"]
actions = ["move"]
episode = ["run"]
time = "t"
gap = 2.5
terminated = "hit"
choices.move = ["left", "right"]
units.x = "deg"
scale = {x = 2, v1 = 0.5}
"""
CSV = b"""run,t,x,v1,move,hit
a,0,1.5,2,left,0
a,1,2.5,3,right,
b,0.5,-1,4,"left",no
b,1.5,-2,5,right,1
"""


def _folder(write: Callable[[Path], object]) -> Files:
    """What `write(folder)` writes there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write(path)
        return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


def tables() -> list[Files]:
    """The table is called d, its columns are told in d.toml."""
    def written(path: Path) -> None:
        table.write(path / "d", make_demos((3, 2), obs_shape=(4,)))

    found = [{"d": CSV, "d.toml": TOML},
             {"d": CSV.replace(b",", b";").replace(b".", b","), "d.toml": b'decimal = ","\n' + TOML}, _folder(written)]
    return found


def parquets() -> list[Files]:
    def written(path: Path) -> None:
        write_parquet(path / "d", {"q": np.arange(12.0).reshape(6, 2), "u": [0, 1] * 3, "e": ["a"] * 3 + ["b"] * 3})

    return [_folder(written) | {"d.toml": b'obs = ["q"]\nactions = ["u"]\nepisode = "e"\n'}]


def lerobots() -> list[Files]:
    return [_folder(lambda path, version=version: write_lerobot(path / "d", (3, 2), version))
            for version in ("v2.1", "v3.0")] + [
        _folder(lambda path: write_lerobot_v3(path / "d", make_demos((3, 2), obs_shape=(4,))))]


def packed_pictures() -> list[Files]:
    """A LeRobot set whose pictures are PNGs, and ALOHA's files, whose are JPEGs."""
    from tests.support.hdf5 import packed_picture, write_aloha

    def column(e: int, k: np.ndarray) -> list[dict[str, bytes]]:
        return [{"bytes": packed_picture(np.full((4, 6, 3), 9 * j, np.uint8), "PNG")} for j in k]

    def aloha(path: Path) -> None:
        (path / "d").mkdir()
        write_aloha(path / "d/episode_0.hdf5", packed=True)

    return [_folder(lambda path: write_lerobot(path / "d", (3, 2), "v3.0", columns={"observation.image": column})),
            _folder(aloha)]


def rllibs() -> list[Files]:
    lines = [{"type": "SampleBatch", "obs": [[e, t, 0.5, 1] for t in range(3)], "actions": [0, 1, 0], "eps_id": [e] * 3,
              "rewards": [1.0] * 3, "dones": [False, False, True], "t": [0, 1, 2]} for e in (5, 6)]
    many = {"type": "MultiAgentBatch", "count": 3, "policy_batches": {"p": lines[0] | {"new_obs": lines[1]["obs"]}}}
    return [{"d": "\n".join(map(json.dumps, given)).encode()} for given in (lines, [many])]


def structured() -> list[Files]:
    """A structured .npy."""
    rows = np.zeros(6, [("state", "f4", 2), ("action", "i4"), ("done", "?")])
    rows["done"][[2, 5]] = True
    made = io.BytesIO()
    np.save(made, rows)
    return [{"d": made.getvalue()}]


def features() -> list[Files]:
    """What is looked at of RLDS before its package is asked for."""
    name = "tensorflow_datasets.core.features.dataset_feature.Dataset"
    content = {"featuresDict": {"features": {"steps": {"pythonClassName": name, "sequence": [{"a": 1}]}}}}
    return [{"d/features.json": json.dumps(content).encode(), "d/dataset_info.json": b"{}"}]
