#!/usr/bin/env bash
# What surprises: in commonroad-io 2026.1 the writer's own default format is protocol buffers, and in it the method that
#   everybody calls, `write_to_file`, returns as if all were well and writes no file at all. Only asked for XML it writes.
# The guess before it was run: `scene.pb` is written (or, where it cannot be, an exception says so), and read back by
#   `CommonRoadFileReader(...).open()`, as the pair of methods does for XML.
# What follows: a converter that ends with exit code 0 has kept nothing; ask for `file_format=FileFormat.XML`, or take
#   `write_map_to_file` and `write_dynamic_to_file`, which do write, and look whether the file is there.
# Seen on 2026-11-30 (Python 3.11, commonroad-io 2026.1):
#   by default (protobuf): 0 files; asked for XML: 1 file, 1 obstacle read back
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check commonroad-io==2026.1
cat > "$folder/show.py" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from commonroad.common.file_reader import CommonRoadFileReader
from commonroad.common.file_writer import CommonRoadFileWriter, OverwriteExistingFile
from commonroad.common.util import FileFormat
from commonroad.geometry.obstacle_shapes.rect_obstacle_shape import RectObstacleShape
from commonroad.planning.planning_problem import PlanningProblemSet
from commonroad.scenario.obstacle import ObstacleType, StaticObstacle
from commonroad.scenario.scenario import Scenario, ScenarioID
from commonroad.scenario.state import InitialState

folder = Path(sys.argv[1])
state = InitialState(position=np.array([3.0, 4.0]), orientation=0.1, velocity=0.0, acceleration=0.0, yaw_rate=0.0,
                     slip_angle=0.0, time_step=0)
scene = Scenario(0.1, ScenarioID())
scene.add_objects(StaticObstacle(10, ObstacleType.PARKED_VEHICLE, RectObstacleShape(1.8, 4.5), state))
words = {"author": "somebody", "affiliation": "nowhere", "source": "by hand", "tags": set()}
found = []
for name, form in (("default", {}), ("xml", {"file_format": FileFormat.XML})):
    (folder / name).mkdir()
    writer = CommonRoadFileWriter(scene, PlanningProblemSet(), **words, **form)
    writer.write_to_file(str(folder / name / ("scene.xml" if form else "scene.pb")), OverwriteExistingFile.ALWAYS)
    found.append(len(list((folder / name).iterdir())))
read, _ = CommonRoadFileReader(str(folder / "xml" / "scene.xml")).open()
print(f"by default (protobuf): {found[0]} files; asked for XML: {found[1]} file, {len(read.obstacles)} obstacle read back")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/show.py" "$folder" 2> "$folder/errors" | tail -1) || { tail -5 "$folder/errors" >&2; exit 1; }
echo "$seen"
expected='by default (protobuf): 0 files; asked for XML: 1 file, 1 obstacle read back'
[ "$seen" = "$expected" ] || { echo "CHANGED: the writer writes something else now" >&2; exit 1; }
