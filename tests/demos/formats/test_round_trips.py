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
from puffer_il.demos import read_demos
from puffer_il.demos.formats import formats
from puffer_il.demos.kept import without
from tests.support.demos import make_demos, same_demos

NEEDS = {"lerobot": "pyarrow", "imitation_folder": "pyarrow", "robomimic": "h5py", "minari": "minari"}
TO = {"imitation": "x.npz", "imitation_folder": "x", "lerobot": "x", "minari": "minari:own/x-v0", "robomimic": "x.hdf5",
      "table": "x.csv", "puffer_il": "x.npz", "puffer_il_shards": "x.shards"}
BOXES = {"position": spaces.Box(-9, 9, (2,), np.float32), "goal": spaces.Box(-9, 9, (2,), np.float32)}
SPACES = {
    "pictures and numbers": spaces.Dict({
        "camera": spaces.Box(0, 255, (4, 6, 3), np.uint8), "depth": spaces.Box(0, 65535, (4, 6), np.uint16),
        "arm": spaces.Dict({"joints": spaces.Box(-9, 9, (3,), np.float32), "grip": spaces.Discrete(3)})}),
    "named": spaces.Dict(BOXES), "named and one alone": spaces.Dict({"position": BOXES["position"]}),
    "named numbers of all kinds": spaces.Dict({
        "depth": spaces.Box(0, 65535, (4, 6), np.uint16), "bits": spaces.MultiBinary(3), "speed": spaces.Box(-9, 9, ()),
        "place": spaces.Discrete(5, start=2), "far": spaces.Box(-2**40, 2**40, (1,), np.int64)}),
    "tuple": spaces.Tuple([spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(4, start=2)])}
CONTINUOUS = ActionSpec(low=-np.ones(2, np.float32), high=np.ones(2, np.float32), shape=(2,))


def kinds():
    """Demonstrations and the environment that they fit, by name. All have an episode of a single row."""
    base = make_demos(continuous=True, columns=2)
    n, rng = len(base), np.random.default_rng(0)
    plain = {
        "float32": base, "float64": _of_float64(base), "choices": make_demos(), "without rewards": make_demos(
            rewards=False, continuous=True, columns=2), "open ends": make_demos(ends="open"),
        "uint8": make_demos(obs_dtype="uint8"), "uint16": make_demos(obs_dtype="uint16"),
        "int64": make_demos(obs_dtype="int64"), "a number each": replace(base, obs=base.obs[:, 0], next_obs=np.asarray(
            base.next_obs)[:, 0]), "matrices": make_demos(obs_shape=(3, 4)),
        "pictures": make_demos(obs_shape=(4, 5, 3), obs_dtype="uint8", continuous=True, columns=2),
        "weights": replace(base, weights=rng.uniform(0.1, 2, n).astype(np.float32)),
        "states": replace(base, states=rng.normal(size=(n, 3)) * 1e9), "one state": replace(base, states=rng.normal(
            size=(n, 1))),
        "without its final observations": replace(base, episode_returns=rng.normal(size=3)),
        "one row of each episode": _one_row_each(rng)}
    made = {}
    for name, demos in plain.items():
        action = CONTINUOUS if demos.actions.dtype == np.float32 else ActionSpec(nvec=(2,))
        made[name] = demos, EnvSpec("toy", demos.obs.shape[1:], demos.obs.dtype, action)
    made["choices from 2 on"] = made["choices"][0], EnvSpec("toy", (2,), np.dtype(np.float32), ActionSpec(
        nvec=(2,), start=(2,)))
    made["whole numbers from -3 on"] = replace(made["choices"][0], action_first=(-3,)), EnvSpec(
        "toy", (2,), np.dtype(np.float32), ActionSpec(nvec=(2,), start=(-3,), parts=(((), (1,), "int32"),)))
    for name, space in SPACES.items():
        layout = lay_out(space, exact=True)
        space.seed(0)
        rows = np.concatenate([layout.pack(space.sample())[0] for _ in range(n + base.num_episodes)])
        final = np.zeros(len(rows), bool)
        final[base.episode_ends + np.arange(base.num_episodes)] = True
        first = np.flatnonzero(~final)
        made[name] = replace(base, obs=rows[first], next_obs=rows[first + 1], layout=layout), EnvSpec(
            "toy", layout.shape, layout.dtype, CONTINUOUS, layout.fields)
    return made


def _of_float64(base):
    rows = np.random.default_rng(1).normal(size=(len(base), 2))
    return read_demos({"obs": rows, "final_obs": rows[:3] + 1, "actions": base.actions.astype(np.float64),
                       "terminations": base.terminations, "truncations": base.truncations,
                       "episode_starts": base.episode_starts, "rewards": rows[:, 0]})


def _one_row_each(rng):
    """As subsampling leaves it of short episodes: their facts are not those of the rows."""
    one = make_demos((1, 1), continuous=True, columns=2)
    return replace(one, terminations=np.zeros(2, bool), truncations=np.zeros(2, bool), episode_lengths=np.array([7, 9]),
                   episode_returns=rng.normal(size=2), episode_terminations=np.array([True, False]),
                   episode_truncations=np.array([False, True]))


KINDS = kinds()
NAMED = ("named", "named and one alone", "named numbers of all kinds", "pictures and numbers", "tuple")
CANNOT = {  # what a format says of what it cannot hold
    **{(name, kind): "parts with names" for name in ("imitation", "imitation_folder") for kind in NAMED},
    ("lerobot", "named and one alone"): "a Dict of 'position' alone", ("lerobot", "tuple"): "Tuple",
    ("minari", "without rewards"): "no rewards are stored", ("robomimic", "tuple"): "parts of Tuples",
    ("table", "tuple"): "Tuple",
    **{(name, "whole numbers from -3 on"): "the numbers from -3 on that are actions in column 0"
       for name in ("imitation", "imitation_folder", "lerobot", "robomimic", "table")}}


def write(name, target, demos, spec):
    if name == "minari":
        formats()[name].write(target, demos, spec)
    elif name.startswith("puffer_il"):
        demos.save(target)
    else:
        formats()[name].write(target, demos)


@pytest.fixture
def target(tmp_path, monkeypatch, request):
    name = request.getfixturevalue("name")
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return TO[name] if ":" in TO[name] else str(tmp_path / TO[name])


def parts(demos, rows):
    """Observations by the names of their parts."""
    if demos.layout is None or not demos.layout.nested:
        return {(): np.asarray(rows)}
    return {field.path: field.of(np.asarray(rows)) for field in demos.layout.own}


def same_by_name(left, right):
    """Every array equal in value, dtype and presence; those of named parts wherever they lie in their rows."""
    for rows in ("obs", "next_obs"):
        a, b = parts(left, getattr(left, rows)), parts(right, getattr(right, rows))
        assert set(a) == set(b)
        for path in a:
            np.testing.assert_array_equal(a[path], b[path], err_msg=f"{rows} {path}", strict=True)
    same_demos(replace(left, obs=right.obs, next_obs=right.next_obs, layout=right.layout), right)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TO)
def test_what_is_written_comes_back_or_is_refused(name, kind, target, tmp_path):
    demos, spec = KINDS[kind]
    if (name, kind) in CANNOT:
        with pytest.raises(InputError, match=CANNOT[name, kind]) as error:
            write(name, target, demos, spec)
        assert "\n" not in str(error.value)
        assert not list(tmp_path.iterdir()), "nothing is written of it"
        return
    write(name, target, demos, spec)
    back = read_demos(target)
    same_by_name(back, demos)
    assert back.action_first == demos.action_first


@pytest.mark.parametrize("name", TO)
def test_what_would_be_rounded_is_refused(name, target):
    demos, spec = KINDS["float32"]
    fine = replace(demos, obs=np.asarray(demos.obs, np.float64), next_obs=np.asarray(demos.next_obs, np.float64))
    write(name, target, fine, spec)
    np.testing.assert_array_equal(read_demos(target).obs, fine.obs)
    rough = replace(fine, obs=fine.obs + np.eye(8, 2, -5) * 1e-9, next_obs=fine.next_obs)
    if not name.startswith("puffer_il"):
        rough = replace(rough, next_obs=np.concatenate([rough.obs[1:], fine.next_obs[-1:]]),
                        episode_starts=np.zeros(1, int), terminations=np.zeros(8, bool), truncations=np.zeros(8, bool))
    with pytest.raises(InputError, match="obs is float64, and row 5 would be read back rounded to float32"):
        write(name, f"{target}-2", rough, spec)


@pytest.mark.parametrize("name", WRITTEN)
def test_masks_beside_observations_are_refused_until_they_are_dropped(name, target):
    space = spaces.Dict(BOXES)
    for nested in (False,) if name.startswith("imitation") else (True, False):
        layout = lay_out(space if nested else BOXES["goal"], masked=2)
        rows = np.zeros((3, *layout.shape), layout.dtype)
        demos = read_demos({"obs": rows, "actions": [0, 1, 1], "rewards": np.ones(3), "next_obs": rows,
                            "terminations": [0, 0, 1], "truncations": [0, 0, 0]})
        demos = replace(demos, layout=layout)
        spec = EnvSpec("toy", layout.shape, layout.dtype, ActionSpec(nvec=(2,)), layout.fields)
        with pytest.raises(InputError, match=r"which actions may be taken is stored .* --drop masks"):
            write(name, target, demos, spec)
        if name == "minari":  # whose spaces need the rows of the environment
            continue
        bare = without(demos, ["masks"])
        write(name, f"{target}{nested:d}{TO[name][1:]}", bare, spec)
        same_by_name(read_demos(f"{target}{nested:d}{TO[name][1:]}"), bare)


def test_the_command_line_leaves_out_what_is_named(tmp_path, capsys):
    pytest.importorskip("pyarrow")
    demos = replace(KINDS["states"][0], weights=KINDS["weights"][0].weights)
    demos.save(tmp_path / "d.npz")
    export = ["demos", "export", str(tmp_path / "d.npz"), str(tmp_path / "x.npz")]
    assert main([*export, "--drop", "states,rewards"]) == 0
    back = read_demos(tmp_path / "x.npz")
    assert back.states is None and back.rewards is None and back.weights is not None
    assert main([*export, "--drop", "zzz"]) == 2
    assert "--drop" in (said := capsys.readouterr().err) and "rewards, weights, states" in said


@pytest.mark.parametrize("changed", [{"puffer_il_weights": np.ones(3)}, {"puffer_il_states": np.ones((2, 8))},
                                     {"puffer_il_episode_lengths": np.full(8, 1.5)},
                                     {"puffer_il_episode_returns": np.full((8, 2), 1.5)}])
def test_what_was_put_beside_and_changed_is_refused(tmp_path, changed):
    formats()["imitation"].write(tmp_path / "x.npz", KINDS["float32"][0])
    with np.load(tmp_path / "x.npz", allow_pickle=True) as file:
        np.savez(tmp_path / "y.npz", **file, **changed)
    with pytest.raises(InputError, match=next(iter(changed)).removeprefix("puffer_il_")) as refused:
        read_demos(tmp_path / "y.npz")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", WRITTEN)
def test_rows_that_do_not_follow_on_one_another_are_refused(name, target):
    demos, spec = KINDS["float32"]
    every = np.arange(0, len(demos), 2)
    cut = replace(demos, obs=demos.obs[every], next_obs=demos.next_obs[every], actions=demos.actions[every],
                  rewards=demos.rewards[every], terminations=np.zeros(4, bool), truncations=np.zeros(4, bool),
                  episode_starts=np.array([0, 2]))
    if name == "lerobot":  # it holds successors
        write(name, target, cut, spec)
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
