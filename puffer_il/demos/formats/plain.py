"""Arrays of any recorder under the usual names: an .npz, a structured .npy, or arrays in memory. We only read it.

    observations   also observation, obs, states, state         next_observations, rewards: likewise
    actions        also action, acts, act
    terminals      also terminal, dones, done, terminated, …: an episode's last row, perhaps of either end
    timeouts       also timeout, truncated, …: the last row of an episode that was cut off
    episode_starts also is_first: a flag per row, or the first rows; episode_ends: one past the last rows; lengths

Rows lie end to end, or as (episodes, steps, …), perhaps padded, or each episode under a name of its own (obs_0, obs_1,
…, or episode_0/obs). Observations may be one more than actions in each episode. What tells episodes apart has to be
there; what does not say how they end makes them cut off.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.npz import read_npy
from puffer_il.core.spec import Array
from puffer_il.demos.columns import by_number
from puffer_il.demos.dataset import Demos
from puffer_il.demos.grown import Grown
from puffer_il.demos.laid import STEPS, Laid
from puffer_il.demos.npz import Arrays
from puffer_il.demos.planned import Names

MARKS, KIND = (), "npy"
NAMES = {
    "obs": ("observations", "observation", "obs", "states", "state"),
    "actions": ("actions", "action", "acts", "act"),
    "next_obs": ("next_observations", "next_observation", "next_obs", "next_states", "next_state", "new_obs"),
    "rewards": ("rewards", "reward", "rews", "rew"),
    "terminations": ("terminals", "terminal", "dones", "done", "terminated", "terminations", "terminateds",
                     "is_terminal"),
    "truncations": ("timeouts", "timeout", "truncated", "truncations", "truncateds"),
    "starts": ("episode_starts", "is_first"),
    "lengths": ("lengths", "episode_lengths", "traj_lengths", "path_lengths"),
    "ends": ("episode_ends",)}
NUMBERED = (re.compile(r"(?P<name>\D+?)[_./-]?(?P<number>\d+)"),
            re.compile(r"(?:episode|ep|trajectory|traj|demo)[_-]?(?P<number>\d+)[_./-](?P<name>\D+)"))


def marks(file: Arrays) -> Iterable[Iterable[str]]:
    """The keys by which named arrays are of this format: their observations and actions; all of them where they are
    (episodes, steps, …), which no other format is."""
    own = _named(file.keys)
    if "obs" in own and "actions" in own:
        flags = [file.shape(own[what]) for what in STEPS if what in own]
        return [file.keys if any(len(shape) == 2 and shape[1] > 1 for shape in flags) else (own["obs"], own["actions"])]
    return [(parts["obs"], parts["actions"]) for parts in _numbered(file.keys).values()
            if {"obs", "actions"} <= set(parts)][:1]


def observed(file: Arrays) -> Names | None:
    """The arrays of observations and of the next ones, if each row of theirs is a step."""
    own = _named(file.keys)
    if "obs" not in own:
        numbered = _numbered(file.keys).values()
        obs, following = ([names[what] for names in numbered if what in names] for what in ("obs", "next_obs"))
        return obs, following
    steps = [file.shape(own[what]) for what in STEPS if what in own]
    told = steps or "starts" in own or len(file.shape(own["obs"])) <= 2  # or they might be (episodes, steps, …)
    if not told or any(len(shape) > 1 and shape[1] > 1 for shape in steps):
        return None
    return [own["obs"]], [own["next_obs"]] if "next_obs" in own else []


def fits(path: Path) -> bool:
    return True  # a single array is of no other format


def read(file: Arrays | Path, time_limit: int | None) -> Demos:
    if isinstance(file, Path):
        file = _structured(file)
    names, numbered = _named(file.keys), _numbered(file.keys)
    if "obs" in names or not numbered:
        arrays, notes = {what: file.rows(name) for what, name in names.items()}, _ignored(file, names.values())
    else:
        arrays, notes = _episodes(file, numbered)
        names = next(iter(numbered.values()))
    for what in ("obs", "actions"):
        if what not in arrays:
            file.refuse(f"has no array of {what} ({', '.join(NAMES[what])}), only {file.listing()}; {file.remedy}")
    return Laid(file, arrays, names, notes, time_limit).demos()


def numbered_lists(source: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays in memory, of which lists of one array for each episode, of different lengths, get a name for each."""
    lists = {name: value for name, value in source.items() if isinstance(value, list) and len(value) > 0 and all(
        isinstance(part, np.ndarray) and part.ndim > 0 for part in value)}
    if not any(len({len(part) for part in value}) > 1 for value in lists.values()):
        return dict(source)
    made = {name: value for name, value in source.items() if name not in lists}
    return made | {f"{name}_{k}": part for name, value in lists.items() for k, part in enumerate(value)}


def _named(keys: Iterable[str]) -> dict[str, str]:
    """Of each of NAMES the key that says it."""
    return {what: next(name for name in names if name in keys) for what, names in NAMES.items()
            if any(name in keys for name in names)}


def _numbered(keys: Iterable[str]) -> dict[int, dict[str, str]]:
    """Of each episode's number the keys that say what of NAMES."""
    found: dict[int, dict[str, str]] = {}
    meant = {name: what for what, names in NAMES.items() for name in names}
    for key in sorted(keys, key=by_number):
        for match in filter(None, (pattern.fullmatch(key) for pattern in NUMBERED)):
            if (what := meant.get(match["name"].rstrip("_./-"))) and len(match["number"]) < 10:
                found.setdefault(int(match["number"]), {}).setdefault(what, key)
    return {number: found[number] for number in sorted(found)}


def _ignored(file: Arrays, taken: Iterable[str]) -> list[str]:
    others = sorted(file.keys - set(taken))
    return [f"ignored {', '.join(others)}: no usual name for a part of demonstrations"] if others else []


def _structured(path: Path) -> Arrays:
    """The fields of a structured array."""
    file = Arrays({}, str(path))
    try:
        array = read_npy(path)
    except (OSError, ValueError) as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            file.refuse(file.pickled("np.load(FILE, allow_pickle=True).item()"))
        file.refuse(f"cannot be read ({' '.join(str(error).split())[:200]}); copy or record it again")
    if array.dtype.names is None:
        file.refuse(f"is a single array {array.shape} without names; {file.remedy}")
    return Arrays({name: array[name] for name in array.dtype.names}, str(path))


def _episodes(file: Arrays, numbered: Mapping[int, Mapping[str, str]]) -> tuple[dict[str, Array], list[str]]:
    """Arrays of all episodes end to end, and where they begin."""
    first = next(iter(numbered.values()), {})
    if not {"obs", "actions"} <= set(first):
        return {}, []
    arrays: dict[str, Grown] = {}
    lengths: dict[str, list[int]] = {"actions": [], "obs": []}
    for number, names in numbered.items():
        if set(names) != set(first):
            file.refuse(f"episode {number} has {', '.join(names.values())}, but the first one "
                        f"{', '.join(first.values())}; save the same arrays of each")
        for what, name in names.items():
            part = file.rows(name) if file.shape(name) else file[name].reshape(-1)
            try:
                arrays.setdefault(what, Grown()).append(part)
            except ValueError:
                file.refuse(f"episodes hold {what} of different shapes; give episodes of one environment")
            if what in lengths:
                lengths[what].append(len(part))
    made = {what: rows.array() for what, rows in arrays.items()}
    made |= {"lengths": np.array(lengths["actions"]), "obs_lengths": np.array(lengths["obs"])}
    taken = [name for names in numbered.values() for name in names.values()]
    return made, _ignored(file, taken)
