"""A state in a checkpoint may come from anybody: it decides neither what is executed nor which memory is touched."""

from __future__ import annotations

import enum
import functools
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from puffer_il.vector.put_back import Writer
from puffer_il.vector.snapshot import Reader, Unreadable
from puffer_il.vector.state import State
from puffer_il.vector.state_bytes import from_bytes, to_bytes

BEYOND = [((100,), 0, (8,), 0), ((3,), 0, (8,), 2), ((1,), -8, (8,), 2), ((2,), 8, (-16,), 2), ((2**40,), 0, (0,), 2),
          ((2**61, 1), 0, (8, 8), 2), ((1,), 0.5, (8,), 2), ((1,), 0, (8, 8), 2), ((-1,), 0, (8,), 2)]


class Told:
    kind = "phase"

    def __init__(self, **values: Any) -> None:
        self.__dict__ |= values

    def act(self) -> str:
        return f"{self.kind} of red"


class Callback(Told):
    def __call__(self) -> None:
        raise AssertionError("it was called")


class Ended(Told):
    def __del__(self) -> None:
        pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Indexed(Told):
    def __class_getitem__(cls, item: str) -> str:
        raise AssertionError(f"{item} was asked for")


def put(stored: Any, live: Any) -> Any:
    reader = Reader()
    return write(reader.read(stored), reader.arrays, live)


def write(node: Any, arrays: list, live: Any) -> Any:
    node, arrays = from_bytes(to_bytes(node, arrays))
    known = Reader()
    known.read(live)
    return Writer(arrays, known).write(node, live)


def told(**attributes: Any) -> list:
    """The node of a Told."""
    return ["object", 0, f"{__name__}.Told", attributes]


def doubler() -> Any:
    factor = [2]
    return lambda x: factor[0] * x


def adder() -> Any:
    term = [3]
    return lambda x: term[0] + x


@pytest.mark.parametrize("stored, live", [
    (Told(a=print), Told(a=len)),
    (Told(a=doubler()), Told(a=adder())),  # another function with a variable of its own
    (Told(a=doubler()), Told(a=Callback())),
    (Told(a=(one := Told()), b=one.act), Told(a=(other := Callback()), b=other.act)),
    (Told(a=Discrete(3)), Told(a=Box(0, 1, (3,)))),
    (Told(a=print, b=print), Told(a=print, b=len)),  # the second says "as the first"
    (Told(a=len, b=print), Told(a=print, b=len)),
    (Told(a=1, b=print), Told(a=print, b=1)),
    (Told(a=[print]), Told(a=[])),
    (Told(a={"phase": print}), Told(a={})),
    (Told(a=dict), Told(a=list)),
    (Told(a=json), Told(a=functools)),
    (Told(a=None), Told(a=print)),
    (Told(a=Path("/")), Told(a=Path("/phase/red"))),  # as if by leaving out some of its parts
    (Told(), Told(act=print)),  # the method that it hid would be called
    (Told(a=(one := Told()), b=one.act), Told(a=Told(), b=Told().act)),
    (Told(a=functools.partial(print, 2)), Told(a=functools.partial(print, 1))),
    (Told(a=functools.partial(print, end="red")), Told(a=functools.partial(print, end="phase"))),
    (Told(a=functools.partial(print, np.ones(2))), Told(a=functools.partial(print, np.zeros(2)))),
    (Told(a=functools.partial(len)), Told(a=functools.partial(print))),
    (Told(a=Callback(b=1), b=0), Told(a=0, b=Callback(b=1))),
    (Told(a=Told(), b=Callback()), Told(a=Callback(), b=Told())),
    (Told(a=defaultdict(print)), Told(a=defaultdict(list), b=print)),
])
def test_what_can_be_called_is_only_ever_what_stands_there(stored, live):
    with pytest.raises(Unreadable, match="another now"):
        put(stored, live)


class Mimic:
    """Somebody's object of the environment, no part of which is to be asked for."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


@pytest.mark.parametrize("stored", [
    np.random.PCG64(1), np.random.default_rng(1), np.random.RandomState(1), random.Random(1),
    functools.partial(print, 1), Told().act, doubler(), Discrete(3)], ids=lambda stored: type(stored).__name__)
def test_a_state_of_one_kind_is_only_put_into_an_object_of_that_kind(stored):
    reader = Reader()
    node = reader.read(Told(a=stored))[3]["a"]
    with pytest.raises(Unreadable, match="another now"):
        Writer(reader.arrays, Reader()).write(node, Mimic())


@pytest.mark.parametrize("node, live", [
    (["theirs", 1], [1, 2]), (["memory", 1, 0], np.zeros(3)), (["table", 1, "0" * 64], [1]),
    (["slice", 1, [0.5, None, None]], slice(1, None)), (["space", 1, "gymnasium.spaces.discrete.Discrete", 5, []],
                                                        Discrete(3))])
def test_a_crafted_node_makes_nothing_that_its_place_does_not_have(node, live):
    with pytest.raises(Unreadable, match="another now"):
        write(node, [np.zeros(3)], live)


def test_what_stands_there_remains_and_its_values_are_put_back():
    def make(x: int) -> Told:
        one = Told(a=print, b=x, c=Callback(x=x), d=functools.partial(print, np.ones(2)), e=Colour(x), f=range(x),
                   g=slice(x, None), h=defaultdict(list, red=[x]), i=doubler(), k=Path("/x"))
        one.j = one.act
        one.i.__closure__[0].cell_contents[0] = x
        return one

    live = make(1)
    kept = live.c, live.d, live.i, live.j
    assert put(make(2), live) is live and (live.c, live.d, live.i, live.j) == kept
    assert (live.b, live.c.x, live.e, live.f) == (2, 2, Colour.BLUE, range(2))
    assert (live.g, live.h["red"], live.i(10)) == (slice(2, None), [2], 20)


@pytest.mark.parametrize("stored", [Told(a=Path("x").parts, b=Colour.RED), Told(a=Ended()), Told(a=Callback())])
def test_objects_are_made_only_of_classes_that_the_environment_has_and_that_end_quietly(stored):
    with pytest.raises(Unreadable, match="another now"):
        put(stored, Told(a=(), b=None, c=Ended(), d=Callback()))


@pytest.mark.parametrize("name", ["__array_interface__", "__deepcopy__", "__class__", "act", "a b", ""])
def test_no_attribute_hides_a_method_or_speaks_to_python(name):
    with pytest.raises(Unreadable, match="another now"):
        write(told(**{name: {}}), [], Told())


def test_only_enums_are_asked_for_a_member():
    with pytest.raises(Unreadable, match="another now"):
        write(told(a=["enum", f"{__name__}.Indexed", "x"]), [], Told(a=Indexed()))


@pytest.mark.parametrize("text", ["/etc/passwd", "http://x", "a;b", "$(x)", "rm -rf red", "evil", "x.npz", "red" * 99])
@pytest.mark.parametrize("wrap", [str, np.str_, lambda x: np.array([x]), lambda x: np.array([x, x])[1:]])
def test_text_consists_of_the_environments_own_words(text, wrap):
    with pytest.raises(Unreadable, match="text that its environment"):
        put(Told(a=wrap(text)), Told(a="phase 1"))
    assert put(Told(a=wrap("phase 2 of red")), Told(a="phase 1")).a is not None
    assert put(Told(a=text), Told(a=text)).a == text
    assert put(Told(a={text: 1}), Told(a={text: 2})).a == {text: 1}


def test_words_are_not_cut_out_of_others():
    root = np.array(["phase", "red"])
    node = told(a=["part", 1, ["array", 2, 0], "<U3", [1], 4, [4]])
    with pytest.raises(Unreadable, match="another now"):
        write(node, [root], Told(a="phase red"))


@pytest.mark.parametrize("value", [b"import os", np.bytes_(b"x"), np.array([b"x"])])
def test_bytes_are_those_that_stand_there(value):
    with pytest.raises(Unreadable, match=r"another now|text that"):
        put(Told(a=value), Told(a=b"phase"))
    assert put(Told(a=b"\0;"), Told(a=b"\0;")).a == b"\0;"


@pytest.mark.parametrize("shape, offset, strides, length", BEYOND)
def test_views_lie_within_their_array(shape, offset, strides, length):
    node = told(a=["part", 1, ["array", 2, 0], "<f8", list(shape), offset, list(strides)])
    with pytest.raises((Unreadable, ValueError)):
        write(node, [np.zeros(length)], Told(a=np.zeros(3)))


@pytest.mark.parametrize("name", ["O", "T", "V8", "<U0", [["a", "f8"]], "f8,("])
def test_dtypes_that_hold_addresses_are_refused(name):
    with pytest.raises((Unreadable, TypeError, SyntaxError)):
        write(told(a=["part", 1, ["array", 2, 0], name, [1], 0, [8]]), [np.zeros(4)], Told(a=None))


@pytest.mark.parametrize("make, path, position", [
    (np.random.MT19937, ("state", "pos"), 625), (np.random.MT19937, ("state", "pos"), -1),
    (np.random.Philox, ("buffer_pos",), -500), (np.random.Philox, ("buffer_pos",), 5)])
def test_generators_read_only_their_own_table(make, path, position):
    def crafted(state: dict) -> dict:
        inner = state
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = position
        return state

    one = make(1)
    reader = Reader()
    state = reader.read(crafted(one.state))
    bits = ["bits", 900, state]
    for node, live in [(bits, one), (["generator", 901, bits], np.random.Generator(one))]:
        with pytest.raises(Unreadable, match="another now"):
            write(told(a=node), reader.arrays, Told(a=live))
    if make is np.random.MT19937:
        legacy, reader = np.random.RandomState(one), Reader()
        state = reader.read(crafted(legacy.get_state(legacy=False)))
        with pytest.raises(Unreadable, match="another now"):
            write(told(a=["legacy", 900, state]), reader.arrays, Told(a=legacy))


def test_truth_values_are_0_or_1():
    with pytest.raises(Unreadable, match="damaged"):
        write(told(a=["array", 1, 0]), [np.array([2], np.uint8).view(bool)], Told(a=None))


def test_a_state_does_not_grow_while_it_is_put_back():
    parts = [["array", number, 0] for number in range(2, 100)]
    with pytest.raises(Unreadable, match="another now"):
        write(told(a=["sequence", 1, "list", parts, None]), [np.zeros(2**20)], Told(a=None))


def nested(depth: int) -> Any:
    node: Any = 1
    for number in range(depth):
        node = ["sequence", depth - number, "list", [node], None]
    return node


class Env(Told):
    """As much as State needs."""


@pytest.mark.parametrize("node", [
    ["again", 77], ["again", []], ["_demand", 1], ["class", 1, "x"], ["__init__", 1], ["sequence", 1, "list"], {"a": 1},
    ["number", "<f8", "00"], ["bytes", 3], ["array", 1, 5], ["array", 1, "x"], ["mapping", 1, "type", [], None],
    ["sequence", 1, "set", [["sequence", 2, "list", [], None]], None], ["object", 1, [], {}], [[], 1], [], nested(300)])
def test_a_state_that_does_not_fit_changes_nothing(node):
    if node == {"a": 1}:
        node = told(a=["object", 0, "x"])
    envs = [Env(a=1.0, b=np.ones(2), rng=np.random.default_rng(1), legacy=np.random.RandomState(1), f=doubler(), z=0)]
    state = State(envs, {"rewards": np.ones(1)})
    before = state.read().tobytes()
    changed, arrays = from_bytes(state.read())
    env = changed["envs"][3][0]
    env[3] |= {"a": 9.0, "z": node}
    with pytest.raises(Unreadable):
        state.write(to_bytes(changed, [array + 1 if array.dtype == float else array for array in arrays]))
    assert state.read().tobytes() == before


def test_global_generators_read_only_their_own_table():
    state = State([], {})
    node, arrays = from_bytes(state.read())
    text = json.dumps(node["numpy"]).replace(f'"pos", {np.random.get_state()[2]}', '"pos", 100000')
    with pytest.raises(Unreadable, match="another now"):
        state.write(to_bytes(node | {"numpy": json.loads(text)}, arrays))
    np.random.random()


def test_of_mujocos_models_nothing_is_put_back_that_points_somewhere():
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint/><geom size='1'/></body></worldbody></mujoco>")
    envs = [Env(model=model, data=mujoco.MjData(model))]
    state = State(envs, {})
    model.geom_friction[:] = 3
    model.geom_contype[:] = 2
    node, arrays = from_bytes(stored := state.read())
    model.geom_friction[:] = 1
    state.write(stored)
    assert model.geom_friction[0, 0] == 3 and model.geom_contype[0] == 2
    attributes = node["envs"][3][0][3]
    assert not any(arrays[place].dtype.kind in "iu" for place in attributes["data"][3].values())
    attributes["model"][3]["jnt_qposadr"] = len(arrays)
    with pytest.raises(Unreadable, match="jnt_qposadr of its MuJoCo model"):
        state.write(to_bytes(node, [*arrays, np.array([10**8], np.int32)]))
    model.jnt_qposadr[0] = 0
    model.geom_condim[0] = 1
    with pytest.raises(Unreadable, match="geom_condim of its MuJoCo model is changed"):
        state.read()
