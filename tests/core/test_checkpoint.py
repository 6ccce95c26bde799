"""Checkpoints are whole or absent, the newest are kept, and weights_only loading suffices."""

import errno
import json
import os
import zipfile

import numpy as np
import pytest
import torch

from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField


def test_round_trip_and_only_the_newest_stay(tmp_path):
    for step in (100, 200, 1_000_000):
        checkpoint.save(tmp_path / "checkpoints", step, {"weights": torch.full((2,), float(step)), "n": step}, keep=2)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_000000000200.pt", "step_000001000000.pt"]
    state = checkpoint.load(checkpoint.latest(tmp_path))
    assert state["n"] == 1_000_000 and state["weights"].tolist() == [1e6, 1e6]


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "checkpoints", 1, {"n": 1}, keep=1)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path / "checkpoints", 2, {"n": 2}, keep=1)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_000000000001.pt"]
    assert checkpoint.load(checkpoint.latest(tmp_path))["n"] == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle"])
def test_damaged_files_are_one_clear_line(tmp_path, damage):
    path = checkpoint.save(tmp_path, 1, {"x": torch.zeros(1000)}, keep=1)
    if damage == "pickle":
        path.write_bytes(b"\x80\x02cos\nsystem\n.")
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[:len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(InputError, match=r"checkpoint .*step_000000000001\.pt") as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value)


def test_no_checkpoint_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match="has no checkpoint"):
        checkpoint.latest(tmp_path)


def test_other_formats_are_refused(tmp_path):
    torch.save({"format": 99}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="another version"):
        checkpoint.load(tmp_path / "x.pt")


@pytest.mark.parametrize("action", [ActionSpec(nvec=(3, 2), shape=(2,)),
                                    ActionSpec(low=np.float32([-1]), high=np.float32([np.inf]), shape=(1,))])
def test_specs_survive(action, tmp_path):
    fields = (ObsField("a", np.dtype(np.float32), (2,), 0), ObsField("b", np.dtype(np.int32), (), 8, 4))
    spec = EnvSpec("x", (12,), np.dtype(np.uint8), action, fields, 2)
    path = checkpoint.save(tmp_path, 1, {"spec": checkpoint.spec_to_state(spec)}, keep=1)
    assert checkpoint.spec_from_state(checkpoint.load(path)["spec"]) == spec


def test_json_has_no_nan(tmp_path):
    checkpoint.write_json(tmp_path / "s.json", {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": None}})
    assert json.loads((tmp_path / "s.json").read_text()) == {"a": None, "b": [1.5, None], "c": {"d": None}}


def test_arrays_are_stored_as_tensors_and_come_back_as_they_were(tmp_path):
    read_only = np.arange(3.0)
    read_only.setflags(write=False)
    arrays = {"plain": np.eye(2, dtype=np.float32), "turned": np.arange(6).reshape(2, 3).T, "single": np.array(7),
              "flags": np.array([True, False]), "none": np.empty((0, 4), np.uint8), "still": read_only}
    state = {"nested": [arrays, {"tensor": torch.ones(2)}], "number": np.float64(0.5), "list": [1, "two", None]}
    path = checkpoint.save(tmp_path, 1, state, keep=1)
    torch.load(path, weights_only=True)
    back = checkpoint.load(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back["nested"][0][name], array, strict=True)
    assert type(back["number"]) is float and back["list"] == state["list"]
    assert isinstance(back["nested"][1]["tensor"], torch.Tensor)
    back["nested"][0]["still"][0] = 5  # and can be trained on


class Part(checkpoint.Stateful):
    saved = ("generator", "values")

    def __init__(self, seed: int) -> None:
        self.generator, self.values = torch.Generator().manual_seed(seed), [np.full(2, seed)]


class Whole(checkpoint.Stateful):
    saved = ("layer", "rng", "part", "part.number")

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.layer, self.rng = torch.nn.Linear(2, 1), np.random.default_rng(seed)
        self.part = Part(seed)
        self.part.number = (seed, "x", None)


class More(Whole):
    saved = ("flat", "array", "nothing")

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.flat, self.array, self.nothing, self.other = torch.full((3,), float(seed)), np.arange(seed), None, seed


def test_what_is_stateful_goes_on_as_it_was_through_a_checkpoint(tmp_path):
    """Modules, generators, parts, tensors, arrays and numbers; also what a base class names."""
    one, two = More(1), More(2)
    one.rng.random(3)
    view, part = two.flat[:1], two.part
    path = checkpoint.save(tmp_path, 1, one.state_dict(), keep=1)
    two.load_state_dict(checkpoint.load(path))
    assert torch.equal(one.layer.weight, two.layer.weight) and one.rng.random() == two.rng.random()
    assert torch.equal(*(torch.rand(2, generator=x.part.generator) for x in (one, two)))
    assert two.part is part and part.number == (1, "x", None) and part.values[0].tolist() == [1, 1]
    assert view.item() == 1 and two.array.tolist() == [0] and two.nothing is None  # tensors stay where they are
    assert two.other == 2  # nobody named it


def test_restored_arrays_are_no_longer_those_of_the_state():
    one, two = More(3), More(1)
    two.load_state_dict(one.state_dict())
    two.array += 1
    assert one.array.tolist() == [0, 1, 2]


def flipped(path):
    """A few bits of a tensor's numbers changed, as a failing disk does."""
    data = bytearray(path.read_bytes())
    data[bytes(data).find(np.float32([7, 7, 7]).tobytes()) + 5] ^= 0x80
    path.write_bytes(data)


def test_flipped_bits_are_found_by_the_checksum(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"x": torch.full((1000,), 7.0)}, keep=1)
    flipped(path)
    with pytest.raises(InputError, match=r"checkpoint .* cannot be read \(its part .* is damaged\); delete it"):
        checkpoint.load(path)


def test_the_checkpoint_before_a_damaged_one_is_used_and_both_are_named(tmp_path):
    for step in (1, 2):
        path = checkpoint.save(tmp_path / "checkpoints", step, {"n": step, "x": torch.full((10,), 7.0)}, keep=2)
    flipped(path)
    state, used, notices = checkpoint.load_newest(tmp_path)
    assert state["n"] == 1 and used.name == "step_000000000001.pt"
    assert len(notices) == 1 and "step_000000000002.pt cannot be read" in notices[0] and used.name in notices[0]
    flipped(used)
    with pytest.raises(InputError, match=r"step_000000000002\.pt cannot be read"):
        checkpoint.load_newest(tmp_path)


def test_a_checkpoint_that_says_it_is_larger_than_its_file_is_not_unpacked(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(InputError, match="holds more than its size"):
        checkpoint.load(path)


class Ring(checkpoint.Stateful):
    saved = ("rows", "weights", "count")

    def __init__(self):
        self.rows, self.weights, self.count = np.zeros((3, 2), np.float32), torch.zeros(3), 0


@pytest.mark.parametrize("change", [
    {"rows": np.zeros((3, 2))}, {"rows": 5}, {"rows": None},
    {"weights": torch.zeros(1)}, {"weights": torch.zeros(3, dtype=torch.float64)}, {"weights": torch.tensor(0.0)}])
def test_tensors_of_another_size_and_arrays_of_another_dtype_take_no_places(change):
    ring = Ring()
    state = ring.state_dict()
    ring.load_state_dict(state)
    with pytest.raises(ValueError, match="instead of"):
        ring.load_state_dict(state | change)


@pytest.mark.parametrize("format", [torch.zeros(2), "5", None, 5.0, True])
def test_a_format_that_is_no_number_is_another_version(tmp_path, format):
    checkpoint.write_tensors(tmp_path / "x.pt", {"format": format})
    with pytest.raises(InputError, match="another version"):
        checkpoint.load(tmp_path / "x.pt")


@pytest.mark.parametrize("change", [
    {"obs_shape": [-4]}, {"obs_shape": ["4"]}, {"obs_dtype": "O"}, {"num_agents": 0}, {"action_start": ["a"]},
    {"nvec": []}, {"nvec": [0]}, {"low": [1.0]}, {"obs_fields": [["a", "<f4", [5], 0, 0, [], 0, 0.0, 255.0, False]]},
    {"obs_fields": [["a", "<f4", [4], -4, 0, [], 0, 0.0, 255.0, False]]}, {"action_start": [1, 2]}, {"name": 5}])
def test_spaces_that_no_environment_has_are_refused(change):
    spec = EnvSpec("toy", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
    state = checkpoint.spec_to_state(spec)
    assert checkpoint.spec_from_state(state) == spec
    with pytest.raises((ValueError, TypeError)):
        checkpoint.spec_from_state(state | change)


def test_observations_that_fit_into_no_memory_are_refused_before_any_is_taken():
    spec = EnvSpec("toy", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
    state = checkpoint.spec_to_state(spec)
    assert checkpoint.spec_from_state(state) == spec
    with pytest.raises(ValueError, match="its observations take 2e\\+31 bytes each"):
        checkpoint.spec_from_state(state | {"obs_shape": [4] * 51})
