"""What `imitation.data.serialize.save` writes since version 1.0: a folder of Hugging Face's datasets, one row for each
trajectory. Its Arrow tables are read with pyarrow, its `infos` (JSON that would be decoded to objects) never. We only
read it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats import imitation
from puffer_il.demos.npz import Arrays

MARKS = ()
FOLDER = ("dataset_info.json", "state.json")  # files by which it is known
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
        columns = {name: table[name].combine_chunks() for name in ("obs", "acts", "rews", "terminal")
                   if name in table.column_names}
        arrays = _arrays(columns)
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise InputError(f"demos {source}: cannot be read as trajectories of imitation ({one_line(error)}); save it "
                         "again") from None
    if "infos" in table.column_names:
        arrays["infos"] = np.zeros(0)
    return imitation.read(Arrays(arrays, str(source)), time_limit)


def _arrays(columns: dict[str, Any]) -> dict[str, Array]:
    """The arrays of imitation's npz: trajectories end to end, and where they are split."""
    lengths = np.diff(columns["acts"].offsets.to_numpy())
    arrays = {name: _stacked(column.flatten()) for name, column in columns.items() if name != "terminal"}
    return {**arrays, "terminal": columns["terminal"].to_numpy(zero_copy_only=False),
            "indices": np.cumsum(lengths)[:-1]}


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
