"""Our folder of mapped arrays: what is written is what is read, damage is named in one line, memory is not filled."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import puffer_il
from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos, read_meta, read_parts, subsample_rows
from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats import puffer_il_shards
from puffer_il.demos.rows import Successors, blocks
from puffer_il.demos.shard_writer import MANIFEST, ShardWriter
from puffer_il.demos.subset import some_episodes
from tests.support.demos import make_demos, same_demos
from tests.support.memory import STATUS, resident
from tests.support.pictures import MovingDot, dot_demos

ROOT = Path(__file__).parents[3]
EXPERT = ROOT / "envs" / "cartpole" / "demos" / "expert.npz"


def saved(folder: Path, demos: Demos | None = None) -> Path:
    (demos or make_demos((3, 1, 4, 6), obs_shape=(5,))).save(folder / "d.shards", env="toy", collected="by hand")
    return folder / "d.shards"


@pytest.mark.parametrize("shape", [{}, {"obs_shape": (2, 3, 4), "obs_dtype": "uint8"}, {"obs_dtype": "uint16"},
                                   {"obs_shape": (), "rewards": False}, {"continuous": True, "columns": 3}])
@pytest.mark.parametrize("every", [1, 2])
def test_write_then_read_gives_the_same_arrays_mapped(tmp_path, shape, every):
    demos = make_demos((3, 1, 4), **shape)
    demos = subsample_rows(demos, every) if every > 1 else demos
    demos = replace(demos, weights=np.arange(1, len(demos) + 1, dtype=np.float32), notes=("a note",))
    read = read_demos(saved(tmp_path, demos))
    same_demos(demos, read)
    assert isinstance(read.obs, np.memmap) and isinstance(read.next_obs, Successors) == (every == 1)
    assert read.notes == demos.notes and read_meta(saved(tmp_path))["collected"] == "by hand"


def test_the_same_demonstrations_give_the_same_bytes_in_whatever_parts_they_come(tmp_path):
    demos = make_demos((3, 1, 4, 2))
    whole, pieces = saved(tmp_path / "a", demos), tmp_path / "b"
    with ShardWriter(pieces, env="toy", collected="by hand") as writer:
        for first in range(4):
            writer.add(some_episodes(demos, first, first + 1))
    assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in pieces.iterdir()}


def test_parts_are_whole_episodes_and_together_all_of_them(tmp_path, monkeypatch):
    demos = make_demos((3, 1, 4, 6), obs_shape=(5,))
    monkeypatch.setattr("puffer_il.demos.read.PART_BYTES", 4 * 4 * 5)
    parts = list(read_parts(saved(tmp_path, demos)))
    assert [part.lengths.tolist() for part in parts] == [[3, 1], [4], [6]]
    np.testing.assert_array_equal(np.concatenate([np.asarray(part.next_obs) for part in parts]),
                                  np.asarray(demos.next_obs))


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = saved(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(InputError, match="obs is float32 \\(2,\\) from row 8 on, but float32 \\(5,\\) before"), \
            ShardWriter(folder) as writer:
        writer.add(make_demos(obs_shape=(5,)))
        writer.add(make_demos())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before and len(list(tmp_path.iterdir())) == 1
    saved(tmp_path, make_demos())
    assert read_demos(folder).obs.shape == (8, 2) and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("…")
    with pytest.raises(InputError, match="is there already and is no folder of demonstrations"):
        make_demos().save(f"{tmp_path / 'other'}/")
    assert (tmp_path / "other" / "thesis.tex").read_text() == "…"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    path.write_bytes(content)


def reshaped(path: Path) -> None:
    np.save(path, np.load(path).T.copy())


def resealed(folder: Path, **change: object) -> None:
    """A manifest with a right checksum that says something else."""
    from puffer_il.demos.shard_writer import seal

    manifest = json.loads((folder / MANIFEST).read_text()) | change
    (folder / MANIFEST).write_text(json.dumps(manifest | {"sha256": seal(manifest)}))


@pytest.mark.parametrize(("damage", "message"), [
    (lambda f: cut(f / "obs.npy"), "obs.npy has 275 bytes, but puffer_il_shards.json says 280; it is cut off"),
    (lambda f: (f / "actions.npy").unlink(), "actions.npy is missing, which puffer_il_shards.json names"),
    (lambda f: reshaped(f / "obs.npy"), r"obs.npy is <f4 \[5, 14\], but puffer_il_shards.json says <f4 \[14, 5\]"),
    (lambda f: (f / "obs.npy").write_bytes(b"\x93NUMPY\x01\x00"), "obs.npy cannot be read"),
    (lambda f: (f / "obs.npy").write_bytes(b"\x80\x04pickle"), "obs.npy cannot be read"),
    (lambda f: cut(f / MANIFEST), "puffer_il_shards.json cannot be read"),
    (lambda f: flip(f / MANIFEST), "puffer_il_shards.json"),
    (lambda f: resealed(f, version=2), "version 2, but this puffer_il reads 'puffer_il shards' up to version 1"),
    (lambda f: resealed(f, arrays={"../x": {"dtype": "|b1", "shape": [1]}}), "does not have the checksum"),
    (lambda f: resealed(f, arrays={}), "has no array 'obs'"),
    (lambda f: np.save(f / "episode_starts.npy", np.array([0, 3, 3, 8])), "episode_starts must rise from 0"),
])
def test_damage_is_named_in_one_line_on_opening(tmp_path, damage, message):
    folder = saved(tmp_path)
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        read_demos(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_flipped_bit_is_found_where_all_is_read(tmp_path):
    folder = saved(tmp_path)
    puffer_il_shards.verify(folder)
    flip(folder / "obs.npy")
    with pytest.raises(InputError, match=r"obs.npy is damaged: its checksum is \d+, but \d+ was written"):
        puffer_il_shards.verify(folder)


def test_the_command_line_writes_such_a_folder_and_reads_it_again(tmp_path, capsys):
    folder = tmp_path / "d.shards"
    assert main(["demos", "import", str(EXPERT), str(folder), "--env", "cartpole", "--demos.episodes", "4"]) == 0
    assert main(["demos", "import", str(folder), str(tmp_path / "again.npz"), "--demos.episodes", "3"]) == 0
    again = read_demos(tmp_path / "again.npz")
    assert again.obs.tolist() == read_demos(EXPERT).obs[:1500].tolist() and again.num_episodes == 3
    assert main(["demos", "info", str(folder)]) == 0 and "2,000" in capsys.readouterr().out


SETTINGS = [
    ("bc", {}), ("bc", {"policy": {"lstm": 4}}), ("bc", {"policy": {"chunk": 4}}), ("bc", {"bc": {"window": 600}}),
    ("bc", {"demos": {"weighting": "return"}, "bc": {"class_balanced": True}}), ("bc", {"demos": {"subsample": 3}}),
    ("gail", {}), ("gaifo", {}), ("sqil", {}), ("airl", {}), ("csil", {"csil": {"bc_epochs": 2, "critic_updates": 2}}),
    ("dagger", {}), ("dagger", {"policy": {"lstm": 4}}), ("noise_bc", {}),
]


@pytest.mark.parametrize(("algo", "given"), SETTINGS)
def test_weights_learned_from_a_folder_are_those_learned_from_the_same_set_in_memory(tmp_path, algo, given):
    """Normalisation, held-out episodes, weights, chunks, sequences and subsampling included, bit by bit."""
    keys = {"train": {"total_steps": 1, "threads": 1}, "env": {"num_envs": 16}, "eval": {"episodes": 1},
            "policy": {"hidden": (16,)}}
    if algo == "bc":
        keys.pop("env")
    elif algo in ("dagger", "noise_bc"):
        keys["train"] |= {"num_steps": 32}
    keys["policy"] |= given.get("policy", {})
    options = given.get("demos", {})
    more = {section: values for section, values in given.items() if section not in ("demos", "policy")}
    read_demos(EXPERT).save(tmp_path / "d.shards")
    weights = []
    for source in (EXPERT, tmp_path / "d.shards"):
        run = puffer_il.train(algo, "cartpole", seed=3, device="cpu", demos={"source": str(source), "episodes": 3,
                                                                              **options}, **keys, **more)
        weights.append(run.policy.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_stacked_and_shifted_pictures_are_learned_from_a_folder_that_was_written_so(tmp_path):
    dot_demos(tmp_path / "dots.npz", 6)
    stacked, raw = str(tmp_path / "stacked.shards"), str(tmp_path / "raw.shards")
    assert main(["demos", "import", str(tmp_path / "dots.npz"), raw]) == 0
    assert main(["demos", "import", raw, stacked, "--env", "tests.support.pictures:MovingDot", "--env.stack", "2"]) == 0
    keys = {"env": {"stack": 2}, "bc": {"random_shift": 1}, "policy": {"hidden": (8,)}, "eval": {"episodes": 1},
            "train": {"total_steps": 1, "threads": 1}, "seed": 3, "device": "cpu"}
    weights = [puffer_il.train("bc", MovingDot, demos=source, **keys).policy.state_dict()
               for source in (str(tmp_path / "dots.npz"), stacked)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(InputError, match=r"are mapped from a file, and are not made into uint8 .* in memory; write"):
        puffer_il.train("bc", MovingDot, demos=raw, **keys)


def test_what_would_be_made_in_memory_is_refused_in_one_line(tmp_path):
    demos = make_demos((3, 1, 4), obs_shape=(4,), obs_dtype="int64", continuous=False)
    with pytest.raises(InputError, match=r"int64 \(4,\), are mapped from a file, and are not made into float32 \(4,\) "
                                         r"in memory; write them once as they are wanted: puffer-il demos import .*"):
        puffer_il.train("bc", "cartpole", demos=saved(tmp_path, demos))


@pytest.mark.parametrize(("algo", "window", "said"), [
    ("bc", 0, "are more than the memory that is free"), ("bc", 300, ""), ("sqil", None, ""), ("gaifo", None, ""),
    ("airl", None, ""), ("dagger", None, "")])
def test_what_is_larger_than_memory_is_read_in_windows_or_refused(tmp_path, monkeypatch, capsys, algo, window, said):
    read_demos(EXPERT).save(tmp_path / "d.shards")
    monkeypatch.setattr("puffer_il.demos.rows.psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    keys = {} if window is None else {"bc": {"window": window}}
    try:
        puffer_il.train(algo, "cartpole", demos=tmp_path / "d.shards", device="cpu", policy={"hidden": (8,)}, **keys,
                        train={"total_steps": 1, "threads": 1}, eval={"episodes": 1})
        told = "".join(capsys.readouterr())
    except InputError as error:
        told = str(error)
    assert (said in told) if said else "more than the memory" not in told


def test_a_copy_of_all_successors_that_memory_does_not_hold_is_refused(tmp_path, monkeypatch):
    following = read_demos(saved(tmp_path)).next_obs
    monkeypatch.setattr("puffer_il.demos.rows.psutil.virtual_memory", lambda: SimpleNamespace(available=100))
    with pytest.raises(InputError, match=r"mapped observations have to be copied here: 14 rows, .*set demos\.episodes"):
        np.asarray(following)


PROGRAM = """
import gymnasium as gym, numpy as np, puffer_il, sys
from tests.support.memory import Watched

class Wide(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (256,), np.float32)
    action_space = gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros(256, np.float32), {}
    def step(self, action):
        return np.zeros(256, np.float32), 0.0, True, False, {}

def learn(source):
    puffer_il.train("bc", Wide, demos=source, seed=1, device="cpu", bc={"window": 10_240}, policy={"hidden": (8,)},
                    train={"total_steps": 1, "threads": 1}, eval={"episodes": 1})

rows = np.zeros((100, 256), np.float32)
learn({"obs": rows, "next_obs": rows, "actions": np.arange(100) % 2, "terminations": np.arange(100) == 99,
       "truncations": np.zeros(100, bool), "episode_starts": [0]})
for source in sys.argv[1:]:
    with Watched() as watched:
        learn(source)
    print("grew", watched.grew)
"""


def test_resident_memory_is_bounded(tmp_path):
    """Pages that are not a mapped file's, of the whole of reading and cloning 40,000 rows of 1 kB, beside those rows:
    of a folder next to nothing is held; what fits takes at most 1.2 times its rows."""
    if not STATUS.is_file():
        pytest.skip("needs Linux's /proc")
    rng, n = np.random.default_rng(0), 40_000
    obs = rng.standard_normal((n, 256), np.float32)
    arrays = {"obs": obs, "final_obs": obs[999::1000], "actions": rng.integers(0, 2, (n, 1), np.int32),
              "terminations": np.arange(1, n + 1) % 1000 == 0, "truncations": np.zeros(n, bool),
              "episode_starts": np.arange(0, n, 1000)}
    np.savez(tmp_path / "d.npz", **arrays)
    puffer_il.load_demos(arrays).save(tmp_path / "d.shards")
    out = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "d.shards"), str(tmp_path / "d.npz")],
                         capture_output=True, text=True, check=True, cwd=ROOT).stdout
    mapped, held = (float(part.split()[0]) / obs.nbytes for part in out.split("grew")[1:])
    assert mapped < 0.3 and held < 1.2


def test_mapped_rows_do_not_stay_resident_after_a_pass_over_them(tmp_path):
    if not STATUS.is_file():
        pytest.skip("needs Linux's /proc")
    size, width = 64_000_000, 1_000
    read_demos({"obs": np.ones((size // width, width), np.uint8), "episode_starts": np.arange(0, size // width, 1_000),
                "final_obs": np.ones((size // width // 1_000, width), np.uint8),
                "terminations": np.arange(1, size // width + 1) % 1_000 == 0,
                "truncations": np.zeros(size // width, bool)}).save(tmp_path / "d.shards")
    obs = read_demos(tmp_path / "d.shards").obs
    before = resident("RssFile")
    total = sum(int(obs[part].sum()) for part in blocks(obs))
    after = resident("RssFile")
    assert int(obs.sum()) == total == size and resident("RssFile") - before > 0.9 * size
    assert after - before < 0.1 * size


@pytest.mark.parametrize("algo", ["gaifo", "airl", "sqil", "csil", "dagger", "noise_bc"])
def test_learners_draw_demonstrations_where_they_lie(tmp_path, monkeypatch, algo):
    """Nothing asks for all successors at once, and what is learned is what is learned of copies, bit by bit."""
    demos, keys = read_demos(EXPERT), {"env": {"num_envs": 16}, "policy": {"hidden": (16,)}, "eval": {"episodes": 1},
                                       "train": {"total_steps": 1, "threads": 1, "num_steps": 32}, "device": "cpu"}
    copied = replace(demos, next_obs=np.array(demos.next_obs))
    assert not isinstance(copied.next_obs, Successors)
    with monkeypatch.context() as copying:
        copying.setattr("puffer_il.learners.common.bc_on_labels.Joined", lambda *parts: np.concatenate(parts))
        expected = puffer_il.train(algo, "cartpole", demos=copied, seed=3, **keys).policy.state_dict()
    monkeypatch.setattr(Successors, "__array__", lambda *_, **__: pytest.fail("all successors were copied"))
    found = puffer_il.train(algo, "cartpole", demos=demos, seed=3, **keys).policy.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_robots_file_is_converted_some_episodes_after_the_others(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    from tests.support.hdf5 import write_robomimic

    path = write_robomimic(tmp_path / "r.hdf5", [3, 2, 4, 1, 2])
    with h5py.File(path, "r+") as file:
        file["data"].attrs["total"] = 12
    whole, counts = read_demos(path), []
    monkeypatch.setattr("puffer_il.demos.read.PART_BYTES", 1)
    for part in read_parts(path):
        counts.append(part.num_episodes)
    assert counts == [1] * 5
    assert main(["demos", "import", str(path), str(tmp_path / "r.shards")]) == 0
    same_demos(whole, read := read_demos(tmp_path / "r.shards"))
    assert read.notes == whole.notes and read.layout == whole.layout
