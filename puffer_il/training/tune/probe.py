"""What a setting costs: some iterations of the real experiment, in a folder that does not last."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from puffer_il.core.config import Config
from puffer_il.core.spec import Metrics
from puffer_il.learners.experiment import replaced
from puffer_il.nn import fused
from puffer_il.training.assemble import assemble
from puffer_il.training.loggers import Logger
from puffer_il.training.trainer import Trainer
from puffer_il.training.tune.search import Cost, TimeUp

WINDOW_S, LEAST = 0.2, 2  # seconds and iterations that a setting is measured for at a time
LONG_S = 0.6  # where iterations are long, no more begin after so long, the warm-up included


class Probe(Logger):
    """Measures settings by real iterations, without evaluations and checkpoints. `notices` are those that the kernels
    gave meanwhile, each only once."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self._memory = _memory()

    def __call__(self, config: Config, limit: float) -> Cost:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with time_limit(limit):
                run = Trainer(assemble(_bare(config), stack), [self], folder)
                samples = [_iteration(run)]  # a warm-up, which counts if it is long
                while len(samples) <= LEAST or sum(seconds for seconds, _ in samples[1:]) < WINDOW_S:
                    spent = sum(seconds for seconds, _ in samples)
                    if spent > LONG_S or spent + 2 * samples[-1][0] > limit:
                        break
                    samples.append(_iteration(run))
            seconds, collect = (median(values) for values in zip(*samples[1:] or samples, strict=True))
            return Cost(run.steps_per_update, seconds, collect, max(0.0, _memory() - self._memory))

    def log(self, step: int, metrics: Metrics) -> None:
        self.notices += fused.take_notices()


def _iteration(run: Trainer) -> tuple[float, float]:
    begin = time.perf_counter()
    run.iterate()
    return time.perf_counter() - begin, run.phases["collect"]


def _bare(config: Config) -> Config:
    """The experiment without an end, and without what is not an iteration."""
    keys = {"train.total_steps": 10**12, "train.checkpoint_minutes": 0, "train.checkpoint_steps": 0,
            "train.stop_at_expert": 0, "train.compile": False, "eval.interval_steps": 0, "eval.episodes": 1,
            "eval.final_episodes": 1, "gail.bc_epochs": 0}
    return replaced(config, {key: value for key, value in keys.items() if config.get(key) is not None})


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp inside after so long, also out of environments that hang (in the main thread; elsewhere never)."""
    def up(number: int, frame: Any) -> None:
        raise TimeUp

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _memory() -> float:
    """Bytes of this process and of what its workers have of their own."""
    own = psutil.Process(os.getpid())
    return float(own.memory_info().rss) + sum(_private(child) for child in own.children(recursive=True))


def _private(process: psutil.Process) -> float:
    try:
        info = process.memory_info()
        return float(max(0, info.rss - info.shared))
    except psutil.Error:
        return 0.0
