"""Rows of episodes: cut off where nothing happens, cut in two, paired anew with the observations of other rows."""

from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array
from puffer_il.demos.dataset import PER_EPISODE, PER_ROW, Demos
from puffer_il.demos.edit.episodes import numbers
from puffer_il.demos.judge.rows import still
from puffer_il.demos.judge.subject import Subject
from puffer_il.demos.rows import successors


def without_idle(demos: Demos) -> Demos:
    """Without the rows at both ends of each episode in which nothing moves and the action stays; an episode in which
    nothing ever moves is left out. What is cut off at its end is truncated."""
    flags, kept = still(Subject(demos)), np.ones(len(demos), bool)
    for a, b in zip(demos.episode_starts, demos.episode_ends, strict=True):
        moving = np.flatnonzero(~flags[a:b - 1]) if b - a > 1 else np.zeros(1, np.int64)
        if not len(moving):
            kept[a:b] = False
            continue
        kept[a:a + moving[0]] = False
        if moving[-1] < b - a - 2:  # the last row has no next one to tell whether it is still
            kept[a + moving[-1] + 1:b] = False
    return _rows(demos, kept, f"cut off {np.sum(~kept)} idle rows")


def cut_at(demos: Demos, text: str) -> Demos:
    """Episodes that begin in the rows that "120,300" names as well; the episode before is truncated there."""
    wanted = numbers(text, len(demos), "--cut-at")
    _whole(demos, "cut")
    starts = np.union1d(demos.episode_starts, wanted)
    cuts = demos.truncations.copy()
    cuts[starts[1:] - 1] |= ~demos.terminations[starts[1:] - 1]
    following = successors(demos.obs, np.asarray(demos.next_obs), starts)
    return replace(demos, next_obs=following, truncations=cuts, episode_starts=starts, **_ends(None),
                   notes=(*demos.notes, f"episodes cut at rows {text}"))


def shifted_by(demos: Demos, count: int) -> Demos:
    """Actions paired with the observations of `count` rows later, which mends observations that come so many rows late;
    a negative one mends late actions. Each episode loses as many rows, and is truncated."""
    _whole(demos, "shift")
    if demos.actions is None or count == 0 or abs(count) >= demos.lengths.max():
        raise InputError(f"demos {demos.source}: --shift {count} leaves no pair of observation and action; give the "
                         "number of rows by which they are late, 1 as a rule")
    step, kept = abs(count), np.ones(len(demos), bool)
    for end, length in zip(demos.episode_ends, demos.lengths, strict=True):
        kept[end - min(step, length):end] = False
    short = _rows(demos, kept, f"shifted by {count} rows")
    own = np.flatnonzero(kept)
    if count > 0:
        obs, following = demos.obs[own + step], np.asarray(demos.next_obs)[own + step]
        return replace(short, obs=obs, next_obs=successors(obs, following, short.episode_starts),
                       states=None if demos.states is None else demos.states[own + step])
    return replace(short, actions=demos.actions[own + step])


def _whole(demos: Demos, verb: str) -> None:
    if demos.episode_lengths is not None:
        raise InputError(f"demos {demos.source}: rows are subsampled and do not follow on one another; {verb} the "
                         "whole recording first")


def _rows(demos: Demos, kept: Array, note: str) -> Demos:
    """Only the rows `kept` (n,) bool; an episode whose last row is not among them is truncated, and one without any is
    left out."""
    if not kept.any():
        raise InputError(f"demos {demos.source}: {note} leaves no row; give another recording")
    counts = np.add.reduceat(kept.astype(np.int64), demos.episode_starts)
    lengths = counts[counts > 0]
    arrays: dict[str, Any] = {name: None if (array := getattr(demos, name)) is None else np.asarray(array)[kept]
                              for name in PER_ROW}
    last = np.cumsum(lengths) - 1
    cut = ~(arrays["terminations"][last] | arrays["truncations"][last]) & (
        demos.terminated | demos.truncated)[counts > 0]
    arrays["truncations"][last[cut]] = True
    arrays["next_obs"] = successors(arrays["obs"], arrays["next_obs"], last + 1 - lengths)
    return replace(demos, **arrays, episode_starts=last + 1 - lengths, **_ends(None), notes=(*demos.notes, note))


def _ends(value: None) -> dict[str, Any]:
    """What is told of whole episodes no longer holds."""
    return dict.fromkeys(PER_EPISODE, value)
