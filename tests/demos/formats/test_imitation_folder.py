"""The folder that imitation 1.0 writes: a table of Hugging Face's datasets, a row for each trajectory."""

import json
import struct

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos

LENGTHS = (3, 1, 4)


@pytest.fixture
def saved(tmp_path):
    """As `imitation.data.serialize.save` does it: two shards, observations of shape (2, 3)."""
    pa = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    obs = [np.arange((n + 1) * 6, dtype=np.uint8).reshape(n + 1, 2, 3) + 10 * e for e, n in enumerate(LENGTHS)]
    rows = {"obs": [o.tolist() for o in obs], "acts": [[k % 2 for k in range(n)] for n in LENGTHS],
            "infos": [["{}"] * n for n in LENGTHS], "terminal": [True, False, True],
            "rews": [[1.0] * n for n in LENGTHS]}
    lists = pa.list_
    types = {"obs": lists(lists(lists(pa.uint8()))), "acts": lists(pa.int64()), "infos": lists(pa.string()),
             "terminal": pa.bool_(), "rews": lists(pa.float32())}
    table = pa.table(rows, schema=pa.schema(list(types.items())))
    files = []
    for i, part in enumerate((table.slice(0, 1), table.slice(1))):
        files.append({"filename": f"data-{i}.arrow"})
        with pa.OSFile(str(tmp_path / f"data-{i}.arrow"), "wb") as out, pa.ipc.new_stream(out, part.schema) as writer:
            writer.write_table(part)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": files}))
    (tmp_path / "dataset_info.json").write_text("{}")
    return tmp_path, obs


def test_trajectories_are_read_with_their_shapes_and_ends(saved):
    folder, obs = saved
    demos = read_demos(folder)
    assert demos.episode_starts.tolist() == [0, 3, 4] and demos.returns.tolist() == [3, 1, 4]
    np.testing.assert_array_equal(demos.obs, np.concatenate([o[:-1] for o in obs]), strict=True)
    np.testing.assert_array_equal(demos.next_obs, np.concatenate([o[1:] for o in obs]))
    assert demos.actions[:, 0].tolist() == [0, 1, 0, 0, 0, 1, 0, 1]
    assert demos.terminated.tolist() == [True, False, True]
    assert "skipped infos, which would need unpickling" in demos.notes


def test_a_damaged_table_is_refused(saved):
    folder, _ = saved
    (folder / "data-1.arrow").write_bytes(b"x" * 64)
    with pytest.raises(InputError, match="cannot be read as trajectories of imitation"):
        read_demos(folder)


def test_lists_that_point_out_of_the_table_are_refused(saved):
    """Arrow follows the offsets of lists wherever they lead: this one far behind the file."""
    folder, _ = saved
    table, offsets = folder / "data-0.arrow", struct.pack("<5i", 0, 2, 4, 6, 8)
    data = table.read_bytes()
    assert data.count(offsets) == 1
    table.write_bytes(data.replace(offsets, struct.pack("<5i", 0, 2**18, 4, 6, 8)))
    with pytest.raises(InputError, match="cannot be read as trajectories of imitation"):
        read_demos(folder)


def test_without_pyarrow_the_remedy_is_named(tmp_path, monkeypatch):
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match="pip install pyarrow, or convert it"):
        read_demos(tmp_path)
