"""Arrays whose parts are known → Demos, however episodes are laid: end to end, as (episodes, steps, …) with padding,
with or without the final observation."""

from typing import Any

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.ends import split_ends
from puffer_il.demos.logs import after_ends, demos_of_log
from puffer_il.demos.npz import Arrays

STEPS = ("terminations", "truncations", "rewards")  # of which there is one number for each step
SURE = ("terminated", "terminations", "terminateds", "is_terminal")  # flags that no time limit sets
APART = ("its {} rows cannot be told apart into episodes; save as well, for example, terminals and timeouts (a flag "
         "per row), episode_starts or lengths")


class Laid:
    """Arrays of the same rows, or of the same episodes and steps.

    arrays   by what they are: obs, actions, perhaps next_obs, rewards, terminations, truncations, starts, lengths,
             ends; obs_lengths where each episode's are known by themselves
    names    what the file calls them
    """

    def __init__(self, file: Arrays, arrays: dict[str, Array], names: dict[str, str], notes: list[str],
                 time_limit: int | None) -> None:
        self.file, self.arrays, self.names, self.notes, self.time_limit = file, arrays, names, notes, time_limit

    def demos(self) -> Demos:
        if self._is_grid():
            self._flatten()
        obs, actions = self.arrays["obs"], self.arrays["actions"]
        starts = self._starts(len(actions))
        longer = self._longer(starts)
        rows: dict[str, Array | None] = {what: self.arrays[what] for what in ("actions", "next_obs", *STEPS)
                                         if what in self.arrays}
        self._tell_ends(rows, starts)
        if longer:  # a row for each final observation, which has no action
            final = np.append(starts[1:], len(actions)) + np.arange(len(starts))
            steps = np.setdiff1d(np.arange(len(obs)), final)
            rows = {what: _spread(array, steps, len(obs)) for what, array in rows.items() if what != "next_obs"}
            starts = starts + np.arange(len(starts))
        return demos_of_log(self.file.source, starts, {"obs": obs, **rows}, notes=self.notes, final_rows=longer)

    def _is_grid(self) -> bool:
        """Whether arrays are (episodes, steps, …)."""
        flags = [self.arrays[what] for what in STEPS if what in self.arrays]
        wide = [array.ndim == 2 and array.shape[1] > 1 for array in flags]
        obs, actions = self.arrays["obs"], self.arrays["actions"]
        if flags or "starts" in self.arrays:
            return any(wide)
        lengths = self.arrays.get("lengths")
        if lengths is not None and "obs_lengths" not in self.arrays and len(lengths) == len(obs) > 1:
            return True
        alike = obs.ndim > 2 and actions.ndim > 1 and len(obs) == len(actions) and (
            obs.shape[1] - actions.shape[1] in (0, 1))
        return alike and (actions.ndim > 2 or obs.ndim == 3)

    def _flatten(self) -> None:
        """(episodes, steps, …) → rows end to end; what comes after an episode's end, or its length, is padding."""
        episodes, steps = self.arrays["actions"].shape[:2]
        ends = np.zeros((episodes, steps), bool)
        for what in ("terminations", "truncations"):
            if what in self.arrays:
                flags = self.arrays[what]
                if flags.shape[:2] != (episodes, steps):
                    self.file.refuse(f"{self.names[what]} has shape {flags.shape} but actions "
                                     f"{self.arrays['actions'].shape}; give one flag per step")
                ends |= flags.reshape(episodes, steps).astype(bool)
        lengths = np.where(ends.any(1), ends.argmax(1) + 1, steps)
        if "lengths" in self.arrays:
            lengths = self.arrays["lengths"].reshape(-1).astype(np.int64)
            if len(lengths) != episodes or lengths.min() < 1 or lengths.max() > steps:
                self.file.refuse(f"{self.names['lengths']} must be from 1 to {steps} for each of {episodes} episodes")
        if (padding := int(episodes * steps - lengths.sum())):
            self.notes.append(f"{padding} rows after the ends of their episodes are padding, and left out")
        for what in ("obs", "actions", "next_obs", *STEPS):
            if what in self.arrays:
                array = self.arrays[what]
                more = array.shape[1] - steps if array.ndim > 1 else -1
                if len(array) != episodes or more not in ((0, 1) if what == "obs" else (0,)):
                    self.file.refuse(f"{self.names[what]} has shape {array.shape} but there are {episodes} episodes of "
                                     f"{steps} steps; give all arrays as (episodes, steps, …)")
                kept = np.arange(array.shape[1]) < (lengths + more)[:, None]
                self.arrays[what] = array[kept]
        self.arrays |= {"lengths": lengths, "obs_lengths": lengths + (len(self.arrays["obs"]) > lengths.sum())}

    def _starts(self, steps: int) -> Array:
        """(episodes,) the rows of actions in which they begin."""
        file, arrays = self.file, self.arrays
        if "lengths" in arrays or "ends" in arrays:
            what = "lengths" if "lengths" in arrays else "ends"
            given = arrays[what].reshape(-1).astype(np.int64)
            ends = np.cumsum(given) if what == "lengths" else given
            if not len(ends) or ends[-1] != steps or np.any(np.diff(np.append(0, ends)) < 0):
                file.refuse(f"{self.names.get(what, 'episodes')} end at {ends[-3:].tolist()} but there are {steps} "
                            "actions; correct them")
            starts = np.unique(np.append(0, ends[:-1]))
        elif "starts" in arrays:
            given = arrays["starts"].reshape(-1)
            starts = np.flatnonzero(given) if len(given) == steps and given.max() <= 1 else given
            starts = Arrays({"episode_starts": starts}, file.source).starts(steps)
        elif not {"terminations", "truncations"} & set(arrays):
            file.refuse(APART.format(steps))
        else:
            starts = np.zeros(1, np.int64)
        ends = np.zeros(steps, bool)
        for what in ("terminations", "truncations"):
            flags = arrays.get(what)
            if flags is not None and len(flags) == len(starts) < steps:  # one for each episode
                arrays[what] = np.zeros(steps, bool)
                arrays[what][np.append(starts[1:], steps) - 1] = flags.reshape(-1).astype(bool)
            elif flags is not None and len(flags) != steps:
                file.refuse(f"{self.names.get(what, what)} has {len(flags)} rows but there are {steps} actions; give "
                            "one per row")
            if flags is not None:
                ends |= arrays[what].reshape(-1).astype(bool)
        whole = "obs_lengths" in arrays and len(arrays["obs"]) > steps  # an end inside an episode is refused there
        return starts if whole else np.union1d(starts, after_ends(ends))

    def _longer(self, starts: Array) -> bool:
        """Whether each episode has one observation more than actions."""
        obs, actions = self.arrays["obs"], self.arrays["actions"]
        lengths = np.diff(np.append(starts, len(actions)))
        own = self.arrays.get("obs_lengths")
        if len(obs) == len(actions) and (own is None or (own == lengths).all()):
            return False
        if len(obs) == len(actions) + len(starts) and (own is None or (own == lengths + 1).all()):
            return True
        if own is not None and len(own) == len(starts):
            k = int(np.argmax((own != lengths) & (own != lengths + 1)))
            self.file.refuse(f"episode {k} has {own[k]} observations for {lengths[k]} actions, but needs as many, or "
                             "one more; record it again")
        self.file.refuse(f"has {len(obs)} observations for {len(actions)} actions in {len(starts)} episodes; give as "
                         "many, or one more in each episode")

    def _tell_ends(self, rows: dict[str, Any], starts: Array) -> None:
        """One flag for both ends may mean a time limit."""
        own = self.names.get("terminations", "")
        if "terminations" in rows and "truncations" not in rows and own not in SURE:
            last = np.append(starts[1:], len(rows["actions"])) - 1
            flags = rows["terminations"].reshape(-1)[last]
            rows["terminations"], rows["truncations"] = split_ends(last - starts + 1, flags, self.time_limit,
                                                                   self.notes)


def _spread(array: Any, steps: Array, rows: int) -> Array:
    """In the rows that are steps; zeros elsewhere."""
    made: Any = np.zeros((rows, *array.shape[1:]), array.dtype)
    made[steps] = array
    return made
