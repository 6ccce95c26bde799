"""Minari's HDF5 as a file or folder, without minari: nested spaces by their names, pictures out of JPEGs."""

import io
import json

import h5py
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import describe, read_demos
from puffer_il.demos.formats import minari as with_minari
from tests.support.demos import same_demos
from tests.support.hdf5 import write_hdf5, write_minari

BOX = {"type": "Box", "dtype": "float64", "shape": [1], "low": [-1e9], "high": [1e9]}


def declare(path, observation=None, action=None):
    spaces = {"observation_space": observation or BOX, "action_space": action or {"type": "Discrete", "n": 9}}
    path.with_name("metadata.json").write_text(json.dumps({name: json.dumps(space) for name, space in spaces.items()}))


def steps(length):
    return {"rewards": np.ones(length), "terminations": np.arange(length) == length - 1,
            "truncations": np.zeros(length, bool)}


def test_a_file_alone_is_read_with_the_names_of_its_parts(tmp_path):
    demos = read_demos(write_minari(tmp_path / "x"))
    assert demos.lengths.tolist() == [2, 1] and demos.terminated.all(), "episode_0 before episode_10"
    assert [field.path for field in demos.layout.own] == [("both", 0), ("both", 1), ("goal",)]
    obs, following = demos.layout.unpack(demos.obs), demos.layout.unpack(demos.next_obs)
    assert obs["both"][0][:, 1].tolist() == [1, 2, 11] and following["goal"][:, 0].tolist() == [1, 2, 11]
    describe(demos)


def test_real_data_is_the_same_by_folder_by_file_and_by_minari(test_data, monkeypatch):
    folder = test_data / "minari_door_human" / "D4RL" / "door" / "human-v2"
    demos = read_demos(folder)
    assert demos.num_episodes == 25 and len(demos) == 6729 and demos.truncated.all()
    same_demos(read_demos(folder / "data"), demos)
    same_demos(read_demos(folder / "data" / "main_data.hdf5"), demos)
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(test_data / "minari_door_human"))
    same_demos(read_demos("minari:D4RL/door/human-v2"), demos)


def test_choices_are_counted_from_where_the_declared_space_starts(tmp_path):
    path = write_hdf5(tmp_path / "main_data.hdf5", {f"episode_0/{name}": array for name, array in (
        {"observations": np.zeros((3, 1)), "actions": np.array([5, 6])} | steps(2)).items()})
    declare(path, action={"type": "Discrete", "n": 3, "start": 5})
    assert read_demos(path).actions[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize("ragged", [True, False])
def test_pictures_out_of_jpegs(tmp_path, ragged):
    image = pytest.importorskip("PIL.Image")
    shades = np.array([1, 2, 3] if ragged else [2, 2, 2], np.uint8)  # of different colours or not: of bytes, too
    frames = np.full((3, 8, 8, 3), 40, np.uint8) * shades[:, None, None, None]
    packed = []
    for frame in frames:
        made = io.BytesIO()
        image.fromarray(frame).save(made, format="JPEG")
        packed.append(np.frombuffer(made.getvalue(), np.uint8))
    path = write_hdf5(tmp_path / "main_data.hdf5", {f"episode_0/{name}": array for name, array in (
        {"actions": np.array([0, 1])} | steps(2)).items()})
    with h5py.File(path, "a") as file:
        if ragged:
            rows = file.create_dataset("episode_0/observations", 3, h5py.vlen_dtype(np.uint8))
            for k, row in enumerate(packed):
                rows[k] = row
        else:
            file["episode_0/observations"] = np.stack(packed)
    declare(path, {"type": "Box", "dtype": "uint8", "shape": [8, 8, 3], "low": np.zeros((8, 8, 3), int).tolist(),
                   "high": np.full((8, 8, 3), 255).tolist()})
    demos = read_demos(path)
    assert demos.obs.dtype == np.uint8 and demos.obs.shape == (2, 8, 8, 3)
    assert np.abs(demos.next_obs.astype(int) - frames[1:]).max() <= 3, "JPEG loses a little"


def test_actions_of_nothing_are_refused(tmp_path):
    path = write_minari(tmp_path / "x")
    with h5py.File(path, "a") as file:
        for name in file:
            del file[name]["actions"]
            file[name].create_group("actions")
    with pytest.raises(InputError, match="its actions have no parts"):
        read_demos(path)


@pytest.mark.parametrize(("space", "says"), [
    ({"type": "Text", "max_length": 3}, "Text is no space of numbers"),
    ({"type": "Box", "dtype": "float32", "shape": [10**9], "low": 0, "high": 1}, "Box of float32"),
    ({"type": "MultiBinary", "n": 10**12}, "MultiBinary of 1,000,000,000,000 numbers"),
    ({"type": "Dict"}, "its spaces cannot be read"),
    ({"type": "Dict", "subspaces": {"goal": BOX, "absent": BOX}}, "has no 'episode_0/observations/absent'"),
])
def test_spaces_that_are_none_or_not_those_of_the_file_are_refused(tmp_path, space, says):
    path = write_minari(tmp_path / "main_data.hdf5")
    declare(path, space)
    with pytest.raises(InputError, match=says) as error:
        read_demos(path)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # it asks for authors and links
def test_what_minari_writes_of_any_space_is_read_alike(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    from gymnasium.spaces import Box, Dict, MultiDiscrete, Tuple

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    space = Dict({"image": Box(0, 255, (8, 8, 3), np.uint8), "pair": Tuple((Box(-1, 1, (2,)), Box(-1, 1, (3,))))})
    actions = MultiDiscrete([3, 4], start=[1, 2])
    rng = np.random.default_rng(0)
    buffers = [minari.data_collector.EpisodeBuffer(
        observations={"image": np.full((n + 1, 8, 8, 3), 90, np.uint8),
                      "pair": tuple(rng.uniform(-1, 1, (n + 1, k)).astype(np.float32) for k in (2, 3))},
        actions=np.array([[1, 2], [3, 5], [2, 4]])[:n], **steps(n)) for n in (3, 2)]
    minari.create_dataset_from_buffers("own/toy-v0", buffers, observation_space=space, action_space=actions,
                                       data_format="hdf5")
    same_demos(read_demos(tmp_path / "own" / "toy-v0"), read_demos(f"{with_minari.PREFIX}own/toy-v0"))
