"""The folder that imitation 1.0 writes: a table of Hugging Face's datasets, a row for each trajectory."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.demos.formats import formats
from tests.support.demos import make_demos

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


@pytest.mark.parametrize(("name", "file"), [("imitation", "x.npz"), ("imitation_folder", "x")])
def test_imitation_opens_what_we_write(tmp_path, name, file):
    serialize = pytest.importorskip("imitation.data.serialize", reason="needs imitation")
    demos = make_demos(LENGTHS, continuous=True, columns=2)
    more = {"weights": np.ones(8, np.float32), "states": np.ones((8, 3)), "episode_returns": np.ones(3)}
    formats()[name].write(tmp_path / file, replace(demos, **more))
    found = list(serialize.load(tmp_path / file))
    assert [len(one) for one in found] == list(LENGTHS)
    obs = np.insert(np.asarray(demos.obs), demos.episode_ends, demos.final_obs, axis=0)
    np.testing.assert_array_equal(np.concatenate([one.obs for one in found]), obs)
    np.testing.assert_array_equal(np.concatenate([one.acts for one in found]), demos.actions)
    np.testing.assert_array_equal(np.concatenate([one.rews for one in found]), demos.rewards)
    assert [one.terminal for one in found] == demos.terminated.tolist()


def test_what_imitation_saves_is_read(tmp_path):
    serialize = pytest.importorskip("imitation.data.serialize", reason="needs imitation")
    from imitation.data import types

    rng = np.random.default_rng(0)
    given = [types.TrajectoryWithRew(obs=rng.normal(size=(n + 1, 3)).astype(np.float32), acts=rng.integers(0, 2, n),
                                     infos=np.array([{"t": k} for k in range(n)]), terminal=n == 3,
                                     rews=rng.normal(size=n).astype(np.float32)) for n in LENGTHS]
    serialize.save(tmp_path / "x", given)
    demos = read_demos(tmp_path / "x")
    np.testing.assert_array_equal(demos.obs, np.concatenate([one.obs[:-1] for one in given]))
    np.testing.assert_array_equal(demos.next_obs, np.concatenate([one.obs[1:] for one in given]))
    np.testing.assert_array_equal(demos.actions[:, 0], np.concatenate([one.acts for one in given]))
    np.testing.assert_array_equal(demos.rewards, np.concatenate([one.rews for one in given]))
    assert demos.terminated.tolist() == [True, False, False]
