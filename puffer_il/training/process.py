"""The process of a run: its device and threads, the signals that end it, its age, and memory that a GPU can read."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
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


def process_seconds() -> float:
    """Seconds since this process was started."""
    with suppress(OSError):  # psutil counts from the time of the boot, which Linux tells in whole seconds only
        started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        return float(Path("/proc/uptime").read_text().split()[0]) - int(started) / os.sysconf("SC_CLK_TCK")
    return time.time() - psutil.Process().create_time()


def set_threads(config: TrainConfig) -> None:
    """Threads of the C kernels, whose results do not depend on their number, and of torch, whose results do: torch cuts
    its sums and its vectors where a thread's share ends. So neither the machine nor `train.threads` chooses the latter.
    """
    fused.enable(config.fused)
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


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Signals are noted in the list that is yielded; a second one interrupts at once, unless it only says that the
    terminal is gone."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        if len(received) > 1 and number != signal.SIGHUP:
            raise KeyboardInterrupt

    previous = {}
    with suppress(ValueError):  # only the main thread may set handlers; elsewhere the caller handles signals
        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN}  # nohup ignores it
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def allocator(device: torch.device) -> Any:
    """Zeroed arrays; page-locked where the learner is on a GPU, so that copies need not wait."""
    if device.type == "cpu":
        return np.zeros

    def pinned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return torch.zeros(shape, dtype=torch.from_numpy(np.zeros(0, dtype)).dtype, pin_memory=True).numpy()

    return pinned
