"""robomimic's data sets (0.3 to 0.5), LIBERO's, and what others write in their layout: one HDF5 file, see
`demos.robot_groups`. Files come from robomimic's downloads, and from `dataset_states_to_obs`, which plays raw
recordings again to see the observations.

`dones` marks success, or the last row, or both, as that script's `--done_mode` says: it is no termination. The last row
has a successor only where `next_obs` is stored.
"""

import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.checkpoint import whole
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.rows import nested
from puffer_il.core.spec import Array
from puffer_il.demos import robot_groups
from puffer_il.demos.build import trajectories
from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import Episode, parts_of_episodes
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.kept import check_written, columns_beside

MARKS, KIND, LOOKS = (), "hdf5", robot_groups.LOOKS
FLAT = "flat"  # what robomimic calls observations without parts
SPLIT = "split_names"  # attribute of data in files that we wrote: "." where "arm.angles" is in a Dict "arm"
ENDS = ("terminated", "truncated")  # attributes of an episode in files that we wrote
ENV_ARGS = {"env_name": "", "type": 2, "env_kwargs": {}}  # 2: an environment of Gym, of which nothing is known
NO_TERMINATIONS = ("episodes count as cut off (truncated): this format's dones mark success or the last row, not "
                   "terminations")
REPLAY = ("play it again in its simulator: "
          "python -m robomimic.scripts.dataset_states_to_obs --dataset {0} --output_name obs.hdf5 --done_mode 2")


def fits(file: Hdf5) -> bool:
    return robot_groups.writer_of(file) == "robomimic"


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return next(parts(file, time_limit, math.inf))


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    check_observed(file, REPLAY)
    ours = all(file.attribute(path, name) is not None for path in robot_groups.demo_paths(file) for name in ENDS)
    notes = [] if ours else [NO_TERMINATIONS]
    return parts_of_episodes(file.source, _episodes(file, notes, ours), notes, most=most)


def _episodes(file: Hdf5, notes: list[str], ours: bool) -> Iterator[Episode]:
    split = file.attribute("data", SPLIT) == "."
    for episode in robot_groups.read_groups(file, notes):
        told = [bool(file.attribute(f"data/{episode.name}", name)) for name in ENDS] if ours else (False, True)
        episode.terminated, episode.truncated = told
        episode.obs, episode.next_obs = (_unnamed(obs, split) for obs in (episode.obs, episode.next_obs))
        yield episode


def _unnamed(obs: Any, split: bool) -> Any:
    """Observations in the form that they had before they were written."""
    if not isinstance(obs, dict):
        return obs
    return obs[FLAT] if obs.keys() == {FLAT} else nested(
        [(tuple(name.split(".")), leaf) for name, leaf in obs.items()]) if split else obs


def write(path: Path | str, demos: Demos) -> None:
    """What robomimic's `SequenceDataset` reads: a group an episode with `next_obs`, dones set on its last row, and
    beside them, which only we read, how it ended as the attributes ENDS, and what the layout has no place for.

    Raises InputError where rows are subsampled, where there are no actions or they have parts, and for observations
    that are no Dict or array.
    """
    trajectories(demos)  # refuses what has gaps, or no actions
    if demos.action_parts:
        raise InputError(f"demos {demos.source}: actions have parts, which robomimic's layout cannot hold; keep our "
                         "own .npz")
    check_written(demos, "robomimic's layout")
    path = Path(path)
    try:
        import h5py

        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary, h5py.File(temporary, "w") as file:
            beside = columns_beside(demos, held=("states",))
            for number, (start, end) in enumerate(zip(demos.episode_starts, demos.episode_ends, strict=True)):
                group = file.create_group(f"data/demo_{number}")
                for name, array in _columns(demos, slice(start, end)):
                    group[name] = array
                for name, array in beside.items():
                    group[name] = array[start:end]
                group.attrs.update({"num_samples": end - start, ENDS[0]: bool(demos.terminations[end - 1]),
                                    ENDS[1]: bool(demos.truncations[end - 1])})
            if _is_deep(demos):
                file["data"].attrs[SPLIT] = "."
            file["data"].attrs.update({"total": len(demos), "env_args": json.dumps(ENV_ARGS)})
    except ImportError as error:
        raise InputError(f"robomimic {path}: writing HDF5 needs h5py ({one_line(error)}); pip install 'puffer-il[hdf5]'"
                         ) from None
    except OSError as error:
        raise InputError(f"robomimic {path}: cannot be written ({one_line(error)}); choose another place") from None


def _columns(demos: Demos, rows: slice) -> Iterator[tuple[str, Array]]:
    """The datasets of an episode."""
    for name in ("obs", "next_obs"):
        for key, leaf in _parts(demos, getattr(demos, name)[rows]):
            yield f"{name}/{key}", leaf
    assert demos.actions is not None
    last = np.zeros(rows.stop - rows.start, np.int64)
    last[-1] = 1
    yield from (("actions", demos.actions[rows]), ("dones", last))
    yield from ((name, array[rows]) for name in ("rewards", "states")
                if (array := getattr(demos, name)) is not None)


def _parts(demos: Demos, obs: Array) -> Iterator[tuple[str, Array]]:
    """The parts of observations by their names in the file: "goal", "arm.angles" (robomimic reads no groups of groups),
    FLAT for an array."""
    if demos.layout is None or not demos.layout.nested:
        yield FLAT, obs
        return
    for field in demos.layout.own:
        wrong = [key for key in field.path or () if not isinstance(key, str) or "/" in key or not key.strip(".")
                 or ("." in key and _is_deep(demos))]
        if wrong:
            raise InputError(f"demos {demos.source}: the part {field.name!r} of its observations has no name that HDF5 "
                             "can hold (parts of Tuples have none); keep our own .npz")
        yield ".".join(map(str, field.path or ())), field.of(obs)


def _is_deep(demos: Demos) -> bool:
    """Whether a Dict is in another one."""
    return demos.layout is not None and any(len(field.path or ()) > 1 for field in demos.layout.own)


def check_observed(file: Hdf5, replay: str) -> None:
    """InputError for a raw recording, which has states and no observations, with the way to play it again."""
    if file.find("data/demo_*/obs") is None:
        way = replay.format(shlex.quote(file.source))
        file.refuse(f"is a raw recording, whose observations were not stored; {way}")
