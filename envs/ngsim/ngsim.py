"""Scenes for ngsim.h: from a CommonRoad file, from rows of a recording, or invented."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.npz import read_npz
from puffer_il.native.commonroad import Obstacle, Shape, read_scene

CAR = (4.5, 1.8)  # m, where a recording does not say how large its vehicles are
SHORTEST, NEAREST = 20, 5.0  # frames and metres of what is long enough to be driven
LEAST_CELLS, MOST_EMPTY = 2**22, 100  # frames times vehicles: of any recording, and for each place that is known
Rows = list[tuple[int, int, float, float, float, float]]  # vehicle, frame, x, y, heading, speed


def load(scene: str, dt: float, split: str, **parameters: Any) -> dict[str, Any]:
    """Tracks, sizes, outlines, drivers and lanes of a scene, and its time step; see env.toml."""
    lanes, found, left_out = np.zeros((0, 4)), {}, []
    rows: Rows = []
    path = Path(scene).expanduser()
    try:
        if not scene:
            rows = invented(dt)
            lanes = np.array([[-20.0, y, 250.0, y] for y in (-1.75, 1.75, 5.25)])
        elif path.suffix == ".npz":
            rows = [(int(r[0]), int(r[1]), *map(float, r[2:6])) for r in read_npz(path)["rows"]]
        else:
            read = read_scene(path)
            found, lanes, dt, left_out = {o.name: o for o in read.obstacles}, read.lanes, read.dt, read.left_out
            rows = [(o.name, frame, *place) for o in read.obstacles if not o.stands
                    for frame, place in o.frames.items()]
        finite = np.isfinite(np.array(rows, np.float64)).all()
    except (OSError, LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError,
            ElementTree.ParseError) as error:
        raise InputError(f"environment ngsim: scene = {scene!r}: cannot be read ({type(error).__name__}: "
                         f"{one_line(error)}); "
                         "give a CommonRoad .xml, or an .npz with `rows` of id, frame, x, y, heading, speed") from None
    for line in left_out:
        warnings.warn(f"{path.name}: {line}", stacklevel=2)
    frames = sorted({row[1] for row in rows})
    if len(frames) < 2 or not finite:
        raise InputError(f"environment ngsim: scene = {scene!r}: has {len(frames)} frames, or numbers that are not "
                         "finite; give a whole recording")
    vehicles = sorted({row[0] for row in rows} | found.keys())
    number, span = {vehicle: i for i, vehicle in enumerate(vehicles)}, frames[-1] - frames[0] + 1
    if len(vehicles) * span > LEAST_CELLS + MOST_EMPTY * len(rows):
        raise InputError(f"environment ngsim: scene = {scene!r}: {len(rows)} places of {len(vehicles)} vehicles lie in "
                         f"frames {frames[0]} to {frames[-1]}, which are nearly all empty; number frames one by one")
    tracks = np.zeros((len(vehicles), span, 5))
    for vehicle, frame, *place in rows:
        tracks[number[vehicle], frame - frames[0]] = [*place, 1]
    for i, vehicle in enumerate(vehicles):
        if vehicle in found and found[vehicle].stands:
            tracks[i] = [*next(iter(found[vehicle].frames.values())), 1]
    sizes, corners, outlines, pieces = shapes([found.get(v) for v in vehicles])
    drivers = [(i, *span) for i, track in enumerate(tracks) if not outlines[i, 1] and (span := drivable(track))]
    held_out = slice(3, None, 4)  # so that a policy can be scored on drivers that it was not trained on
    if split == "test":
        drivers = drivers[held_out]
    elif split == "train":
        del drivers[held_out]
    if not drivers:
        raise InputError(f"environment ngsim: scene = {scene!r}: nobody in it moves {NEAREST} m within {SHORTEST} "
                         "frames or more; give a longer recording")
    return {"tracks": tracks, "sizes": sizes, "corners": corners, "outlines": outlines, "pieces": pieces,
            "dt": float(dt), "drivers": np.array(drivers), "lanes": lanes, "frames": tracks.shape[1]}


def shapes(obstacles: list[Obstacle | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, corners, outlines and pieces (env.toml) of obstacles; of a car where a recording does not tell."""
    known = [obstacle.shape if obstacle else Shape(np.zeros(2), CAR) for obstacle in obstacles]
    polygons = [shape.outline for shape in known] + [piece for shape in known for piece in shape.pieces]
    counts, parts = np.array([len(polygon) for polygon in polygons]), np.array([len(shape.pieces) for shape in known])
    starts, n = np.cumsum(counts) - counts, len(known)
    stands = [o is not None and o.stands for o in obstacles]
    return (np.array([shape.size for shape in known]), np.concatenate([np.zeros((0, 2)), *polygons]),
            np.stack([starts[:n], counts[:n], stands, np.cumsum(parts) - parts, parts], 1),
            np.stack([starts[n:], counts[n:]], 1))


def drivable(track: np.ndarray) -> tuple[int, int] | None:
    """First and last frame of a vehicle that is there without a gap, long enough, and moves."""
    there = np.flatnonzero(track[:, 4])
    first, last = int(there[0]), int(there[-1])
    far = float(np.hypot(*(track[last, :2] - track[first, :2])))
    return (first, last) if last - first + 1 == len(there) >= SHORTEST and far >= NEAREST else None


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
