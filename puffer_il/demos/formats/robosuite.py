"""robosuite's recordings (`collect_human_demonstrations`, `gather_demonstrations_as_hdf5`): robomimic's layout, see
`demos.robot_groups`, with the attributes `env`, `env_info` and `repository_version`. They hold states and actions, and
observations only where somebody has added them; without, the recording is refused with the way to play it again. We
only read it.
"""

import math
from collections.abc import Iterator

from puffer_il.demos import robot_groups
from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats import robomimic
from puffer_il.demos.hdf5 import Hdf5

MARKS, KIND, LOOKS = (), "hdf5", robot_groups.LOOKS
CONVERT = "python -m robomimic.scripts.conversion.convert_robosuite --dataset {0} && python"
REPLAY = robomimic.REPLAY.replace("python", CONVERT, 1)


def fits(file: Hdf5) -> bool:
    return robot_groups.writer_of(file) == "robosuite"


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return next(parts(file, time_limit, math.inf))


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    robomimic.check_observed(file, REPLAY)
    return robomimic.parts(file, time_limit, most)
