"""Builds of the program that checks a C environment (csrc/check), and their runs. Nothing of it runs in here."""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.envkit.check.source import env_fields, program_source
from puffer_il.native.compiler import compiler
from puffer_il.native.envfile import EnvFile
from puffer_il.native.glue import CSRC, FLAGS, c_source, package_flags

# One build for each question, none optimised: that would make up values that are missing, and leave out reads that
# nobody needs; it also takes longer. All locals begin as zero in one, as a pattern in another.
ZERO, PATTERN = "-ftrivial-auto-var-init=zero", "-ftrivial-auto-var-init=pattern"
SANITIZE = ("-fsanitize=address,undefined,float-cast-overflow", "-fsanitize-recover=undefined",
            "-fno-omit-frame-pointer")
BUILDS: dict[str, tuple[tuple[str, ...], str, str]] = {  # name → flags, byte that memory holds first, what it runs
    "zero": ((ZERO,), "0x00", "all"),
    "pattern": ((PATTERN,), "0x42", "run"),
    "sanitized": (SANITIZE, "0x00", "all"),
}
LONG = 1 << 20  # bytes of messages: so many of the first, so many of the last
PLAIN = tuple(flag for flag in FLAGS if not flag.startswith(("-O", "-W")) and flag != "-fvisibility=hidden")


@dataclass
class ProgramRun:
    """What a build of the program reported: lines of fields, hashes of every step, sanitizers' messages."""

    code: int | None = None  # None: stopped after long
    records: list[tuple[str, ...]] = field(default_factory=list)
    trace: Array = field(default_factory=lambda: np.empty((0, 3), np.uint64))
    log: str = ""

    def all(self, kind: str) -> list[tuple[str, ...]]:
        return [record[1:] for record in self.records if record[0] == kind]


def _compile(env: EnvFile, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*compiler(), f"-I{env.folder}", f"-I{CSRC}", *arguments], capture_output=True, text=True,
                          env=os.environ | {"LC_ALL": "C"})


def build_object(env: EnvFile, scratch: Path, *more: str) -> tuple[Path | None, str]:
    """The environment alone, with the warnings of its usual flags and of `more`, and what the compiler said."""
    source, built = scratch / f"{env.name}.c", scratch / f"{env.name}.o"
    source.write_text(c_source(env))
    fractions = ("-Wfloat-conversion",) if env.observation.dtype != "float32" else ()
    includes = [flag for flag in package_flags(env) if flag.startswith("-I")]
    usual = [flag for flag in FLAGS if not flag.startswith("-O")]
    done = _compile(env, [*usual, "-O1", *fractions, *includes, *more, "-c", str(source), "-o", str(built)])
    return (None if done.returncode else built), done.stderr


def build_program(env: EnvFile, name: str, scratch: Path, *more: str) -> tuple[Path | None, str]:
    """One of BUILDS, without a flag that the compiler does not know; None if there is none. And its complaint. `more`
    are flags that it must know."""
    flags, told = BUILDS[name][0], ""
    for fields in (env_fields(env), []):
        source, built = scratch / f"{name}.c", scratch / name
        source.write_text(program_source(env, fields))
        for chosen in dict.fromkeys((flags, flags if name == "sanitized" else ())):
            done = _compile(env, [*PLAIN, "-O0", "-g1", "-w", *chosen, *more, str(source), "-o", str(built),
                                  *package_flags(env), "-lm"])
            if not done.returncode:
                return built, "" if chosen == flags else f"this compiler has no {flags[0].rpartition('=')[0]}"
            if done.returncode < 0:  # stopped from outside
                return None, f"{compiler()[0]} was stopped"
            told = told or next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-200:])
    return None, told


def run_program(program: Path, name: str, given: Path, scratch: Path, seconds: float, patience: float,
                tag: str = "", phases: str = "") -> ProgramRun:
    """Run a build for about `seconds` of processor time; `tag` keeps a second run's files apart. `phases` is what it
    runs, if not what BUILDS says: "all", "run" or "crafted" (csrc/check/main.h)."""
    report, trace, log = (scratch / f"{name}{tag}.{kind}" for kind in ("report", "trace", "log"))
    _, fill, usual = BUILDS[name]
    phases = phases or usual
    options = ("detect_leaks=0:detect_stack_use_after_return=1:print_stacktrace=1:handle_abort=1:color=never:"
               "allocator_may_return_null=1")
    run = ProgramRun()
    for _ in range(2):  # a machine may stand still for a while; an environment does so twice
        with log.open("w") as said, contextlib.suppress(subprocess.TimeoutExpired):
            run.code = subprocess.run([program, given, report, trace, fill, str(seconds), str(patience), phases],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, cwd=scratch,
                                      timeout=40 + 10 * seconds,
                                      env=os.environ | {"ASAN_OPTIONS": options, "UBSAN_OPTIONS": options}).returncode
            break
    if report.is_file():
        run.records = [tuple(line.split("\t"))
                       for line in report.read_text(errors="replace").replace("\t-nan", "\tnan").splitlines()]
    if trace.is_file():
        numbers = np.fromfile(trace, np.uint64)
        run.trace = numbers[:len(numbers) // 3 * 3].reshape(-1, 3)
    with log.open("rb") as said:  # environments may print, and much
        head, size = said.read(LONG), log.stat().st_size
        said.seek(max(len(head), size - LONG))
        run.log = (head + said.read()).decode(errors="replace")
    return run
