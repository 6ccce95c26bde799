"""The faults that raftaar and robot-report-card invent to test themselves, as recordings of ours (side_by_side.py).

raftaar has five (`raftaar synth`: an arm that reaches round a post), robot-report-card ten kinds of episodes of a
simulated SO-101 arm (`bench record`, which needs MuJoCo) and three corrupted files (`bench realify`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from puffer_il.demos.lerobot import write_folder

RAFTAAR = ("bimodal_detour", "coverage_hole", "demonstrator_jitter", "camera_shard", "dead_actuator")
EPISODES = 40  # raftaar's own number
GROUPS = ("noise010", "noise025", "random", "hesitation", "noise005", "wobble", "stall", "nearmiss", "wrong",
          "return_home")  # what robot-report-card wants flagged, and from the fifth on what it does not
CLEAN, SPOILT = 30, 4


def of_raftaar(target: Path, programs: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, its own folder, and the same as a LeRobot data set, the first of sound ones."""
    for name, faults in [("sound", ()), *((fault, (fault,)) for fault in RAFTAAR), ("all_five", RAFTAAR)]:
        subprocess.run([programs / "raftaar", "synth", name, "--episodes", str(EPISODES), "--out", target,
                        *(["--faults", *faults] if faults else [])], capture_output=True, check=True)
        files = sorted((target / name / "data").glob("*.npz"))
        yield name, target / name, as_lerobot(target / f"{name}.lerobot", files, (
            "observation.state", "observation.image_features", "action"), 20)


def of_report_card(target: Path, programs: Path) -> Iterator[tuple[str, Path]]:
    """Name, and a LeRobot data set, the first of sound episodes alone."""
    for name in ("sound", *GROUPS):
        groups = f"clean:{CLEAN + SPOILT}" if name == "sound" else f"clean:{CLEAN},{name}:{SPOILT}"
        subprocess.run([programs / "python", "-m", "robot_report_card.bench", "record", "--out", target / name,
                        "--groups", groups, "--seed", "1000"], capture_output=True, check=True)
        yield name, as_lerobot(target / f"{name}.lerobot", sorted((target / name / "episodes").glob("*.npz")),
                               ("observation.state", "observation.environment_state", "action", "next.reward"), 30)


def corrupted(source: Path, target: Path, programs: Path) -> Iterator[tuple[str, Path]]:
    """Name, and a LeRobot data set, made of the sound one `source`."""
    subprocess.run([programs / "python", "-m", "robot_report_card.bench", "realify", source, "--out", target],
                   capture_output=True, check=True)
    for path in sorted(target.glob("corrupt_*")):
        yield path.name, path


def as_lerobot(target: Path, files: list[Path], columns: tuple[str, ...], fps: int) -> Path:
    """A LeRobot 3.0 data set of files of one episode each, with nothing beside its own columns."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    for path in files:
        with np.load(path) as arrays:  # whose phases are text, and not read
            for name in columns:
                found[name].append(arrays[name])
    rows = {name: np.concatenate(parts).astype(np.float32) for name, parts in found.items()}
    if "next.reward" in rows:
        rows["next.reward"] = rows["next.reward"].reshape(-1)
    lengths = np.array([len(part) for part in found["action"]])
    write_folder(target, rows, np.cumsum(lengths) - lengths, fps, "reach", {})
    return target
