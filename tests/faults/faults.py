"""Every fault: a function that does it to a real run and says what became of that."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from tests.faults.runs import Live, differences, finished, orphans, saved_steps, steps_of, stop, whole
from tests.support.runs import tiny

ENVS = "tests.faults.environments"
STEPS, STEP = 40 * 2048, 2048  # of a run, and of its iteration
FAMILIES = {"ppo": "cartpole", "gail": "cartpole", "airl": "cartpole", "sac": "pendulum", "sqil": "cartpole",
            "bc": "cartpole", "dagger": "cartpole", "gymnasium ppo": "gymnasium:CartPole-v1",
            "workers ppo": "cartpole"}
SAME, LESS = "ends bit by bit as the undisturbed run", "differs from the undisturbed run in "


@dataclass(frozen=True)
class Row:
    """A line of the table. `good` is the verdict's sense."""

    fault: str
    run: str
    seen: str
    message: str
    lost: str
    verdict: str
    good: bool


@dataclass(frozen=True)
class Fault:
    name: str
    do: Callable[[str, Path], Row]
    families: tuple[str, ...]


FAULTS: list[Fault] = []


def fault(name: str, *families: str) -> Callable[[Callable[[str, Path], Row]], Callable[[str, Path], Row]]:
    """Declare one, to be done to runs of each of `families`, by default to ppo alone."""
    def declare(do: Callable[[str, Path], Row]) -> Callable[[str, Path], Row]:
        FAULTS.append(Fault(name, do, families or ("ppo",)))
        return do

    return declare


def config_of(family: str, folder: Path, env: str = "", **keys: Any) -> Config:
    algo = family.rpartition(" ")[2]
    workers = {"env__backend": "multiprocessing", "env__num_workers": 2} if family.startswith("workers") else {}
    cloning = {"train__total_steps": 2_500_000, "bc__patience": 0} if algo == "bc" else {}
    return tiny(algo, folder, **{
        "env__name": env or FAMILIES[family], "env__num_envs": 16, "train__num_steps": STEP // 16,
        "train__total_steps": STEPS, "train__checkpoint_minutes": 0.005, **workers, **cloning, **keys})


def told(live: Live, pattern: str) -> str:
    """The line of its output with the fault, fit for a table."""
    line = live.said(pattern).replace(str(live.folder.parent), "…")
    return re.sub(r"[|`]", "'", line)[:220]


def resumed(name: str, family: str, config: Config, reference: Path, seen: float, live: Live, pattern: str,
            code: int | str) -> Row:
    """Go on after a fault that ended a run, and compare."""
    lost = max(0, steps_of(live.folder) - saved_steps(live.folder)) if live.folder.exists() else 0
    finished(config)
    wrong = differences(reference, live.folder)
    return Row(name, family, f"{seen:.1f} s, exit code {code}", told(live, pattern), f"{lost:,} steps",
               SAME if not wrong else LESS + ", ".join(wrong), not wrong)


_REFERENCES: dict[str, Path] = {}


def reference_of(family: str, folder: Path, **keys: Any) -> Path:
    """The undisturbed run of a family, made once."""
    key = f"{family} {sorted(keys.items())}"
    if key not in _REFERENCES:
        place = folder.parent / "undisturbed" / re.sub(r"\W+", "-", key)
        _REFERENCES[key] = whole(config_of(family, place, **keys))
    return _REFERENCES[key]


# What ends a run

@fault("kill -9 at a random moment", *FAMILIES)
def killed(family: str, folder: Path) -> Row:
    reference = reference_of(family, folder)
    config = config_of(family, folder)
    live = Live(config)
    live.until(lambda: (folder / "checkpoints").is_dir() and live.steps > 0, "its beginning")
    time.sleep(random.Random(family).uniform(0.0, 1.5))
    assert not (folder / "summary.json").is_file(), "it was too late"
    code = live.end(signal.SIGKILL)
    return resumed("kill -9 at a random moment", family, config, reference, 0, live, "^$", code)


def _signalled(number: int) -> Callable[[str, Path], Row]:
    def do(family: str, folder: Path) -> Row:
        reference, config = reference_of(family, folder), config_of(family, folder)
        live = Live(config)
        live.until_steps(5 * STEP)
        begin = time.monotonic()
        code = live.end(number)
        return resumed(signal.Signals(number).name, family, config, reference, time.monotonic() - begin, live,
                       "interrupted|continue", code)

    return do


for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    fault(signal.Signals(_number).name)(_signalled(_number))


@fault("standard output is a closed pipe")
def closed_pipe(family: str, folder: Path) -> Row:
    reference, config = reference_of(family, folder), config_of(family, folder)
    ours, theirs = os.pipe()
    live = Live(config, stdout=theirs)
    os.close(theirs)
    live.until_steps(STEP)
    os.close(ours)
    begin = time.monotonic()
    code = live.end()
    return resumed("standard output is a closed pipe", family, config, reference, time.monotonic() - begin, live,
                   "standard output was closed", code)


@fault("standard output is a full disk")
def full_output(family: str, folder: Path) -> Row:
    reference, config = reference_of(family, folder), config_of(family, folder)
    with open("/dev/full", "w") as full:
        live = Live(config, stdout=full)
        begin = time.monotonic()
        code = live.end()
    return resumed("standard output is a full disk", family, config, reference, time.monotonic() - begin, live,
                   "full|No space", code)


@fault("kill -9 between the last step and the summary")
def killed_before_summary(family: str, folder: Path) -> Row:
    keys = {"eval__final_episodes": 3000}
    reference, config = reference_of(family, folder, **keys), config_of(family, folder, **keys)
    live = Live(config)
    live.until(lambda: checkpoint.has_any(folder) and saved_steps(folder) >= STEPS, "its last step")
    code = live.end(signal.SIGKILL)
    assert not (folder / "summary.json").is_file(), "it was too late"
    return resumed("kill -9 between the last step and the summary", family, config, reference, 0, live, "^$", code)


# The run directory

def _goes_on(name: str, do: Callable[[Live], Path], pattern: str) -> None:
    """Declare a fault through which a run goes on; `do` does it and says where the run is afterwards."""
    def run(family: str, folder: Path) -> Row:
        reference, config = reference_of(family, folder), config_of(family, folder)
        live = Live(config)
        live.until_steps(5 * STEP)
        place = do(live)
        begin = time.monotonic()
        live.until(lambda: live.said(pattern), "its message")
        seen = time.monotonic() - begin
        code = live.end()
        found = re.search(r"they are in (\S+), so", live.output)
        place = Path(found[1]) if found else place
        wrong = differences(reference, place) if place.exists() else ["everything"]
        kept = "nothing" if not wrong else "everything"
        return Row(name, family, f"{seen:.1f} s, goes on, exit code {code}", told(live, pattern), kept,
                   SAME if not wrong else LESS + ", ".join(wrong), not wrong)

    FAULTS.append(Fault(name, run, ("ppo",)))


def _delete(live: Live) -> Path:
    shutil.rmtree(live.folder)
    return live.folder


def _move(live: Live) -> Path:
    return live.folder.rename(live.folder.with_name(f"{live.folder.name}-moved"))


def _replace(live: Live) -> Path:
    shutil.rmtree(live.folder)
    live.folder.mkdir()
    (live.folder / "config.toml").write_text("another run's\n")
    return live.folder


def _no_file_may_grow(live: Live) -> Path:
    """As on full disks, all of them: each write fails."""
    resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    time.sleep(1.0)
    resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return live.folder


_goes_on("the run directory is deleted", _delete, "was deleted")
_goes_on("the run directory is moved", _move, "was moved")
_goes_on("another directory takes its place", _replace, "taken the place")
_goes_on("no file may grow for a second", _no_file_may_grow, "cannot be written")


def _on_a_disk_of_its_own(name: str, do: Callable[[Path], object]) -> None:
    """Declare what happens to the disk of a run directory. Only root can do it, as it mounts one."""
    def run(family: str, folder: Path) -> Row:
        disk = folder.parent / "disk"
        reference, config = reference_of(family, folder), config_of(family, disk / "run")
        disk.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
        try:
            live = Live(config)
            live.until_steps(5 * STEP)
            do(disk)
            begin = time.monotonic()
            live.until(lambda: live.said("cannot be written"), "its message")
            seen, code = time.monotonic() - begin, live.end()
        finally:
            while disk.is_mount():
                subprocess.run(["umount", "-l", str(disk)], check=True)
        found = re.search(r"they are in (\S+), so", live.output)
        wrong = differences(reference, Path(found[1])) if found else ["everything"]
        if found:
            shutil.rmtree(found[1])
        return Row(name, family, f"{seen:.1f} s, goes on, exit code {code}", told(live, "cannot be written"),
                   "everything" if wrong else "nothing", LESS + ", ".join(wrong) if wrong else SAME + ", elsewhere",
                   not wrong and code == 1)

    FAULTS.append(Fault(name, run, ("ppo",)))


def _fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _write_protect(disk: Path) -> None:
    """By a read-only mount above it, as the disk itself is busy."""
    for options in (["--bind", str(disk), str(disk)], ["-o", "remount,bind,ro", str(disk)]):
        subprocess.run(["mount", *options], check=True)


_on_a_disk_of_its_own("the disk is full until the end", _fill)
_on_a_disk_of_its_own("the disk becomes read-only until the end", _write_protect)


def _damaged(name: str, damage: Callable[[bytes], bytes]) -> None:
    def run(family: str, folder: Path) -> Row:
        keys = {"train__total_steps": 4 * STEPS}
        reference, config = reference_of(family, folder, **keys), config_of(family, folder, **keys)
        live = Live(config)
        live.until(lambda: len(list((folder / "checkpoints").glob("step_*[1-9]*.pt"))) > 1, "a second checkpoint")
        live.end(signal.SIGKILL)
        newest = checkpoint.latest(folder)
        newest.write_bytes(damage(newest.read_bytes()))
        before = saved_steps(folder)
        again = Live(config, resume=True)
        assert again.end() == 0, again.output
        wrong = differences(reference, folder)
        used = re.search(r"step_0*(\d+)\.pt is used", again.output)
        lost = f"{before - int(used[1]):,} steps" if used else "?"
        return Row(name, family, "at --resume", told(again, "is used"), lost,
                   SAME if not wrong else LESS + ", ".join(wrong), not wrong and used is not None)

    FAULTS.append(Fault(name, run, ("ppo",)))


def _flip(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes(255 - byte for byte in data[at:at + 8]) + data[at + 8:]


_damaged("8 bytes of the newest checkpoint are flipped", _flip)
_damaged("the newest checkpoint is cut short", lambda data: data[:len(data) // 2])
_damaged("the newest checkpoint is empty", lambda data: b"")


@fault("a second process is given the same run")
def second(family: str, folder: Path) -> Row:
    keys = {"train__total_steps": 4 * STEPS}
    reference, config = reference_of(family, folder, **keys), config_of(family, folder, **keys)
    live = Live(config)
    live.until_steps(STEP)
    begin = time.monotonic()
    other = Live(config, resume=True)
    code = other.end()
    seen = time.monotonic() - begin
    first = live.end()
    wrong = differences(reference, folder)
    return Row("a second process is given the same run", family, f"{seen:.1f} s, exit code {code}",
               told(other, "another process"), "nothing", "refused; the first " + (
                   SAME if not wrong else LESS + ", ".join(wrong)), not wrong and code == 2 and first == 0 and
               bool(other.said("another process")))


@fault("killed, moved, and resumed from another working folder", "bc")
def resumed_elsewhere(family: str, folder: Path) -> Row:
    reference, config = reference_of(family, folder), config_of(family, folder)
    live = Live(config)
    live.until(lambda: live.steps > 0, "its beginning")
    assert live.process.poll() is None, "it was too late"
    code = live.end(signal.SIGKILL)
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    moved = folder.rename(elsewhere / folder.name)
    done = subprocess.run([sys.executable, "-m", "puffer_il", "train", "--resume", moved.name], cwd=elsewhere,
                          capture_output=True, text=True, check=False)
    wrong = differences(reference, moved) if done.returncode == 0 else [done.stderr.strip()[:200]]
    return Row("killed, moved, and resumed from another working folder", family, f"exit code {code}", "",
               "as a kill", SAME if not wrong else LESS + ", ".join(wrong), not wrong)


# Environments and their workers

@fault("a worker is killed (kill -9)", "workers ppo")
def worker_killed(family: str, folder: Path) -> Row:
    reference, config = reference_of(family, folder), config_of(family, folder)
    live = Live(config)
    live.until_steps(5 * STEP)
    workers = live.workers()
    begin = time.monotonic()
    stop(workers[-1])
    code = live.end()
    left = orphans(workers)
    row = resumed("a worker is killed (kill -9)", family, config, reference, time.monotonic() - begin, live, "SIGKILL",
                  code)
    return row if not left else Row(*[*list(vars(row).values())[:-2], "a worker lives on", False])


def _ends(name: str, env: str, pattern: str, code: int, **keys: Any) -> None:
    """Declare a fault of an environment that ends a run; a checkpoint must be left."""
    def run(family: str, folder: Path) -> Row:
        live = Live(config_of(family, folder, f"{ENVS}:{env}", **keys))
        begin = time.monotonic()
        live.until_steps(STEP)
        workers = live.workers()
        ended = live.end()
        living = orphans(workers)
        left = saved_steps(folder) if (folder / "checkpoints").is_dir() else -1
        line, lost = told(live, pattern), max(0, steps_of(folder) - left)
        good = ended == code and bool(line) and left >= 0 and not living  # at least that of the start
        return Row(name, family, f"{time.monotonic() - begin:.1f} s after its start, exit code {ended}", line,
                   f"{lost:,} steps",
                   f"a checkpoint of step {left:,} is left" if left >= 0 else "no checkpoint is left",
                   good)

    FAULTS.append(Fault(name, run, ("workers ppo",) if "in workers" in name else ("ppo",)))


_ends("the environment raises", "raising", "lost its licence", 1)
_ends("the environment raises in workers", "raising", "lost its licence", 1)
_ends("the environment crashes its process in workers", "crashing", "SIGSEGV", 1)
_ends("an observation is NaN", "nan_observation", "NaN|nan", 1)
_ends("a reward is NaN", "nan_reward", "NaN|nan", 1)
_ends("a reward is infinite", "infinite_reward", "inf", 1)
_ends("the environment crashes its process (SIGSEGV), by default", "crashing", "SIGSEGV", 1)
_ends("the environment crashes its process, env.backend = serial", "crashing", "without a word", -signal.SIGSEGV,
      env__backend="serial")
_ends("a step hangs in workers, env.on_timeout = stop", "hanging", "answer", 1, env__timeout_s=2.0,
      env__on_timeout="stop")


def _survives(name: str, env: str, pattern: str, families: tuple[str, ...] = ("ppo",), **keys: Any) -> None:
    """Declare a fault of an environment through which a run goes on to its end."""
    def run(family: str, folder: Path) -> Row:
        live = Live(config_of(family, folder, f"{ENVS}:{env}", **keys))
        begin = time.monotonic()
        code = live.end()
        line, steps = told(live, pattern), saved_steps(folder)
        good = code == 0 and bool(line) and steps >= STEPS
        return Row(name, family, f"{time.monotonic() - begin:.1f} s in all, exit code {code}", line, "rows of episodes",
                   f"ends, {steps:,} steps", good)

    FAULTS.append(Fault(name, run, families))


_survives("an observation is NaN, env.on_nan = mask", "nan_observation", "is nan", env__on_nan="mask")
_survives("a step hangs in workers, env.on_timeout = restart", "hanging", "answer", ("workers ppo",),
          env__timeout_s=2.0, env__on_timeout="restart")
_survives("evaluated episodes have no end", "endless", "do not end", eval__max_episode_steps=500)


@fault("a worker is stopped (SIGSTOP), env.on_timeout = restart", "workers ppo")
def worker_stopped(family: str, folder: Path) -> Row:
    live = Live(config_of(family, folder, env__timeout_s=2.0, env__on_timeout="restart"))
    live.until_steps(5 * STEP)
    begin, worker = time.monotonic(), live.workers()[-1]
    stop(worker, signal.SIGSTOP)
    live.until(lambda: live.said("answer"), "its message")
    seen, code = time.monotonic() - begin, live.end()
    left = orphans([worker])
    stop(worker)
    return Row("a worker is stopped (SIGSTOP), env.on_timeout = restart", family, f"{seen:.1f} s, exit code {code}",
               told(live, "answer"), "episodes of its rows", "a process lives on" if left else "ends",
               code == 0 and not left)


@fault("kill -9 of the trainer, with a stopped worker", "workers ppo")
def killed_with_stopped_worker(family: str, folder: Path) -> Row:
    reference, config = reference_of(family, folder), config_of(family, folder)
    live = Live(config)
    live.until_steps(5 * STEP)
    workers = live.workers()
    stop(workers[-1], signal.SIGSTOP)
    begin = time.monotonic()
    code = live.end(signal.SIGKILL)
    left, seen = orphans(workers), time.monotonic() - begin
    for worker in left:
        stop(worker)
    row = resumed("kill -9 of the trainer, with a stopped worker", family, config, reference, seen, live, "^$", code)
    return Row(row.fault, row.run, row.seen, row.message, row.lost, row.verdict + (
        "; a stopped worker lives on" if left else "; no process is left"), row.good and not left)
