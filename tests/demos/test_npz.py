"""Files that are no demonstrations: one line that names the file and the remedy, and no unpickling."""

import pickle
import struct
import zipfile

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from puffer_il.demos.npz import Npz
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
    (tmp_path / "x.npz").write_text("obs actions\n1 2\n")
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
    assert "which matches no known format; see puffer-il demos import --help" in text


def test_the_format_that_is_nearest_is_named_with_what_it_also_has(tmp_path):
    np.savez(tmp_path / "x.npz", acts=np.zeros(3), indices=np.zeros(3), more_than_one_line_can_hold=np.zeros(3))
    assert "holds acts, indices, …, which matches no known format (imitation also has obs)" in refused(
        tmp_path / "x.npz")


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x.npz").write_bytes(b"PK")
    monkeypatch.setattr("pathlib.Path.open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert "Permission denied" in refused(tmp_path / "x.npz")


def test_a_policys_file_is_called_one(tmp_path, discrete_spec):
    with pytest.raises(InputError, match=r"^policy .*no such file"):
        read_policy(tmp_path / "nowhere.npz", discrete_spec)


@pytest.mark.parametrize("name", ["x.npy", "x.txt", "x.npz"])
def test_refusals_say_where_the_arrays_to_save_are_told(tmp_path, name, capsys):
    write = {"x.txt": lambda path: path.write_text("a b"),
             "x.npy": lambda path: np.save(path, np.zeros(3)), "x.npz": lambda path: np.savez(path, states=np.zeros(3))}
    write[name](tmp_path / name)
    assert refused(tmp_path / name).endswith("; see puffer-il demos import --help")
    assert main(["demos", "import", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(key in told for key in ("np.savez(", "obs, next_obs", "actions", "terminations", "bool (n,)",
                                       "truncations", "episode_starts", "rewards"))


def test_the_arrays_that_refusals_name_can_be_read(tmp_path):
    np.savez(tmp_path / "x.npz", obs=np.zeros((5, 3)), actions=np.arange(5), next_obs=np.ones((5, 3)),
             terminations=np.arange(5) == 4, truncations=np.zeros(5, bool), episode_starts=np.array([0]),
             rewards=np.ones(5))
    assert read_demos(tmp_path / "x.npz").returns.tolist() == [5]


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"


def crafted(path, header: str, content: bytes = b"\0" * 16, compression: int = zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("obs.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" +
                      content)
    return path


@pytest.mark.parametrize("header", ["((((" + HEADER.format("<f4", "(4,)"), HEADER.format("<f4", "(-4,)"),
                                    HEADER.format("<f4", "(0, 99999999999999999999)"), HEADER.format("<q9", "(4,)")])
def test_a_crafted_header_is_one_line(header, tmp_path):
    with Npz(crafted(tmp_path / "d.npz", header)) as file, pytest.raises(InputError, match=r"^.*'obs' is damaged.*$"):
        file.rows("obs")


def test_a_header_that_promises_more_than_the_file_holds_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("read"))
    path = crafted(tmp_path / "d.npz", HEADER.format("<f8", "(1000000000000,)"))
    with Npz(path) as file, pytest.raises(InputError, match=r"the file holds 16 bytes of it\); copy or record"):
        file.rows("obs")


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused_unread(tmp_path):
    path = crafted(tmp_path / "d.npz", HEADER.format("|u1", "(300000000,)"), bytes(3 * 10**8), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**6
    with pytest.raises(InputError, match=r"would unpack .* bytes to 300,000,\d+, more than 100 times as much"):
        Npz(path)


def test_an_archive_with_a_password_is_one_line(tmp_path):
    data = bytearray(crafted(tmp_path / "d.npz", HEADER.format("<f4", "(4,)")).read_bytes())
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(InputError, match="is locked with a password; save it without one"):
        Npz(tmp_path / "d.npz")
