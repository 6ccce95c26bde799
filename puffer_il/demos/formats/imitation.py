"""The npz of the `imitation` package: trajectories end to end, as `imitation.data.serialize` writes them.

    obs       (n + episodes, *obs_shape)  each trajectory's final observation included
    acts      (n, …)
    rews      (n,), may be missing
    indices   (episodes - 1,)             the actions at which trajectories are split
    terminal  (episodes,) bool            one flag for both kinds of end
    truncated (episodes,) bool            which of the others a time limit cut: in our files, and imitation ignores it
    infos     (n,) pickled objects, never loaded
    puffer_il_weights, …  (n, …)          what imitation has no place for: in our files, and imitation ignores it
"""

from pathlib import Path

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.build import build_demos, split_off, trajectories
from puffer_il.demos.dataset import Demos
from puffer_il.demos.ends import split_ends
from puffer_il.demos.kept import check_written, columns_beside, fields_of, known
from puffer_il.demos.npz import Arrays, save_npz

MARKS = (("obs", "acts", "indices"), ("obs", "acts", "terminal"))


def read(file: Arrays, time_limit: int | None) -> Demos:
    actions, lengths = file.rows("acts"), _lengths(file)
    obs, terminal = file.rows("obs"), file.rows("terminal").reshape(-1)
    if len(obs) != len(actions) + len(lengths) or len(terminal) != len(lengths):
        file.refuse(f"obs has {len(obs)} rows and terminal {len(terminal)}, but {len(actions)} actions "
                    f"in {len(lengths)} episodes need {len(actions) + len(lengths)} and {len(lengths)}")
    real = lengths > 0
    if not real.any():
        file.refuse("holds no transitions; record it again")
    notes = [] if real.all() else [f"skipped {np.sum(~real)} episodes without a step"]
    if "infos" in file:
        notes.append("skipped infos, which would need unpickling")
    following = split_off(obs, lengths)
    truncated = file.get("truncated")
    if truncated is None:
        terminations, truncations = split_ends(lengths[real], terminal[real], time_limit, notes)
    elif truncated.shape != real.shape:
        file.refuse(f"truncated has shape {truncated.shape} but there are {len(real)} episodes; give one flag for each")
    else:
        terminations, truncations = np.zeros((2, len(actions)), bool)
        last = np.cumsum(lengths[real]) - 1
        terminations[last], truncations[last] = terminal[real], truncated[real]
    beside = {name: file.rows(name) for name in known(file.keys)}
    return build_demos(file.source, obs=following.obs, actions=actions, next_obs=following,
                       terminations=terminations, truncations=truncations, episode_starts=following.starts,
                       rewards=file.get("rews"), notes=notes,
                       **fields_of(file.source, beside, following.starts, len(actions)))


def write(path: Path | str, demos: Demos) -> None:
    """What `imitation.data.serialize.load` reads.

    `terminal` is set where an episode terminated and not where it was truncated, which `truncated` tells. That reader
    insists on `infos`, an object array, so one of empty dicts is written. Raises InputError for
    demonstrations that are subsampled or have no actions.
    """
    obs, actions = trajectories_of(demos)
    infos = np.empty(len(demos), object)
    infos[:] = [{} for _ in range(len(demos))]
    last = demos.episode_ends - 1
    arrays = {"obs": obs, "acts": actions, "infos": infos, "terminal": demos.terminations[last],
              "truncated": demos.truncations[last], "indices": demos.episode_starts[1:], **columns_beside(demos)}
    save_npz(path, arrays if demos.rewards is None else arrays | {"rews": demos.rewards})


def trajectories_of(demos: Demos) -> tuple[Array, Array]:
    """Observations, final ones included, and actions as imitation has them: one choice is a bare int64. InputError for
    what its files cannot hold."""
    if (demos.layout is not None and demos.layout.nested) or demos.action_parts:
        raise InputError(f"demos {demos.source}: observations or actions have parts with names, which imitation's "
                         "files do not hold; write our .npz or a Minari dataset")
    check_written(demos, "imitation")
    obs, actions = trajectories(demos)
    one_choice = actions.dtype == np.int32 and actions.shape[1] == 1
    return obs, actions[:, 0].astype(np.int64) if one_choice else actions


def _lengths(file: Arrays) -> Array:
    """(episodes,) steps between the split points."""
    total, splits = len(file.rows("acts")), file.rows("indices").reshape(-1)
    inner = splits.astype(np.int64) if splits.dtype.kind in "iu" else [-1]
    bounds = np.concatenate([[0], inner, [total]])
    if np.any(np.diff(bounds) < 0):
        file.refuse(f"indices must rise between 0 and {total} actions, got {splits[:5].tolist()}; record it again")
    return np.diff(bounds)
