"""Stable-Baselines 2's expert files (`generate_expert_traj`): `obs`, `actions`, `rewards`, `episode_returns`, and
`episode_starts`, which is True in the first row of each episode. Neither final observations nor the kind of an end are
stored: each episode is read without its last row, and counts as cut off. We only read it.
"""

import numpy as np

from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats.d4rl import without_last
from puffer_il.demos.npz import Arrays

MARKS = (("obs", "actions", "episode_starts", "episode_returns"),)
OBSERVED = (("obs",), ())
NOT = ("terminations", "truncations", "next_obs", "final_obs")  # our own files have those


def read(file: Arrays, time_limit: int | None) -> Demos:
    obs = file.rows("obs")
    ends = np.zeros(len(obs), bool)
    arrays = {"obs": obs, "actions": file.rows("actions"), "terminations": ends, "truncations": ends,
              "rewards": file.get("rewards")}
    return without_last(file, arrays, file.starts(len(obs)), ["the file does not say how episodes end"])
