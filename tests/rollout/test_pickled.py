"""What a pickle says is read without unpickling: data of every protocol, and never a call."""

from __future__ import annotations

import collections
import pickle

import numpy as np
import pytest

from puffer_il.rollout.policy_files.pickled import Call, Name, Unreadable, array, read


class Thing:
    def __init__(self, **state):
        self.__dict__.update(state)


class Evil:
    called = False

    def __reduce__(self):
        return (setattr, (Evil, "called", True))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_itself_and_arrays_are_arrays(protocol):
    plain = {"a": [1, -2.5, None, True, 2**70], "b": ("text", b"bytes"), 3: {"c": {}}}
    arrays = {"floats": np.arange(6.0).reshape(2, 3), "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
              "big": np.arange(3, dtype=">i4"), "bools": np.array([True, False]), "scalar": np.float32(1.5),
              "bytes": np.arange(4, dtype=np.uint8), "empty": np.zeros((0, 2), np.float32)}
    thing = read(pickle.dumps(Thing(plain=plain, again=[plain["a"]] * 2, **arrays), protocol))
    state = thing.state
    if protocol > 2:  # before, bytes are themselves made by a call
        assert state["plain"] == plain and state["again"] == [plain["a"]] * 2
    for name, wanted in arrays.items():
        np.testing.assert_array_equal(array(state[name]), wanted)
        assert array(state[name]).dtype == wanted.dtype


def test_objects_are_named_and_not_built():
    ordered = read(pickle.dumps(collections.OrderedDict(a=1, b=2), 4))
    assert isinstance(ordered, Call) and ordered.name == Name("collections", "OrderedDict")
    assert ordered.items == {"a": 1, "b": 2}
    made = read(pickle.dumps(Evil(), 4))
    assert made.args[1:] == ("called", True) and Evil.called is False
    assert not pickle.loads(pickle.dumps(Evil(), 4)) and Evil.called is True  # what unpickling would have done


@pytest.mark.parametrize("data", [
    b"", b"junk", pickle.dumps(list(range(99)), 4)[:-5], b"(.", b"}]s.", b"N(NNNu.", pickle.dumps(np.zeros(3), 4)[:40]])
def test_what_is_damaged_is_unreadable(data):
    with pytest.raises(Unreadable):
        read(data)


@pytest.mark.parametrize("value", [np.array([{}], object), np.array(["text"]), np.array([1j]), "text", {"a": 1},
                                   Thing()])
def test_only_plain_numbers_become_arrays(value):
    with pytest.raises(Unreadable):
        array(read(pickle.dumps(value, 4)))


def laughs(depth: int) -> list:
    """Ten times the same list, in which ten times the same list …"""
    inner: list = [1.0] * 10
    for _ in range(depth):
        inner = [inner] * 10
    return inner


def test_lists_that_share_lists_are_no_numbers_once_they_are_far_more_than_the_file():
    np.testing.assert_array_equal(array(read(pickle.dumps(laughs(1), 4))), np.ones((10, 10)))
    itself: list = []
    itself.append(itself)
    for value in (laughs(15), itself, [[1.0, "text"]]):
        with pytest.raises(Unreadable):
            array(read(pickle.dumps(value, 4)))
