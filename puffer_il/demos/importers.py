"""Other people's files → Demos, recognised by their keys. One function per format; `READERS` lists them.

Recorders of the `done` era store one flag for both kinds of end, so a time limit looks like a termination. We take an
episode for cut off (a truncation) if its length is the time limit: the caller's `time_limit`, or else one that the
file itself shows, which is the longest length if it is a multiple of 50 and both two episodes and a tenth of all reach
it. What was assumed is said in `Demos.notes`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.build import build_demos, shifted
from puffer_il.demos.dataset import Demos
from puffer_il.demos.exporters import import_minari
from puffer_il.demos.formats.npz import Npz, one_line
from puffer_il.demos.formats.puffer_il import decode

MINARI = "minari:"  # begins the name of a dataset that is no file
ROUND, SHARE = 50, 0.1  # what makes the longest length of a file a time limit


def read_demos(path: Path | str, time_limit: int | None = None) -> Demos:
    """Demonstrations of a file: ours, the `imitation` package's flat npz, or that of Berkeley's CS 285.

    A path "minari:ID" is a local Minari dataset, see `from_minari`.
    `time_limit` is the environment's own, in steps; it matters only for files that do not tell the two ends apart.
    Nothing is ever unpickled. Raises InputError for what is missing, damaged, unknown or inconsistent.
    """
    if str(path).startswith(MINARI):
        return from_minari(str(path).removeprefix(MINARI))
    with Npz(path) as file:
        for marks, reader in READERS.values():
            if file.keys.issuperset(marks):
                return reader(file, time_limit)
        known = "; ".join(f"{name}: {' '.join(marks)} …" for name, (marks, _) in READERS.items())
        file.refuse(f"holds {file.listing()}, no format we know by its keys ({known}); save it in one of them")


def from_imitation(file: Npz, time_limit: int | None = None) -> Demos:
    """`imitation`: trajectories end to end, split at `indices`; `obs` also holds each one's final observation."""
    actions, lengths = file.rows("acts"), _lengths(file)
    obs, terminal = file.rows("obs"), file.rows("terminal").reshape(-1)
    if len(obs) != len(actions) + len(lengths) or len(terminal) != len(lengths):
        file.refuse(f"obs has {len(obs)} rows and terminal {len(terminal)}, but {len(actions)} actions "
                    f"in {len(lengths)} episodes need {len(actions) + len(lengths)} and {len(lengths)}")
    last = np.cumsum(lengths + 1) - 1  # where each episode's final observation lies in `obs`
    real = lengths > 0
    if not real.any():
        file.refuse("holds no transitions; record it again")
    notes = [] if real.all() else [f"skipped {np.sum(~real)} episodes without a step"]
    if "infos" in file:
        notes.append("skipped infos: pickled Python objects, never loaded")
    final_obs, first_obs = obs[last][real], np.delete(obs, last, axis=0)
    lengths, terminal = lengths[real], terminal[real]
    starts = np.cumsum(lengths) - lengths
    terminations, truncations = _ends(lengths, terminal, time_limit, notes)
    return build_demos(str(file.path), obs=first_obs, actions=actions, next_obs=shifted(first_obs, final_obs, starts),
                       terminations=terminations, truncations=truncations, episode_starts=starts,
                       rewards=file.get("rews"), notes=notes)


def from_cs285(file: Npz, time_limit: int | None = None) -> Demos:
    """CS 285: one row per transition with its own successor; episodes begin at `episode_starts` or after a terminal."""
    terminal = file.rows("terminal").reshape(-1).astype(bool)
    if not len(terminal):
        file.refuse("holds no transitions; record it again")
    if "episode_starts" in file:
        starts = file.starts(len(terminal))
    else:
        starts = np.append(0, np.flatnonzero(terminal[:-1]) + 1)
    ends = np.append(starts[1:], len(terminal)) - 1
    inner = np.setdiff1d(np.flatnonzero(terminal), ends)
    if len(inner):
        file.refuse(f"terminal is set in row {inner[0]}, in the middle of an episode; split the episodes there")
    notes: list[str] = []
    terminations, truncations = _ends(ends - starts + 1, terminal[ends], time_limit, notes)
    return build_demos(str(file.path), obs=file.rows("observation"), actions=file.rows("action"),
                       next_obs=file.rows("next_observation"), terminations=terminations, truncations=truncations,
                       episode_starts=starts, rewards=file.get("reward"), notes=notes)


def from_minari(dataset_id: str) -> Demos:
    """A Minari dataset on this machine, such as "D4RL/door/human-v2"; array observations only. Needs that extra."""
    minari, source = import_minari(), f"{MINARI}{dataset_id}"
    try:
        dataset = minari.load_dataset(dataset_id)
        episodes = [e for e in dataset.iterate_episodes() if len(e.actions)]
    except FileNotFoundError:
        raise InputError(f"demos {source}: not on this machine; fetch it with `minari download {dataset_id}`") from None
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise InputError(f"demos {source}: cannot be read ({one_line(error)}); delete it and fetch it again") from None
    if not episodes:
        raise InputError(f"demos {source}: holds no episodes; choose another dataset")
    parts = [part for e in episodes for part in (e.observations, e.actions)]
    if not all(isinstance(part, np.ndarray) and part.dtype.kind in "biuf" for part in parts):
        raise InputError(f"demos {source}: has Dict, Tuple or Text observations or actions; only arrays can be read")
    lengths = np.array([len(e.actions) for e in episodes])
    last = np.cumsum(lengths) - 1
    first_action = getattr(dataset.action_space, "start", 0)  # ours count from 0
    terminations, truncations = np.zeros((2, lengths.sum()), bool)
    terminations[last] = [bool(e.terminations[-1]) for e in episodes]
    truncations[last] = [bool(e.truncations[-1] and not e.terminations[-1]) for e in episodes]
    return build_demos(source, obs=np.concatenate([e.observations[:-1] for e in episodes]),
                       actions=np.concatenate([e.actions for e in episodes]) - first_action,
                       next_obs=np.concatenate([e.observations[1:] for e in episodes]), terminations=terminations,
                       truncations=truncations, episode_starts=np.append(0, last[:-1] + 1),
                       rewards=np.concatenate([e.rewards for e in episodes]))


READERS: dict[str, tuple[tuple[str, ...], Callable[[Npz, int | None], Demos]]] = {
    "ours": (("obs", "actions"), lambda file, _: decode(file)),
    "ours without actions": (("obs", "episode_starts"), lambda file, _: decode(file)),
    "imitation": (("obs", "acts"), from_imitation),
    "CS 285": (("observation", "action"), from_cs285),
}


def _lengths(file: Npz) -> Array:
    """(episodes,) steps between the split points of `imitation`."""
    total, splits = len(file.rows("acts")), file.rows("indices").reshape(-1)
    inner = splits.astype(np.int64) if splits.dtype.kind in "iu" else [-1]
    bounds = np.concatenate([[0], inner, [total]])
    if np.any(np.diff(bounds) < 0):
        file.refuse(f"indices must rise between 0 and {total} actions, got {splits[:5].tolist()}; record it again")
    return np.diff(bounds)


def _ends(lengths: Array, terminal: Array, time_limit: int | None, notes: list[str]) -> tuple[Array, Array]:
    """Terminations and truncations (transitions,) of episodes whose one flag (episodes,) may mean either."""
    limits = [limit for limit in (time_limit, _implied_limit(lengths)) if limit is not None]
    cut = np.isin(lengths, limits)
    for limit in sorted(set(lengths[cut].tolist())):
        origin = "the environment's time limit" if limit == time_limit else "a time limit, as the file shows"
        notes.append(f"{np.sum(lengths == limit)} of {len(lengths)} episodes are {limit} steps long, {origin}: "
                     "truncated, not terminated")
    last = np.cumsum(lengths) - 1
    terminations, truncations = np.zeros((2, int(lengths.sum())), bool)
    terminations[last] = terminal.astype(bool) & ~cut
    truncations[last] = cut
    return terminations, truncations


def _implied_limit(lengths: Array) -> int | None:
    longest = int(lengths.max(initial=0))
    reached = int(np.sum(lengths == longest))
    return longest if longest and longest % ROUND == 0 and reached >= max(2, SHARE * len(lengths)) else None
