"""ManiSkill's trajectories (3, and 2 where they are alike), as `RecordEpisode` and `replay_trajectory` write them:

    traj_N/obs                     (T + 1, …), or groups of groups of such
    traj_N/actions                 (T, dim), or groups of such, one for each robot
    traj_N/terminated, truncated   (T,)
    traj_N/success, fail, rewards  (T,) each, may be missing
    traj_N/env_states              groups of groups (T + 1, …), not read
    NAME.json beside NAME.h5       the environment, and each episode's control mode

Recording may go on after the task has ended, so `terminated` counts in the last row alone. Downloads hold no
observations and are refused, with the way to play them again. We only read it.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import Episode, parts_of_episodes
from puffer_il.demos.hdf5 import Hdf5

MARKS, KIND, LOOKS = (), "hdf5", ("traj_*/actions", "traj_*/obs")
REPLAY = "python -m mani_skill.trajectory.replay_trajectory --traj-path {} --use-first-env-state -o state --save-traj"
MOST_JSON = 2**26  # bytes


def fits(file: Hdf5) -> bool:
    return bool(file.numbered("traj_*")) and file.find("traj_*/actions") is not None


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return next(parts(file, time_limit, math.inf))


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    notes = _told(file)
    return parts_of_episodes(file.source, _episodes(file, notes), notes, most=most)


def _episodes(file: Hdf5, notes: list[str]) -> Iterator[Episode]:
    inner = 0
    for path in file.numbered("traj_*"):
        if f"{path}/obs" not in file or (file.is_group(f"{path}/obs") and not file.names(f"{path}/obs")):
            file.refuse(f"{path} holds no observations, as in ManiSkill's downloads; play it again in its simulator: "
                        f"{REPLAY.format(file.source)}")
        ended, cut = (file.get(f"{path}/{name}") for name in ("terminated", "truncated"))
        inner += 0 if ended is None else int(np.count_nonzero(ended[:-1]))
        episode = Episode(path, file.tree(f"{path}/obs"), file.tree(f"{path}/actions"),
                          rewards=file.get(f"{path}/rewards"), terminated=_last(ended), truncated=_last(cut))
        if episode.terminated is False and episode.truncated is False:
            episode.truncated = True
        yield episode
    if inner:
        notes.append(f"terminated is set in {inner} rows before the last of an episode: the recording went on there, "
                     "and so do the demonstrations")


def _last(flags: Any) -> bool | None:
    return None if flags is None or not len(flags) else bool(flags.reshape(-1)[-1])


def _told(file: Hdf5) -> list[str]:
    """What the JSON beside the file says of the environment and its control mode, as notes."""
    path = Path(file.source).with_suffix(".json")
    try:
        if path.stat().st_size > MOST_JSON:
            return []
        found = json.loads(path.read_text("utf-8"))
        modes = sorted({str(episode["control_mode"]) for episode in found["episodes"]})
        env = str(found["env_info"]["env_id"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ["no JSON file of this name lies beside it, which would tell the control mode that actions are of"]
    if len(modes) > 1:
        file.refuse(f"its actions are of the control modes {', '.join(modes)[:200]}, and do not mean the same; play it "
                    f"again in one: {REPLAY.format(file.source)} -c {modes[0][:60]}")
    return [f"recorded in {env[:60]} with actions of the control mode {mode[:60]}: learn in that, with "
            f"--env.kwargs.control_mode {mode[:60]}" for mode in modes]
