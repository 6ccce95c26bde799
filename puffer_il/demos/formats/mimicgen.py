"""MimicGen's generated demonstrations: robomimic's layout, see `demos.robot_groups`, and beside the observations
`datagen_info`, `src_demo_inds` and `src_demo_labels`, which say how each was made and are not read. There are neither
`next_obs` nor `rewards`. We only read it.
"""

from puffer_il.demos import robot_groups
from puffer_il.demos.formats import robomimic
from puffer_il.demos.hdf5 import Hdf5

MARKS, KIND, LOOKS = (), "hdf5", (*robot_groups.LOOKS, "data/demo_*/datagen_info")


def fits(file: Hdf5) -> bool:
    return robot_groups.writer_of(file) == "mimicgen"


read, parts = robomimic.read, robomimic.parts
