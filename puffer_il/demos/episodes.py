"""Episodes as files hold them → Demos: whether the final observation is there, how an episode ended, named fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array, Layout
from puffer_il.core.spaces import lay_out
from puffer_il.demos.actions import pack_actions
from puffer_il.demos.build import build_demos
from puffer_il.demos.dataset import Demos
from puffer_il.demos.kept import fields_of
from puffer_il.demos.spaces import is_nested, space_of

NO_ENDS = "the file does not say how episodes end: each counts as cut off (truncated) after its last row"


@dataclass
class Episode:
    """One episode of T steps as a file holds it; None is what it does not hold.

    name      what the file calls it
    obs       (T + 1, …) with the final one, or (T, …); an array, or dicts and tuples of arrays, in the order of the
              file's space, or else sorted
    actions   (T, …), likewise
    next_obs  (T, …), as obs
    rewards   (T,)
    states    (T, …) the environment's state before each action
    terminated, truncated   how it ended; both None where the file does not say
    beside    what we wrote beside another format's columns, see `kept`
    """

    name: str
    obs: Any
    actions: Any
    next_obs: Any = None
    rewards: Array | None = None
    states: Array | None = None
    terminated: bool | None = None
    truncated: bool | None = None
    beside: Mapping[str, Array] = field(default_factory=dict)


def join_episodes(source: str, episodes: Iterable[Episode], notes: list[str] | None = None, layout: Layout | None = None
                  ) -> Demos:
    """Demonstrations of all episodes, in their order. `layout` is that of the file's own space, where it names one.

    Episodes may come one by one, so that no more than one is held beside what has been joined, and say in `notes` what
    there is to say. A last row without a successor is left out.
    Raises InputError for lengths that fit neither layout, and for episodes whose observations or actions are made of
    other parts than the first one's.
    """
    joined = _Joined(source, layout)
    for episode in episodes:
        joined.add(episode)
    told = list(notes or ())
    if not joined.lengths:
        raise InputError(f"demos {source}: holds no transitions; record it again")
    if joined.empty:
        told.append(f"skipped {_some(joined.empty)} without a step")
    if joined.cut:
        told.append(f"the last row of {_some(joined.cut)} is left out: the file does not hold the observation after it")
    if joined.endless:
        told.append(NO_ENDS)
    return joined.demos(told)


class _Joined:
    def __init__(self, source: str, layout: Layout | None) -> None:
        self.source, self.layout = source, layout
        self.action_parts: Parts = ()
        self.columns: dict[str, list[Array | None]] = {
            name: [] for name in ("obs", "actions", "next_obs", "rewards", "states")}
        self.lengths: list[int] = []
        self.returns: list[float] = []
        self.ends: list[tuple[bool, bool]] = []
        self.beside: list[dict[str, Array]] = []
        self.empty: list[str] = []
        self.cut: list[str] = []
        self.endless = False
        self.shape: Any = None

    def add(self, episode: Episode) -> None:
        try:
            actions, parts = pack_actions(episode.actions) if is_nested(episode.actions) else (episode.actions, ())
            obs, following, whole = self._successors(episode, self._packed(episode.obs), len(actions))
        except InputError as error:
            raise InputError(f"demos {self.source}: {episode.name}: {error}") from None
        if not len(obs):
            (self.empty if not len(actions) else self.cut).append(episode.name)
            return
        if not self.lengths:
            self.action_parts, self.shape = parts, (obs.shape[1:], actions.shape[1:])
        if (parts, (obs.shape[1:], actions.shape[1:])) != (self.action_parts, self.shape):
            raise InputError(f"demos {self.source}: {episode.name} has observations {obs.shape[1:]} and actions "
                             f"{actions.shape[1:]}, but the first episode {self.shape[0]} and {self.shape[1]}; split "
                             "the file")
        for name, rows in (("rewards", episode.rewards), ("states", episode.states)):
            if rows is not None and len(rows) != len(actions):
                raise InputError(f"demos {self.source}: {episode.name} has {len(rows)} {name} for {len(actions)} "
                                 "actions; record it again")
            self.columns[name].append(None if rows is None else rows[:len(obs)].reshape(len(obs), -1))
        for name, rows in (("obs", obs), ("next_obs", following), ("actions", actions[:len(obs)])):
            self.columns[name].append(rows)
        self.beside.append(fields_of(f"{self.source}: {episode.name}", {
            name: rows[:len(obs)] for name, rows in episode.beside.items()}, np.zeros(1, np.int64), len(obs)))
        self.lengths.append(len(obs))
        self.returns.append(0.0 if episode.rewards is None else float(episode.rewards.sum(dtype=np.float64)))
        self._end(episode, whole)

    def _end(self, episode: Episode, whole: bool) -> None:
        unknown = episode.terminated is None and episode.truncated is None
        self.endless |= unknown
        if not whole:
            self.cut.append(episode.name)
        self.ends.append((whole and bool(episode.terminated),
                          whole and (unknown or bool(episode.truncated and not episode.terminated))))

    def _packed(self, obs: Any) -> Array:
        """Rows of observations; those of dicts and tuples by the layout, which the first ones tell."""
        if not is_nested(obs):
            return obs
        if self.layout is None:
            self.layout = lay_out(space_of(obs), exact=True)
        if isinstance(obs, Mapping) and set(obs) != {(field.path or ("",))[0] for field in self.layout.own}:
            raise InputError(f"its observations have the parts {', '.join(map(str, obs))}, but the first episode's "
                             f"{', '.join(field.name for field in self.layout.own)}; split the file")
        return self.layout.pack(obs)[0]

    def _successors(self, episode: Episode, obs: Array, steps: int) -> tuple[Array, Array, bool]:
        """Observations, the ones after them, and whether the last step is among them."""
        if len(obs) == steps + 1:
            return obs[:-1], obs[1:], True
        if len(obs) == steps and episode.next_obs is not None:
            following = self._packed(episode.next_obs)
            if len(following) == steps:
                return obs, following, True
            raise InputError(f"it has {len(following)} next observations for {steps} actions; record it again")
        if len(obs) != steps:
            raise InputError(f"it has {len(obs)} observations for {steps} actions, but needs as many, or one more; "
                             "record it again")
        return obs[:-1], obs[1:], False

    def demos(self, notes: list[str]) -> Demos:
        columns: dict[str, Any] = {}
        for name in tuple(self.columns):
            parts = self.columns.pop(name)  # let go of as soon as they are joined
            known = [part for part in parts if part is not None]
            if known and len(known) < len(parts):
                notes.append(f"{name} are left out: only {len(known)} of {len(parts)} episodes have them")
            columns[name] = np.concatenate(known) if known and len(known) == len(parts) else None
        last = np.cumsum(self.lengths) - 1
        flags = np.zeros((2, sum(self.lengths)), bool)
        flags[:, last] = np.array(self.ends, bool).T
        del parts, known
        if columns["rewards"] is not None and self.cut:
            columns["episode_returns"] = np.array(self.returns)
        columns |= {name: np.concatenate([one[name] for one in self.beside]) for name in self.beside[0]
                    if all(name in one for one in self.beside)}
        return build_demos(self.source, notes=notes, layout=self.layout, action_parts=self.action_parts,
                           terminations=flags[0], truncations=flags[1], episode_starts=np.append(0, last[:-1] + 1),
                           **columns)


def _some(names: list[str], most: int = 3) -> str:
    kind = "episode" if len(names) == 1 else "episodes"
    return f"{len(names)} {kind} ({', '.join(names[:most])}{', …' if len(names) > most else ''})"
