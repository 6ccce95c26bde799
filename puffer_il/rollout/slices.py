"""Expert slices: an expert drives a share of the environments of a rollout, and the policy drives the others.

What the expert does there is a demonstration in the environment as it is now, and no sample of the policy: those rows
are `shown`, and not `valid`, so that whatever learns from the policy's own behaviour leaves them out.
"""

import numpy as np

from puffer_il.core.errors import NotFinite
from puffer_il.core.spec import Array
from puffer_il.rollout.actors import Actor
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.finite import all_finite


class ExpertSlice:
    """`expert` drives the first environments of each rollout: `first` of them at the run's beginning, falling (or
    rising) linearly to `last` at its end, both shares in [0, 1). Agents of one environment are never parted.

    count  the rows that it drives in this rollout
    """

    def __init__(self, expert: Actor, first: float, last: float, num_envs: int, num_agents: int = 1) -> None:
        self.expert, self.first, self.last = expert, first, last
        self.num_envs, self.num_agents = num_envs, num_agents
        self.count = 0

    def start(self, progress: float) -> None:
        """A rollout begins when the share `progress` in [0, 1] of the run is over."""
        share = self.first + (self.last - self.first) * progress
        self.count = round(share * self.num_envs / self.num_agents) * self.num_agents

    def act(self, rows: slice, obs: Array, starts: Array, own: Array) -> Array:
        """(n, dim) what is done in the environments `rows`; the policy's actions are `own`."""
        driven = min(rows.stop, self.count) - rows.start
        if driven <= 0:
            return own
        expert = self.expert(obs[:driven], starts[:driven], slice(rows.start, rows.start + driven))
        if expert.dtype.kind == "f" and not all_finite(expert):
            raise NotFinite("mix.expert: an action of the expert that drives is NaN or infinite; mend the expert, or "
                            "set mix.expert_envs and mix.expert_envs_final to 0")
        return np.concatenate((expert.astype(own.dtype), own[driven:]))

    def finish(self, buffer: RolloutBuffer) -> None:
        """Mark the rows of the rollout that the expert has driven."""
        assert buffer.shown is not None, "allocate the buffer with shown=True"
        driven = slice(self.count)
        buffer.shown[:] = False
        buffer.shown[:, driven] = buffer.valid[:, driven]
        buffer.valid[:, driven] = False
