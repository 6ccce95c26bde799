"""Keys, one by one and in time, and what they mean as actions."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from puffer_il.core.spec import ActionSpec
from puffer_il.envkit.keys import Controls, Keyboard


def discrete(*nvec: int) -> Controls:
    return Controls(ActionSpec(nvec=nvec))


@pytest.mark.parametrize("n, keys, actions", [
    (2, ["right", "left", "1", "7", " "], [1, 0, 1, 1, 0]), (3, ["left", "right", " ", "0"], [0, 2, 1, 0]),
    (4, ["left", "down", "right", "up"], [0, 1, 2, 3]), (18, ["9", "up", "x", " "], [9, 3, 3, 0]),
    (1, ["left", "0"], [0, 0])])
def test_one_choice_by_arrows_and_digits(n, keys, actions):
    controls, got = discrete(n), []
    for key in keys:
        controls.press(key)
        got.append(int(controls.value[0]))
    assert got == actions and controls.value.dtype == np.int32
    assert not controls.press("x")


def test_several_choices_and_numbers_by_pairs_of_keys():
    controls = discrete(3, 2)
    for key in ("right", "right", "right", "up", "left"):
        assert controls.press(key)
    assert controls.value.tolist() == [1, 1]
    box = Controls(ActionSpec(low=np.array([-2, 0, -np.inf], np.float32), high=np.array([2, 1, np.inf], np.float32),
                              shape=(3,)))
    for key in ("right", "up", "a"):
        assert box.press(key)
    assert box.value.tolist() == [2, 1, -1] and box.press(" ") and box.value.tolist() == [0, 0, 0]
    assert not box.press("w")


def test_the_help_says_which_key_does_what():
    assert discrete(3).help() == "←0 →2 · space 1 · digits 0 to 2"
    assert "←→ ↓↑ a choice down or up" in discrete(2, 2).help()
    many = Controls(ActionSpec(low=-np.ones(8, np.float32), high=np.ones(8, np.float32), shape=(8,)))
    assert many.help() == "←→ ↓↑ ad sw jl ki a number to its lowest or highest (the other 2 stay) · space lets go"


@pytest.mark.parametrize(("name", "count", "up", "left"), [
    ("Taxi-v3", 6, 1, 3), ("taxi", 6, 1, 3), ("CliffWalking-v1", 4, 0, 3), ("snake", 4, 0, 3),
    ("FrozenLake-v1", 4, 3, 0)])
def test_arrows_go_where_they_point(name, count, up, left):
    controls = Controls(ActionSpec(nvec=(count,)), name)
    assert controls.press("up") and controls.value[0] == up
    assert controls.press("left") and controls.value[0] == left


def test_keys_come_one_by_one_and_in_time():
    reader, writer = os.pipe()
    keys = Keyboard(reader)
    os.write(writer, b"q\x1b[A\x1bOD \xc3\xa9\x1b[3~")
    assert list(keys.wait(time.monotonic() + 0.02)) == ["q", "up", "left", " ", "é", "~"]
    begin = time.monotonic()
    assert list(keys.wait(begin + 0.05)) == [] and time.monotonic() - begin >= 0.05
    os.write(writer, b"x")
    assert list(keys.wait(None)) == ["x"]
    os.close(writer)
    assert list(keys.wait(None)) == ["q"]  # the terminal has gone
    os.close(reader)
    assert list(Keyboard(None).wait(time.monotonic())) == []
