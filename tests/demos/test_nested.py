"""Demonstrations of Dict and Tuple observations: recorded, written, read, and made the rows of an environment again."""

import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core.errors import InputError
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import load_demos, read_demos

N = 6
SPACE = spaces.Dict({"a.b": spaces.Dict({"x/y": spaces.Box(-9, 9, (2,), np.float64), "": spaces.Discrete(3, start=5)}),
                     "pair": spaces.Tuple([spaces.Box(0, 900, (), np.uint16), spaces.Box(-1, 1, (2, 2), np.float16)])})
ENDS = {"terminations": np.arange(N) == N - 1, "truncations": np.zeros(N, bool), "actions": np.zeros(N, np.int64)}


def spec_of(space):
    layout = lay_out(space)
    return EnvSpec("toy", layout.shape, layout.dtype, ActionSpec(nvec=(2,)), layout.fields)


def batch(first=0):
    k = np.arange(first, first + N)
    return {"pair": (100 * k, np.zeros((N, 2, 2))), "a.b": {"": 5 + k % 3, "x/y": np.stack([k, -k], 1) / 4}}


def recorded(**changes):
    return {"obs": batch(), "next_obs": batch(1), **ENDS, **changes}


def assert_same(found, wanted):
    assert list(found["a.b"]) == ["", "x/y"] and isinstance(found["pair"], tuple)
    for a, b in ((found["a.b"][""], wanted["a.b"][""]), (found["a.b"]["x/y"], wanted["a.b"]["x/y"]),
                 (found["pair"][0], wanted["pair"][0]), (found["pair"][1], wanted["pair"][1])):
        np.testing.assert_array_equal(a, b)


def test_dicts_in_memory_become_the_rows_of_the_environment_whatever_their_order_and_dtypes():
    spec = spec_of(SPACE)
    demos = load_demos(recorded(), spec)
    assert demos.obs.shape[1:] == spec.obs_shape and demos.layout == spec.layout
    assert_same(spec.unpack(demos.obs), batch())
    assert_same(spec.unpack(demos.next_obs), batch(1))
    np.testing.assert_array_equal(demos.obs, spec.pack(batch())[0])


def test_a_file_says_what_its_rows_are_made_of(tmp_path):
    spec = spec_of(SPACE)
    read_demos(recorded()).save(tmp_path / "d.npz")  # in the order and the dtypes of memory
    again = read_demos(tmp_path / "d.npz")
    assert again.layout == read_demos(recorded()).layout != spec.layout
    np.testing.assert_array_equal(load_demos(again, spec).obs, load_demos(recorded(), spec).obs)


def test_rows_of_a_space_that_has_changed_are_refused_by_name(tmp_path):
    load_demos(recorded(), spec_of(SPACE)).save(tmp_path / "d.npz")
    renamed = spaces.Dict({"a.b": SPACE["a.b"], "duo": SPACE["pair"]})
    with pytest.raises(InputError, match=r"obs: toy: the observation has no part 'duo\.f0'"):
        load_demos(tmp_path / "d.npz", spec_of(renamed))


def test_infinite_numbers_are_found_inside_rows_of_bytes():
    obs = batch()
    obs["a.b"]["x/y"][3, 0] = np.inf
    with pytest.raises(InputError, match="obs is NaN or infinite in row 3"):
        read_demos(recorded(obs=obs))


def test_a_category_that_the_environment_does_not_have_is_refused():
    obs = batch()
    obs["a.b"][""] = np.full(N, 2)
    with pytest.raises(InputError, match=r"is category 2 but its space declares 5 to 7"):
        load_demos(recorded(obs=obs), spec_of(SPACE))


def test_texts_are_refused():
    with pytest.raises(InputError, match=r"obs\.mission is <U2 \(6,\); give plain numbers"):
        read_demos(recorded(obs={"mission": np.full(N, "go")}))


def test_minari_gives_back_dicts_and_tuples(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    pytest.importorskip("minari", reason="the extra 'minari' is not installed")
    from puffer_il.demos.formats import minari

    space = spaces.Dict({"a.b": spaces.Dict({"n": SPACE["a.b"][""], "x": SPACE["a.b"]["x/y"]}), "pair": SPACE["pair"]})
    spec, obs = spec_of(space), [{"pair": b["pair"], "a.b": {"n": b["a.b"][""], "x": b["a.b"]["x/y"]}}
                                 for b in (batch(), batch(1))]
    demos = load_demos(recorded(obs=obs[0], next_obs=obs[1], rewards=np.ones(N)), spec)
    minari.write("own/nested-v0", demos, spec)
    read = load_demos("minari:own/nested-v0", spec)
    np.testing.assert_array_equal(read.obs, demos.obs)
    np.testing.assert_array_equal(read.next_obs, demos.next_obs)
    with pytest.raises(InputError, match="key '' cannot be a name in its HDF5 file"):
        minari.write("own/other-v0", load_demos(recorded(rewards=np.ones(N)), spec_of(SPACE)), spec_of(SPACE))
