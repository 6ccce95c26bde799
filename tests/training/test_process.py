"""Threads, signals and memory of a run's process."""

import os
import signal

import numpy as np
import pytest
import torch

from puffer_il.training.process import allocator, choose_device, interruptible


def test_one_signal_is_noted_and_the_second_interrupts():
    with pytest.raises(KeyboardInterrupt), interruptible() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)


def test_memory_is_zeroed_and_of_the_dtype_asked_for():
    array = allocator(torch.device("cpu"))((2, 3), np.uint8)
    assert array.dtype == np.uint8 and not array.any()
    assert choose_device("cpu").type == "cpu"


def test_a_program_that_nohup_started_does_not_hear_that_the_terminal_is_gone_but_stops_when_told():
    """Shells without job control have background programs ignore SIGINT, which is sent to them on purpose then."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    try:
        with interruptible() as received:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert received == [signal.SIGINT]
