"""The npz of Berkeley's CS 285: `observation`, `action`, `next_observation`, `terminal` and perhaps `reward`, a row of
each per transition. Episodes begin at `episode_starts`, or without that after each terminal. We only read it.
"""

import numpy as np

from puffer_il.demos.build import build_demos
from puffer_il.demos.dataset import Demos
from puffer_il.demos.ends import split_ends
from puffer_il.demos.npz import Arrays

MARKS = (("observation", "action", "terminal"),)
OBSERVED = (("observation",), ("next_observation",))


def read(file: Arrays, time_limit: int | None) -> Demos:
    terminal = file.rows("terminal").reshape(-1).astype(bool)
    if not len(terminal):
        file.refuse("holds no transitions; record it again")
    if "episode_starts" in file:
        starts = file.starts(len(terminal))
    else:
        starts = np.append(0, np.flatnonzero(terminal[:-1]) + 1)
    ends = np.append(starts[1:], len(terminal)) - 1
    inner = np.setdiff1d(np.flatnonzero(terminal), ends)
    if len(inner):
        file.refuse(f"terminal is set in row {inner[0]}, in the middle of an episode; split the episodes there")
    notes: list[str] = []
    terminations, truncations = split_ends(ends - starts + 1, terminal[ends], time_limit, notes)
    return build_demos(file.source, obs=file.rows("observation"), actions=file.rows("action"),
                       next_obs=file.rows("next_observation"), terminations=terminations, truncations=truncations,
                       episode_starts=starts, rewards=file.get("reward"), notes=notes)
