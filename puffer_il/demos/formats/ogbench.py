"""OGBench's data sets: an .npz of `observations`, `actions` and `terminals`, trajectories of T + 1 rows end to end. We
only read it.

    terminals   1 in the last row of a trajectory, where the recorder stopped: it is no end of the task
    masks       0 where the task was done, which is where returns end (its single-task data sets)
    valids      0 in the last row of a trajectory (its compact data sets, whose terminals also mark the row before)

The last row is a trajectory's final observation; the action beside it led nowhere and is not taken. With
`next_observations` (its regular data sets, saved) every row has its successor.
"""

import numpy as np

from puffer_il.demos.dataset import Demos
from puffer_il.demos.logs import after_ends, demos_of_log
from puffer_il.demos.npz import Arrays

KEYS_OF_ALL = ("observations", "actions", "terminals")
MARKS = (KEYS_OF_ALL, (*KEYS_OF_ALL, "valids"), (*KEYS_OF_ALL, "masks"), (*KEYS_OF_ALL, "masks", "rewards"),
         (*KEYS_OF_ALL, "masks", "next_observations"))
OBSERVED = (("observations",), ("next_observations",))
NOT = ("timeouts", "truncations", "episode_starts")
KNOWN = {*KEYS_OF_ALL, "masks", "valids", "rewards", "next_observations"}
NO_ENDS = ("terminals end trajectories, as in OGBench: none counts as a termination; if they are ends of the task, "
           "take --demos.format d4rl")


def read(file: Arrays, time_limit: int | None) -> Demos:
    obs, notes = file.rows("observations"), list[str]()
    ends = file.flags("valids" if "valids" in file else "terminals", len(obs))
    ends = ~ends if "valids" in file else ends
    starts = after_ends(ends)
    arrays = {"obs": obs, "actions": file.rows("actions"), "rewards": file.get("rewards"),
              "next_obs": file.get("next_observations")}
    if "masks" in file:
        last = np.append(starts[1:], len(obs)) - (1 if "next_observations" in file else 2)
        done = ~file.flags("masks", len(obs))
        arrays["terminations"] = ended = np.zeros(len(obs), bool)
        ended[np.maximum(last, 0)] = done[np.maximum(last, 0)]
        if inner := int(done.sum() - ended.sum()):
            notes.append(f"masks say in {inner} rows that the task was done, after which the trajectory goes on")
    else:
        arrays["truncations"] = np.zeros(len(obs), bool)
        notes.append(NO_ENDS)
    others = sorted(file.keys - KNOWN)
    if others:
        notes.append(f"ignored {', '.join(others)}: not part of the observations")
    return demos_of_log(file.source, starts, arrays, notes=notes, final_rows=True)
