"""Our file: what is written is what is read, and nothing else is accepted."""

import errno
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos, read_meta
from puffer_il.demos.subset import subsample_rows
from tests.support.demos import make_demos, same_demos


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6), every=st.integers(1, 4), seed=st.integers(0, 99),
       obs_shape=st.sampled_from([(), (1,), (3,), (2, 2, 3)]), obs_dtype=st.sampled_from(["float32", "uint8", "int64"]),
       continuous=st.booleans(), columns=st.integers(1, 3), rewards=st.booleans(),
       ends=st.sampled_from(["alternate", "terminated", "open"]))
def test_write_then_read_gives_the_same(tmp_path_factory, lengths, every, seed, **shape):
    demos = make_demos(lengths, seed=seed, **shape)
    if every > 1:
        demos = subsample_rows(demos, every, seed)
    path = tmp_path_factory.mktemp("demos") / "x.npz"
    demos.save(path)
    read = read_demos(path)
    same_demos(demos, read)
    assert (read.source, read.notes) == (str(path), demos.notes)


def test_next_observations_are_stored_once(tmp_path):
    demos = make_demos()
    demos.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        assert "next_obs" not in file.files
        assert file["final_obs"].shape == (demos.num_episodes, 2)
        assert set(file.files) == {"obs", "actions", "terminations", "truncations", "episode_starts", "rewards",
                                   "final_obs", "meta"}


def test_ten_long_episodes_take_less_than_100_kB(tmp_path):
    noise = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32)
    demos = make_demos([500] * 10, obs_shape=(4,))
    demos.obs.setflags(write=True)
    demos.obs[:] = noise  # incompressible, unlike anything an environment gives
    demos.next_obs.setflags(write=True)
    demos.next_obs[:-1] = noise[1:]
    demos.save(tmp_path / "x.npz")
    assert (tmp_path / "x.npz").stat().st_size < 100_000


def test_same_demos_same_bytes_and_no_leftovers(tmp_path):
    for name in ("a", "b"):
        make_demos().save(tmp_path / "new" / f"{name}.npz", env="cartpole", collected="a command")
    assert (tmp_path / "new" / "a.npz").read_bytes() == (tmp_path / "new" / "b.npz").read_bytes()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.npz", "b.npz"]


def test_meta_tells_where_they_come_from(tmp_path):
    make_demos().save(tmp_path / "x.npz", env="cartpole", collected="puffer-il demos collect …")
    meta = read_meta(tmp_path / "x.npz")
    assert (meta["env"], meta["collected"], meta["version"]) == ("cartpole", "puffer-il demos collect …", 1)


def test_a_hand_made_file_needs_no_meta(tmp_path):
    demos = make_demos(continuous=True)
    np.savez(tmp_path / "x.npz", obs=demos.obs.astype(np.float64), actions=demos.actions[:, 0], next_obs=demos.next_obs,
             terminations=demos.terminations.astype(int), truncations=demos.truncations,
             episode_starts=demos.episode_starts.astype(np.int32), rewards=demos.rewards, mood=np.zeros(3))
    read = read_demos(tmp_path / "x.npz")
    same_demos(read, demos)
    assert "ignored mood" in read.notes[0]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    make_demos().save(tmp_path / "x.npz")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        make_demos([2]).save(tmp_path / "x.npz")
    same_demos(read_demos(tmp_path / "x.npz"), make_demos())
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"x\.npz: cannot be written \(.+\); choose another place"):
        make_demos().save(tmp_path / "file" / "x.npz")


def _rewrite(path, **changes):
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    arrays |= changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})


@pytest.mark.parametrize(("changes", "message"), [
    ({"meta": np.array(json.dumps({"version": 2}))}, "upgrade"),
    ({"meta": np.array(json.dumps({"format": "other"}))}, "'other'"),
    ({"meta": np.array("[")}, "not a JSON object"),
    ({"meta": np.array("3")}, "not a JSON object"),
    ({"final_obs": np.zeros((2, 2), np.float32)}, r"final_obs has shape \(2, 2\) but there are 3 episodes"),
    ({"final_obs": None}, "no array 'next_obs'"),
    ({"terminations": None}, "no array 'terminations'"),
    ({"actions": np.zeros((7, 1), np.int32)}, "actions has 7 rows but obs has 8"),
    ({"actions": np.full((8, 1), 2**40)}, "too large for int32"),
    ({"actions": np.array(["left"] * 8)}, "actions has dtype <U4"),
    ({"rewards": np.zeros(7)}, "rewards has 7 rows but obs has 8"),
    ({"rewards": np.full(8, np.nan)}, "rewards is NaN or infinite in row 0"),
    ({"obs": np.full((8, 2), 1e300)}, "obs is NaN or infinite in row 0"),
    ({"obs": np.float32(1)}, "obs is a single number"),
    ({"episode_starts": np.array([0, 3, 9])}, "episode_starts must rise from 0 and stay below 8"),
    ({"episode_starts": np.array([0.0, 3.0, 4.0])}, "episode_starts must rise"),
    ({"episode_starts": np.array([1, 3, 4])}, "episode_starts must rise from 0"),
    ({"episode_returns": np.zeros(2)}, r"episode_returns has shape \(2,\) but there are 3 episodes"),
    ({"episode_returns": np.full(3, np.nan)}, "episode_returns is NaN"),
    ({"episode_lengths": np.ones(3)}, "episode_lengths has dtype float64, not int64"),
    ({"terminations": np.ones(8, bool)}, "row 0 ends an episode"),
])
def test_inconsistent_files_are_refused_by_name(tmp_path, changes, message):
    path = tmp_path / "x.npz"
    make_demos().save(path)
    _rewrite(path, **changes)
    with pytest.raises(InputError, match=message) as error:
        read_demos(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    make_demos([4]).save(path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "y.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) if name != "obs.npy" else b"nonsense")
    with pytest.raises(InputError, match="array 'obs' is damaged"):
        read_demos(tmp_path / "y.npz")


def test_observations_alone_are_demonstrations_too(tmp_path):
    demos = replace(make_demos(), actions=None)
    demos.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        assert "actions" not in file.files
    same_demos(read_demos(tmp_path / "x.npz"), demos)
