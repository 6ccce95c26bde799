"""LeRobot's folders, read and written; a real one of version 2.1, and its own reader where it is installed."""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.demos.formats import lerobot
from puffer_il.demos.subset import subsample_rows
from tests.support.demos import make_demos, same_demos
from tests.support.hdf5 import packed_picture
from tests.support.tables import write_lerobot, write_parquet

pytest.importorskip("pyarrow")


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_each_version_is_read_without_the_rows_that_have_no_successor(tmp_path, version):
    demos = read_demos(write_lerobot(tmp_path / "d", version=version))
    assert demos.obs.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert demos.next_obs.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2], [1, 3]]
    assert demos.actions.tolist() == [[0, 0], [1, -1], [0, 0], [1, -1], [2, -2]] and demos.rewards is None
    assert demos.episode_starts.tolist() == [0, 2] and demos.truncated.all() and not demos.terminated.any()
    assert demos.notes == (
        "videos are left out: observation.images.top; to learn from them, export their frames as "
        "docs/formats/lerobot.md shows",
        "the last row of each of 2 episodes is left out: the observation after it is not stored",
        "the file does not say how episodes end: each counts as cut off (truncated) after its last row")


def test_episode_10_comes_after_episode_9(tmp_path):
    demos = read_demos(write_lerobot(tmp_path / "d", (2,) * 12))
    assert demos.obs[:, 0].tolist() == list(range(12))


def test_rows_are_trusted_and_not_the_totals(tmp_path):
    folder = write_lerobot(tmp_path / "d", total_episodes=100, total_frames=7)
    (folder / "meta/episodes.jsonl").write_text('{"episode_index": 1, "length": 9}\n')
    demos = read_demos(folder)
    assert demos.lengths.tolist() == [2, 3]
    assert demos.notes[1] == "meta/info.json counts 100 episodes, data/ holds 2: the rows are taken"
    assert demos.notes[2] == ("1 episodes have another length than meta/ says, such as episode 1 with 4 rows instead "
                              "of 9: the rows are taken")


def test_several_columns_become_named_fields_and_one_is_taken_as_it_is(tmp_path):
    more = {"observation.goal": lambda e, k: k * 0.0 + 7, "next.reward": lambda e, k: k * 0.0 + e,
            "task_index": lambda e, k: k * 0 + e}
    folder = write_lerobot(tmp_path / "d", columns=more)
    demos = read_demos(folder)
    assert [(field.path, field.shape) for field in demos.layout.fields] == [(("goal",), (1,)), (("state",), (2,))]
    assert demos.layout.unpack(demos.obs)["state"].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert demos.rewards.tolist() == [0, 0, 1, 1, 1] and demos.returns.tolist() == [0, 4]
    assert any("2 tasks are mixed" in note for note in demos.notes)
    one = lerobot.read(folder, obs_columns=("observation.state",))
    assert one.layout is None and one.obs.shape == (5, 2)


def pictures(format, **changes):
    """A column of packed pictures: red, the more so the later."""
    def column(e, k):
        frames = np.zeros((len(k), 8, 16, 3), np.uint8)
        frames[..., 0] = 60 * k[:, None, None]
        return [{"bytes": packed_picture(frame, format), "path": "x.png"} | changes for frame in frames]

    return column


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_pictures_in_the_tables_are_read_where_they_are_chosen(tmp_path, version, format):
    pytest.importorskip("PIL")
    folder = write_lerobot(tmp_path / "d", version=version, columns={"observation.image": pictures(format)})
    left_out = read_demos(folder)
    assert left_out.obs.shape == (5, 2) and "images are left out: observation.image; --demos.obs-columns" in (
        left_out.notes[1])
    demos = read_demos(folder, obs_columns=("observation.state", "observation.image"))
    seen, after = (demos.layout.unpack(rows) for rows in (demos.obs, demos.next_obs))
    assert seen["image"].shape == (5, 8, 16, 3) and seen["image"].dtype == np.uint8
    wanted = np.array([0, 1, 0, 1, 2])
    assert np.abs(seen["image"].mean((1, 2)) - np.stack([60 * wanted, 0 * wanted, 0 * wanted], 1)).max() <= 3
    assert np.abs(after["image"][..., 0].mean((1, 2)) - 60 * (wanted + 1)).max() <= 3
    assert seen["state"].tolist() == left_out.obs.tolist()
    alone = read_demos(folder, obs_columns=("observation.image",))
    assert alone.layout is None and alone.obs.shape == (5, 8, 16, 3)


@pytest.mark.parametrize(("changes", "message"), [
    ({"bytes": None}, "column 'observation.image' has no picture in row 0, only the path of one"),
    ({"bytes": b"GIF89a"}, "column 'observation.image' row 0 is no JPEG or PNG"),
    ({"bytes": b"\x89PNG\r\n\x1a\n"}, "column 'observation.image' row 0 is no JPEG or PNG")])
def test_pictures_that_are_none_are_refused(tmp_path, changes, message):
    pytest.importorskip("PIL")
    folder = write_lerobot(tmp_path / "d", columns={"observation.image": pictures("PNG", **changes)})
    with pytest.raises(InputError, match=message) as refused:
        read_demos(folder, obs_columns=("observation.image",))
    assert "\n" not in str(refused.value)


def test_pictures_of_different_sizes_are_refused_with_the_row(tmp_path):
    pytest.importorskip("PIL")

    def column(e, k):
        return [{"bytes": packed_picture(np.zeros((4, 4 + (j == 2), 3), np.uint8), "PNG")} for j in k]

    folder = write_lerobot(tmp_path / "d", columns={"observation.image": column})
    with pytest.raises(InputError, match=r"row 2 is no JPEG or PNG of \(4, 4, 3\) \(it is 4 x 5, not 4 x 4\)"):
        read_demos(folder, obs_columns=("observation.image",))


def test_a_picture_that_says_it_is_enormous_takes_no_memory(tmp_path):
    pytest.importorskip("PIL")
    header = bytearray(packed_picture(np.zeros((4, 4, 3), np.uint8), "PNG"))
    header[16:24] = struct.pack(">II", 9000, 9000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))

    def column(e, k):
        return [{"bytes": bytes(header)} for _ in k]

    folder = write_lerobot(tmp_path / "d", columns={"observation.image": column})
    with pytest.raises(InputError, match="would unpack to 729,000,000 bytes or more"):
        read_demos(folder, obs_columns=("observation.image",))


def test_without_pillow_it_is_named(tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    folder = write_lerobot(tmp_path / "d", columns={"observation.image": pictures("PNG")})
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"column 'observation.image' holds packed pictures .* need Pillow; pip"):
        read_demos(folder, obs_columns=("observation.image",))


def test_a_video_that_is_chosen_is_refused_with_the_way_to_its_frames(tmp_path):
    with pytest.raises(InputError, match=r"'observation.images.top', which .*docs/formats/lerobot.md shows"):
        read_demos(write_lerobot(tmp_path / "d"), obs_columns=("observation.images.top",))


@pytest.mark.parametrize(("break_it", "message"), [
    (lambda folder: (folder / "meta/info.json").write_text("{"), "meta/info.json is none of LeRobot's"),
    (lambda folder: write_lerobot(folder, version="v1.6"), "codebase_version v1.6, but 2.0 to 3.0 are read"),
    (lambda folder: [one.unlink() for one in folder.glob("data/*/*")], "no table in data/; fetch"),
    (lambda folder: write_lerobot(folder, names="old_"), "frame 0 of episode 0 is there twice; remove"),
    (lambda folder: (folder / "data/chunk-000/episode_0.parquet").write_bytes(b"PAR1"), "episode_0.parquet: cannot be"),
    (lambda folder: write_parquet(folder / "data/chunk-000/episode_0.parquet", {
        "observation.state": [1.0], "action": [1.0], "episode_index": [0]}),
     "episode_1.parquet: column 'action' has rows"),
    (lambda folder: write_parquet(folder / "data/chunk-000/episode_0.parquet", {"action": [1.0]}),
     "no column of numbers is called observation"),
    (lambda folder: write_parquet(folder / "data/chunk-000/episode_0.parquet", {
        "observation.state": [[1.0, 2.0], [3.0]], "action": [[1.0, 2.0]] * 2, "episode_index": [0, 0]}),
     "column 'observation.state' holds 1 values in row 1 but 2 in the first"),
    (lambda folder: write_parquet(folder / "data/chunk-000/episode_0.parquet", {
        "observation.state": [[1.0, 2.0], None], "action": [[1.0, 2.0]] * 2, "episode_index": [0, 0]}),
     "column 'observation.state' has no value in row 1"),
])
def test_damage_is_named_with_its_file_and_row(tmp_path, break_it, message):
    folder = write_lerobot(tmp_path / "d")
    break_it(folder)
    with pytest.raises(InputError, match=message) as refused:
        read_demos(folder)
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match=r"demos.obs_columns names 'qpos', but the tables hold observation.state, "):
        lerobot.read(write_lerobot(tmp_path / "d"), obs_columns=("qpos",))


def test_the_real_set_of_version_2_1_is_read(test_data):
    folder = test_data / "lerobot_v21_g1"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    demos = read_demos(folder)
    assert demos.lengths.tolist() == [478, 392, 342, 458, 356]  # each one row less than its table
    assert demos.obs.shape == (2026, 26) and demos.actions.dtype == np.float32 and demos.actions.shape == (2026, 26)
    assert any("counts 100 episodes, data/ holds 5" in note for note in demos.notes)
    np.testing.assert_array_equal(demos.next_obs[:477], demos.obs[1:478])


@pytest.mark.parametrize("made", [{"continuous": True, "columns": 3}, {"columns": 2}, {"rewards": False}])
def test_what_is_written_is_read_back_as_it_was(tmp_path, made):
    demos = make_demos((3, 1, 4), **made)
    lerobot.write(tmp_path / "out", demos)
    same_demos(read_demos(tmp_path / "out"), demos)


def nested_demos():
    rng, n = np.random.default_rng(0), 6
    obs, following = ({"state": rng.normal(size=(n, 3)).astype("f4"),
                       "grip": {"open": rng.integers(0, 9, (n, 2), "u1")}} for _ in range(2))
    return read_demos({"obs": obs, "next_obs": following, "actions": rng.normal(size=(n, 2)), "rewards": np.ones(n),
                       "terminations": np.arange(n) == 5, "truncations": np.arange(n) == 2})


def test_named_fields_are_written_and_read_back_by_name(tmp_path):
    demos = nested_demos()
    lerobot.write(tmp_path / "out", demos)
    back = read_demos(tmp_path / "out")
    same_demos(back, demos)
    assert back.layout == demos.layout


def test_the_folder_keeps_to_the_layouts_own_rules(tmp_path):
    import pyarrow.parquet as parquet

    lerobot.write(tmp_path / "out", make_demos((3, 1, 4), continuous=True), fps=10, task="balance")
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"], info["fps"]) == ("v3.0", 3, 8, 10)
    data = parquet.read_table(tmp_path / "out" / info["data_path"].format(chunk_index=0, file_index=0))
    assert set(data.column_names) == set(info["features"]) and data["index"].to_pylist() == list(range(8))
    assert data["timestamp"].to_pylist() == pytest.approx([0, 0.1, 0.2, 0, 0, 0.1, 0.2, 0.3])
    assert data["episode_index"].to_pylist() == [0, 0, 0, 1, 2, 2, 2, 2]
    episodes = parquet.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(one["dataset_from_index"], one["dataset_to_index"], one["length"]) for one in episodes] == [
        (0, 3, 3), (3, 4, 1), (4, 8, 4)]
    tasks = parquet.read_table(tmp_path / "out/meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "balance"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    assert set(stats) == set(info["features"]) and stats["index"]["mean"] == [3.5] and stats["index"]["count"] == [8]
    assert episodes[1]["stats/index/min"] == [3.0]


@pytest.mark.parametrize("shape", [(6, 8, 3), (3, 6, 8), (6, 6, 1), (6, 6, 4)])
def test_pictures_are_columns_of_pngs_and_come_back_as_they_were(tmp_path, shape):
    """As `datasets` has its feature Image: LeRobot's writer without videos."""
    pytest.importorskip("PIL")
    import pyarrow.parquet as parquet

    demos = make_demos((3, 1, 4), obs_shape=shape, obs_dtype="uint8", continuous=True, columns=2)
    lerobot.write(tmp_path / "out", demos)
    back = read_demos(tmp_path / "out")
    same_demos(back, demos)
    assert not any("left out" in note for note in back.notes)
    info = json.loads((tmp_path / "out/meta/info.json").read_text())["features"]
    assert "next.observation.image" not in info and info["observation.image"]["dtype"] == "image"
    assert tuple(info["observation.image"]["shape"]) == shape
    last = shape in ((6, 8, 3), (6, 6, 1), (6, 6, 4))
    assert info["observation.image"]["names"].index("channels") == (2 if last else 0)
    data = parquet.read_table(tmp_path / "out/data/chunk-000/file-000.parquet")
    assert str(data.schema.field("observation.image").type) == "struct<bytes: binary, path: string>"
    assert all(one["bytes"].startswith(b"\x89PNG") for one in data["observation.image"].to_pylist())
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())["observation.image"]
    shares = (demos.obs if last else np.moveaxis(demos.obs, 1, -1)) / 255
    for name, of in (("min", np.min), ("max", np.max), ("mean", np.mean), ("std", np.std)):
        np.testing.assert_allclose(np.array(stats[name])[:, 0, 0], of(shares, axis=(0, 1, 2)), rtol=1e-6)
    middle = np.quantile(shares, 0.5, axis=(0, 1, 2), method="inverted_cdf")
    np.testing.assert_allclose(np.array(stats["q50"])[:, 0, 0], middle)
    assert stats["count"] == [8]


def test_a_column_of_a_set_with_pictures_keeps_its_final_observations(tmp_path):
    pytest.importorskip("PIL")
    rng = np.random.default_rng(0)
    every = {"state": rng.normal(size=(7, 3)).astype("f4"), "cam": rng.integers(0, 256, (7, 8, 9, 3), np.uint8)}
    rows, after = [0, 1, 2, 4, 5], [1, 2, 3, 5, 6]
    obs, following = ({name: part[index] for name, part in every.items()} for index in (rows, after))
    demos = read_demos({"obs": obs, "next_obs": following, "actions": rng.normal(size=(5, 2)), "rewards": np.ones(5),
                        "terminations": np.arange(5) == 4, "truncations": np.arange(5) == 2})
    lerobot.write(tmp_path / "out", demos)
    same_demos(read_demos(tmp_path / "out"), demos)
    state = read_demos(tmp_path / "out", obs_columns=("observation.state",))
    np.testing.assert_array_equal(state.obs, obs["state"])
    np.testing.assert_array_equal(state.next_obs, following["state"])
    (tmp_path / "out/meta/puffer_il.npz").unlink()  # as where only LeRobot's own files were copied
    assert read_demos(tmp_path / "out").lengths.tolist() == [2, 1]


def test_lerobot_shows_the_pictures_that_are_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    package = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="needs lerobot")
    demos = make_demos((3, 1, 4), obs_shape=(6, 8, 3), obs_dtype="uint8", continuous=True, columns=2)
    lerobot.write(tmp_path / "out", demos)
    dataset = package.LeRobotDataset("own/x", root=tmp_path / "out")
    shown = np.stack([np.rint(255 * dataset[k]["observation.image"].numpy()) for k in range(8)])
    np.testing.assert_array_equal(np.moveaxis(shown, 1, -1), demos.obs)


def test_lerobot_opens_what_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    package = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="needs lerobot")
    demos = make_demos((3, 1, 4), continuous=True, columns=3)
    lerobot.write(tmp_path / "out", demos)
    dataset = package.LeRobotDataset("own/x", root=tmp_path / "out")
    assert (len(dataset), dataset.num_episodes) == (8, 3)
    np.testing.assert_array_equal(np.stack([dataset[k]["observation.state"].numpy() for k in range(8)]), demos.obs)
    np.testing.assert_array_equal(np.stack([dataset[k]["action"].numpy() for k in range(8)]), demos.actions)


def test_what_lerobot_cannot_hold_is_refused(tmp_path):
    stacked = make_demos((2,), obs_shape=(4, 4, 2), obs_dtype="uint8")
    with pytest.raises(InputError, match=r"'observation.image' are pictures of 2 channels, but the PNG .* 1, 3 or 4"):
        lerobot.write(tmp_path / "out", stacked)
    subsampled = subsample_rows(make_demos((8,), obs_shape=(4, 4, 3), obs_dtype="uint8"), 2)
    with pytest.raises(InputError, match="its pictures do not follow on one another"):
        lerobot.write(tmp_path / "out", subsampled)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="is there already; choose another folder"):
        lerobot.write(tmp_path / "there", make_demos())
    assert not (tmp_path / "out").exists()


def test_pictures_that_lerobot_writes_are_read_and_are_what_it_shows(tmp_path, monkeypatch):
    """With the lines of docs/formats/lerobot.md, which write its frames into an .npz."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    package = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="needs lerobot")
    rng = np.random.default_rng(0)
    pictures, states = rng.integers(0, 256, (5, 8, 16, 3), dtype=np.uint8), rng.normal(size=(5, 2)).astype(np.float32)
    made = package.LeRobotDataset.create("own/x", fps=10, root=tmp_path / "set", use_videos=False, features={
        "observation.image": {"dtype": "image", "shape": (8, 16, 3), "names": ["height", "width", "channels"]},
        **{name: {"dtype": "float32", "shape": (2,), "names": ["a", "b"]} for name in ("observation.state", "action")}})
    for k in range(5):
        made.add_frame({"observation.image": pictures[k], "observation.state": states[k], "action": -states[k],
                        "task": "x"})
        if k in (2, 4):
            made.save_episode()
    made.finalize()
    demos = read_demos(tmp_path / "set", obs_columns=("observation.image", "observation.state"))
    seen, kept = demos.layout.unpack(demos.obs), [0, 1, 3]
    np.testing.assert_array_equal(seen["image"], pictures[kept])
    np.testing.assert_array_equal(seen["state"], states[kept])
    np.testing.assert_array_equal(demos.actions, -states[kept])
    page = (Path(__file__).parents[3] / "docs/formats/lerobot.md").read_text()
    lines = page.split("```python")[1].split("```")[0].replace('"lerobot/pusht"', f'"own/x", root={str(made.root)!r}')
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    frames = read_demos(tmp_path / "frames.npz")
    np.testing.assert_array_equal(frames.layout.unpack(frames.obs)["image"], pictures[kept])
    np.testing.assert_array_equal(frames.actions, demos.actions)
