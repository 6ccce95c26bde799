"""Whole episodes: chosen, split into two sets, several sets as one."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array
from puffer_il.demos.dataset import Demos, kinds_of
from puffer_il.demos.good import join, take_episodes

RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def numbers(text: str, count: int, what: str) -> Array:
    """(k,) whole numbers below `count` that "0,3,5-9" names; InputError that begins with `what`."""
    chosen: list[int] = []
    for part in text.split(","):
        found = RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found and len(part) < 40 else (0, -1)
        if not first <= last < count:
            raise InputError(f"{what} {text!r}: {part.strip()!r} is none of 0 to {count - 1}; give numbers and ranges, "
                             "such as 0,3,5-9")
        chosen += range(first, last + 1)
    return np.unique(chosen)


def keep(demos: Demos, text: str) -> Demos:
    """Only the episodes that "0,3,5-9" names."""
    chosen = np.isin(np.arange(demos.num_episodes), numbers(text, demos.num_episodes, "--keep"))
    return _chosen(demos, chosen, f"kept episodes {text}")


def drop(demos: Demos, text: str) -> Demos:
    """Without the episodes that "0,3,5-9" names."""
    chosen = ~np.isin(np.arange(demos.num_episodes), numbers(text, demos.num_episodes, "--drop"))
    return _chosen(demos, chosen, f"dropped episodes {text}")


def between(option: str, of: Callable[[Demos], Array], low: float, high: float) -> Callable[[Demos], Demos]:
    """The edit that keeps episodes for which `of` (episodes,) is from `low` to `high`; `option` is what asks for it."""
    def edit(demos: Demos) -> Demos:
        values = of(demos)
        return _chosen(demos, (values >= low) & (values <= high), option)
    return edit


def returns_of(demos: Demos) -> Array:
    """(episodes,) returns; InputError without rewards."""
    if demos.returns is None:
        raise InputError(f"demos {demos.source}: no rewards are stored, so episodes cannot be chosen by their return; "
                         "choose them by number or length, or give rewards first (--rewards env)")
    return demos.returns


def lengths_of(demos: Demos) -> Array:
    """(episodes,) steps."""
    return demos.whole_lengths


def succeeded(demos: Demos) -> Demos:
    """Only the episodes whose last reward is above 0, as recorders of sparse rewards mark a success."""
    if demos.rewards is None:
        returns_of(demos)
        raise InputError(f"demos {demos.source}: only returns are stored, not the last rewards that tell a success; "
                         "choose episodes by their return (--min-return)")
    return _chosen(demos, demos.rewards[demos.episode_ends - 1] > 0, "kept successes")


def best(demos: Demos, count: int) -> Demos:
    """The `count` episodes with the highest returns, in their order."""
    chosen = np.zeros(demos.num_episodes, bool)
    chosen[np.argsort(-returns_of(demos), kind="stable")[:count]] = True
    return _chosen(demos, chosen, f"kept the best {count}")


def without_copies(demos: Demos, obs: Any = None) -> Demos:
    """The first of each set of equal episodes; `obs` are their observations, where others stand in for them."""
    _, first = np.unique(kinds_of(demos, obs), return_index=True)
    return _chosen(demos, np.isin(np.arange(demos.num_episodes), first), "dropped copies")


def split(demos: Demos, share: float, seed: int) -> list[Demos]:
    """A share of the episodes, drawn with `seed`, and the others; each has at least one. InputError for one alone."""
    if demos.num_episodes < 2:
        raise InputError(f"demos {demos.source}: has a single episode, which cannot be split; record more")
    count = min(max(1, round(share * demos.num_episodes)), demos.num_episodes - 1)
    chosen = np.zeros(demos.num_episodes, bool)
    chosen[np.random.default_rng(seed).choice(demos.num_episodes, count, replace=False)] = True
    return [_chosen(demos, part, f"split off {part.sum()} of {len(part)} episodes") for part in (chosen, ~chosen)]


def merged(sets: Sequence[Demos]) -> Demos:
    """All episodes of `sets`, one set after the other. InputError where rows differ in kind, or in what they mean."""
    made = sets[0]
    for other in sets[1:]:
        check_alike(made, other)
        joined = join(made, other)
        made = replace(joined, layout=made.layout, action_parts=made.action_parts, action_first=made.action_first,
                       notes=tuple(dict.fromkeys(joined.notes)))
    return made


def check_alike(first: Demos, second: Demos) -> None:
    """InputError where what the columns of two sets mean differs."""
    for name in ("layout", "action_parts", "action_first", "pictures"):
        if getattr(first, name) != getattr(second, name):
            raise InputError(f"demos {first.source} and {second.source}: their {name} differ; bring both to the same "
                             "environment first (demos import FILE OUT --env ENV)")


def _chosen(demos: Demos, chosen: Array, note: str) -> Demos:
    if not chosen.any():
        raise InputError(f"demos {demos.source}: {note} leaves none of {demos.num_episodes} episodes; choose less "
                         "strictly")
    return replace(take_episodes(demos, chosen), notes=(*demos.notes, f"{note}: {chosen.sum()} of {len(chosen)}"))
