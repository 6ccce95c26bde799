"""Signals of a run's process."""

import os
import signal

import pytest

from puffer_il.training.process import interruptible


def test_one_signal_is_noted_and_the_second_interrupts():
    with pytest.raises(KeyboardInterrupt), interruptible() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)


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
