"""robomimic's data sets (0.3 to 0.5), LIBERO's, and what others write in their layout: one HDF5 file, see
`demos.robot_groups`. Files come from robomimic's downloads, and from `dataset_states_to_obs`, which plays raw
recordings again to see the observations.

`dones` marks success, or the last row, or both, as that script's `--done_mode` says: it is no termination. The last row
has a successor only where `next_obs` is stored.
"""

import shlex

from puffer_il.demos import robot_groups
from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import join_episodes
from puffer_il.demos.hdf5 import Hdf5

MARKS, KIND, LOOKS = (), "hdf5", robot_groups.LOOKS
NO_TERMINATIONS = ("episodes count as cut off (truncated): this format's dones mark success or the last row, not "
                   "terminations")
REPLAY = ("play it again in its simulator: "
          "python -m robomimic.scripts.dataset_states_to_obs --dataset {0} --output_name obs.hdf5 --done_mode 2")


def fits(file: Hdf5) -> bool:
    return robot_groups.writer_of(file) == "robomimic"


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return read_robomimic(file)


def read_robomimic(file: Hdf5, without: tuple[str, ...] = ()) -> Demos:
    """The same of any file of this layout; observations `without` are left out."""
    check_observed(file, REPLAY)
    notes = [NO_TERMINATIONS]
    episodes = list(robot_groups.read_groups(file, notes, without))
    for episode in episodes:
        episode.terminated, episode.truncated = False, True
    return join_episodes(file.source, episodes, notes)


def check_observed(file: Hdf5, replay: str) -> None:
    """InputError for a raw recording, which has states and no observations, with the way to play it again."""
    if file.find("data/demo_*/obs") is None:
        way = replay.format(shlex.quote(file.source))
        file.refuse(f"is a raw recording, whose observations were not stored; {way}")
