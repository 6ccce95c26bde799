"""What is asked of an environment to judge its demonstrations. `vector.world` answers; this room knows no vectors."""

from typing import Protocol

from puffer_il.core.rows import Array
from puffer_il.core.spec import EnvSpec


class Steps(Protocol):
    """n transitions of the environment itself, named as in `Demos`."""

    @property
    def obs(self) -> Array: ...
    @property
    def actions(self) -> Array: ...
    @property
    def next_obs(self) -> Array: ...
    @property
    def rewards(self) -> Array: ...
    @property
    def terminations(self) -> Array: ...


class World(Protocol):
    """An environment that can be asked."""

    @property
    def spec(self) -> EnvSpec: ...

    def starts(self, count: int) -> Array:
        """(count, *obs_shape) first observations of as many episodes, or of somewhat more."""

    def practice(self, count: int) -> Steps:
        """At least `count` transitions under random actions."""

    @property
    def most(self) -> int:
        """Rows that it does not take long to replay."""

    @property
    def unsure(self) -> float:
        """The share of rows that come out otherwise even of a sound recording, where states are those that observations
        show."""

    def replay(self, states: Array, actions: Array, seed: int = 0) -> Steps | None:
        """One step from each of `states` (n, state size) with `actions` (n, dim), chance drawn with `seed`; None where
        that cannot be done, or where the environment cannot be put into these states. Rows of several agents stand side
        by side. What is observed before the step is NaN where that is not known."""

    def states_of(self, obs: Array) -> Array | None:
        """(n, state size) the states that observations `obs` (n, *obs_shape) show, NaN in rows that do not; None where
        the state is more than they show."""

    def from_seed(self, seed: int, actions: Array) -> Array | None:
        """(k + 1, *obs_shape) what a reset with `seed` shows, and each step after it with `actions` (n, dim), as far as
        the episode goes; None where that cannot be done."""
