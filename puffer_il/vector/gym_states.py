"""Gymnasium environments that are put into the states that their observations show: MuJoCo tasks, whose state is qpos
and qvel, and those that keep all of it in `state`, as the classic control tasks do.

How an observation shows the state is found out: in episodes of random actions, which of its numbers is which number of
the state, perhaps with an offset, or the cosine and sine of it. What is not shown, such as how far a robot has walked,
is what it is at a reset. Whether that is enough, the environment's own steps say: one that does not repeat them from
their observations is not asked about others.
"""

from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.actions import first_of
from puffer_il.core.spec import Array, EnvSpec

STEPS, EACH = 400, 20  # random ones, and how many of them follow a reset
SHARE = 0.95  # of the steps in which a number must show another
EQUAL = 1e-5  # relative: float32, twice
NEAR, REWARD = 1e-2, 1e-3  # of the usual change of a number, and of the largest reward: what counts as the same
SOME = 0.1  # of its own steps that it must show the state in: a body that flails has most of its speeds clipped
REPEATED = 0.97  # of its own steps that an environment must repeat
CONTACTS = 0.02  # of the rows: what float32 moves to the other side of a contact
Columns = tuple[Array, Array, Array, Array, Array]  # obs, actions, next_obs, rewards, terminations; n rows each


class GymStates:
    """`env`, and how its observations show its state.

    repeats  whether it repeats its own steps from their observations
    unsure   the share of rows that may come out otherwise even of a sound recording
    """

    def __init__(self, env: gymnasium.Env, spec: EnvSpec) -> None:
        self.env, self.spec, self.repeats, self.unsure, self._rewards = env, spec, False, 0.0, True
        self._inner: Any = env.unwrapped
        env.reset(seed=0)
        first = self._state()
        if first is None or spec.obs_dtype.kind != "f" or len(spec.obs_shape) != 1:
            return
        steps, states = self._practice()
        self._rest = first
        self._plain, self._turned = _shown(steps[0], states)
        found = self.states_of(steps[0])
        fine = np.isfinite(found).all(1)
        if fine.mean() < SOME:
            return
        again = self.replay(found[fine], steps[1][fine])
        own = tuple(column[fine] for column in steps)
        self._rewards = bool(_paid_alike(own, again).mean() >= REPEATED)
        missed = 1 - _alike(own, again).mean()
        self.repeats = bool(missed <= 1 - REPEATED)
        self.unsure = 3 * float(missed) + (CONTACTS if self._is_mujoco else 0)

    @property
    def _is_mujoco(self) -> bool:
        return callable(getattr(self._inner, "set_state", None)) and hasattr(
            getattr(self._inner, "data", None), "qvel") and hasattr(self._inner, "init_qpos")

    def _state(self) -> Array | None:
        """(numbers,) float64 where the environment is; None where it does not say, or cannot be put there."""
        if self._is_mujoco:
            return np.concatenate([self._inner.data.qpos, self._inner.data.qvel]).astype(np.float64)
        state = getattr(self._inner, "state", None)
        if not isinstance(state, np.ndarray | tuple | list):
            return None
        try:
            numbers = np.array(state, np.float64)
        except (TypeError, ValueError):
            return None
        return numbers if numbers.ndim == 1 and numbers.size else None

    def _put(self, state: Array) -> None:
        if self._is_mujoco:
            size = len(self._inner.data.qpos)
            self._inner.set_state(state[:size].copy(), state[size:].copy())
        else:
            old = self._inner.state
            self._inner.state = state.astype(old.dtype) if isinstance(old, np.ndarray) else type(old)(state.tolist())

    def _practice(self) -> tuple[Columns, Array]:
        """Random steps, and the state before each."""
        rng, space = np.random.default_rng(0), self.env.action_space
        space.seed(0)
        rows, states = list[tuple[Any, ...]](), list[Array]()
        obs, over = np.zeros(0), True
        for step in range(STEPS):
            if over or step % EACH == 0:
                obs = self._row(self.env.reset(seed=int(rng.integers(2**31)))[0])
            state = self._state()
            assert state is not None
            action = self.spec.action.from_env([space.sample()])
            after, reward, terminated, truncated = self._step(action)
            rows.append((obs, action[0], after, reward, terminated))
            states.append(state)
            obs, over = after, terminated or truncated
        obs_, actions, after_, rewards, ends = (np.array(column) for column in zip(*rows, strict=True))
        return (obs_, actions, after_, rewards, ends), np.array(states)

    def _row(self, obs: Any) -> Array:
        return np.asarray(obs).astype(self.spec.obs_dtype).reshape(self.spec.obs_shape)

    def _step(self, action: Array) -> tuple[Array, float, bool, bool]:
        """A step with a row (1, dim) of actions."""
        obs, reward, terminated, truncated, _ = self.env.step(first_of(self.spec.action.to_env(action)))
        return self._row(obs), float(np.asarray(reward).item()), bool(terminated), bool(truncated)

    def states_of(self, obs: Array) -> Array:
        """(n, numbers) the states that observations (n, columns) show, NaN where one may have been clipped: where it is
        the largest or smallest of its column more than once."""
        states = np.tile(self._rest, (len(obs), 1))
        rows = obs.astype(np.float64)
        for number, (column, offset) in self._plain.items():
            states[:, number] = rows[:, column] - offset
            for end in (rows[:, column].min(), rows[:, column].max()):
                at_end = rows[:, column] == end
                if 1 < at_end.sum() < len(rows):
                    states[at_end] = np.nan
        for number, (cosine, sine) in self._turned.items():
            states[:, number] = np.arctan2(rows[:, sine], rows[:, cosine])
        return states

    def replay(self, states: Array, actions: Array, seed: int = 0) -> Columns:
        """One step from each of `states` (n, numbers) with `actions` (n, dim), each after a reset with `seed`. What is
        not known is NaN: the observation before it, and rewards that follow from more than the state (those of Ant are
        paid by where its body was seen last)."""
        made = []
        for state, action in zip(states, actions, strict=True):
            self.env.reset(seed=seed)
            self._put(state)
            made.append(self._step(action[None].astype(self.spec.action.dtype))[:3])
        after, rewards, ends = (np.array(column) for column in zip(*made, strict=True))
        paid = rewards.astype(np.float32) if self._rewards else np.full(len(rewards), np.nan, np.float32)
        return np.full_like(after, np.nan), actions, after, paid, ends

    @property
    def size(self) -> int:
        """Numbers of a state."""
        return len(self._rest)


def _shown(obs: Array, states: Array) -> tuple[dict[int, tuple[int, float]], dict[int, tuple[int, int]]]:
    """For numbers of `states` (n, numbers) that change, the column of `obs` (n, columns) that shows them with its
    offset, or those of their cosine and sine."""
    plain, turned = dict[int, tuple[int, float]](), dict[int, tuple[int, int]]()
    free = (obs < obs.max(0)) & (obs > obs.min(0))  # and not clipped, as speeds are
    free |= free.mean(0) < 0.5
    for number in map(int, np.flatnonzero(np.ptp(states, axis=0) > 0)):
        value = states[:, number:number + 1]
        slack = EQUAL * (1 + np.abs(value).max())
        away = obs - value
        offsets = np.array([np.median(column[kept]) for column, kept in zip(away.T, free.T, strict=True)])
        found = np.flatnonzero((free & (np.abs(away - offsets) < slack)).sum(0) >= SHARE * free.sum(0))
        circle = [np.flatnonzero((np.abs(obs - of(value)) < EQUAL).mean(0) >= SHARE) for of in (np.cos, np.sin)]
        if len(found):
            best = found[np.abs(offsets[found]).argmin()]
            plain[number] = int(best), float(offsets[best])
        elif all(map(len, circle)):
            turned[number] = int(circle[0][0]), int(circle[1][0])
    return plain, turned


def _alike(one: Columns, other: Columns) -> Array:
    """(n,) bool, whether steps led to the same."""
    usual = np.abs(one[2] - one[0]).mean(0)
    slack = NEAR * usual + EQUAL * np.abs(one[0]).max(0) + 1e-7
    return (np.abs(one[2] - other[2]) <= slack).all(1) & (one[4] == other[4])


def _paid_alike(one: Columns, other: Columns) -> Array:
    """(n,) bool, whether steps were rewarded the same."""
    return np.abs(one[3] - other[3]) <= REWARD * np.abs(one[3]).max() + 1e-7
