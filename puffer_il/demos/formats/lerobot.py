"""LeRobot's data sets of robots, versions 2.0 to 3.0: folders whose rows are Parquet tables, one file an episode up to
2.1 and many episodes a file from 3.0 on. `lerobot` itself is not needed. We write version 3.0.

    meta/info.json     codebase_version, fps, and of each column its dtype, shape and names
    data/*/*.parquet   observation.state, perhaps more of observation.*, action, perhaps next.reward, next.done;
                       episode_index, frame_index, timestamp, index, task_index
                       pictures are a column too: structs whose "bytes" are a PNG or JPEG
    videos/            pictures as MP4, which are not read

A row holds an observation and the action chosen then. There is neither an observation after the last action nor, as a
rule, an end, so each episode is read without its last row and counts as cut off. We write them beside, as
`next.observation…`, `next.terminated` and `next.truncated`, and `puffer_il_…` for what else LeRobot has no place for,
and read these. meta/puffer_il.json holds the shapes of observations, which LeRobot holds flat. Where they hold pictures
there is no next.observation…, whose pictures LeRobot would take for what its policies see: the final observations lie
in meta/puffer_il.npz.

Episodes are told by the rows themselves: totals, lengths and file indices in meta/ are wrong in partial copies and
converted sets, and a note says where they disagree.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import Layout, channels_last, nested
from puffer_il.core.spec import Array
from puffer_il.demos.build import follows_on
from puffer_il.demos.dataset import Demos
from puffer_il.demos.kept import check_written, columns_beside, known
from puffer_il.demos.lerobot import BESIDE, write_folder
from puffer_il.demos.lerobot_meta import (
    FRAMES,
    as_told,
    compare,
    compare_times,
    picture_notes,
    read_info,
    told_columns,
    told_shapes,
)
from puffer_il.demos.logs import demos_of_log, packed, starts_of
from puffer_il.demos.npz import Npz
from puffer_il.demos.parquet import Parquet, all_pieces, joined
from puffer_il.demos.planned import Planned, numbers_of
from puffer_il.demos.rows import Lazy

KIND, MARKS, LOOKS, KEYS = "folder", (), ("meta/info.json", "data/*/*.parquet"), ("obs_columns",)
OBS, ACTION, NEXT = "observation", "action", "next."
CHANNELS = (1, 3, 4)  # grey, colours, and colours that are seen through


def fits(path: Path) -> bool:
    return (path / "meta" / "info.json").is_file()


def read(path: Path, time_limit: int | None = None, obs_columns: Sequence[str] = ()) -> Demos:
    """`obs_columns` are the columns that make up the observation, pictures too; by default all of `observation.*` that
    are numbers. One column is the observation itself, several are a Dict's fields, named without the `observation.`."""
    return _planned(path, obs_columns).whole()


def parts(path: Path, time_limit: int | None, most: float, obs_columns: Sequence[str] = ()) -> Iterator[Demos]:
    return _planned(path, obs_columns).parts(most)


def _planned(path: Path, obs_columns: Sequence[str]) -> Planned:
    source, info, notes = str(path), read_info(path), list[str]()
    files = [Parquet(one) for one in _files(path)]
    columns = [name for name in files[0].columns if all(name in file.columns for file in files)]
    own = [] if obs_columns else [name for name in told_columns(path) if name in columns]
    chosen = _obs_columns(source, columns, info, own or obs_columns, notes)
    action = _action_column(source, columns)
    rewards = next((name for name in ("next.reward", "reward") if name in columns), None)
    nexts = [NEXT + name for name in chosen]
    found = {name: name for name in (action, "episode_index")} | {
        name: name for name in ("frame_index", "timestamp", "next.terminated", "next.truncated", "task_index")
        if name in columns}
    ours = known(columns)
    found |= {name: name for name in ours} | ({"rewards": rewards} if rewards else {})
    rows = {key: joined(files, name) for key, name in found.items()}
    if not len(rows[action]):
        raise InputError(f"demos {source}: data/ holds no rows; fetch the files of data/ as well")
    count = len(rows[action])
    rows["obs"] = numbers_of(count)
    if set(nexts) <= set(columns):
        rows["next_obs"] = numbers_of(count, count)
    _in_order(source, rows)
    starts = starts_of(rows["episode_index"])
    finals = None if "next_obs" in rows else _finals(path, chosen, len(starts))
    if finals is not None:
        rows["next_obs"] = np.append(rows["obs"][1:], rows["obs"][:1])
        rows["next_obs"][np.append(starts[1:], count) - 1] = count + np.arange(len(starts))
    compare(path, info, rows["episode_index"][starts], np.diff(np.append(starts, len(rows[action]))), notes)
    compare_times(rows, starts, info["fps"], notes)
    if "task_index" in rows and len(tasks := np.unique(rows["task_index"])) > 1:
        notes.append(f"{len(tasks)} tasks are mixed, which the observations may not tell apart")
    shapes, pictures = told_shapes(path), [name for name in chosen if _is_picture(info, name)]
    arrays = {"obs": rows["obs"], "actions": rows[action], "rewards": rows.get("rewards"),
              "next_obs": rows.get("next_obs"), "terminations": rows.get("next.terminated"),
              "truncations": rows.get("next.truncated"), **{field: rows[name] for name, field in ours.items()}}

    def lazy(before: str) -> tuple[Lazy, Layout | None]:
        """The rows that the chosen columns make up, whose names begin with `before`, and what they are made of."""
        def pieces() -> Iterator[tuple[Array, Layout | None]]:
            for piece in all_pieces(files, [before + name for name in chosen], pictures):
                yield packed(source, _observation({
                    name: as_told(piece[before + name], shapes.get(name)) for name in chosen}))

        first, layout = next(pieces())
        return Lazy((count, *first.shape[1:]), first.dtype, lambda: (made for made, _ in pieces())), layout

    obs, layout = lazy("")
    following = lazy(NEXT)[0] if "next_obs" in rows and finals is None else None
    if finals is not None:
        last = packed(source, _observation(finals))[0]
        following = Lazy(last.shape, last.dtype, lambda: iter((last,)))
    plan = demos_of_log(source, starts, arrays, notes=notes, open_ends=bool(shapes))
    return Planned(plan, obs, following, layout)


def _finals(path: Path, chosen: Sequence[str], episodes: int) -> dict[str, Array] | None:
    """(episodes, …) of each chosen column the observation after an episode's last action, where we have written it
    beside; None where we have not, or for other episodes."""
    if not (path / "meta" / BESIDE).is_file():
        return None
    with Npz(path / "meta" / BESIDE) as file:
        found = {name: file.rows(name) for name in chosen if name in file}
    fits = len(found) == len(chosen) and all(len(array) == episodes for array in found.values())
    return found if fits else None


def _files(path: Path) -> list[Path]:
    """The tables in the order of the numbers in their names."""
    found = sorted(path.glob("data/*/*.parquet"),
                   key=lambda one: [int(k) for k in re.findall(r"\d+", f"{one.parent.name}/{one.name}")])
    if not found:
        raise InputError(f"demos {path}: has meta/info.json but no table in data/; fetch the files of data/ as well")
    return found


def _obs_columns(source: str, columns: list[str], info: dict[str, Any], wanted: Sequence[str],
                 notes: list[str]) -> list[str]:
    notes += picture_notes(info, list(wanted))
    for name in wanted:
        if info["features"].get(name, ("",))[0] == "video":
            raise InputError(f"demos {source}: demos.obs_columns names {name!r}, which lies in videos/, and videos are "
                             f"not read; {FRAMES}")
        if name not in columns:
            raise InputError(f"demos {source}: demos.obs_columns names {name!r}, but the tables hold "
                             f"{', '.join(columns)}; choose of these")
    if wanted:
        return list(wanted)
    own = [name for name in columns if name == OBS or name.startswith(f"{OBS}.")]
    chosen = [name for name in columns if name in own
              and info["features"].get(name, ("",))[0] not in ("video", "image", "string")]
    if not chosen:
        raise InputError(f"demos {source}: no column of numbers is called observation.*, only {', '.join(columns)}; "
                         "name those that make up the observation with --demos.obs-columns A,B")
    return chosen


def _is_picture(info: dict[str, Any], name: str) -> bool:
    return info["features"].get(name, ("",))[0] == "image"


def _action_column(source: str, columns: list[str]) -> str:
    found = [name for name in columns if name in (ACTION, "actions")] or [
        name for name in columns if name.startswith(f"{ACTION}.")]
    if len(found) != 1 or "episode_index" not in columns:
        raise InputError(f"demos {source}: the tables hold {', '.join(columns)}, but need one column 'action' and "
                         "'episode_index'; correct their names")
    return found[0]


def _observation(parts: dict[str, Array]) -> Any:
    """One column's array, or a dict of several, whose names are cut at the dots."""
    wide = {name.removeprefix(f"{OBS}."): part for name, part in parts.items()}
    if len(wide) == 1:
        return next(iter(wide.values()))
    if any(other.startswith(f"{name}.") for name in wide for other in wide):
        return wide
    return nested([(tuple(name.split(".")), part) for name, part in wide.items()])


def _in_order(source: str, rows: dict[str, Array]) -> None:
    """Rows sorted by episode and frame. InputError for a frame that is there twice."""
    for name in ("episode_index", "frame_index"):
        if name in rows and (rows[name].ndim != 1 or rows[name].dtype.kind not in "iu"):
            raise InputError(f"demos {source}: column {name!r} holds {rows[name].dtype} {rows[name].shape[1:]}; it "
                             "must hold whole numbers")
    episode, frame = rows["episode_index"], rows.get("frame_index", np.arange(len(rows["episode_index"])))
    order = np.lexsort((frame, episode))
    twice = (np.diff(episode[order]) == 0) & (np.diff(frame[order]) == 0)
    if twice.any():
        row = order[int(np.argmax(twice))]
        raise InputError(f"demos {source}: frame {frame[row]} of episode {episode[row]} is there twice; remove the "
                         "file in data/ that is left over from a conversion")
    if (order != np.arange(len(order))).any():
        for name, array in rows.items():
            rows[name] = array[order]


def write(target: Path | str, demos: Demos, fps: int = 30, task: str = "") -> None:
    """A folder of version 3.0, which LeRobotDataset opens with `root=target`, and `read` gives back as it was.

    Beside LeRobot's own columns it has next.observation…, next.terminated, next.truncated and puffer_il_…, which its
    policies do not look at; with pictures the final observations instead, in meta/puffer_il.npz. `fps` is how many
    steps are a second, `task` what they are to do. InputError for what has no actions, for actions with parts, for
    Tuples, for pictures of other than 1, 3 or 4 channels, and for those of subsampled rows.
    """
    source = f"demos {demos.source}"
    if demos.actions is None:
        raise InputError(f"{source}: no actions are stored, which LeRobot requires; keep our own .npz")
    if demos.action_parts:
        raise InputError(f"{source}: actions have parts, which LeRobot's one column cannot hold; keep our own .npz")
    check_written(demos, "LeRobot")
    fields = demos.layout.own if demos.layout is not None and demos.layout.nested else None
    names = {".".join(map(str, field.path or ())): field for field in fields or ()}
    if any(not isinstance(key, str) or "/" in key or "." in key for field in fields or () for key in field.path or ()):
        raise InputError(f"{source}: its observations {', '.join(names)} are a Tuple's, or their names hold dots; keep "
                         "our own .npz")
    if len(names) == 1:
        raise InputError(f"{source}: its observations are a Dict of {next(iter(names))!r} alone, which its column "
                         "does not tell from an array; keep our own .npz")
    one = f"{OBS}.image" if demos.obs.ndim == 4 and demos.obs.dtype == np.uint8 else f"{OBS}.state"
    shapes = {f"{OBS}.{name}": field.shape for name, field in names.items()} or {one: demos.obs.shape[1:]}
    pictures = [f"{OBS}.{name}" for name, field in names.items() if field.image] + [one] * (
        not names and one.endswith("image"))
    _check_pictures(demos, source, {name: shapes[name] for name in pictures})

    def columns(prefix: str, obs: Array) -> dict[str, Array]:
        found = {f"{prefix}{OBS}.{name}": field.of(obs) for name, field in names.items()} or {prefix + one: obs}
        return {name: array if name in pictures else array.reshape(len(obs), -1) for name, array in found.items()}

    rows = columns("", demos.obs) | ({} if pictures else columns(NEXT, np.asarray(demos.next_obs)))
    finals = {name: array.reshape(-1, *shapes[name]) for name, array in columns("", demos.final_obs).items()}
    chosen = demos.actions.dtype.kind == "i"
    rows[ACTION] = demos.actions.astype(np.int64) if chosen else demos.actions
    rows |= {f"{NEXT}terminated": demos.terminations, f"{NEXT}truncated": demos.truncations,
             f"{NEXT}done": demos.terminations | demos.truncations}
    if demos.rewards is not None:
        rows[f"{NEXT}reward"] = demos.rewards
    write_folder(Path(target), rows | columns_beside(demos), demos.episode_starts, fps, task or "as demonstrated",
                 {"source": demos.source, "notes": list(demos.notes), "shapes": shapes, "pictures": pictures},
                 pictures, finals if pictures else None)


def _check_pictures(demos: Demos, source: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """InputError for pictures that a PNG cannot hold, or whose successors are not the next ones."""
    for name, shape in shapes.items():
        channels = shape[-1] if channels_last(shape) else shape[0]
        if channels not in CHANNELS:
            raise InputError(f"{source}: {name!r} are pictures of {channels} channels, but the PNG that LeRobot stores "
                             "has 1, 3 or 4; keep our own .npz")
    if shapes and not follows_on(demos):
        raise InputError(f"{source}: rows of its pictures do not follow on one another (they are subsampled), which "
                         "LeRobot cannot hold; keep our own .npz")
