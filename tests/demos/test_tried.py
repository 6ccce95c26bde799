"""Libraries that crash or never come to an end are told of, and harm nobody."""

import os
import signal
import time

import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import tried
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.tried import fate


def spin() -> None:
    while True:
        pass


def fail() -> None:
    raise ValueError("damaged")


@pytest.mark.parametrize(("look", "ends"), [
    (lambda: None, ""), (fail, ""), (os.abort, "crashes (SIGABRT)"), (spin, "had not come to an end after 1 s")])
def test_what_becomes_of_a_library(look, ends, capfd):
    assert fate(look, 1) == ends and capfd.readouterr().err == ""


def test_an_interrupt_while_a_library_is_tried_leaves_no_process(monkeypatch):
    children = []
    fork = os.fork

    def forked() -> int:
        children.append(fork())
        if children[-1]:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        return children[-1]

    monkeypatch.setattr(os, "fork", forked)
    before, begin = signal.signal(signal.SIGALRM, signal.default_int_handler), time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            fate(lambda: time.sleep(20), 10)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 10, "it has waited for the child instead of ending it"
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_a_file_on_which_the_library_hangs_is_one_line(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["observations"] = [[1.0]]
    monkeypatch.setattr(tried, "SECONDS", 1)
    monkeypatch.setattr(tried, "_walk", lambda *_: spin())
    with pytest.raises(InputError, match=r"d.h5: is damaged .the HDF5 library had not come to an end after 1 s"):
        Hdf5(tmp_path / "d.h5")
