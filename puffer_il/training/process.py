"""The process of a run: its device and threads, the signals that end it, and its age."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import torch

import puffer_il.kernels._kernels as kernels
from puffer_il.core.config import TrainConfig
from puffer_il.core.errors import InputError
from puffer_il.kernels.threads import cores
from puffer_il.nn import fused


def choose_device(name: str) -> torch.device:
    """auto takes CUDA where there is one; InputError if CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device = 'cuda': no CUDA device is visible; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_bf16(config: TrainConfig) -> None:
    """InputError if bf16 is insisted on and cannot be had here."""
    if config.bf16 == "on" and not kernels.has_bf16():
        raise InputError(f"train.bf16 = 'on': this processor ({kernels.instruction_set()}) has no instruction for "
                         "bfloat16 (AVX512_BF16); use auto or off")
    if config.bf16 == "on" and not config.fused:
        raise InputError("train.bf16 = 'on': the C kernels round to bfloat16, and train.fused = false does without "
                         "them; set train.fused = true, or train.bf16 = off")


def process_seconds() -> float:
    """Seconds since this process was started."""
    with suppress(OSError):  # psutil counts from the time of the boot, which Linux tells in whole seconds only
        started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        return float(Path("/proc/uptime").read_text().split()[0]) - int(started) / os.sysconf("SC_CLK_TCK")
    return time.time() - psutil.Process().create_time()


def set_threads(config: TrainConfig) -> None:
    """Threads of the C kernels, whose results do not depend on their number, and of torch, whose results do: torch cuts
    its sums and its vectors where a thread's share ends. So neither the machine nor `train.threads` chooses the latter.
    The kernels' other switches are set too: whether they are used, and whether they round operands to bf16.
    """
    fused.enable(config.fused)
    kernels.use_bf16("hardware" if config.bf16 != "off" and config.fused and kernels.has_bf16() else "")
    torch.set_num_threads(config.torch_threads)
    kernels.set_threads(config.threads or cores())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts(list[int]):
    """The signals that have asked a run to end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 0.0  # when the first of them came
        self._pending: tuple[BaseException, Callable[[], bool]] | None = None
        self._pipe: tuple[int, int] | None = None  # into which the system's handler writes what arrives

    def asked_s(self) -> float:
        """Seconds since the first; 0 if there is none."""
        return time.monotonic() - self.first if self.first else 0.0

    def look(self) -> None:
        """Note the time of signals that are there but kept from the main thread, by C code. Called by another one."""
        arrived = b""
        with suppress(BlockingIOError):
            arrived = os.read(self._pipe[0], 4096) if self._pipe else b""
        if not self and any(number in ENDING for number in arrived):
            self.first = self.first or time.monotonic()

    @contextmanager
    def wakened(self) -> Iterator[None]:
        """While signals are written into a pipe too. Only in the main thread."""
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            pipe, self._pipe = self._pipe, None
            for end in pipe:
                os.close(end)

    def raise_in_main(self, error: BaseException, still: Callable[[], bool]) -> None:
        """Raise an error in the main thread, whatever Python code or system call it is in, provided that `still` says
        so there. Called by another thread."""
        self._pending = error, still
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Signals are noted in the list that is yielded; a second one interrupts at once, unless it only says that the
    terminal is gone."""
    received = Interrupts()

    def note(number: int, frame: Any) -> None:
        pending, received._pending = received._pending, None
        if pending is not None:
            error, still = pending
            if still():
                raise error
            return
        received.first = received.first or time.monotonic()
        received.append(number)
        if len(received) > 1 and number != signal.SIGHUP:
            raise KeyboardInterrupt

    previous = {}
    with suppress(ValueError):  # only the main thread may set handlers; elsewhere the caller handles signals
        previous = {number: signal.signal(number, note) for number in ENDING
                    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN}  # nohup ignores it
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def reachable() -> Iterator[Interrupts]:
    """Other threads can raise errors in the main one (`raise_in_main`), where no run hears of signals; the user's do
    what they did. Only in the main thread."""
    reached, before = Interrupts(), signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        pending, reached._pending = reached._pending, None
        if pending is None and callable(before):
            before(number, frame)
        elif pending is not None and pending[1]():
            raise pending[0]

    signal.signal(signal.SIGINT, note)
    try:
        yield reached
    finally:
        signal.signal(signal.SIGINT, before)
