"""Every format that we write, against every kind of demonstrations: what comes back is what was written, to the bit, or
one line says what the format cannot hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.cli import main
from puffer_il.cli.demos import WRITTEN
from puffer_il.core.errors import InputError
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import fit, load_demos, read_demos
from puffer_il.demos.formats import formats
from tests.support.demos import make_demos, same_demos

NEEDS = {"lerobot": "pyarrow", "imitation_folder": "pyarrow", "robomimic": "h5py", "minari": "minari"}
TO = {"imitation": "x.npz", "imitation_folder": "x", "lerobot": "x", "minari": "minari:own/x-v0", "robomimic": "x.hdf5",
      "table": "x.csv"}
PARTS = spaces.Dict({"camera": spaces.Box(0, 255, (4, 6, 3), np.uint8),
                     "depth": spaces.Box(0, 65535, (4, 6), np.uint16),
                     "arm": spaces.Dict({"joints": spaces.Box(-9, 9, (3,), np.float32), "grip": spaces.Discrete(3)})})
VECTORS = spaces.Dict({"position": spaces.Box(-9, 9, (2,), np.float32), "goal": spaces.Box(-9, 9, (2,), np.float32)})
PAIR = spaces.Tuple([spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(4, start=2)])
SPACES = {"parts": PARTS, "vectors": VECTORS, "pair": PAIR}
CONTINUOUS = ActionSpec(low=-np.ones(2, np.float32), high=np.ones(2, np.float32), shape=(2,))


def kinds():
    """Demonstrations and the environment that they fit, by name."""
    plain = {"numbers": make_demos(continuous=True, columns=2), "choices": make_demos(),
             "without rewards": make_demos(rewards=False, continuous=True, columns=2),
             "bytes": make_demos(obs_dtype="uint8"),
             "pictures": make_demos(obs_shape=(4, 5, 3), obs_dtype="uint8", continuous=True, columns=2)}
    made = {}
    for name, demos in plain.items():
        action = CONTINUOUS if demos.actions.dtype == np.float32 else ActionSpec(nvec=(2,))
        made[name] = demos, EnvSpec("toy", demos.obs.shape[1:], demos.obs.dtype, action)
    for name, space in SPACES.items():
        layout = lay_out(space)
        spec = EnvSpec("toy", layout.shape, layout.dtype, CONTINUOUS, layout.fields)
        base = make_demos(continuous=True, columns=2)
        space.seed(0)
        rows = np.concatenate([layout.pack(space.sample())[0] for _ in range(len(base) + base.num_episodes)])
        final = np.zeros(len(rows), bool)
        final[base.episode_ends + np.arange(base.num_episodes)] = True
        first = np.flatnonzero(~final)
        made[name] = replace(base, obs=rows[first], next_obs=rows[first + 1], layout=layout), spec
    return made


KINDS = kinds()
CANNOT = {  # what a format says of what it cannot hold
    ("imitation", "parts"): "parts with names", ("imitation", "vectors"): "parts with names",
    ("imitation", "pair"): "parts with names", ("imitation_folder", "parts"): "parts with names",
    ("imitation_folder", "vectors"): "parts with names", ("imitation_folder", "pair"): "parts with names",
    ("lerobot", "pictures"): "pictures", ("lerobot", "parts"): "pictures", ("lerobot", "pair"): "Tuple",
    ("minari", "without rewards"): "no rewards are stored", ("robomimic", "pair"): "Tuple|no Dict",
    ("table", "pair"): "Tuple"}


def write(name, target, demos, spec):
    if name == "minari":
        formats()[name].write(target, fit(demos, spec), spec)
    else:
        formats()[name].write(target, demos)


@pytest.fixture
def target(tmp_path, monkeypatch, request):
    name = request.getfixturevalue("name")
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return TO[name] if ":" in TO[name] else str(tmp_path / TO[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_comes_back_or_is_refused(name, kind, target):
    demos, spec = KINDS[kind]
    if (name, kind) in CANNOT:
        with pytest.raises(InputError, match=CANNOT[name, kind]) as error:
            write(name, target, demos, spec)
        assert "\n" not in str(error.value)
        return
    write(name, target, demos, spec)
    same_demos(load_demos(target, spec), fit(demos, spec))


@pytest.mark.parametrize("name", WRITTEN)
def test_rows_that_do_not_follow_on_one_another_are_refused(name, target):
    demos, spec = KINDS["numbers"]
    every = np.arange(0, len(demos), 2)
    cut = replace(demos, obs=demos.obs[every], next_obs=demos.next_obs[every], actions=demos.actions[every],
                  rewards=demos.rewards[every], terminations=np.zeros(4, bool), truncations=np.zeros(4, bool),
                  episode_starts=np.array([0, 2]))
    if name == "lerobot":  # it holds successors, and takes what has no end for cut off
        write(name, target, cut, spec)
        cut = replace(cut, truncations=np.isin(np.arange(4), [1, 3]))
        return same_demos(read_demos(target), cut)
    with pytest.raises(InputError, match="rows do not follow on one another"):
        write(name, target, cut, spec)


def test_help_names_every_format_that_is_written(capsys):
    assert sorted(WRITTEN) == sorted(name for name, format in formats().items()
                                     if hasattr(format, "write") and not name.startswith("puffer_il"))
    assert main(["demos", "export", "--help"]) == 0
    assert ", ".join(WRITTEN) in " ".join(capsys.readouterr().out.split())


def test_what_is_written_for_imitation_is_opened_by_hugging_faces_datasets(tmp_path):
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    demos, _ = KINDS["pictures"]
    formats()["imitation_folder"].write(tmp_path, demos)
    found = datasets.load_from_disk(str(tmp_path))
    found.set_format("numpy")
    obs = np.insert(np.asarray(demos.obs), demos.episode_ends, demos.final_obs, axis=0)
    np.testing.assert_array_equal(np.concatenate([np.asarray(one["obs"]) for one in found]), obs)
    np.testing.assert_array_equal(np.concatenate([np.asarray(one["acts"]) for one in found]), demos.actions)
    assert [bool(one["terminal"]) for one in found] == demos.terminated.tolist()
