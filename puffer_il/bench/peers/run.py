"""Measure peers and ourselves in turn: while one works the others wait, so a slow minute affects all of them alike.

    entries = [Entry("puffer_il", our_callable), peer_entry("imitation", "imitation GAIL", {"mode": "gail", …}, say)]
    results = interleave(entries, rounds=7, progress=say)
    ratio(results[0], results[1])  # ours over theirs, pair by pair

A peer is installed on first use into a folder of its own. A peer that cannot be installed, or that crashes, becomes one
line in its result and ends nothing else.
"""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from puffer_il.bench.measure import Figure, Say, figure
from puffer_il.bench.peers.install import PeerError, ensure_environment

READY_TIMEOUT = 600.0  # seconds to import, build and warm up
SAMPLE_TIMEOUT = 600.0  # seconds for one measurement; the longest, GAIL to the expert, needs minutes on a slow machine
QUIT_TIMEOUT = 5.0
WORKERS = {  # peer → (virtual environment, script)
    "imitation": ("imitation", "imitation_worker.py"),
    "imitation_locomotion": ("imitation-mujoco", "imitation_locomotion_worker.py"),
    "torchrl": ("torchrl", "torchrl_worker.py"),
    "sb3": ("imitation", "sb3_worker.py"),
    "sb3_sac": ("imitation", "sb3_sac_worker.py"),
    "sb3_pictures": ("imitation", "sb3_pictures_worker.py"),
    "pufferlib": ("pufferlib", "pufferlib_worker.py"),
    "envpool": ("envpool", "envpool_worker.py"),
}

Sample = dict[str, Any]  # "steps", "seconds", and what else the worker knows: "stages", "reached", …


@dataclass(frozen=True)
class Entry:
    """One competitor: a worker's command line, or a callable that works once and returns {"steps", "seconds"}."""

    name: str
    work: Sequence[str] | Callable[[], Sample]
    error: str = ""  # why it cannot take part
    ready_timeout: float = READY_TIMEOUT
    sample_timeout: float = SAMPLE_TIMEOUT


@dataclass
class EntryResult:
    """What one competitor did: its samples in the order of the rounds, complete unless `error` says why not."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)  # the worker's ready line: versions, settings

    @property
    def rates(self) -> list[float]:
        return [s["steps"] / s["seconds"] for s in self.samples]

    @property
    def rate(self) -> Figure | None:
        return figure(self.rates) if self.samples else None

    @property
    def stages(self) -> dict[str, float]:
        """Median seconds of each stage that the last sample knows."""
        return {name: median(s["stages"][name] for s in self.samples if name in s.get("stages", {}))
                for name in (self.samples[-1].get("stages", {}) if self.samples else {})}


def ratio(ours: EntryResult, theirs: EntryResult) -> Figure | None:
    """Our rate over theirs, pair by pair; None if they have no round in common."""
    pairs = [a / b for a, b in zip(ours.rates, theirs.rates, strict=False)]  # one may have ended early
    return figure(pairs) if pairs else None


def peer_entry(peer: str, name: str, settings: dict[str, Any], progress: Say = lambda line: None) -> Entry:
    """The entry of a peer, its environment being built if need be. If that fails, the entry says so."""
    environment, script = WORKERS[peer]
    try:
        python = ensure_environment(environment, progress)
    except PeerError as error:
        return Entry(name, (), str(error))
    if "demos" in settings:  # the worker runs elsewhere
        settings = {**settings, "demos": str(Path(settings["demos"]).resolve())}
    worker = Path(__file__).with_name("workers") / script
    return Entry(name, (str(python), str(worker), json.dumps(settings)))


def interleave(entries: Sequence[Entry], rounds: int, progress: Say = lambda line: None) -> list[EntryResult]:
    """Start and warm up one after the other, then `rounds` times each in turn, always in the order of the entries."""
    results = [EntryResult(entry.name, error=entry.error) for entry in entries]
    with ExitStack() as stack:
        measures = [_start(entry, result, stack, progress) for entry, result in zip(entries, results, strict=True)]
        for number in range(rounds):
            for result, measure in zip(results, measures, strict=True):
                if measure and not result.error:
                    _take(result, measure, f"round {number + 1} of {rounds}", progress)
    return results


def _start(entry: Entry, result: EntryResult, stack: ExitStack, progress: Say) -> Callable[[], Sample] | None:
    """What measures this entry, set up and warmed up; None, and the result's error, if that fails."""
    try:
        if entry.error:
            raise PeerError(entry.error)
        if callable(entry.work):
            return entry.work
        worker = stack.enter_context(start_worker(entry))
        begin, facts = time.perf_counter(), worker.answer(entry.ready_timeout, "setting up")
        if not facts.pop("ready", False):
            raise PeerError(f"answered {json.dumps(facts)[:200]} while setting up, which does not say ready")
        result.facts = facts
        progress(f"{entry.name}: ready after {time.perf_counter() - begin:.0f} s")
        return lambda: worker.measure(entry.sample_timeout)
    except PeerError as error:
        _fail(result, error, progress)
        return None


def _take(result: EntryResult, measure: Callable[[], Sample], where: str, progress: Say) -> None:
    try:
        sample = measure()
        if not (sample.get("steps", 0) > 0 and sample.get("seconds", 0) > 0):
            raise PeerError(f"answered {json.dumps(sample)[:200]}, which has no steps and seconds above zero")
    except PeerError as error:
        _fail(result, error, progress)
    else:
        result.samples.append(sample)
        progress(f"{result.name}: {where}, {sample['steps'] / sample['seconds']:,.0f}/s")


def _fail(result: EntryResult, error: PeerError, progress: Say) -> None:
    result.error = str(error)
    progress(f"{result.name}: left out, {error}")


class Worker:
    """The other side of workers/protocol.py. While nothing is asked of it, it blocks on its standard input."""

    def __init__(self, process: subprocess.Popen[str], log: TextIO) -> None:
        self.process, self.log = process, log
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):  # closed under our hands at the end
            for line in self.process.stdout:
                self.lines.put(line)
        self.lines.put("")  # it has ended

    def measure(self, timeout: float) -> Sample:
        assert self.process.stdin is not None
        with suppress(OSError):  # dead: `answer` says how
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self.answer(timeout, "measuring")

    def answer(self, timeout: float, doing: str) -> dict[str, Any]:
        """The next line, as JSON; PeerError if none comes in time, or what comes is no object."""
        try:
            line = self.lines.get(timeout=timeout)
        except queue.Empty:
            raise PeerError(f"no answer within {timeout:g} s while {doing}") from None
        if not line:
            raise PeerError(f"ended while {doing}{self._cause()}")
        message = None
        with suppress(ValueError):
            message = json.loads(line)
        if not isinstance(message, dict):
            raise PeerError(f"answered {line.strip()[:200]!r} while {doing}, which is not a JSON object")
        return message

    def _cause(self) -> str:
        """The exit code or signal, and the last line it wrote: a traceback ends with what happened."""
        try:
            code = self.process.wait(QUIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            return " (it closed its output)"
        self.log.seek(0)
        last = next((line for line in reversed(self.log.read().splitlines()) if line.strip()), "")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f" ({how}{': ' if last else ''}{last.strip()[:300]})"


@contextmanager
def start_worker(entry: Entry) -> Iterator[Worker]:
    """The entry's process; at the end it is told to quit, and its whole group is killed if it does not."""
    assert not callable(entry.work)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    # As the command line does for us: spinning threads make every peer many times slower where cores are shared.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            process = subprocess.Popen(list(entry.work), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                       text=True, env=environment, start_new_session=True)
        except OSError as error:
            raise PeerError(f"cannot be started ({error})") from None
        try:
            yield Worker(process, log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    with suppress(OSError, ValueError, subprocess.TimeoutExpired):
        process.stdin.write("quit\n")
        process.stdin.flush()
        process.wait(QUIT_TIMEOUT)
    with suppress(ProcessLookupError):  # the workers of a worker, or one that hangs
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with suppress(OSError):
        process.stdin.close()
