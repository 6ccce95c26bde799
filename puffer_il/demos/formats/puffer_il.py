"""Our own file: one .npz without pickles whose keys are the fields of Demos, plus `meta`, a JSON string.

    obs, terminations, truncations     as in `Demos`
    episode_starts                     as there; without it an episode begins after each end
    actions                            where they were recorded
    rewards, episode_returns, episode_lengths, episode_terminations, episode_truncations     where there are any
    episode_seeds (episodes,)          what the environment was reset with, where that is known
    weights   (n,)                     how much each row counts, where not all count alike
    states    (n, state size)          the environment's state at each obs, where it could be told
    final_obs (episodes, *obs_shape)   the last successor of each episode; the others are the next row's obs
    next_obs  (n, *obs_shape)          instead of final_obs where that does not hold (subsampled rows)
    meta      {"format": "puffer_il demos", "version": 1, "env": …, "collected": …, "notes": […]}, and "layout", the
              leaves in a row, where observations are Dicts or Tuples; "action_parts" [path, shape, dtype] where actions
              are; "action_first", see `Demos`; "pictures", how those in obs were prepared (env.resize, env.grey,
              env.stack), where they were; "recording", how far one of `demos collect` has
              come (demos/record.py)

`meta` may be missing: a recorder of one's own needs only `np.savez(path, obs=…, actions=…, next_obs=…, …)`.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.rows import Array, Layout, field_from_list, field_to_list
from puffer_il.demos.build import build_demos, follows_on, shifted
from puffer_il.demos.dataset import PER_EPISODE, Demos
from puffer_il.demos.formats import formats
from puffer_il.demos.kept import check_rounding
from puffer_il.demos.npz import Arrays, Npz, save_npz
from puffer_il.demos.rows import Successors

MARKS = (("obs", "actions", "terminations"), ("obs", "actions", "truncations"), ("obs", "actions", "meta"),
         ("obs", "episode_starts"))
NAME, VERSION = "puffer_il demos", 1
OPTIONAL = ("actions", "rewards", "weights", "states")
STORED = ("obs", "terminations", "truncations", "episode_starts", *OPTIONAL, *PER_EPISODE)


def write(path: Path | str, demos: Demos, env: str, collected: str, recording: dict[str, Any] | None = None) -> None:
    """See `Demos.save`."""
    check_rounding(demos)
    meta = meta_of(demos, env, collected, demos.notes, recording)
    arrays = {name: getattr(demos, name) for name in STORED if getattr(demos, name) is not None}
    arrays |= {"final_obs": demos.final_obs} if follows_on(demos) else {"next_obs": demos.next_obs}
    save_npz(path, arrays | {"meta": np.array(json.dumps(meta))})


def meta_of(demos: Demos, env: str, collected: str, notes: Sequence[str], recording: dict[str, Any] | None = None
            ) -> dict[str, Any]:
    """What a file says about itself, see above."""
    meta: dict[str, Any] = {"format": NAME, "version": VERSION, "env": env, "collected": collected,
                            "notes": list(notes)}
    if demos.layout is not None:
        meta["layout"] = [field_to_list(field) for field in demos.layout.fields]
    if demos.actions is not None and _columns(demos.action_parts) == demos.actions.shape[1]:
        meta["action_parts"] = [[list(path), list(shape), dtype] for path, shape, dtype in demos.action_parts]
    if demos.action_first:
        meta["action_first"] = list(demos.action_first)
    if demos.pictures is not None:
        meta["pictures"] = demos.pictures.table()
    if recording:
        meta["recording"] = recording
    return meta


def read(file: Arrays, time_limit: int | None = None) -> Demos:
    obs = file.rows("obs")
    starts = file.starts(len(obs)) if "episode_starts" in file else _after_ends(file)
    meta = meta_in(file)
    notes = list(meta["notes"])
    others = sorted(file.keys - {*STORED, "next_obs", "final_obs", "meta"})
    if others:
        notes.append(f"ignored {', '.join(others)}: not part of the format")
    return build_demos(
        file.source, obs=obs, next_obs=_next_obs(file, obs, starts), terminations=file.rows("terminations"),
        truncations=file.rows("truncations"), episode_starts=starts, notes=notes,
        layout=_layout(file, meta["layout"], obs), action_parts=_action_parts(file, meta["action_parts"]),
        action_first=_action_first(file, meta["action_first"]), pictures=_pictures(file, meta["pictures"]),
        **{name: file.get(name) for name in OPTIONAL}, **{name: _totals(file, name) for name in PER_EPISODE})


def read_meta(path: Path | str) -> dict[str, Any]:
    """What a file of ours says about itself: env, collected, notes, version, recording. Empty where it says
    nothing."""
    if Path(path).is_dir():
        return formats()["puffer_il_shards"].read_meta(path)
    with Npz(path) as file:
        return meta_in(file)


def provenance(source: Path | str) -> dict[str, str]:
    """The environment that a file of ours names, and the command that made it; "" where nothing says so."""
    told = {"env": "", "collected": ""}
    if not Path(source).is_file():
        return told
    try:
        with Npz(source) as file:
            return {name: meta_in(file)[name] for name in told}
    except InputError:  # a file of another kind
        return told


def _next_obs(file: Arrays, obs: Array, starts: Array) -> Array | Successors:
    if "next_obs" in file or "final_obs" not in file:
        return file.rows("next_obs")
    finals = file.rows("final_obs")
    if finals.shape != (len(starts), *obs.shape[1:]):
        file.refuse(f"final_obs has shape {finals.shape} but there are {len(starts)} episodes of observations "
                    f"{obs.shape[1:]}; give one final observation per episode")
    return shifted(obs, finals, starts)


def _layout(file: Arrays, entries: list, obs: Array) -> Layout | None:
    if not entries:
        return None
    try:
        layout = Layout(tuple(field_from_list(entry) for entry in entries), obs.shape[1:], obs.dtype)
        fits = all(0 <= f.offset <= f.end <= obs[0].nbytes and f.dtype.kind in "biuf" for f in layout.fields)
    except (TypeError, ValueError, IndexError, AttributeError):
        fits = False
    if not fits:
        file.refuse("meta's layout does not describe the rows of obs; remove meta, or record the file again")
    return layout


def _action_parts(file: Arrays, entries: list) -> Parts:
    if not entries or "actions" not in file:
        return ()
    try:
        parts = tuple((tuple(path), tuple(map(int, shape)), str(dtype)) for path, shape, dtype in entries)
        fits = all(isinstance(key, str | int) for path, *_ in parts for key in path) and all(
            size >= 0 for _, shape, _ in parts for size in shape) and len({path for path, *_ in parts}) == len(parts)
    except (TypeError, ValueError):
        fits, parts = False, ()
    actions = file.rows("actions")
    if not fits or _columns(parts) != math.prod(actions.shape[1:]):
        file.refuse("meta's action_parts do not describe the columns of actions; remove meta, or record the file again")
    return parts


def _action_first(file: Arrays, entries: list) -> tuple[int | None, ...]:
    if not all(entry is None or type(entry) is int for entry in entries):
        file.refuse("meta's action_first are no whole numbers; remove meta, or record the file again")
    return tuple(entries)


def _columns(parts: Parts) -> int:
    return sum(math.prod(shape) for _, shape, _ in parts)


def _pictures(file: Arrays, table: dict[str, Any]) -> Pictures | None:
    try:
        return Pictures.of(table) if table else None
    except (InputError, TypeError, ValueError):
        file.refuse("meta's pictures are no options that puffer_il wrote; remove meta, or record the file again")


def _after_ends(file: Arrays) -> Array:
    """(episodes,) the first row, and those that follow a termination or truncation."""
    ends = [np.flatnonzero(file.rows(name)[:-1]) for name in ("terminations", "truncations")]
    return np.append(0, np.union1d(*ends) + 1)


def _totals(file: Arrays, name: str) -> Array | None:
    array = file.get(name)
    if array is not None and not np.can_cast(array.dtype, PER_EPISODE[name], "same_kind"):
        file.refuse(f"{name} has dtype {array.dtype}, not {np.dtype(PER_EPISODE[name])}; save it as that")
    return array


def meta_in(file: Arrays) -> dict[str, Any]:
    blank: dict[str, Any] = {"version": VERSION, "env": "", "collected": "", "notes": [], "layout": [],
                             "action_parts": [], "action_first": [], "pictures": {}, "recording": {}}
    if "meta" not in file:
        return blank
    try:
        found = dict(json.loads(str(file["meta"])))
        meta = blank | {key: type(blank[key])(found[key]) for key in blank if key in found}
    except (ValueError, TypeError, RecursionError):
        file.refuse("meta is not a JSON object that puffer_il wrote; remove it, or write the file with `puffer-il "
                    "demos import`")
    if found.get("format", NAME) != NAME or meta["version"] > VERSION:
        file.refuse(f"is {found.get('format')!r} version {meta['version']}, but this puffer_il reads {NAME!r} up to "
                    f"version {VERSION}; upgrade it")
    meta["notes"] = [str(note) for note in meta["notes"]]
    return meta
