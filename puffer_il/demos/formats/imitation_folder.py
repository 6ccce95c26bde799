"""What `imitation.data.serialize.save` writes since version 1.0: a folder of Hugging Face's datasets, one row for each
trajectory, which `datasets.load_from_disk` opens too.

    obs    (steps + 1, *obs_shape), acts (steps, …), rews (steps,), each a list of lists; rews may be missing
    infos  (steps,) strings of JSON that would be decoded to objects: never read, and written as "{}"
    terminal  one flag for both kinds of end; which of the others a time limit cut, our dataset_info.json says
    puffer_il.npz  what imitation has no place for, in folders that we wrote

Its Arrow tables are read and written with pyarrow.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.checkpoint import whole
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats import imitation
from puffer_il.demos.grown import Grown
from puffer_il.demos.kept import columns_beside
from puffer_il.demos.npz import Arrays, Npz, save_npz

MARKS = ()
FOLDER = ("dataset_info.json", "state.json")  # files by which it is known
OURS = "puffer_il"  # in dataset_info.json; datasets ignores keys and files that it does not know
BESIDE = "puffer_il.npz"
ARROW = ".arrow"
CONVERT = "pip install pyarrow, or convert it with `puffer-il demos import` where pyarrow is installed"


def read(source: Path, time_limit: int | None) -> Demos:
    try:
        import pyarrow
    except ImportError:
        raise InputError(f"demos {source}: is a folder of Hugging Face's datasets, as imitation saves it, which "
                         f"needs pyarrow; {CONVERT}") from None
    try:
        parts = [entry["filename"] for entry in json.loads((source / "state.json").read_text())["_data_files"]]
        tables = []
        for part in parts:
            with pyarrow.memory_map(str(source / Path(part).name)) as file:
                tables.append(pyarrow.ipc.open_stream(file).read_all())
        table = pyarrow.concat_tables(tables)
        table.validate(full=True)  # offsets and lengths that point out of the file would be followed
        arrays = _arrays({name: table[name].chunks for name in ("obs", "acts", "rews", "terminal")
                          if name in table.column_names})
        info = json.loads((source / FOLDER[0]).read_text())
        if OURS in info:
            arrays["truncated"] = np.array(info[OURS]["truncated"], bool)
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise InputError(f"demos {source}: cannot be read as trajectories of imitation ({one_line(error)}); save it "
                         "again") from None
    if "infos" in table.column_names:
        arrays["infos"] = np.zeros(0)
    if (source / BESIDE).is_file():
        with Npz(source / BESIDE) as file:
            arrays |= {name: file.rows(name) for name in file.keys}
    return imitation.read(_Read(arrays, str(source)), time_limit)


def write(target: Path | str, demos: Demos) -> None:
    """A folder that `imitation.data.serialize.load` and `datasets.load_from_disk` open, in one Arrow table.

    InputError without pyarrow, and for what `imitation.trajectories_of` refuses.
    """
    obs, actions = imitation.trajectories_of(demos)
    try:
        import pyarrow
    except ImportError:
        raise InputError("imitation_folder: needs pyarrow; pip install 'puffer-il[parquet]'") from None
    folder, table = Path(target), f"data-00000-of-00001{ARROW}"
    starts, gaps = demos.episode_starts, np.arange(demos.num_episodes + 1)
    bounds, ends = np.append(starts, len(demos)), demos.episode_ends - 1
    columns = {"obs": _lists(obs, bounds + gaps), "acts": _lists(actions, bounds),
               "infos": _lists(np.full(len(demos), "{}"), bounds), "terminal": pyarrow.array(demos.terminations[ends])}
    if demos.rewards is not None:
        columns["rews"] = _lists(demos.rewards, bounds)
    rows = pyarrow.table(columns)
    info = {"citation": "", "description": demos.source, OURS: {"truncated": demos.truncations[ends].tolist()}}
    state: dict[str, Any] = {
        "_data_files": [{"filename": table}], "_fingerprint": hashlib.sha256(obs.tobytes()).hexdigest()[:16],
        "_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False,
        "_split": None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / table) as temporary, pyarrow.OSFile(str(temporary), "wb") as out, (
                pyarrow.ipc.new_stream(out, rows.schema)) as writer:
            writer.write_table(rows)
        for name, content in zip(FOLDER, (info, state), strict=True):
            with whole(folder / name) as temporary:
                temporary.write_text(json.dumps(content))
        (folder / BESIDE).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"demos {target}: cannot be written ({one_line(error)}); choose another place") from None
    if beside := columns_beside(demos):
        save_npz(folder / BESIDE, beside)


def _lists(rows: Array, bounds: Array) -> Any:
    """Rows (n, …) as lists of lists, cut at `bounds` (episodes + 1,)."""
    import pyarrow

    column = pyarrow.array(rows.reshape(-1))
    for width in rows.shape[:0:-1]:
        count = len(column) // width
        column = pyarrow.ListArray.from_arrays(pyarrow.array(np.arange(count + 1) * width, pyarrow.int32()), column)
    return pyarrow.ListArray.from_arrays(pyarrow.array(bounds, pyarrow.int32()), column)


class _Read(Arrays):
    """Arrays that nobody else holds."""

    def _decoded(self, key: str) -> Array:
        return self._arrays[key]


def _arrays(columns: dict[str, list[Any]]) -> dict[str, Array]:
    """The arrays of imitation's npz, of columns in pieces: trajectories end to end, and where they are split."""
    lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(piece.offsets.to_numpy()) for piece in columns["acts"])])
    arrays = {"indices": np.cumsum(lengths)[:-1]}
    for name, pieces in columns.items():
        made = Grown()
        for piece in pieces:
            rows = piece.to_numpy(zero_copy_only=False) if name == "terminal" else _stacked(piece.flatten())
            if len(rows):
                made.append(rows)
        arrays[name] = made.array()
    return arrays


def _stacked(column: Any) -> Array:
    """Lists of lists of equal lengths as one array."""
    shape = [len(column)]
    while hasattr(column, "flatten") and hasattr(column.type, "value_type"):
        inner = column.flatten()
        width = len(inner) // max(len(column), 1)
        if len(inner) != width * len(column):
            raise ValueError("rows of different shapes")
        shape.append(width)
        column = inner
    return column.to_numpy(zero_copy_only=False).reshape(shape)
