"""Scenes for ngsim.h: from a CommonRoad file, from rows of a recording, or invented."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError

CAR = (4.5, 1.8)  # m, where a recording does not say how large its vehicles are
SHORTEST, NEAREST = 20, 5.0  # frames and metres of what is long enough to be driven
Rows = list[tuple[int, int, float, float, float, float]]  # vehicle, frame, x, y, heading, speed


def load(scene: str, dt: float, split: str, **parameters: Any) -> dict[str, Any]:
    """Tracks, sizes, drivers and lanes of a scene, and its time step; see env.toml."""
    lanes = np.zeros((0, 4))
    sizes: dict[int, tuple[float, float]] = {}
    path = Path(scene).expanduser()
    try:
        if not scene:
            rows = invented(dt)
            lanes = np.array([[-20.0, y, 250.0, y] for y in (-1.75, 1.75, 5.25)])
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                rows = [(int(r[0]), int(r[1]), *map(float, r[2:6])) for r in file["rows"]]
        else:
            rows, sizes, lanes, dt = common_road(path)
    except (OSError, KeyError, ValueError, IndexError, TypeError, AttributeError, zipfile.BadZipFile,
            ElementTree.ParseError) as error:
        raise InputError(f"environment ngsim: scene = {scene!r}: cannot be read ({type(error).__name__}: {error}); "
                         "give a CommonRoad .xml, or an .npz with `rows` of id, frame, x, y, heading, speed") from None
    vehicles = sorted({row[0] for row in rows})
    frames = sorted({row[1] for row in rows})
    if len(frames) < 2 or not np.isfinite(np.array(rows)).all():
        raise InputError(f"environment ngsim: scene = {scene!r}: has {len(frames)} frames, or numbers that are not "
                         "finite; give a whole recording")
    tracks = np.zeros((len(vehicles), frames[-1] - frames[0] + 1, 5))
    for vehicle, frame, *place in rows:
        tracks[vehicles.index(vehicle), frame - frames[0]] = [*place, 1]
    drivers = [(i, *span) for i, track in enumerate(tracks) if (span := drivable(track))]
    held_out = slice(3, None, 4)  # so that a policy can be scored on drivers that it was not trained on
    if split == "test":
        drivers = drivers[held_out]
    elif split == "train":
        del drivers[held_out]
    if not drivers:
        raise InputError(f"environment ngsim: scene = {scene!r}: nobody in it moves {NEAREST} m within {SHORTEST} "
                         "frames or more; give a longer recording")
    return {"tracks": tracks, "sizes": np.array([sizes.get(v, CAR) for v in vehicles]), "dt": float(dt),
            "drivers": np.array(drivers), "lanes": lanes, "frames": tracks.shape[1]}


def drivable(track: np.ndarray) -> tuple[int, int] | None:
    """First and last frame of a vehicle that is there without a gap, long enough, and moves."""
    there = np.flatnonzero(track[:, 4])
    first, last = int(there[0]), int(there[-1])
    far = float(np.hypot(*(track[last, :2] - track[first, :2])))
    return (first, last) if last - first + 1 == len(there) >= SHORTEST and far >= NEAREST else None


def common_road(path: Path) -> tuple[Rows, dict[int, tuple[float, float]], np.ndarray, float]:
    """Rows, sizes, pieces of lane boundaries and the time step of a CommonRoad file, version 2018b or 2020a."""
    if b"<!" in path.read_bytes().replace(b"<!--", b""):
        raise ValueError("it declares entities")  # which is what could make a small file large
    root = ElementTree.parse(path).getroot()
    rows: Rows = []
    sizes = {}
    for obstacle in [*root.iter("obstacle"), *root.iter("dynamicObstacle")]:
        vehicle = int(obstacle.attrib["id"])
        sizes[vehicle] = (_number(obstacle, "shape/rectangle/length"), _number(obstacle, "shape/rectangle/width"))
        for state in [*obstacle.iter("initialState"), *obstacle.iterfind("trajectory/state")]:
            rows.append((vehicle, int(_number(state, "time/exact")), _number(state, "position/point/x"),
                         _number(state, "position/point/y"), _number(state, "orientation/exact"),
                         _number(state, "velocity/exact")))
    pieces: list[tuple[float, ...]] = []
    for bound in [*root.iter("leftBound"), *root.iter("rightBound")]:
        points = [(_number(point, "x"), _number(point, "y")) for point in bound.iter("point")]
        pieces += [(*a, *b) for a, b in itertools.pairwise(points)]
    return rows, sizes, np.array(pieces).reshape(-1, 4), float(root.attrib["timeStepSize"])


def _number(element: ElementTree.Element, path: str) -> float:
    found = element.find(path)
    if found is None or found.text is None:
        raise ValueError(f"<{element.tag}> has no {path}")
    return float(found.text)


def invented(dt: float) -> Rows:
    """Two lanes of ten vehicles for 60 frames: each follows the one before it by the Intelligent Driver Model (Treiber
    et al. 2000) with noise, and the first ones go as they like."""
    rng = np.random.default_rng(0)
    rows: Rows = []
    for lane in range(2):
        x, v = -22.0 * np.arange(5) + rng.uniform(-3, 3, 5) + 80, rng.uniform(8, 12, 5)
        for frame in range(60):
            gap = np.append(np.inf, x[:-1] - x[1:] - CAR[0])
            closing = np.append(0, v[1:] - v[:-1])
            wanted = 2 + np.maximum(0, 1.2 * v + v * closing / (2 * np.sqrt(1.5 * 2)))
            acceleration = 1.5 * (1 - (v / (14 - lane)) ** 4 - (wanted / gap) ** 2) + rng.normal(0, 0.4, 5)
            y = 3.5 * lane + 0.25 * np.sin(0.05 * frame + np.arange(5))
            heading = 0.0125 / dt * np.cos(0.05 * frame + np.arange(5)) / v  # of dy / dt over v
            rows += [(lane * 5 + i, frame, *map(float, (x[i], y[i], heading[i], v[i]))) for i in range(5)]
            x, v = x + v * dt, np.maximum(1, v + np.clip(acceleration, -6, 3) * dt)
    return rows
