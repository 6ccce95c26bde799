"""Episodes as files hold them → Demos: whether the final observation is there, how an episode ended, named fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array, Layout
from puffer_il.core.spaces import lay_out
from puffer_il.demos.actions import pack_actions
from puffer_il.demos.build import build_demos, uniform
from puffer_il.demos.dataset import Demos
from puffer_il.demos.grown import Grown, Precision
from puffer_il.demos.kept import fields_of
from puffer_il.demos.rows import Successors, follows
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
    seed: int | None = None


def join_episodes(source: str, episodes: Iterable[Episode], notes: list[str] | None = None,
                  layout: Layout | None = None, **more: Any) -> Demos:
    """Demonstrations of all episodes, in their order. `layout` is that of the file's own space, where it names one;
    `more` as in `build_demos`.

    Episodes may come one by one, so that no more than one is held beside what has been joined, and say in `notes` what
    there is to say. A last row without a successor is left out.
    Raises InputError for lengths that fit neither layout, and for episodes whose observations or actions are made of
    other parts than the first one's.
    """
    return next(parts_of_episodes(source, episodes, notes, layout, most=np.inf, **more))


def parts_of_episodes(source: str, episodes: Iterable[Episode], notes: list[str] | None = None,
                      layout: Layout | None = None, action_parts: Parts = (), *, most: float, **more: Any
                      ) -> Iterator[Demos]:
    """The same, so many episodes together as have `most` bytes of observations; the last part has the notes of all.
    `action_parts` are what the columns of actions are, where those are rows already."""
    joined, held = _Joined(source, layout, action_parts, more), None
    for episode in episodes:
        joined.add(episode)
        if held is not None and joined.lengths:
            yield held
            held = None
        if joined.obs.nbytes >= most:
            held = joined.demos()
    notes = [*(notes or ()), *joined.told()]
    if not joined.lengths and held is None:
        raise InputError(f"demos {source}: holds no transitions; record it again")
    if joined.lengths:
        if held is not None:
            yield held
        yield joined.demos(notes)
    elif held is not None:
        yield replace(held, notes=(*notes, *held.notes))


class _Joined:
    def __init__(self, source: str, layout: Layout | None, action_parts: Parts, more: dict[str, Any]) -> None:
        self.source, self.layout, self.action_parts, self.more = source, layout, action_parts, more
        self.empty: list[str] = []
        self.cut: list[str] = []
        self.endless = False
        self.shape: Any = None
        self._begin()

    def _begin(self) -> None:
        self.obs, self.finals = Grown(), Grown()
        self.following: Grown | None = None
        self.precision = Precision()
        self.columns = {"actions": Grown(), "rewards": Grown(), "states": Grown()}
        self.known = dict.fromkeys(self.columns, 0)  # in how many episodes they are
        self.lengths: list[int] = []
        self.returns: list[float] = []
        self.ends: list[tuple[bool, bool]] = []
        self.beside: list[dict[str, Array]] = []
        self.seeds: list[int | None] = []

    def told(self) -> list[str]:
        """Notes of all episodes so far."""
        told = []
        if self.empty:
            told.append(f"skipped {_some(self.empty)} without a step")
        if self.cut:
            told.append(f"the last row of {_some(self.cut)} is left out: the file does not hold the observation after "
                        "it")
        return [*told, NO_ENDS] if self.endless else told

    def add(self, episode: Episode) -> None:
        try:
            actions, parts = (pack_actions(episode.actions) if is_nested(episode.actions) else
                              (episode.actions, self.action_parts))
            obs, final, following, whole = self._successors(episode, self._packed(episode.obs), len(actions))
        except InputError as error:
            raise InputError(f"demos {self.source}: {episode.name}: {error}") from None
        if not len(obs):
            (self.empty if not len(actions) else self.cut).append(episode.name)
            return
        if self.shape is None:
            self.action_parts, self.shape = parts, (obs.shape[1:], actions.shape[1:])
        if (parts, (obs.shape[1:], actions.shape[1:])) != (self.action_parts, self.shape):
            raise InputError(f"demos {self.source}: {episode.name} has observations {obs.shape[1:]} and actions "
                             f"{actions.shape[1:]}, but the first episode {self.shape[0]} and {self.shape[1]}; split "
                             "the file")
        self._add_column("actions", actions[:len(obs)])
        for name, rows in (("rewards", episode.rewards), ("states", episode.states)):
            if rows is not None and len(rows) != len(actions):
                raise InputError(f"demos {self.source}: {episode.name} has {len(rows)} {name} for {len(actions)} "
                                 "actions; record it again")
            if rows is not None:
                self._add_column(name, rows[:len(obs)].reshape(len(obs), -1))
        self._add_obs(obs, final, following)
        self.beside.append(fields_of(f"{self.source}: {episode.name}", {
            name: rows[:len(obs)] for name, rows in episode.beside.items()}, np.zeros(1, np.int64), len(obs)))
        self.lengths.append(len(obs))
        self.seeds.append(episode.seed)
        self.returns.append(0.0 if episode.rewards is None else float(episode.rewards.sum(dtype=np.float64)))
        self._end(episode, whole)

    def _add_column(self, name: str, rows: Array) -> None:
        self.columns[name].append(uniform(self.source, name, rows))
        self.known[name] += 1

    def _add_obs(self, obs: Array, final: Array, following: Array | None) -> None:
        """Successors are kept apart only from where they are not the observations of the rows after them."""
        self.precision.add(obs)
        obs, final = (uniform(self.source, "obs", rows) for rows in (obs, final))
        if following is not None:
            following = uniform(self.source, "next_obs", following)
            if self.following is None and not follows(obs, following):
                self.following = Grown()
                if self.lengths:
                    self.following.append(np.asarray(self._stored(self.obs.rows, self.finals.rows)))
        if self.following is None:
            self.finals.append(final)
        else:
            self.following.append(np.concatenate((obs[1:], final)) if following is None else following)
        self.obs.append(obs)

    def _stored(self, obs: Array, finals: Array) -> Successors:
        return Successors(obs, finals.astype(obs.dtype, copy=False), np.cumsum(self.lengths) - self.lengths)

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

    def _successors(self, episode: Episode, obs: Array, steps: int) -> tuple[Array, Array, Array | None, bool]:
        """Observations, the one after the last of them, those after each as the file holds them, if it does, and
        whether the last step is among them."""
        if len(obs) == steps + 1:
            return obs[:-1], obs[-1:], None, True
        if len(obs) == steps and episode.next_obs is not None:
            following = self._packed(episode.next_obs)
            if len(following) == steps:
                return obs, following[-1:], following, True
            raise InputError(f"it has {len(following)} next observations for {steps} actions; record it again")
        if len(obs) != steps:
            raise InputError(f"it has {len(obs)} observations for {steps} actions, but needs as many, or one more; "
                             "record it again")
        return obs[:-1], obs[-1:], None, False

    def demos(self, notes: Sequence[str] = ()) -> Demos:
        """Those that were added since the last call."""
        notes, columns = list(notes), dict[str, Any]()
        for name, known in self.known.items():
            if 0 < known < len(self.lengths):
                notes.append(f"{name} are left out: only {known} of {len(self.lengths)} episodes have them")
            columns[name] = self.columns[name].array() if known == len(self.lengths) else None
        last = np.cumsum(self.lengths) - 1
        flags = np.zeros((2, sum(self.lengths)), bool)
        flags[:, last] = np.array(self.ends, bool).T
        obs = self.obs.array()
        next_obs = self._stored(obs, self.finals.array()) if self.following is None else self.following.array()
        if columns["rewards"] is not None and self.cut:
            columns["episode_returns"] = np.array(self.returns)
        if all(seed is not None for seed in self.seeds):
            columns["episode_seeds"] = np.array(self.seeds, np.uint64)
        columns |= {name: np.concatenate([one[name] for one in self.beside]) for name in self.beside[0]
                    if all(name in one for one in self.beside)}
        lost, starts = self.precision.notes(), np.append(0, last[:-1] + 1)
        self._begin()  # before what follows takes memory
        return build_demos(self.source, notes=[*notes, *lost], layout=self.layout, action_parts=self.action_parts,
                           obs=obs, next_obs=next_obs, terminations=flags[0], truncations=flags[1],
                           episode_starts=starts, **columns, **self.more)


def _some(names: list[str], most: int = 3) -> str:
    kind = "episode" if len(names) == 1 else "episodes"
    return f"{len(names)} {kind} ({', '.join(names[:most])}{', …' if len(names) > most else ''})"
