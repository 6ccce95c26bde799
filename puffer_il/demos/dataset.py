"""`Demos`: demonstrations in memory, checked on construction."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.rows import Array, Layout
from puffer_il.demos.formats import formats
from puffer_il.demos.rows import Successors, blocks, is_mapped

PER_ROW = ("obs", "actions", "next_obs", "terminations", "truncations", "rewards", "weights", "states")
WHOLE = {"episode_returns": np.float64, "episode_lengths": np.int64, "episode_terminations": bool,
         "episode_truncations": bool}  # of whole episodes, where the rows are not
PER_EPISODE = {**WHOLE, "episode_seeds": np.uint64}


def check_starts(where: str, starts: Array, count: int) -> Array:
    """`starts` as int64; InputError, which begins with `where`, unless they cut `count` transitions into episodes."""
    rows = starts.astype(np.int64) if starts.dtype.kind in "iu" else np.empty(0, np.int64)
    if rows.ndim != 1 or not len(rows) or rows[0] != 0 or rows[-1] >= count or np.any(np.diff(rows) <= 0):
        told = rows.ravel()
        wrong = [k for k in range(len(told)) if told[k] >= count or (told[k] <= told[k - 1] if k else told[k] != 0)]
        got = f"{told[wrong[0]]} for episode {wrong[0]}" if wrong else f"{starts.dtype} {starts.shape}"
        raise InputError(f"{where}: episode_starts must rise from 0 and stay below {count} transitions, got {got}; "
                         "give the row that each episode begins in")
    return rows


@dataclass(frozen=True, repr=False)
class Demos:
    """Demonstrations: flat transitions plus episode offsets, checked on construction and read-only afterwards.

    obs, next_obs   (n, *obs_shape); next_obs is the true successor, never the next episode's first observation. Where
                    rows follow on one another it is `Successors`, which copies no observation that obs holds
    actions         (n, dim): int32 for discrete and multi-discrete ones, float32 otherwise; None where only the
                    observations were recorded
    terminations, truncations  (n,) bool, set on at most the last row of an episode, never both
    episode_starts  (episodes,) int64, increasing, the first 0
    rewards         (n,) float32 or None, the true reward
    episode_returns, episode_lengths, episode_terminations, episode_truncations  (episodes,) float64, int64, bool, bool
                    of the whole episodes; given where the rows are only a part of each (subsampled), None otherwise
    episode_seeds   (episodes,) uint64: what the environment was reset with, so that the actions lead to the rows again;
                    None where that is not known
    weights         (n,) float32, at least 0: how much each row counts against the others; None where all count alike
    states          (n, state size) float64 or None: the environment's whole state at each obs, to put it back there
    layout          what the rows of obs are made of, where they are those of a Dict or Tuple and that is known
    action_parts    what the columns of actions are, where they are those of a Dict or Tuple and that is known
    action_first    of each column which number of a Box its 0 stands for, None for choices without a meaning of their
                    own; () where there is no such column
    pictures        how the pictures in obs have been prepared, None where they are the environment's own

    Arrays may be mapped from files larger than memory; the numbers of those were checked when they were written.
    """

    obs: Array
    actions: Array | None
    next_obs: Array | Successors
    terminations: Array
    truncations: Array
    episode_starts: Array
    rewards: Array | None = None
    episode_returns: Array | None = None
    episode_lengths: Array | None = None
    episode_terminations: Array | None = None
    episode_truncations: Array | None = None
    episode_seeds: Array | None = None
    weights: Array | None = None
    states: Array | None = None
    layout: Layout | None = field(default=None, compare=False)
    action_parts: Parts = field(default=(), compare=False)
    action_first: tuple[int | None, ...] = field(default=(), compare=False)
    pictures: Pictures | None = field(default=None, compare=False)
    source: str = "memory"
    notes: tuple[str, ...] = field(default=(), compare=False)  # what the reader skipped or assumed

    def __post_init__(self) -> None:
        if len(self.obs) == 0:
            self._refuse("no transitions; collect at least one episode")
        self._check_shapes()
        self._check_numbers()
        self._check_ends()
        for _, array in self._given((*PER_ROW, "episode_starts", *PER_EPISODE)):
            array.setflags(write=False)

    def _refuse(self, what: str) -> NoReturn:
        raise InputError(f"demos {self.source}: {what}")

    def _given(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Those of the arrays `names` that there are."""
        return ((name, array) for name in names if (array := getattr(self, name)) is not None)

    def _check_shapes(self) -> None:
        for name, array in self._given(PER_ROW):
            if len(array) != len(self.obs):
                self._refuse(f"{name} has {len(array)} rows but obs has {len(self.obs)}; "
                             "every array must hold one row per transition")
        if self.next_obs.shape != self.obs.shape:
            self._refuse(f"next_obs has shape {self.next_obs.shape} but obs {self.obs.shape}; they must agree")
        for name, array in self._given(("actions", "states")):
            if array.ndim != 2:
                self._refuse(f"{name} has {array.ndim} axes instead of 2 (row, column)")
        for name, array in self._given(("obs", "actions", "states")):
            if array.size == 0:
                self._refuse(f"{name} has shape {array.shape}: its rows hold no numbers; record them again")
        check_starts(f"demos {self.source}", self.episode_starts, len(self.obs))
        for name, array in self._given(PER_EPISODE):
            if array.shape != self.episode_starts.shape:
                self._refuse(f"{name} has shape {array.shape} but there are {self.num_episodes} episodes; "
                             "give one number per episode")

    def _check_numbers(self) -> None:
        for name, array in self._given((*PER_ROW, *WHOLE)):
            if isinstance(array, Successors):  # all others are those of obs
                self._check_finite(name, array.finals, self.episode_ends - 1)
            elif not is_mapped(array):
                for part in blocks(array):
                    self._check_finite(name, array[part], range(part.start, part.stop))
        weights = self.weights
        if weights is not None and (weights.ndim != 1 or weights.min() < 0 or weights.max() <= 0):
            self._refuse(f"weights have shape {weights.shape} and lie in [{weights.min():.4g}, {weights.max():.4g}]; "
                         "give one number per transition, none negative and not all zero")

    def _check_finite(self, name: str, array: Array, rows: Sequence[int] | Array) -> None:
        cut = name in ("obs", "next_obs") and self.layout is not None
        for numbers in [f.of(array) for f in self.layout.fields] if cut else [array]:  # type: ignore[union-attr]
            if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                row = int(rows[np.argwhere(~np.isfinite(numbers))[0][0]])
                episode = row if name in WHOLE else np.searchsorted(self.episode_starts, row, side="right") - 1
                where = f"episode {row}" if name in WHOLE else f"row {row} (episode {episode})"
                self._refuse(f"{name} is NaN or infinite in {where}; remove that episode or repair the recording")

    def _check_ends(self) -> None:
        inner = np.setdiff1d(np.flatnonzero(self.terminations | self.truncations), self.episode_ends - 1)
        if len(inner):
            self._refuse(f"row {inner[0]} ends an episode but episode_starts has no start at row {inner[0] + 1}; "
                         "split the episodes there")
        both = np.flatnonzero(self.terminations & self.truncations)
        if len(both):
            self._refuse(f"row {both[0]} is both a termination and a truncation; keep one (a time limit is a "
                         "truncation)")

    def save(self, path: Path | str, *, env: str = "", collected: str = "", recording: dict[str, Any] | None = None
             ) -> None:
        """Write our own file, all or nothing; the folder is made if it is missing. A `path` that ends in "/" or in
        ".shards" becomes a folder of arrays that are mapped and not read: formats/puffer_il_shards.py.

        `env` names the environment, `collected` says how they came about (a command), `recording` how far that has
        come. The same demonstrations give the same bytes. Raises InputError if the file cannot be written.
        """
        own = "puffer_il_shards" if formats()["puffer_il_shards"].is_folder(path) else "puffer_il"
        formats()[own].write(path, self, env, collected, recording)

    def with_obs(self, made: Callable[[Array], Array], **changes: Any) -> "Demos":
        """The same with rows `made` of those of obs, each of its own, and with the successors made of theirs.

        InputError for mapped rows that would have to be made.
        """
        one = made(self.obs[:1])
        if not is_mapped(one):
            self.refuse_to_make(one.shape[1:], one.dtype)
        obs, following = made(self.obs), self.next_obs
        following = (Successors(obs, made(following.finals), following.starts) if isinstance(following, Successors)
                     else made(following))
        return replace(self, obs=obs, next_obs=following, **changes)

    def in_memory(self) -> "Demos":
        """The same, of which nothing is mapped."""
        held: dict[str, Any] = {name: np.array(array) for name, array in self._given(PER_ROW) if name != "next_obs"}
        held["next_obs"] = (Successors(held["obs"], np.array(self.next_obs.finals), self.next_obs.starts)
                            if isinstance(self.next_obs, Successors) else np.array(self.next_obs))
        return replace(self, **held)

    def refuse_to_make(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """InputError if obs is mapped: rows of this shape and dtype may be more than the memory takes."""
        if is_mapped(self.obs):
            self._refuse(f"its observations, {self.obs.dtype} {self.obs.shape[1:]}, are mapped from a file, and are "
                         f"not made into {dtype} {shape} in memory; write them once as they are wanted: puffer-il "
                         f"demos import {self.source} FOLDER/ --env ENV, with the same --env keys")

    def __len__(self) -> int:
        return len(self.obs)

    def __repr__(self) -> str:
        return f"Demos({self.source}: {self.num_episodes} episodes, {len(self):,} transitions)"

    @property
    def num_episodes(self) -> int:
        return len(self.episode_starts)

    @property
    def episode_ends(self) -> Array:
        """(episodes,) one past the last row of each episode."""
        return np.append(self.episode_starts[1:], len(self.obs))

    @property
    def final_obs(self) -> Array:
        """(episodes, *obs_shape) the last successor of each episode."""
        return self.next_obs.finals if isinstance(self.next_obs, Successors) else self.next_obs[self.episode_ends - 1]

    @property
    def lengths(self) -> Array:
        """(episodes,) rows stored of each episode."""
        return self.episode_ends - self.episode_starts

    @property
    def whole_lengths(self) -> Array:
        """(episodes,) steps of each whole episode: more than its rows where they are subsampled."""
        return self.lengths if self.episode_lengths is None else self.episode_lengths

    @property
    def terminated(self) -> Array:
        """(episodes,) bool, True where the whole episode ended in a termination."""
        whole = self.episode_terminations
        return self.terminations[self.episode_ends - 1] if whole is None else whole

    @property
    def truncated(self) -> Array:
        """(episodes,) bool, True where a time limit cut the whole episode."""
        whole = self.episode_truncations
        return self.truncations[self.episode_ends - 1] if whole is None else whole

    @property
    def returns(self) -> Array | None:
        """(episodes,) undiscounted true returns of the whole episodes, None without rewards."""
        if self.episode_returns is not None or self.rewards is None:
            return self.episode_returns
        return np.add.reduceat(self.rewards, self.episode_starts, dtype=np.float64)

    @property
    def episode_weights(self) -> Array:
        """(episodes,) float64 mean weight of each episode's rows, 1 without weights."""
        if self.weights is None:
            return np.ones(self.num_episodes)
        return np.add.reduceat(self.weights, self.episode_starts, dtype=np.float64) / self.lengths

    @property
    def return_mean(self) -> float | None:
        """Mean of `returns`, each episode counting as its `episode_weights` say."""
        return None if self.returns is None else float(np.average(self.returns, weights=self.episode_weights))


def kinds_of(demos: Demos, obs: Any = None) -> Array:
    """(episodes,) a number for each episode, the same for copies of one another; slices of `obs` are looked at in place
    of the observations, if they are given."""
    arrays = [array for array in (demos.obs if obs is None else obs, demos.actions) if array is not None]
    known: dict[bytes, int] = {}
    kinds = []
    for a, b in zip(demos.episode_starts, demos.episode_ends, strict=True):
        digest = hashlib.sha256()
        for array in arrays:
            own = array[a:b]
            for part in blocks(own):
                digest.update(np.ascontiguousarray(own[part]).reshape(-1).view(np.uint8).data)
        kinds.append(known.setdefault(digest.digest(), len(known)))
    return np.array(kinds)
