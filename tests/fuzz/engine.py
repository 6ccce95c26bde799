"""One target's loop: mutate an input that has reached something new, read it, look at what came of it.

What must hold of every input: it is read, or refused by an InputError of one line; within SECONDS of processor time;
with at most MEMORY bytes more than before. An input that reaches lines of puffer_il which none has reached becomes a
parent of others (coverage guidance). Each target runs in a child process, so that a crash is a finding too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import mmap
import os
import pickle
import random
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import puffer_il
from puffer_il.cli.parser import UsageError
from puffer_il.core.errors import InputError
from tests.fuzz.mutate import Files, mutated

SECONDS, MEMORY, STUCK = 5.0, 2**30, 120.0  # processor time and bytes of an input; without a sign of life
OURS = (str(Path(puffer_il.__file__).parent), str(Path(puffer_il.__file__).parents[1] / "envs"))
THEIRS = ("killed", "stuck", "ended", "Hang", "memory")
LONGEST = 2_000  # characters of a message
PARENTS = 400
TRACED = 0.25  # share of the inputs whose lines are looked at, which makes reading several times slower


class Hang(BaseException):
    """An input has taken longer than SECONDS."""


@dataclass(frozen=True)
class Target:
    """name, its valid inputs, and what reads one: files laid into a folder → done, or an exception. `foreign` ones pass
    through other people's parsers in C, whose crashes are told, but are not ours."""

    name: str
    seeds: Callable[[], list[Files]]
    read: Callable[[Path], Any]
    mutate: Callable[[random.Random, Files], Files] = mutated
    foreign: bool = False


@dataclass
class Outcome:
    """What a target's run gave; `findings` hold what went wrong, and the input that did it."""

    name: str
    count: int = 0
    bytes: int = 0  # of the inputs that were mutated
    refused: int = 0
    lines: int = 0
    seconds: float = 0.0
    foreign: bool = False
    findings: dict[str, Files] = field(default_factory=dict)
    kept: list[Files] = field(default_factory=list)

    def ours(self) -> list[str]:
        """The findings that are not another library's: of a foreign parser, what Python could not have caught."""
        return [wrong for wrong in self.findings if not (self.foreign and wrong.startswith(THEIRS))]


class Coverage:
    """Lines of puffer_il that have run, as a trace function."""

    def __init__(self) -> None:
        self.lines: set[tuple[CodeType, int]] = set()
        self._ours: dict[str, bool] = {}

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        ours = self._ours.get(name)
        if ours is None:
            ours = self._ours[name] = name.startswith(OURS)
        return self._line if ours else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.lines.add((frame.f_code, frame.f_lineno))
        return self._line


def lay(files: Files, folder: Path) -> None:
    """Write an input's files, over those of the one before, and remove those that it has not."""
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in files:
            path.unlink()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def judged(read: Callable[[Path], Any], folder: Path) -> tuple[bool, str]:
    """Whether an input was refused, and what is wrong with how it was answered: "" if nothing is."""
    before, error = peak(), None
    try:
        with within(SECONDS):
            read(folder)
    except (InputError, UsageError) as refusal:
        error = refusal
    except Hang as hang:
        return False, f"Hang: over {SECONDS:g} s at {where(hang)}"
    except KeyboardInterrupt:
        raise
    except BaseException as fault:
        return False, f"{type(fault).__name__} at {where(fault)}"
    used = peak() - before
    if used > MEMORY:
        return error is not None, f"memory: {used >> 20} MiB"
    if error is None:
        return False, ""
    told, inner = str(error), error.__context__
    if "\n" in told or len(told) > LONGEST or "Traceback" in told:
        return True, f"not one line at {where(error)}"
    while inner is not None:
        if isinstance(inner, MemoryError):
            return True, f"memory: more than there is at {where(error)}"
        if isinstance(inner, Hang):
            return True, f"Hang: over {SECONDS:g} s at {where(error)}"
        inner = inner.__context__
    return True, ""


def where(error: BaseException) -> str:
    """The innermost line of ours, and the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(OURS)] or frames
    return " < ".join(dict.fromkeys(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (ours[-1], frames[-1])))


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Hang once that much processor time is used."""
    def late(number: int, frame: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)  # again, where a reader has caught it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def peak() -> int:
    """Bytes of memory at their highest since the last call."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    return found


def loop(target: Target, rng: random.Random, count: int, deadline: float, folder: Path, beat: Callable[[int], None],
         corpus: list[Files], least: int = 0) -> Outcome:
    """Up to `count` inputs and more until `least` bytes of them were mutated, or until the `deadline`; first the seeds
    and the corpus as they are."""
    outcome, coverage = Outcome(target.name), Coverage()
    begin = time.monotonic()
    seeds = target.seeds()
    parents: list[Files] = []
    waiting = [*seeds, *corpus]
    while (outcome.count < count or outcome.bytes < least) and (time.monotonic() < deadline or waiting):
        traced, valid = bool(waiting) or rng.random() < TRACED, bool(waiting)
        files = waiting.pop(0) if waiting else target.mutate(rng, rng.choice(parents or seeds))
        try:
            lay(files, folder)
        except (OSError, ValueError):  # a name that no file can have
            continue
        known = len(coverage.lines)
        sys.settrace(coverage if traced else None)
        try:
            refused, wrong = judged(target.read, folder)
        finally:
            sys.settrace(None)
        outcome.count += 1
        outcome.bytes += 0 if valid else sum(map(len, files.values()))
        outcome.refused += refused
        beat(outcome.count)
        if wrong:
            outcome.findings.setdefault(wrong, files)
        elif len(coverage.lines) > known and sum(map(len, files.values())) < 200_000:
            if outcome.count > len(seeds) + len(corpus):
                outcome.kept.append(files)
            parents.append(files)
            del parents[len(seeds):len(parents) - PARENTS]
    outcome.lines, outcome.seconds = len(coverage.lines), time.monotonic() - begin
    return outcome


def in_child(target: Target, seed: int, count: int, seconds: float, scratch: Path, corpus: list[Files], least: int = 0
             ) -> Outcome:
    """`loop` in child processes: one that crashes, or gives no sign of life, is a finding, and the next goes on."""
    def beat(count: int) -> None:
        struct.pack_into("q", life, 0, count)

    total, deadline, attempt = Outcome(target.name, foreign=target.foreign), time.monotonic() + seconds, 0
    life = mmap.mmap(-1, 8)
    while (total.count < count or total.bytes < least) and (
            time.monotonic() < deadline or not attempt) and attempt < 50:
        folder, result = scratch / f"{target.name}-{attempt}", scratch / f"{target.name}-{attempt}.result"
        folder.mkdir(parents=True)
        beat(0)
        begin, child = time.monotonic(), os.fork()
        if child == 0:
            code = 1
            try:
                quieten()
                warnings.simplefilter("ignore")
                made = loop(target, random.Random(f"{seed}-{target.name}-{attempt}"), count - total.count, deadline,
                            folder, beat, corpus, least - total.bytes)
                result.write_bytes(pickle.dumps(made))  # ours, read back at once
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            finally:
                os._exit(code)
        died = watch(child, life)
        if result.is_file():
            add(total, pickle.loads(result.read_bytes()))
        else:
            total.count += struct.unpack_from("q", life, 0)[0] + 1
            total.seconds += time.monotonic() - begin
            total.findings.setdefault(died, read_back(folder))
        attempt += 1
    return total


def watch(child: int, life: mmap.mmap) -> str:
    """Wait for a child; how it ended, if not by itself."""
    last, since = -1, time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return f"killed by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else (
                f"ended with {os.WEXITSTATUS(status)}")
        now = struct.unpack_from("q", life, 0)[0]
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > STUCK:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"stuck for {STUCK:g} s outside Python"
        time.sleep(0.02)


def quieten() -> None:
    """Nothing that is read may print here, not even of a crash, which the parent tells; no input takes more memory than
    the bound and what libraries reserve."""
    faulthandler.disable()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for good)
    with open("/proc/self/statm") as pages:
        now = int(pages.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 4 * MEMORY, now + 4 * MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def add(total: Outcome, more: Outcome) -> None:
    total.count += more.count
    total.bytes += more.bytes
    total.refused += more.refused
    total.lines = max(total.lines, more.lines)
    total.seconds += more.seconds
    for wrong, files in more.findings.items():
        total.findings.setdefault(wrong, files)
    total.kept += more.kept


def read_back(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def digest(files: Files) -> str:
    made = hashlib.sha256()
    for name, data in sorted(files.items()):
        made.update(name.encode("utf-8", "surrogatepass") + b"\0" + data)
    return made.hexdigest()[:12]
