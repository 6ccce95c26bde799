"""Recordings: episodes in rounds that each begin from a seed of their own, of which those are kept that pass.

A round is one episode for each row of the vector. Whoever stops a recording loses the round that is being played, and
whoever goes on with it plays that round again: the seeds, and so the episodes, are those of a recording that was never
stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from puffer_il.core.errors import Discard, InputError, Quit
from puffer_il.core.spec import Array
from puffer_il.demos.collect import Act, Played, play
from puffer_il.demos.dataset import PER_ROW, Demos
from puffer_il.demos.good import take_episodes
from puffer_il.demos.rows import successors

TRIES = 20  # times as many episodes as asked for are played at most until so many have passed
Noise = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Wanted:
    """Which of the episodes played are kept: with at least a return, those that succeed, and in the end the best."""

    min_return: float | None = None
    successes: bool = False
    best: int = 0

    def __str__(self) -> str:
        return " and ".join(filter(None, (
            f"return at least {self.min_return:g}" if self.min_return is not None else "",
            "success" if self.successes else "")))

    def passes(self, played: Played, source: str) -> Array:
        """(episodes,) bool. InputError where the environment does not say whether an episode succeeded."""
        assert played.demos is not None
        passed = np.ones(played.demos.num_episodes, bool)
        if self.min_return is not None:
            assert played.demos.returns is not None
            passed &= played.demos.returns >= self.min_return
        if self.successes:
            if (played.successes < 0).any():
                raise InputError(f"{source}: the environment does not say whether an episode succeeded "
                                 "(info['is_success'] or info['success']); choose by --min-return instead")
            passed &= played.successes > 0
        return passed


@dataclass(frozen=True)
class Recording:
    """How far a recording has come, as its file keeps it.

    seed, rows  of the vector; they decide what every round is
    rounds      that all rows have played to the end
    played      episodes of these rounds, kept or not
    whole       episodes of these rounds that were kept: the rest is played again by whoever goes on
    """

    seed: int
    rows: int
    rounds: int = 0
    played: int = 0
    whole: int = 0


@dataclass(frozen=True)
class Recorded:
    """The episodes that were kept, in parts; how far that is; and whether it is all that was asked for."""

    parts: tuple[Demos, ...]
    recording: Recording
    finished: bool = False

    @property
    def count(self) -> int:
        return sum(part.num_episodes for part in self.parts)

    def demos(self, source: str, notes: tuple[str, ...] = ()) -> Demos | None:
        """All of them, None where there are none."""
        return joined(self.parts, source, notes) if self.parts else None


@dataclass(frozen=True)
class Recorder:
    """Who plays where, and which episodes are kept.

    noise    from the seed of a round to its noise, see `play`
    limit    steps that an episode has at most, where the environment has no limit of its own
    stopped  once it says so, what is finished is all; Quit of an actor says so too, and Discard ends a round of which
             nothing is kept
    """

    vec: Any
    actor: Act
    source: str
    wanted: Wanted = Wanted()
    noise: Callable[[int], Noise] | None = None
    stopped: Callable[[], bool] = lambda: False
    limit: int = 0

    def record(self, episodes: int, at: Recorded) -> Iterator[Recorded]:
        """What there is after each round, until `episodes` have been kept or it was stopped. InputError if too few
        pass."""
        if episodes < 1:
            raise InputError(f"{self.source}: {episodes} episodes asked for; collect at least one")
        while not at.finished:
            missing = episodes - at.count
            if missing > 0 and at.recording.played >= max(TRIES * episodes, self.vec.num_envs):
                raise InputError(f"{self.source}: {at.count} of {at.recording.played} episodes were kept{self._which}, "
                                 f"where {episodes} are asked for; ask for fewer of them, or for less of each")
            if missing <= 0:
                yield replace(at, finished=True)
                return
            before, at = at, self._round(at, missing)
            yield at
            if at.recording.rounds == before.recording.rounds and not at.finished:
                return  # it was stopped

    def _round(self, at: Recorded, missing: int) -> Recorded:
        """One more round; one that is cut short, by whoever stops it or because it is the last, does not count."""
        state, rows = at.recording, self.vec.num_envs
        count, seed = rows if str(self.wanted) else min(missing, rows), seed_of(state.seed, state.rounds)
        begin = getattr(self.actor, "begin", None)
        if begin is not None:
            begin(seed)
        noise = self.noise(seed) if self.noise is not None else None
        stopped = False

        def stops() -> bool:
            nonlocal stopped
            stopped = stopped or self.stopped()
            return stopped

        try:
            played = play(self.vec, self.actor, count, self.source, seed=seed, noise=noise, stopped=stops,
                          limit=self.limit)
        except Discard:
            return replace(at, recording=replace(state, rounds=state.rounds + 1, played=state.played + 1))
        except Quit:
            return at
        found = self._passing(played)
        parts = at.parts if found is None else (*at.parts, first_of(found, missing))
        enough = found is not None and found.num_episodes > missing
        if stopped or enough or count < rows:
            return Recorded(parts, state, finished=not stopped)
        return Recorded(parts, replace(state, rounds=state.rounds + 1, played=state.played + rows,
                                       whole=sum(part.num_episodes for part in parts)))

    def _passing(self, played: Played) -> Demos | None:
        """The episodes that are kept, None where none is."""
        if played.demos is None:
            return None
        passed = self.wanted.passes(played, self.source)
        return take_episodes(played.demos, passed) if passed.any() else None

    @property
    def _which(self) -> str:
        return f" ({self.wanted})" if str(self.wanted) else ""


def recorded(vec: Any, actor: Act, episodes: int, source: str, seed: int = 0, limit: int = 0) -> Demos:
    """The episodes that a Recorder keeps to whom nothing else is said."""
    *_, last = Recorder(vec, actor, source, limit=limit).record(episodes, Recorded((), Recording(seed, vec.num_envs)))
    demos = last.demos(source)
    assert demos is not None
    return demos


def seed_of(seed: int, index: int) -> int:
    """Of a round; the first one's is the recording's own."""
    return seed if index == 0 else int(np.random.SeedSequence((seed, index)).generate_state(1)[0] >> 1)


def first_of(demos: Demos, count: int) -> Demos:
    return demos if demos.num_episodes <= count else take_episodes(demos, np.arange(demos.num_episodes) < count)


def best_of(demos: Demos, count: int) -> Demos:
    """The `count` episodes of the highest returns, in the order in which they were played."""
    if demos.returns is None or count >= demos.num_episodes:
        return demos
    rank = np.argsort(np.argsort(-demos.returns, kind="stable"))
    return take_episodes(demos, rank < count)


def joined(parts: tuple[Demos, ...], source: str, notes: tuple[str, ...] = ()) -> Demos:
    """Recordings of the same environment, one after the other."""
    arrays: dict[str, Any] = {name: np.concatenate([np.asarray(getattr(part, name)) for part in parts])
                              for name in PER_ROW if getattr(parts[0], name) is not None}
    before = np.cumsum([0, *map(len, parts)])[:-1]
    starts = np.concatenate([part.episode_starts + rows for part, rows in zip(parts, before, strict=True)])
    said = dict.fromkeys((*(note for part in parts for note in part.notes), *notes))
    arrays["next_obs"] = successors(arrays["obs"], arrays["next_obs"], starts)
    return replace(parts[0], **arrays, episode_starts=starts, source=source, notes=tuple(said))
