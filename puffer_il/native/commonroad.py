"""Scenes in CommonRoad's XML, 2018b and 2020a, as commonroad-io 2026.1 reads and writes them.

Althoff, Koschi and Manzinger (2017), doi:10.1109/IVS.2017.7995802. Lengths are m, angles rad, speeds m/s, times frames.
An obstacle that cannot be had as it was recorded is left out and named; the others stay.
"""

import itertools
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.native.polygons import convex_pieces

LONGEST = 10_000  # frames that one state may hold for
CORNERS = 32  # of the polygon around a circle, which is 0.5% wider than it
ROLES = {"dynamicObstacle": "dynamic", "staticObstacle": "static", "environmentObstacle": "environment",
         "phantomObstacle": "phantom"}
Frames = dict[int, tuple[float, float, float, float]]  # frame → x, y, heading, speed


@dataclass(frozen=True)
class Shape:
    """The box around an obstacle in its own axes, and, unless that box is all of it, its outline.

    centre   (2,) of the box, from the point that the recording tracks
    size     length and width of the box
    outline  (corners, 2) counterclockwise, from the centre of the box; none for a box
    pieces   (corners, 2) each, convex polygons that are the inside of the outline together
    """

    centre: Array
    size: tuple[float, float]
    outline: Array = field(default_factory=lambda: np.zeros((0, 2)))
    pieces: tuple[Array, ...] = ()


@dataclass(frozen=True)
class Obstacle:
    """`frames` of the middle of its box; those of an obstacle that `stands` are one, which holds at all times."""

    name: int
    shape: Shape
    frames: Frames
    stands: bool


@dataclass(frozen=True)
class Scene:
    """obstacles; `lanes` (pieces, 4) of lane boundaries; seconds between two frames; who was left out, and why."""

    obstacles: list[Obstacle]
    lanes: Array
    dt: float
    left_out: list[str]


def read_scene(path: Path) -> Scene:
    """ValueError, LookupError, OSError or ParseError for a file that is none, or has not even one obstacle that can be
    read."""
    if path.suffix == ".pb":
        raise ValueError("it is in protocol buffers; write it as XML with commonroad-io, see docs/environments.md")
    text = path.read_bytes()
    if b"\0" in text or b"<!" in text.replace(b"<!--", b""):  # entities are what could make a small file large
        raise ValueError("it declares entities, or is not UTF-8")
    root = ElementTree.fromstring(text)
    dt, obstacles, left_out = float(root.attrib["timeStepSize"]), [], []
    for node in root:
        role = (node.findtext("role") or "dynamic") if node.tag == "obstacle" else ROLES.get(node.tag)
        if role is None:
            continue
        try:
            obstacles.append(_obstacle(node, role.strip(), dt))
        except (ValueError, KeyError) as error:
            left_out.append(f"obstacle {node.get('id')} ({role}) is left out: {error}")
    if left_out and not obstacles:
        raise ValueError(left_out[0])
    pieces: list[tuple[float, ...]] = []
    for bound in [*root.iter("leftBound"), *root.iter("rightBound")]:
        points = [(_number(point, "x"), _number(point, "y")) for point in bound.iter("point")]
        pieces += [(*a, *b) for a, b in itertools.pairwise(points)]
    return Scene(obstacles, np.array(pieces).reshape(-1, 4), dt, left_out)


def _obstacle(node: Element, role: str, dt: float) -> Obstacle:
    name = int(node.attrib["id"])
    if role == "environment":  # a building, whose outline is that of the map
        shape = _shape(node)
        return Obstacle(name, shape, {0: (float(shape.centre[0]), float(shape.centre[1]), 0.0, 0.0)}, True)
    if role not in ("dynamic", "static"):
        raise ValueError(f"nothing tells where a {role} obstacle is")
    if node.find("occupancySet") is not None:
        raise ValueError("its occupancySet tells where it may be, not where it is; only a trajectory can be replayed")
    shape = _shape(node)
    states = [*node.findall("initialState"), *(node.iterfind("trajectory/state") if role == "dynamic" else ())]
    timed = [(frame, state) for state in states for frame in _times(state, role)]
    if not timed:
        raise ValueError("it has no state")
    moved = _moved(timed, dt)
    frames = {frame: _middle(place, shape) for frame, place in moved.items()}
    if role == "static":
        frames = {frame: (*place[:3], 0.0) for frame, place in frames.items()}
    return Obstacle(name, shape, frames, role == "static")


def _middle(place: tuple[float, float, float, float], shape: Shape) -> tuple[float, float, float, float]:
    """The place of the middle of the box, from that of the point that was tracked."""
    x, y, heading, speed = place
    ahead, left = map(float, shape.centre)
    if ahead or left:
        x += ahead * math.cos(heading) - left * math.sin(heading)
        y += ahead * math.sin(heading) + left * math.cos(heading)
    return x, y, heading, speed


# Shapes

def _shape(node: Element) -> Shape:
    parts = list(node.iterfind("shape/*"))
    if len(parts) != 1:
        raise ValueError(f"its shape has {len(parts)} parts; only a single one can be read")
    part = parts[0]
    if part.tag == "rectangle":
        length, width = _number(part, "length"), _number(part, "width")
        turned, shift = _number(part, "orientation", 0), _number(part, "originXShift", 0)
        box = Shape(_centre(part) - (shift, 0), (length, width))
        if abs(math.sin(turned)) < 1e-9:
            return box
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (length / 2, width / 2)
        cosine, sine = math.cos(turned), math.sin(turned)
        return _outlined(corners @ np.array([[cosine, sine], [-sine, cosine]]) + box.centre)
    if part.tag == "circle":
        angles = 2 * np.pi * (np.arange(CORNERS) + 0.5) / CORNERS
        reach = _number(part, "radius") / math.cos(np.pi / CORNERS)
        return _outlined(_centre(part) + reach * np.stack([np.cos(angles), np.sin(angles)], 1))
    if part.tag == "polygon":
        return _outlined(np.array([(_number(point, "x"), _number(point, "y")) for point in part.iter("point")]))
    if part.tag == "truckShape":
        length, width = _number(part, "truckDims/length"), _number(part, "truckDims/width")
        return Shape(np.array([-_number(part, "originXShift"), 0.0]), (length, width))
    raise ValueError(f"shape {part.tag} is not known; rectangle, circle, polygon and truckShape are")


def _centre(part: Element) -> Array:
    return np.array([_number(part, f"center/{axis}", 0) for axis in "xy"])


def _outlined(corners: Array) -> Shape:
    """A polygon, convex or not; ValueError if it crosses itself."""
    outline, pieces = convex_pieces(corners)
    low, high = outline.min(0), outline.max(0)
    centre = (low + high) / 2
    return Shape(centre, (float(high[0] - low[0]), float(high[1] - low[1])), outline - centre,
                 tuple(piece - centre for piece in pieces))


# States

def _times(state: Element, role: str) -> range:
    """The frames of a state: one, or those of an interval. When a static obstacle was seen does not matter."""
    if role == "static":
        return range(1)
    if state.find("time/exact") is not None:
        return range(frame := int(_number(state, "time/exact")), frame + 1)
    first, last = (int(_number(state, f"time/interval{end}")) for end in ("Start", "End"))
    if last - first > LONGEST:
        raise ValueError(f"its state holds from {first} to {last}, over more than {LONGEST:,} frames")
    return range(first, last + 1)


def _moved(states: list[tuple[int, Element]], dt: float) -> Frames:
    """Where it is in each frame. What a state does not say follows from the places before and after it: the speed, and
    the heading of what has a speed alone; `velocityY` without an orientation is along the map's y axis."""
    states.sort(key=lambda pair: pair[0])
    times = np.array([frame for frame, _ in states])
    places = np.array([[_number(state, f"position/point/{axis}") for axis in "xy"] for _, state in states])
    frames: Frames = {}
    for k, (frame, state) in enumerate(states):
        a, b = (k, k + 1) if k + 1 < len(states) and times[k + 1] > frame else (max(k - 1, 0), k)
        moved = (places[b] - places[a]) / (max(1, times[b] - times[a]) * dt)
        along, across = (_number(state, f"{name}/exact", math.nan) for name in ("velocity", "velocityY"))
        heading = _number(state, "orientation/exact", math.nan)
        if math.isnan(heading):
            if state.find("orientation") is not None:
                raise ValueError(f"its orientation at time {frame} is not a single number")
            if not math.isnan(across):
                moved, along = np.array([along, across]), math.hypot(along, across)
            if not np.any(moved):
                raise ValueError(f"it has no orientation at time {frame}, and stands still")
            heading = math.atan2(moved[1], moved[0])
        if math.isnan(along):
            along = float(moved @ (math.cos(heading), math.sin(heading)))
        frames[frame] = (float(places[k, 0]), float(places[k, 1]), heading, along)
    return frames


def _number(element: Element, path: str, default: float | None = None) -> float:
    found = element.findtext(path)
    if found is None:
        if default is None:
            raise ValueError(f"<{element.tag}> has no {path}")
        return default
    number = float(found)
    if not math.isfinite(number):
        raise ValueError(f"{path} is {number}")
    return number
