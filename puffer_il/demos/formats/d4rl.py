"""D4RL's keys in an .npz, which others have taken over: `observations`, `actions`, `rewards`, `terminals` and
`timeouts`, a row of each per transition, perhaps with `next_observations`. Minari's words for the two ends are read as
well. We only read it.

An episode begins after each end. Without `next_observations` the last row of an episode has no successor (the next row
is another episode's) and is left out.
"""

from typing import Any

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.demos.build import build_demos, split_off
from puffer_il.demos.dataset import Demos
from puffer_il.demos.ends import split_ends
from puffer_il.demos.npz import Arrays

TERMINALS, TIMEOUTS = ("terminals", "terminations", "dones"), ("timeouts", "truncations")
MARKS = tuple(("observations", "actions", flag) for flag in (*TERMINALS[1:], *TIMEOUTS, "episode_starts")) + tuple(
    ("observations", "actions", "terminals", other) for other in (*TIMEOUTS, "rewards", "next_observations"))
OBSERVED = (("observations",), ("next_observations",))
KNOWN = {"observations", "actions", "rewards", "next_observations", "episode_starts", *TERMINALS, *TIMEOUTS}


def read(file: Arrays, time_limit: int | None) -> Demos:
    obs, notes = file.rows("observations"), list[str]()
    terminal, timeout = _flags(file, TERMINALS, len(obs)), _flags(file, TIMEOUTS, len(obs))
    ends = np.zeros(len(obs), bool)
    for flags in (terminal, timeout):
        ends |= False if flags is None else flags
    starts = file.starts(len(obs)) if "episode_starts" in file else np.append(0, np.flatnonzero(ends[:-1]) + 1)
    if terminal is not None and timeout is None:  # one flag may mean both
        last = np.append(starts[1:], len(obs)) - 1
        terminal, timeout = split_ends(last - starts + 1, terminal[last], time_limit, notes)
    terminal = np.zeros(len(obs), bool) if terminal is None else terminal
    timeout = np.zeros(len(obs), bool) if timeout is None else timeout & ~terminal
    others = sorted(file.keys - KNOWN)
    if others:
        notes.append(f"ignored {', '.join(others)}: not part of the format")
    arrays: dict[str, Any] = {"obs": obs, "actions": file.rows("actions"), "terminations": terminal,
                              "truncations": timeout, "rewards": file.get("rewards")}
    if "next_observations" in file:
        return build_demos(file.source, next_obs=file.rows("next_observations"), episode_starts=starts, notes=notes,
                           **arrays)
    return without_last(file, arrays, starts, notes)


def without_last(file: Arrays, arrays: dict[str, Any], starts: Array, notes: list[str]) -> Demos:
    """Demonstrations whose final observations are unknown: each episode without its last row, and its whole return.
    Observations are written over."""
    obs, rewards = arrays["obs"], arrays["rewards"]
    last = np.append(starts[1:], len(obs)) - 1
    for name, array in arrays.items():
        if array is not None and len(array) != len(obs):
            file.refuse(f"{name} has {len(array)} rows but there are {len(obs)} observations; every array must hold "
                        "one row per transition")
    long = last > starts
    if not long.any():
        file.refuse("holds no final observations, and every episode is one step long; save next_obs as well")
    kept = np.ones(len(obs), bool)
    kept[last] = False
    notes = [*notes, f"the last row of each of {len(starts)} episodes is left out: this file does not hold the "
                     "observation after it"]
    returns = None if rewards is None else np.add.reduceat(rewards.reshape(-1), starts, dtype=np.float64)[long]
    parts: dict[str, Any] = {name: None if array is None else array[kept] for name, array in arrays.items()
                             if name != "obs"}
    following = split_off(obs, last - starts)
    return build_demos(file.source, obs=following.obs, next_obs=following, episode_starts=following.starts,
                       episode_returns=returns, notes=notes, **parts)


def _flags(file: Arrays, names: tuple[str, ...], count: int) -> Array | None:
    """(count,) bool, of the first of these names that the file has."""
    name = next((name for name in names if name in file), None)
    return None if name is None else file.flags(name, count)
