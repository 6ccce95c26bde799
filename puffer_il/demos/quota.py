"""Whose episodes count: every row plays its own share, however long its episodes are.

Taking whichever episodes end first would favour short ones. With several agents an episode is one agent's, from its
first action to its end, and a score is the mean over those of all agents that took part.
"""

import numpy as np

from puffer_il.core.spec import Array


class Quota:
    """Episodes that rows still have to play, as the vector steps.

    An environment's episode is over when one of its agents has ended and none is acting any more. An agent that took
    no part in it has played it too: it is not waited for, and has no score.

    left    (rows,) episodes still to be played
    played  (rows,) those that counted
    absent  how many were played by taking no part
    """

    def __init__(self, rows: int, episodes: int, agents: int = 1) -> None:
        self.left, self.played, self.absent = quota_of(rows, episodes), np.zeros(rows, np.int64), 0
        self._agents = agents
        self._acting, self._acted = np.zeros((2, rows), bool)

    def follow(self, valid: Array, ended: Array) -> Array:
        """A step in which the rows of `valid` acted and those of `ended`, some of them, ended: (rows,) whose episode
        counts."""
        counted = ended & (self.left > 0)
        self.left -= counted
        self.played += counted
        if self._agents > 1:
            self._acted |= valid
            self._acting |= valid
            self._acting &= ~ended
            self._miss(ended)
        return counted

    def give_up(self, rows: Array) -> None:
        """No more episodes of some rows, which go on without an end."""
        self.left[rows] = 0

    def _miss(self, ended: Array) -> None:
        over = ended.reshape(-1, self._agents).any(1) & ~self._acting.reshape(-1, self._agents).any(1)
        if over.any():
            rows = np.repeat(over, self._agents)
            missed = rows & ~self._acted & (self.left > 0)
            self.left -= missed
            self.absent += int(missed.sum())
            self._acted[rows] = False


def quota_of(rows: int, episodes: int) -> Array:
    """(rows,) how many of the episodes each row plays."""
    return episodes // rows + (np.arange(rows) < episodes % rows)
