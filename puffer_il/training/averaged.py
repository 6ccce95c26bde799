"""The policy as evaluations and the user get it: of learners that play a game, the average of their last ones.

A discriminator and a policy that learn from each other go round the expert and may leave its level again, in some runs
for good; the average of the way stays near the middle (see learners.common.network_average). Only what is shown is
averaged: the policy that collects and learns is the latest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from puffer_il.core.checkpoint import Stateful
from puffer_il.learners.base import Learner
from puffer_il.learners.common.network_average import NetworkAverage

BEGIN = 0.5  # share of the run after which policies are averaged in any case: the first ones only delay the average


class ShownPolicy(Stateful):
    """`learner.policy`, or where `learner.plays_game` its average over the last `memory` iterations, once begun."""

    saved = ("average",)

    def __init__(self, learner: Learner, memory: int) -> None:
        wanted = learner.plays_game and memory > 1
        self.average = NetworkAverage(learner.policy, memory) if wanted else None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if (state["average"] is None) != (self.average is None):
            raise ValueError("it averages policies and this run does not, or the reverse")
        if self.average is not None:
            super().load_state_dict(state)

    @property
    def averaged(self) -> bool:
        return self.average is not None and self.average.count > 0

    def follow(self, good: bool, progress: float) -> None:
        """An iteration is over. Averages begin once the policy is `good`, or `progress` is BEGIN."""
        if self.average is not None and (self.averaged or good or progress >= BEGIN):
            self.average.add()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The learner's policy with the weights that are shown, and with its own again afterwards."""
        if self.average is None or not self.averaged:
            yield
            return
        with self.average.in_place():
            yield
