"""Whose episodes count: every row plays its own share, however long its episodes are.

Taking whichever episodes end first would favour short ones. With several agents an episode is one agent's, from its
first action to its end, and a score is the mean over those of all agents that took part.
"""

import numpy as np

from puffer_il.core.spec import Array


class Quota:
    """Episodes that rows still have to play, as the vector steps.

    An environment's episode is over when one of its agents has ended and none is acting any more: who joins or leaves
    before that takes part in the same one. An agent that took no part in it has played it too: it is not waited for,
    and has no score.

    left    (rows,) episodes still to be played
    played  (rows,) those that counted
    absent  how many were played by taking no part
    shared  of each row, in which episode of its environment each of those was that counted; of several agents alone
    """

    def __init__(self, rows: int, episodes: int, agents: int = 1) -> None:
        self.left, self.played, self.absent = quota_of(rows, episodes), np.zeros(rows, np.int64), 0
        self._agents = agents
        self._acting, self._acted = np.zeros((2, rows), bool)
        self.shared: list[list[int]] = [[] for _ in range(rows)]
        self._over = np.zeros(rows // agents, np.int64)  # episodes of each environment that are over

    def follow(self, valid: Array, ended: Array) -> Array:
        """A step in which the rows of `valid` acted and those of `ended`, some of them, ended: (rows,) whose episode
        counts."""
        counted = ended & (self.left > 0)
        self.left -= counted
        self.played += counted
        if self._agents > 1:
            self._note(counted)
            self._acted |= valid
            self._acting |= valid
            self._acting &= ~ended
            self._miss(ended)
        return counted

    def give_up(self, rows: Array, scored: Array) -> None:
        """No more episodes of some `rows` (rows,) bool, which go on without an end. Those of `scored` count as they
        stand."""
        self.left[rows] = 0
        if self._agents > 1:
            self._note(scored)

    @property
    def clusters(self) -> Array | None:
        """(episodes,) int64, equal for what agents did in the same episode of their environment: row by row, in the
        order in which each row's episodes counted. None of single agents."""
        if self._agents == 1:
            return None
        places = [(row // self._agents, number) for row, numbers in enumerate(self.shared) for number in numbers]
        return np.array([env * (int(self._over.max()) + 1) + number for env, number in places], np.int64)

    def _note(self, rows: Array) -> None:
        for row in np.flatnonzero(rows):
            self.shared[row].append(int(self._over[row // self._agents]))

    def drop(self, rows: slice) -> None:
        """The episodes that rows were in do not count, as something has put others in their place."""
        self._acting[rows], self._acted[rows] = False, False

    def _miss(self, ended: Array) -> None:
        over = ended.reshape(-1, self._agents).any(1) & ~self._acting.reshape(-1, self._agents).any(1)
        if over.any():
            rows = np.repeat(over, self._agents)
            missed = rows & ~self._acted & (self.left > 0)
            self.left -= missed
            self.absent += int(missed.sum())
            self._acted[rows] = False
            self._over += over


def quota_of(rows: int, episodes: int) -> Array:
    """(rows,) how many of the episodes each row plays."""
    return episodes // rows + (np.arange(rows) < episodes % rows)
