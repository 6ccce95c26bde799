"""Files that are no demonstrations: one line that names the file and the remedy, and no unpickling."""

import pickle

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.rollout.policy_files import read_policy
from tests.support.demos import make_demos


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def refused(path) -> str:
    with pytest.raises(InputError) as error:
        read_demos(path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert ";" in text, "no remedy"
    return text


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.npz"
    make_demos([40, 60], obs_shape=(8,)).save(path)
    return path


def test_a_missing_file_is_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "nowhere.npz")


def test_a_folder_is_refused(tmp_path):
    assert "is a folder" in refused(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "x.npz").touch()
    assert "is empty" in refused(tmp_path / "x.npz")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(tmp_path, good, share):
    data = good.read_bytes()
    (tmp_path / "x.npz").write_bytes(data[:max(4, int(share * len(data)))])
    assert "cut off" in refused(tmp_path / "x.npz")


def test_flipped_bytes_are_noticed(tmp_path, good):
    data = bytearray(good.read_bytes())
    middle = data.index(b"obs.npy") + 200
    data[middle:middle + 20] = bytes(20)
    (tmp_path / "x.npz").write_bytes(data)
    assert "damaged" in refused(tmp_path / "x.npz")


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "x.npz").write_text("obs,actions\n1,2\n")
    assert "no .npz file" in refused(tmp_path / "x.npz")


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    assert "single array" in refused(tmp_path / "x.npy")


def test_pickle_is_never_loaded(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "bang")))
    assert "never loaded" in refused(tmp_path / "x.pkl")
    assert not (tmp_path / "bang").exists()


def test_pickled_array_is_never_loaded(tmp_path):
    bomb = np.empty(1, object)
    bomb[0] = Bomb(tmp_path / "bang")
    np.savez(tmp_path / "x.npz", obs=bomb, actions=bomb, episode_starts=np.zeros(1, int))
    assert "'obs' holds pickled Python objects" in refused(tmp_path / "x.npz")
    assert not (tmp_path / "bang").exists()


def test_unknown_keys_are_listed(tmp_path):
    np.savez(tmp_path / "x.npz", states=np.zeros(3), moves=np.zeros(3))
    text = refused(tmp_path / "x.npz")
    assert "moves, states" in text
    assert "imitation: obs acts" in text


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x.npz").write_bytes(b"PK")
    monkeypatch.setattr("pathlib.Path.open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert "Permission denied" in refused(tmp_path / "x.npz")


def test_a_policys_file_is_called_one(tmp_path, discrete_spec):
    with pytest.raises(InputError, match=r"^policy .*no such file"):
        read_policy(tmp_path / "nowhere.npz", discrete_spec)


@pytest.mark.parametrize("name", ["x.pkl", "x.npy", "x.csv", "x.npz"])
def test_refusals_say_which_arrays_to_save(tmp_path, name):
    write = {"x.pkl": lambda path: path.write_bytes(pickle.dumps([1])), "x.csv": lambda path: path.write_text("a,b"),
             "x.npy": lambda path: np.save(path, np.zeros(3)), "x.npz": lambda path: np.savez(path, states=np.zeros(3))}
    write[name](tmp_path / name)
    text = refused(tmp_path / name)
    assert all(f"{key}=…" in text for key in ("obs", "actions", "next_obs", "terminations", "truncations",
                                              "episode_starts", "rewards"))
    assert "np.savez(" in text and "bool (n,)" in text


def test_the_arrays_that_refusals_name_can_be_read(tmp_path):
    np.savez(tmp_path / "x.npz", obs=np.zeros((5, 3)), actions=np.arange(5), next_obs=np.ones((5, 3)),
             terminations=np.arange(5) == 4, truncations=np.zeros(5, bool), episode_starts=np.array([0]),
             rewards=np.ones(5))
    assert read_demos(tmp_path / "x.npz").returns.tolist() == [5]
