"""Recordings of ALOHA and ACT: an HDF5 file for each episode, whose pictures may be JPEGs that OpenCV wrote."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos, read_parts
from puffer_il.demos.formats import aloha
from tests.support.hdf5 import write_aloha, write_hdf5


def folder(path, count=2, **options):
    path.mkdir()
    for k in range(count):
        write_aloha(path / f"episode_{k}.hdf5", k, **options)
    return path


def test_episodes_are_in_the_order_of_their_numbers_without_their_last_rows(tmp_path):
    demos = read_demos(folder(tmp_path / "d", 12, length=3))
    assert demos.lengths.tolist() == [2] * 12 and not demos.terminations.any()
    seen, after = (demos.layout.unpack(rows) for rows in (demos.obs, demos.next_obs))
    assert set(seen) == {"qpos", "qvel"} and seen["qpos"][::2, 0].tolist() == list(range(12)), "episode_10 after 9"
    assert after["qpos"][:, 1].tolist() == [1, 2] * 12 and demos.actions[:, 1].tolist() == [0, -1] * 12
    assert demos.notes[0].startswith("pictures are left out: images/top; --demos.obs-columns")
    assert [note.partition(" (")[0] for note in demos.notes[1:]] == [
        "the last row of 12 episodes", "the file does not say how episodes end: each counts as cut off"]


def test_a_file_alone_is_read_and_one_column_is_the_observation_itself(tmp_path):
    demos = read_demos(write_aloha(tmp_path / "x.h5"), obs_columns=("qpos",))
    assert demos.layout is None and demos.obs.tolist() == [[0, 0], [0, 1], [0, 2]]


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_are_read_where_they_are_chosen_in_the_colours_that_were_recorded(tmp_path, packed):
    if packed:
        pytest.importorskip("PIL")
    demos = read_demos(folder(tmp_path / "d", packed=packed), obs_columns=("qpos", "images/top"))
    pictures = demos.layout.unpack(demos.obs)["images"]["top"]
    assert pictures.shape == (6, 8, 16, 3) and pictures.dtype == np.uint8
    assert np.abs(pictures.mean((1, 2))[:3] - np.array([[0, 0, 0], [60, 0, 0], [120, 0, 0]])).max() <= 3, "red"
    assert not any("pictures" in note for note in demos.notes)


def test_jpegs_are_what_opencv_reads_of_them(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 2, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    packed = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    most = max(map(len, packed))
    path = write_aloha(tmp_path / "x.h5", **{"observations/images/top": np.stack([
        np.frombuffer(one.ljust(most, b"\0"), np.uint8) for one in packed])})
    back = read_demos(path, obs_columns=("images/top",)).obs
    own = np.stack([cv2.imdecode(np.frombuffer(one, np.uint8), 1) for one in packed])
    np.testing.assert_array_equal(back, own[:3])
    assert np.abs(back.astype(int) - pictures[:3]).mean() < 20, "as they were recorded"


def test_one_part_after_the_other_is_the_same(tmp_path, monkeypatch):
    path = folder(tmp_path / "d", 3)
    monkeypatch.setattr("puffer_il.demos.read.PART_BYTES", 1)
    parts, whole = list(read_parts(path, obs_columns=("qpos",))), read_demos(path, obs_columns=("qpos",))
    assert len(parts) == 3
    np.testing.assert_array_equal(np.concatenate([part.obs for part in parts]), whole.obs)


def test_a_robot_on_wheels_has_two_more_actions(tmp_path):
    demos = read_demos(write_aloha(tmp_path / "x.h5", base_action=np.full((4, 2), 7.0)))
    assert demos.actions.tolist() == [[0, 0, 7, 7], [1, -1, 7, 7], [2, -2, 7, 7]]
    assert "base_action is appended to action, as ACT does for robots on wheels" in demos.notes


def test_how_act_pairs_the_rows_of_a_robot_is_said(tmp_path):
    assert aloha.REAL in read_demos(write_aloha(tmp_path / "x.h5", sim=False)).notes
    assert aloha.REAL not in read_demos(write_aloha(tmp_path / "y.h5")).notes


@pytest.mark.parametrize(("changes", "says"), [
    ({"action": np.zeros((9, 2))}, "episode_0: it has 4 observations for 9 actions"),
    ({"base_action": np.zeros((9, 2))}, r"action is \(4, 2\) and base_action \(9, 2\)"),
    ({"observations/images/top": np.zeros((4, 30), np.uint8)}, "observations/images/top row 0 is no JPEG"),
    ({"observations/images/top": np.zeros((4, 30))}, "neither pictures nor packed ones")])
def test_damage_is_named(tmp_path, changes, says):
    write_aloha(tmp_path / "episode_0.hdf5", **changes)
    with pytest.raises(InputError, match=says) as refused:
        read_demos(tmp_path, obs_columns=("qpos", "images/top"))
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match="'images/low' is asked for, but observations/ holds images/top, qpos, qvel;"):
        read_demos(folder(tmp_path / "d"), obs_columns=("images/low",))


def test_episodes_of_other_parts_are_refused(tmp_path):
    path = folder(tmp_path / "d", 1)
    write_hdf5(path / "episode_1.hdf5", {"action": np.zeros((3, 2)), "observations/qpos": np.zeros((3, 2))})
    with pytest.raises(InputError, match=r"episode_1.hdf5: the column 'qvel' is asked for, but "):
        read_demos(path)
