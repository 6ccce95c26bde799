"""Observations that are not quite what their space declares: taken with one notice, or refused in a line."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.vector.vec import make_vec

LIMIT = 4


class Given(gymnasium.Env):
    """Gives `first` after a reset and `then` in steps."""

    action_space = spaces.Discrete(2)

    def __init__(self, space, first, then=None):
        self.observation_space, self.first, self.then = space, first, first if then is None else then

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.first, {}

    def step(self, action):
        self.t += 1
        return self.then, 1.0, False, self.t >= LIMIT, {}


def seen(space, first, then=None, backend="serial"):
    """The first two rows, and the notices."""
    kwargs = {"space": space, "first": first, "then": then}
    with make_vec(Given, num_envs=2, backend=backend, num_workers=2 * (backend != "serial"), kwargs=kwargs) as vec:
        return vec.reset(0)[0].copy(), vec.step(np.zeros((2, 1), np.int32)).obs[0].copy(), vec.notices, vec.spec


BOX = spaces.Box(-1, 1, (3,))


def test_float64_in_a_float32_space_is_cast_with_one_notice():
    first, _, notices, _ = seen(BOX, np.array([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(first, np.float32([0.1, 0.2, 0.3]))
    assert notices == ["observations are cast to their rows' dtype: obs is float64 where float32 is declared"]


@pytest.mark.parametrize("backend", ["serial", "multiprocessing"])
def test_values_outside_the_declared_space_are_taken_with_one_notice(backend):
    first, _, notices, _ = seen(BOX, np.float32([0, 5, 9]), backend=backend)
    assert first.tolist() == [0, 5, 9]
    assert notices == ["observations lie outside their declared space and are taken as they are: obs[1] = 5, declared "
                       "-1 to 1"]


def test_observations_as_declared_need_no_notice():
    assert seen(BOX, np.zeros(3, np.float32))[2] == []


def test_parts_that_are_not_declared_are_left_out_with_a_notice():
    space = spaces.Dict({"a": BOX})
    first, _, notices, spec = seen(space, {"a": np.zeros(3, np.float32), "b": 7})
    assert first.shape == (3,) and "'b'" in notices[0] and [f.name for f in spec.obs_fields] == ["a"]


@pytest.mark.parametrize(("space", "first", "then", "message"), [
    (BOX, np.zeros(3), np.zeros(4), r"has shape \(4,\) but its space declares \(3,\)"),
    (BOX, np.zeros(3), np.zeros(1), r"has shape \(1,\) but its space declares \(3,\)"),
    (BOX, np.zeros(3), np.array(["a", "b", "c"]), "has dtype <U1, no plain numbers"),
    (spaces.Dict({"a": BOX}), {"a": np.zeros(3)}, {"c": np.zeros(3)}, "has no part 'a'"),
    (spaces.Discrete(3), 1, 3, "is category 3 but its space declares 0 to 2"),
    (spaces.Discrete(3, start=4), 4, 3, "is category 3 but its space declares 4 to 6"),
    (spaces.Box(0, 255, (2,), np.uint8), np.zeros(2), np.array([0.5, 0]), "is 0.5, which its declared dtype uint8"),
    (spaces.Box(0, 9, (2,), np.int8), np.zeros(2, int), np.array([300, 0]), "is 300, which its declared dtype int8"),
])
def test_what_would_be_another_number_is_refused_in_one_line(space, first, then, message):
    with pytest.raises(InputError, match=message) as error:
        seen(space, first, then)
    assert "\n" not in str(error.value) and "in step" in str(error.value)
    with pytest.raises(EnvFailure, match=message) as error:
        seen(space, first, then, "multiprocessing")
    assert "\n" not in str(error.value)


KINDS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
         "float64", ">f4", ">i2", "longdouble"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nested", [False, True])
def test_every_dtype_arrives_and_comes_back(kind, nested):
    """Exactly, but for floats, of which rows and networks hold float32."""
    dtype = np.dtype(kind)
    low, high = (0, 1) if dtype.kind == "b" else (-2, 2) if dtype.kind == "f" else (
        np.iinfo(dtype).min, min(np.iinfo(dtype).max, 2**63 - 1))
    box = spaces.Box(low, high, (3,), dtype)
    value = np.array([low, high, 1 if dtype.kind == "b" else high // 3], dtype)
    space, given = (spaces.Dict({"a": box, "b": spaces.Discrete(2)}), {"a": value, "b": 1}) if nested else (box, value)
    row, _, _, spec = seen(space, given)
    again = spec.unpack(row[None])["a" if nested else ...][0]
    np.testing.assert_array_equal(again, value.astype(np.float32) if dtype.kind == "f" else value)
    np.testing.assert_array_equal(spec.pack(given)[0], row[None])


def test_what_is_too_large_for_int64_is_refused():
    with pytest.raises(InputError, match="is 18446744073709551615, which its declared dtype int64 cannot hold"):
        seen(spaces.Box(0, 2**64 - 1, (1,), np.uint64), np.array([2**64 - 1], np.uint64))


@pytest.mark.parametrize(("shape", "axes"), [((8, 8, 3), "height x width x channels"),
                                             ((3, 8, 9), "channels x height x width")])
def test_how_an_image_is_read_is_said(shape, axes):
    _, _, notices, spec = seen(spaces.Box(0, 1, shape, np.uint8), np.ones(shape, np.uint8))
    assert notices == [f"image 'obs' {shape} is read as {axes}, its pixels scaled from the declared range 0 to 1"]
    assert (spec.obs_fields[0].low, spec.obs_fields[0].high) == (0, 1)
