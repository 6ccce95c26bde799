"""Where the metrics of a run go: metrics.jsonl always, plain lines or the dashboard, TensorBoard if asked for.

Loggers are called by the trainer's thread alone. They let OSError rise: a full disk must not hide.
"""

import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from puffer_il.core.checkpoint import whole
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Metrics
from puffer_il.core.text import duration, number, quantity, shown
from puffer_il.training.thinned import is_kept, stride

Clock = Callable[[], float]  # seconds, monotonic
MOST_WAITING = 16 * 2**20  # bytes of metrics that are kept until they can be written
PLAIN = {"rollout/return_mean": "return", "rollout/length_mean": "length", "bc/train_nll": "train nll",
         "bc/val_nll": "validation nll", "bc/accuracy": "accuracy"}  # what a plain line tells besides the progress


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before its first iteration. Returns are None where nobody has measured them."""

    algo: str
    env: str
    seed: int
    run_dir: str
    total_steps: int
    num_envs: int  # 0 for a learner that needs no rollouts, whose steps are samples
    backend: str
    device: str
    expert_return: float | None
    random_return: float | None
    demos: str  # such as "10 episodes, mean return 500.0", or "none"
    parameters: int
    num_workers: int = 0  # 0 without worker processes
    num_groups: int = 1
    num_agents: int = 1  # rows of one environment
    wall_s: float = 0.0  # what the run's clock says now

    @property
    def unit(self) -> str:
        """What a step of this run is called."""
        return "steps" if self.num_envs else "samples"

    @property
    def setting(self) -> str:
        """Seed, device, environments and size of the policy in one line."""
        envs = [f"{self.num_envs:,} envs {self.backend}"] if self.num_envs else []
        return " · ".join([f"seed {self.seed}", self.device, *envs, f"{quantity(self.parameters)} parameters"])


class Logger:
    """One place that metrics go to. By itself it drops them.

    file  what it writes in the run directory; "" for others. What `log` cannot write there it keeps, and raises OSError
    """

    file = ""

    def start(self, run: RunInfo) -> None:
        """Once, before the first iteration; InputError or OSError if nothing can be written."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Once per iteration, flat keys; with `eval/…` when an evaluation has just happened."""

    def moved(self, run_dir: Path) -> None:
        """The run directory is elsewhere from now on, or empty."""

    def message(self, text: str) -> None:
        """A notice or warning of one line."""

    def rewind(self) -> None:
        """The run has gone back to an earlier step: what comes next takes the place of what was logged after it."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Once, with the run's summary; not called if the run failed."""
        self.close()

    def close(self) -> None:
        """Give back what is held open, however the run ended; a second time does nothing."""


class JsonlLogger(Logger):
    """metrics.jsonl in the run directory: one object per iteration, `{"step": …, "<metric>": number or null, …}`.

    A resumed run appends. Lines from its first step on, which an earlier process wrote after the checkpoint, and a
    line cut short by a crash are dropped first, so that steps only ever rise. In a long run only some iterations have a
    line (thinned.py), and the last one.
    """

    file = "metrics.jsonl"

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._fresh = True
        self._waiting = b""  # lines that could not be written
        self._every = 1  # every which iteration has a line
        self._last: tuple[int, Metrics] | None = None  # the latest, if it has none

    def start(self, run: RunInfo) -> None:
        self.path = Path(run.run_dir) / self.file
        self._open()

    def log(self, step: int, metrics: Metrics) -> None:
        iteration, every = "updates" in metrics, stride(int(metrics.get("updates", 0)))
        if not iteration:
            self._end()
        self._last = None if is_kept(metrics, every) else (step, dict(metrics))
        if self._last is None:
            self._wait_for(step, metrics)
        if self._fresh or every > self._every:
            self._thin_out(step, not iteration, every)
        self._write()

    def finish(self, summary: dict[str, Any]) -> None:
        self._end()
        with suppress(OSError):  # which the trainer has told of
            self._write()
        self.close()

    def moved(self, run_dir: Path) -> None:
        self.close()
        self.path = run_dir / self.file

    def rewind(self) -> None:
        self._fresh, self._last = True, None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        # Unbuffered: each line is on disk when `log` returns, and a full disk is reported here rather than on closing.
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed in close)

    def _end(self) -> None:
        """The line of the last iteration, if it has none."""
        if self._last is not None:
            self._wait_for(*self._last)
            self._last = None

    def _wait_for(self, step: int, metrics: Metrics) -> None:
        line = json.dumps({"step": int(step)} | {key: _plain(value) for key, value in metrics.items()})
        self._waiting += line.encode() + b"\n"
        if len(self._waiting) > MOST_WAITING:  # the oldest give way, by whole lines
            self._waiting = self._waiting[-MOST_WAITING:].partition(b"\n")[2]

    def _write(self) -> None:
        if not self._waiting:
            return
        if self._file is None:
            self._open()
        assert self._file is not None
        while self._waiting:  # a nearly full disk takes a part of it; the next write then fails with ENOSPC
            self._waiting = self._waiting[self._file.write(self._waiting):]

    def _thin_out(self, step: int, final: bool, every: int) -> None:
        """Without the lines of later steps, and of this one: but not its iteration where only the last evaluation is
        still to come; and without the iterations that are not among each `every`."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        kept = [line for line in lines if _is_before(line, step, final, every)]
        self._fresh, self._every = False, every
        if len(kept) == len(lines):
            return
        self.close()
        with whole(self.path) as temporary:
            temporary.write_bytes(b"".join(kept))


class TensorBoardLogger(Logger):
    """TensorBoard events in the run directory, every metric a scalar by its own name (extra `tensorboard`). What is
    written stays, so that of a long run there is more of its beginning."""

    file = "TensorBoard's events"

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("train.tensorboard = true: the package tensorboard is missing; "
                             "run pip install 'puffer-il[tensorboard]'") from None
        self._make = SummaryWriter
        self._writer: Any = None

    def start(self, run: RunInfo) -> None:
        self.run_dir = run.run_dir

    def moved(self, run_dir: Path) -> None:
        self.close()
        self.run_dir = str(run_dir)

    def log(self, step: int, metrics: Metrics) -> None:
        if not is_kept(metrics, stride(int(metrics.get("updates", 0)))):
            return
        if self._writer is None:  # purge_step hides what an earlier process logged after the checkpoint
            self._writer = self._make(log_dir=self.run_dir, purge_step=int(step))
        for key, value in metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(key, value, int(step))

    def rewind(self) -> None:
        self.close()  # a new writer hides what this one has written

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class PlainLogger(Logger):
    """Lines for a log file or a pipe: a header, a line every few seconds, a line per evaluation."""

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.monotonic, every: float = 5.0) -> None:
        self._stream, self._clock, self._every = stream, clock, every
        self._time_left = TimeLeft(clock)
        self._printed = -math.inf

    def start(self, run: RunInfo) -> None:
        self._unit = run.unit
        known = {"expert": run.expert_return, "random": run.random_return}
        returns = ", ".join(f"{name} {number(value)}" for name, value in known.items() if value is not None)
        self._print(f"{run.algo} on {run.env} · {run.setting}")
        self._print(f"demonstrations: {run.demos} · returns: {returns or 'unknown'} · run directory: {run.run_dir}")

    def log(self, step: int, metrics: Metrics) -> None:
        self._time_left.update(metrics["progress"])
        due = self._clock() - self._printed >= self._every
        evaluated = [f"evaluated: return {evaluation(metrics)}"] if "eval/return_mean" in metrics else []
        if due or evaluated:
            self._printed = self._clock()
            self._print("  ".join([f"{metrics['progress']:4.0%}  {step:,} {self._unit}", f"{self._time_left} left",
                                   *self._facts(metrics), *evaluated]))

    def message(self, text: str) -> None:
        self._print(text)

    def _facts(self, metrics: Metrics) -> list[str]:
        speed = [f"{quantity(metrics['SPS'])} {self._unit}/s"] if "SPS" in metrics else []
        return speed + [f"{label} {number(metrics[key])}" for key, label in PLAIN.items() if key in metrics]

    def _print(self, text: str) -> None:
        print(shown(text), file=self._stream or sys.stdout, flush=True)


class TimeLeft:
    """Seconds to go, from how fast `progress` rose over the last minute; unknown before its second update."""

    def __init__(self, clock: Clock = time.monotonic, window: float = 60.0) -> None:
        self._clock, self._window = clock, window
        self._points: deque[tuple[float, float]] = deque()

    def update(self, progress: float) -> None:
        now = self._clock()
        self._points.append((now, progress))
        while len(self._points) > 2 and now - self._points[1][0] > self._window:
            self._points.popleft()

    def seconds(self) -> float:
        if not self._points:
            return math.nan
        (t0, p0), (t1, p1) = self._points[0], self._points[-1]
        if p1 <= p0:
            return math.nan
        return max(0.0, (1 - p1) * (t1 - t0) / (p1 - p0) - (self._clock() - t1))

    def __str__(self) -> str:
        return duration(self.seconds())


def evaluation(metrics: Metrics) -> str:
    """Such as "487.2 ± 8.1, 0.97 of the expert (95% CI 0.95 to 0.99), 83% succeeded"; the interval is of the return
    where there is no score, and one episode alone has none."""
    text = f"{number(metrics['eval/return_mean'])} ± {number(metrics['eval/return_std'])}"
    score = metrics.get("eval/normalized", math.nan)
    success = metrics.get("eval/success_rate", math.nan)
    text += f", {score:.2f} of the expert" if math.isfinite(score) else ""
    text += f" (95% CI {interval(metrics)})" if "eval/ci_low" in metrics else ""
    return text + (f", {success:.0%} succeeded" if math.isfinite(success) else "")


def interval(metrics: Metrics) -> str:
    """The evaluation's confidence interval in the unit that it is given in: the score's, or else the return's."""
    score = math.isfinite(metrics.get("eval/normalized", math.nan))
    low, high = (metrics.get(f"eval/ci_{end}", math.nan) for end in ("low", "high"))
    return f"{low:.2f} to {high:.2f}" if score else f"{number(low)} to {number(high)}"


def _plain(value: Any) -> float | int | None:
    """A number that JSON has: NumPy and torch scalars become Python's, NaN and infinities null."""
    if isinstance(value, int):
        return int(value)
    value = float(value)
    return value if math.isfinite(value) else None


def _is_before(line: bytes, step: int, final: bool, every: int) -> bool:
    try:
        found = json.loads(line)
        own = final and found["step"] == step and "updates" in found
        return line.endswith(b"\n") and (own or (found["step"] < step and is_kept(found, every)))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
