"""CommonRoad scenes: every obstacle stands where commonroad-io says it does, or is left out by name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.native.commonroad import Obstacle, Scene, read_scene
from puffer_il.native.native_env import NativeEnv
from tests.support.environments import FOLDERS

CAR = "<rectangle><length>4.5</length><width>1.8</width></rectangle>"
RECTANGLE = "<rectangle><length>{}</length><width>{}</width>{}</rectangle>"
NAMES = {"dynamic": "dynamicObstacle", "static": "staticObstacle"}
SEMITRAILER = "<semiTrailerTruckShape/>"


def state(x=0.0, y=0.0, time=0, heading: float | None = 0.0, speed: float | None = 0.0, more="") -> str:
    parts = f"<position><point><x>{x}</x><y>{y}</y></point></position>"
    for name, value in (("orientation", heading), ("velocity", speed)):
        parts += "" if value is None else f"<{name}><exact>{value}</exact></{name}>"
    return parts + (f"<time><exact>{time}</exact></time>" if isinstance(time, int) else time) + more


def obstacle(name=1, shape=CAR, first="", following=(), role="dynamic", version="2020a") -> str:
    """One obstacle as either version writes it."""
    inside = f"<type>car</type><shape>{shape}</shape><initialState>{first or state()}</initialState>"
    if following:
        inside += "<trajectory>" + "".join(f"<state>{s}</state>" for s in following) + "</trajectory>"
    if version == "2018b":
        return f'<obstacle id="{name}"><role>{role}</role>{inside}</obstacle>'
    return f'<{NAMES[role]} id="{name}">{inside}</{NAMES[role]}>'


def scene(path: Path, *nodes: str) -> Path:
    path.write_text(f'<?xml version="1.0"?><commonRoad timeStepSize="0.1">{"".join(nodes)}</commonRoad>')
    return path


def read(tmp_path: Path, *nodes: str) -> Scene:
    return read_scene(scene(tmp_path / "scene.xml", *nodes))


def only(tmp_path: Path, node: str) -> Obstacle:
    (found,) = read(tmp_path, node).obstacles
    return found


@pytest.mark.parametrize("version", ["2018b", "2020a"])
def test_a_parked_car_stands_at_all_times(tmp_path: Path, version: str):
    parked = only(tmp_path, obstacle(7, first=state(30, 2, 3, 0.5), role="static", version=version))
    assert parked.stands and list(parked.frames.values()) == [(30, 2, 0.5, 0)] and parked.shape.size == (4.5, 1.8)


@pytest.mark.parametrize("more, x, y", [
    ("<originXShift>-1.5</originXShift>", 10, 1.5),
    ("<center><x>1.5</x><y>0.5</y></center>", 9.5, 1.5),
    ("<orientation>0.0</orientation><center><x>0.0</x><y>0.0</y></center>", 10, 0),
])
def test_a_shifted_rectangle_stands_where_its_middle_is(tmp_path: Path, more: str, x: float, y: float):
    """A shift of −1.5 says that the rear axle is tracked: the middle is 1.5 m ahead, which is along y at 90°."""
    car = only(tmp_path, obstacle(shape=RECTANGLE.format(4.5, 1.8, more), first=state(10, 0, 0, math.pi / 2, 3)))
    np.testing.assert_allclose(car.frames[0], (x, y, math.pi / 2, 3), atol=1e-12)
    assert car.shape.size == (4.5, 1.8) and not len(car.shape.outline)


def test_a_turned_rectangle_is_its_corners(tmp_path: Path):
    shape = only(tmp_path, obstacle(shape=RECTANGLE.format(4, 2, f"<orientation>{math.pi / 2}</orientation>"))).shape
    np.testing.assert_allclose(sorted(map(tuple, shape.outline.round(9) + 0.0)), [(-1, -2), (-1, 2), (1, -2), (1, 2)])
    np.testing.assert_allclose(shape.size, (2, 4))


def test_circles_and_polygons_have_outlines(tmp_path: Path):
    circle = only(tmp_path, obstacle(shape="<circle><radius>2</radius></circle>", role="static")).shape
    assert len(circle.outline) == 32 and np.hypot(*circle.outline.T).max() < 2.01
    middles = (circle.outline + np.roll(circle.outline, 1, 0)) / 2
    np.testing.assert_allclose(np.hypot(*middles.T), 2)
    points = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in ((0, 0), (0, 2), (4, 0), (0, 0)))
    triangle = only(tmp_path, obstacle(shape=f"<polygon>{points}</polygon>", first=state(10, 5)))
    assert triangle.frames[0][:2] == (12, 6) and triangle.shape.size == (4, 2)
    assert sorted(map(tuple, triangle.shape.outline)) == [(-2, -1), (-2, 1), (2, -1)]
    a, b, c = triangle.shape.outline
    assert np.linalg.det([b - a, c - b]) > 0, "counterclockwise"


def test_a_truck_is_tracked_at_its_rear_axle(tmp_path: Path):
    dims = "<truckDims><length>8</length><width>2.5</width></truckDims><originXShift>-2.5</originXShift>"
    truck = only(tmp_path, obstacle(shape=f"<truckShape>{dims}</truckShape>", first=state(0, 0)))
    assert truck.frames[0] == (2.5, 0, 0, 0) and truck.shape.size == (8, 2.5)


def test_a_building_is_in_the_axes_of_the_map(tmp_path: Path):
    shape = RECTANGLE.format(20, 10, "<orientation>0.0</orientation><center><x>40.0</x><y>-9.0</y></center>")
    house = only(tmp_path, f'<environmentObstacle id="3"><type>building</type><shape>{shape}</shape>'
                           "</environmentObstacle>")
    assert house.stands and house.frames == {0: (40, -9, 0, 0)} and house.shape.size == (20, 10)


def test_an_interval_of_time_holds_in_all_its_frames(tmp_path: Path):
    between = "<time><intervalStart>1</intervalStart><intervalEnd>3</intervalEnd></time>"
    moved = only(tmp_path, obstacle(following=[state(1, 0, between, 0, 2), state(2, 0, 4, 0, 2)]))
    assert {frame: place[0] for frame, place in moved.frames.items()} == {0: 0, 1: 1, 2: 1, 3: 1, 4: 2}


def test_missing_velocities_follow_from_the_places(tmp_path: Path):
    following = [state(1, 0, 1, 0, None), state(3, 0, 2, 0, None), state(7, 0, 4, math.pi, None)]
    moved = only(tmp_path, obstacle(first=state(0, 0, 0, 0, None), following=following))
    np.testing.assert_allclose([place[3] for place in moved.frames.values()], [10, 20, 20, -20])


def test_a_point_mass_heads_where_it_moves(tmp_path: Path):
    """Its `velocity` and `velocityY` are along the axes of the map, and it has no orientation."""
    up = "<velocityY><exact>4.0</exact></velocityY>"
    (place,) = only(tmp_path, obstacle(first=state(0, 0, 0, None, 3, up))).frames.values()
    np.testing.assert_allclose(place, (0, 0, math.atan2(4, 3), 5))
    moved = only(tmp_path, obstacle(first=state(0, 0, 0, None, 1), following=[state(0, 1, 1, None, 1)]))
    assert [place[2:] for place in moved.frames.values()] == [(math.pi / 2, 1)] * 2


def points(*corners: tuple[float, float]) -> str:
    return "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in corners)


CROSSED = points((0, 0), (4, 4), (4, 0), (0, 4))
TOUCHING = points((0, 0), (4, 0), (4, 4), (2, 0), (0, 4))
UNCERTAIN = state().replace("<point><x>0.0</x><y>0.0</y></point>", CAR)
ANGLES = state(heading=None, more="<orientation><intervalStart>0</intervalStart><intervalEnd>1</intervalEnd>"
                                  "</orientation>")


@pytest.mark.parametrize("node, why", [
    (obstacle(5, shape=f"<polygon>{CROSSED}</polygon>"), "its polygon crosses or touches itself"),
    (obstacle(5, shape=f"<polygon>{TOUCHING}</polygon>"), "its polygon crosses or touches itself"),
    (obstacle(5, shape=f"<polygon>{points((0, 0), (4, 4), (0, 0))}</polygon>"), "its polygon has 2 corners"),
    (obstacle(5, shape=CAR + CAR), "its shape has 2 parts"),
    (obstacle(5, shape=SEMITRAILER), "shape semiTrailerTruckShape is not known"),
    (obstacle(5, first=UNCERTAIN), "has no position/point/x"),
    (obstacle(5, first=ANGLES), "its orientation at time 0 is not a single number"),
    (obstacle(5, first=state(heading=None)), "it has no orientation at time 0, and stands still"),
    (obstacle(5, first=state(x=math.nan)), "position/point/x is nan"),
    (obstacle(5).replace("</dynamicObstacle>", "<occupancySet/></dynamicObstacle>"), "its occupancySet tells"),
    ('<phantomObstacle id="5"/>', "nothing tells where a phantom obstacle is"),
])
def test_who_cannot_be_read_is_left_out_by_name(tmp_path: Path, node: str, why: str):
    read_ = read(tmp_path, obstacle(1), node)
    assert [o.name for o in read_.obstacles] == [1] and len(read_.left_out) == 1
    assert read_.left_out[0].startswith("obstacle 5 (") and why in read_.left_out[0]
    with pytest.raises(ValueError, match="obstacle 5"):
        read(tmp_path, node)


# Driving in them

def drive(frames: int = 41) -> str:
    return obstacle(1, first=state(5, 0, 0, 0, 10), following=[state(5 + k, 0, k, 0, 10) for k in range(1, frames)])


def steps_until_hit(path: Path) -> int:
    env = NativeEnv(FOLDERS["ngsim"], scene=str(path))
    env.reset()
    for step in range(1, 41):
        env.step(env.expert_actions())
        if env.terminals[0]:
            return step
    return 0


SQUARE = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1)))
TRIANGLE = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in ((-3, 4), (-3, -4), (5, 0)))
BAY = points((-4, 4), (4, 4), (4, -4), (-4, -4), (-4, -2), (2, -2), (2, 2), (-4, 2))  # open to who comes along x


@pytest.mark.parametrize("shape, y, edge", [
    (CAR, 0, 30 - 2.25), (CAR, 1.4, 30 - 2.25), (CAR, 1.7, None),
    ("<circle><radius>1</radius></circle>", 0, 29), ("<circle><radius>1</radius></circle>", 1.7, None),
    ("<circle><radius>1</radius></circle>", 1.5, 30 - math.sqrt(1 - 0.9 ** 2)),  # where its corner is
    (f"<polygon>{SQUARE}</polygon>", 0, 29), (f"<polygon>{TRIANGLE}</polygon>", 0, 27),
    (f"<polygon>{TRIANGLE}</polygon>", 4.5, 27), (f"<polygon>{TRIANGLE}</polygon>", 5.0, None),
    (f"<polygon>{BAY}</polygon>", 0, 32), (f"<polygon>{BAY}</polygon>", 2, 26), (f"<polygon>{BAY}</polygon>", 5, None),
])
@pytest.mark.parametrize("version", ["2018b", "2020a"])
def test_what_stands_in_the_way_ends_the_episode(tmp_path, shape, y, edge, version):
    """The human drives 1 m a frame along y = 0 from x = 5. What is no more than 0.3 m deep in it is the recording's
    error: 1.95 m ahead and 0.6 m beside it, it is a collision."""
    path = scene(tmp_path / "scene.xml", drive(),
                 obstacle(2, shape=shape, first=state(30, y), role="static", version=version))
    assert steps_until_hit(path) == (0 if edge is None else math.ceil(edge - 5 - 1.95))


def test_who_is_left_out_is_said(tmp_path: Path):
    path = scene(tmp_path / "scene.xml", drive(), obstacle(9, shape=SEMITRAILER, first=state(30, 0), role="static"))
    with pytest.warns(UserWarning, match=r"scene\.xml: obstacle 9 \(static\) is left out: shape semiTrailer"):
        NativeEnv(FOLDERS["ngsim"], scene=str(path))


def test_protocol_buffers_are_refused_with_the_way_to_convert_them(tmp_path: Path):
    (tmp_path / "dynamic.pb").write_bytes(bytes([10, 3, 8, 1]))
    with pytest.raises(InputError, match=r"in protocol buffers; write it as XML with commonroad-io, see docs/"):
        NativeEnv(FOLDERS["ngsim"], scene=str(tmp_path / "dynamic.pb"))


def test_only_boxes_that_move_are_driven(tmp_path: Path):
    walker = obstacle(2, "<circle><radius>0.3</radius></circle>", state(5, 9, 0, 0, 10),
                      [state(5 + k, 9, k, 0, 10) for k in range(1, 41)])
    env = NativeEnv(FOLDERS["ngsim"], 64, scene=str(scene(tmp_path / "scene.xml", drive(), walker)))
    env.reset()
    assert set(env.env_states()[:, 0]) == {0} and env._arrays[5].tolist() == [[0, 0, 0, 0, 0], [0, 32, 0, 0, 1]]
    with pytest.raises(InputError, match="nobody in it moves"):
        NativeEnv(FOLDERS["ngsim"], scene=str(scene(tmp_path / "walk.xml", walker)))


def test_it_reads_what_commonroad_io_writes(tmp_path: Path):
    """Shapes, where they stand and where they drive, against the package's own occupancies."""
    pytest.importorskip("commonroad", reason="commonroad-io")
    from commonroad.common.file_reader import CommonRoadFileReader
    from commonroad.common.file_writer import CommonRoadFileWriter, OverwriteExistingFile
    from commonroad.common.util import FileFormat
    from commonroad.geometry.obstacle_shapes.circle_obstacle_shape import CircleObstacleShape
    from commonroad.geometry.obstacle_shapes.polygon_obstacle_shape import PolygonObstacleShape
    from commonroad.geometry.obstacle_shapes.rect_obstacle_shape import RectObstacleShape
    from commonroad.planning.planning_problem import PlanningProblemSet
    from commonroad.prediction.prediction import TrajectoryPrediction
    from commonroad.scenario.obstacle import DynamicObstacle, ObstacleType, StaticObstacle
    from commonroad.scenario.scenario import Scenario, ScenarioID
    from commonroad.scenario.state import InitialState, KSState, PMState
    from commonroad.scenario.trajectory import Trajectory
    rng, path = np.random.default_rng(0), tmp_path / "scene.xml"
    written = Scenario(0.1, ScenarioID())
    shapes = [RectObstacleShape(1.8, 4.5), RectObstacleShape(1.8, 4.5, -1.5), CircleObstacleShape(1.5),
              PolygonObstacleShape(((-1, 1), (2, 1), (2, -1), (-1, -2))),
              PolygonObstacleShape(((-2, 2), (0, 0.5), (2, 2), (2, -2), (-2, -2), (-1, 0)))]

    def begin(at: np.ndarray) -> InitialState:
        return InitialState(position=at, orientation=float(rng.uniform(-3, 3)), velocity=8.0, acceleration=0.0,
                            yaw_rate=0.0, slip_angle=0.0, time_step=0)

    for k, shape in enumerate(shapes):
        places = np.cumsum(rng.normal(1, 0.1, (5, 2)), 0) + 20 * k
        written.add_objects(StaticObstacle(10 + k, ObstacleType.PARKED_VEHICLE, shape, begin(places[0])))
        states = [KSState(t, place, 0.0, 9.0, float(rng.uniform(-3, 3))) if k % 2 else PMState(t, place, 3.0, 4.0)
                  for t, place in enumerate(places[1:], 1)]
        written.add_objects(DynamicObstacle(20 + k, ObstacleType.CAR, shape, begin(places[0]),
                                            TrajectoryPrediction(Trajectory(1, states), shape)))
    CommonRoadFileWriter(written, PlanningProblemSet(), tags=set(), file_format=FileFormat.XML).write_to_file(
        str(path), OverwriteExistingFile.ALWAYS)
    theirs, _ = CommonRoadFileReader(str(path)).open()
    ours = read_scene(path)
    assert not ours.left_out and [o.name for o in ours.obstacles] == [*range(10, 15), *range(20, 25)]
    for own in ours.obstacles:
        for frame, (x, y, heading, _) in own.frames.items():
            there = theirs.obstacle_by_id(own.name).occupancy_at_time(frame)
            round_ = hasattr(there, "radius")  # its shapely_object has half the radius; contains_point has all of it
            taken = there.circle_center.buffer(there.radius) if round_ else there.shapely_object
            half = np.array(own.shape.size) / 2
            corners = own.shape.outline if len(own.shape.outline) else half * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
            turn = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
            mine = type(taken)(corners @ turn + (x, y))
            assert taken.symmetric_difference(mine).area < (0.02 if round_ else 1e-3) * taken.area


@pytest.mark.parametrize("text", [
    '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "x">]><commonRoad/>'.encode("utf-16"),
    b'<?xml version="1.0" encoding="nothing"?><commonRoad timeStepSize="0.1"/>',
    b'<commonRoad timeStepSize="0.1"><dynamicObstacle id="1"/></commonRoad>', b"<a", b"<a/>", b"",
    b'<commonRoad timeStepSize="zero"/>'])
def test_what_is_no_scene_is_refused_in_one_line(tmp_path: Path, text: bytes):
    (tmp_path / "s.xml").write_bytes(text)
    with pytest.raises(InputError, match=r"cannot be read|frames") as refusal:
        NativeEnv(FOLDERS["ngsim"], scene=str(tmp_path / "s.xml"))
    assert "\n" not in str(refusal.value)


def test_frames_and_intervals_that_are_nearly_endless_take_no_memory(tmp_path: Path):
    forever = "<time><intervalStart>0</intervalStart><intervalEnd>{}</intervalEnd></time>"
    left_out = read(tmp_path, obstacle(1, following=[state(1, 0, 1)]),
                    obstacle(2, first=state(time=forever.format(10**15)))).left_out
    assert len(left_out) == 1 and "frames" in left_out[0]
    assert "no state" in read(tmp_path, obstacle(1, following=[state(1, 0, 1)]),
                              obstacle(2, first=state(time=forever.format(-3)))).left_out[0]
    path = scene(tmp_path / "s.xml", obstacle(1, following=[state(k, 0, k) for k in (1, 10**9)]))
    with pytest.raises(InputError, match="nearly all empty; number frames one by one"):
        NativeEnv(FOLDERS["ngsim"], scene=str(path))


@pytest.mark.parametrize("rows", [np.array([[np.inf, 0, 0, 0, 0, 0]] * 3), np.zeros((3, 2)), np.zeros(3),
                                  np.array([[0.0, 10**k, 0, 0, 0, 0] for k in range(12)])])
def test_odd_rows_are_refused_in_one_line(tmp_path: Path, rows: np.ndarray):
    np.savez(tmp_path / "s.npz", rows=rows)
    with pytest.raises(InputError):
        NativeEnv(FOLDERS["ngsim"], scene=str(tmp_path / "s.npz"))
