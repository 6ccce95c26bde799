"""Small HDF5 files in other packages' layouts, as their writers lay them out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
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
            (file[name or "/"] if not name or name in file else file.create_group(name)).attrs.update(more)
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


def write_mimicgen(path: Path) -> Path:
    """robomimic's layout without successors and rewards, and how each episode was made."""
    arrays, attributes = robomimic([3, 2], next_obs=False)
    more = {f"data/demo_{k}/{name}": array for k in range(2) for name, array in (
        ("datagen_info/eef_pose", np.zeros((3 - k, 4, 4))), ("src_demo_inds", np.zeros(2, int)))}
    kept = {name: array for name, array in arrays.items() if not name.endswith(("rewards", "dones"))}
    return write_hdf5(path, kept | more, attributes)


def write_robosuite(path: Path, obs: bool = False) -> Path:
    arrays, _ = robomimic([3, 2], first=1)
    kept = {name: array for name, array in arrays.items() if name.endswith(("states", "actions")) or (
        obs and "/obs/" in name)}
    return write_hdf5(path, kept, {"data": {"env": "Lift", "env_info": "{}", "repository_version": "1.4.1"}})


def write_isaac_lab(path: Path, success: tuple[bool, ...] = (True, False), **changes: Any) -> Path:
    """Episodes 0 and 2, nested observations, and a total that counts one more."""
    arrays: dict[str, Any] = {}
    attributes: dict[str, dict[str, Any]] = {"data": {"total": 9, "env_args": '{"env_name": "Isaac-Lift", "type": 2}'}}
    for number, length, solved in zip((0, 2), (4, 3), success, strict=True):
        below, rows = f"data/demo_{number}", np.arange(float(length))[:, None]
        arrays |= {f"{below}/{name}": array for name, array in {
            "actions": rows + 0.5, "obs/joint_pos": np.hstack([rows, rows + 10]), "obs/object/position": -rows,
            "obs/datagen_info/eef": rows, "states/articulation/robot/joint_position": rows + 1,
            "initial_state/articulation/robot/joint_position": rows[:1], "processed_actions": rows}.items()}
        attributes[below] = {"num_samples": length, "success": solved, "seed": 7}
    arrays |= {f"data/demo_0/{name}": array for name, array in changes.items()}
    return write_hdf5(path, arrays, attributes)


def write_maniskill(path: Path, told: bool = True, modes: tuple[str, ...] = ("pd_ee_delta_pose",) * 2,
                    **changes: Any) -> Path:
    """Episodes of four and two steps; the first is recorded on after its task has ended."""
    arrays: dict[str, Any] = {}
    for episode, length in enumerate((4, 2)):
        below, rows = f"traj_{episode}", np.arange(length + 1.0)[:, None] + 10 * episode
        arrays |= {f"{below}/{name}": array for name, array in {
            "obs/agent/qpos": rows, "obs/extra/depth": rows[:, :, None, None].astype(np.uint16), "actions": rows[1:],
            "terminated": np.arange(length) >= 2, "truncated": np.zeros(length, bool), "rewards": np.ones(length),
            "success": np.arange(length) >= 2, "env_states/actors/cube": rows}.items()}
    arrays |= {f"traj_0/{name}": array for name, array in changes.items()}
    if told:
        path.with_suffix(".json").write_text(json.dumps({"env_info": {"env_id": "PickCube-v1"}, "episodes": [
            {"episode_id": k, "control_mode": mode} for k, mode in enumerate(modes)]}))
    return write_hdf5(path, arrays)


def write_d4rl(path: Path, **changes: Any) -> Path:
    """Three episodes: one terminates, one is cut off, one is open."""
    arrays = {"observations": np.arange(7.0)[:, None], "actions": np.arange(7.0)[:, None] / 7, "rewards": np.ones(7),
              "terminals": np.eye(1, 7, 2, bool)[0], "timeouts": np.eye(1, 7, 4, bool)[0],
              "infos/qpos": np.zeros((7, 3)), "metadata/algorithm": np.bytes_("SAC")}
    return write_hdf5(path, arrays | changes)


def write_d3rlpy2(path: Path, parts: bool = False, **changes: Any) -> Path:
    """Eleven episodes of three steps, the first of which terminates; their observations may be tuples."""
    arrays: dict[str, Any] = {"columns": ["observations", "actions", "rewards", "terminated"], "num_episodes": 11,
                              "version": "2.1"}
    for episode in range(11):
        rows = np.arange(3.0)[:, None] + 100 * episode
        obs = {f"observations_{episode}_{k}": rows + k for k in range(2)} if parts else {
            f"observations_{episode}": rows}
        arrays |= obs | {f"actions_{episode}": np.arange(3)[:, None] % 2, f"rewards_{episode}": np.ones((3, 1)),
                         f"terminated_{episode}": episode == 0}
    return write_hdf5(path, arrays | changes)


def write_tianshou(path: Path, rings: bool = False, successors: bool = True, **changes: Any) -> Path:
    """A full ring of six rows that begins at row 2 (episodes of rows 2 3 4 and 5 0 1), or two rings of four and two
    rows, of which the first is full from row 1 on and the second holds one row."""
    order = [1, 2, 3, 0, 4, 5] if rings else [2, 3, 4, 5, 0, 1]
    step, ends, n = np.empty(6), np.zeros(6, bool), 6
    step[order] = np.arange(6.0)
    ends[[2, 4] if rings else [4]] = True
    arrays: dict[str, Any] = {
        "_meta/obs": step[:, None], "_meta/obs_next": step[:, None] + 1 if successors else None, "_meta/act": step % 2,
        "_meta/rew": np.ones(n), "_meta/terminated": ends, "_meta/truncated": np.zeros(n, bool), "_meta/done": ends,
        "_meta/info": np.frombuffer(b"\x80\x04N.", np.int8), "last_index": np.array([0, 4] if rings else [1])}
    if rings:
        arrays |= {"_offset": np.array([0, 4]), "_lengths": np.array([4, 1])}
    return write_hdf5(path, arrays | changes, {
        "": {"maxsize": n, "_size": 5 if rings else n, "_insertion_idx": 0 if rings else 2},
        "_meta/info": {"__data_type__": "pickled_ndarray"}, "_meta/obs": {"__data_type__": "ndarray"}})


def write_minari(path: Path, **changes: Any) -> Path:
    """A Dict with a Tuple in it; episodes 0 and 10 of two and one steps."""
    arrays: dict[str, Any] = {}
    for number, length in ((10, 1), (0, 2)):
        rows = np.arange(length + 1.0)[:, None] + number
        arrays |= {f"episode_{number}/{name}": array for name, array in {
            "observations/goal": rows, "observations/both/_index_0": np.hstack([rows, rows + 1]),
            "observations/both/_index_1": -rows, "actions": np.arange(length),
            "rewards": np.ones(length), "terminations": np.arange(length) == length - 1,
            "truncations": np.zeros(length, bool), "infos/success": np.ones(length + 1)}.items()}
    return write_hdf5(path, arrays | {f"episode_0/{name}": array for name, array in changes.items()})


def write_aloha(path: Path, episode: int = 0, length: int = 4, sim: bool = True, packed: bool = False,
                **changes: Any) -> Path:
    """One episode whose qpos is (episode, row), and whose pictures are red, the more so the later. `packed` ones are
    made as OpenCV makes JPEGs, and filled up with zeros."""
    k = np.arange(float(length))
    pictures = np.zeros((length, 8, 16, 3), np.uint8)
    pictures[..., 0] = 60 * k[:, None, None]
    arrays: dict[str, Any] = {"action": np.stack([k, -k], 1), "observations/qpos": np.stack([k * 0 + episode, k], 1),
                              "observations/qvel": k[:, None], "observations/images/top": pictures}
    if packed:
        pieces = [packed_picture(picture[..., ::-1], "JPEG") for picture in pictures]
        arrays["observations/images/top"] = np.stack([np.frombuffer(piece.ljust(900, b"\0"), np.uint8)
                                                      for piece in pieces])
    return write_hdf5(path, arrays | changes, {"": {"sim": sim, "compress": packed}})


def packed_picture(picture: np.ndarray, format: str) -> bytes:
    """(height, width, 3) uint8 as a JPEG or PNG."""
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(made, format=format)
    return made.getvalue()


def write_plain(path: Path, **changes: Any) -> Path:
    """A recorder's own names; two episodes of three and two steps."""
    ends = np.array([0, 0, 1, 0, 1], bool)
    return write_hdf5(path, {"state": np.arange(5.0)[:, None], "next_state": np.arange(5.0)[:, None] + 1,
                             "act": np.arange(5) % 2, "reward": np.ones(5), "done": ends} | changes)


EXAMPLES: list[Callable[[Path], Path]] = [  # one of each layout, which fuzzing changes
    lambda path: write_robomimic(path, [3, 2]), lambda path: write_robomimic(path, [2, 2], next_obs=False),
    write_d3rlpy1, write_mimicgen, lambda path: write_robosuite(path, obs=True), write_isaac_lab, write_maniskill,
    write_d4rl, write_d3rlpy2, write_tianshou, lambda path: write_tianshou(path, rings=True), write_minari,
    write_aloha, write_plain]
