"""`puffer-il env check`: does an environment keep to the contract? A verdict, and for each thing wrong a remedy.

A C environment is compiled with a program around it (csrc/check) in three ways: with AddressSanitizer and UBSan, and
twice without, where all memory begins as zeros in one and as something else in the other. What the three report, and
where they differ, becomes findings. Then Python looks at the rows of a vector, as for any environment. All code of
the environment runs in processes of its own.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from puffer_il.envkit.check.child import Child
from puffer_il.envkit.check.compare import check_comparisons, first_difference, mark_followers
from puffer_il.envkit.check.findings import check_run
from puffer_il.envkit.check.printer import Printer
from puffer_il.envkit.check.program import BUILDS, ProgramRun, build_object, build_program, run_program
from puffer_il.envkit.check.results import CHECKS, OF_VECTORS, Checks
from puffer_il.envkit.check.sanitizers import check_sanitizers
from puffer_il.envkit.check.source import check_symbols, check_types, check_warnings, unwritten_lines
from puffer_il.native.compiler import compiler
from puffer_il.native.envfile import EnvFile, read_env
from puffer_il.native.glue import hooks

SHARE = 0.3  # of the seconds, for a program in C
HOOKS = {"state": "STATE", "expert": "EXPERT", "picture": "RENDER"}


def check(name: str, kwargs: dict[str, Any], seconds: float, *, as_json: bool = False) -> int:
    """Check an environment (a folder, a name, a Gymnasium id, module:function) and print what comes of it; measuring
    takes `seconds`, compiling comes on top. Exit code 0: all is well, 1: something is not."""
    printer, checks, expected = Printer(name, as_json), Checks(), list[str]()
    with tempfile.TemporaryDirectory(prefix="puffer_il-check-", ignore_cleanup_errors=True) as scratch:
        child = Child(name, kwargs, seconds, Path(scratch))
        try:
            opened = child.opened()
            if "failed" in opened:
                checks["runs"].add(f"cannot be opened: {opened['failed']}", "see what it says")
                printer.show(checks["runs"])
            elif opened["folder"] is not None:
                env = read_env(opened["folder"], opened["values"])
                printer.about(describe(env))
                inside = ProgramChecks(env, Path(scratch), seconds * SHARE, printer, checks)
                inside.run(child.given)
                expected = [*inside.makes, *OF_VECTORS]
            else:
                printer.about(opened["about"])
            if not checks.failed("compiles", "runs", "memory"):
                for step in child.checks():
                    if isinstance(step, str):
                        printer.doing(f"checking {step}")
                    else:  # what Python has found joins what C has
                        both = checks[step.name]
                        both.findings += step.findings
                        both.about, both.seconds = step.about, both.seconds + step.seconds
                        mark_followers(checks)
                        printer.show(both)
        finally:
            printer.close()
            child.close()
    return printer.end(checks, [name for name in expected if name not in checks])


def describe(env: EnvFile) -> str:
    """What it is, in a few words."""
    obs, action = env.observation, env.action
    sees = f"{obs.nvec[0]} observations" if obs.nvec else f"{'×'.join(map(str, obs.shape))} {obs.dtype} observations"
    does = f"{'×'.join(map(str, action.nvec))} choices" if action.nvec else (
        f"{'×'.join(map(str, action.shape))} float32 actions")
    return f"{sees}, {does}, {env.agents} agent{'s' * (env.agents > 1)}"


class ProgramChecks:
    """The checks of a C environment that are made in C."""

    def __init__(self, env: EnvFile, scratch: Path, seconds: float, printer: Printer, checks: Checks) -> None:
        self.env, self.hooks, self.scratch, self.seconds = env, hooks(env), scratch, seconds
        self.printer, self.checks = printer, checks
        self.makes = [name for name in CHECKS if name not in OF_VECTORS and HOOKS.get(name) in (None, *self.hooks)]
        self._stopped = False
        self.patience = min(3.0, max(0.5, seconds))  # seconds of work in one call
        compiler()  # InputError if there is none

    def run(self, given: Path) -> None:
        """Compile and run everything side by side, and show what comes of it."""
        begin = time.monotonic()
        self.printer.doing("compiling it, with sanitizers and without")
        with self._pool() as pool:
            plain = pool.submit(build_object, self.env, self.scratch)
            runs = {name: pool.submit(self._program, name, given) for name in BUILDS}
            built, told = plain.result()
            unwritten = check_warnings(self.env, told, self.checks)
            check_types(self.env, self.checks)
            if built is None:
                if not self.checks.failed("compiles"):
                    self.checks["compiles"].add(f"it does not compile: {' '.join(told[-300:].split())}",
                                                "see what the compiler says")
                self._show(self.makes)
                return
            shared = check_symbols(self.env, built, self.hooks, self.checks)
            self.checks["compiles"].seconds = time.monotonic() - begin
            self._show(["compiles"])
            self.printer.doing("stepping it with random, extreme and wild actions")
            self._judge(runs, unwritten, shared, given)
            self.checks["runs"].seconds = time.monotonic() - begin
        mark_followers(self.checks)
        self._show([name for name in self.makes if name != "compiles"])

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """For builds and runs; whoever interrupts does not wait for those that have not begun."""
        pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1))
        try:
            yield pool
        except BaseException:
            self._stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def _program(self, name: str, given: Path) -> tuple[ProgramRun | None, str]:
        """A build's run, None if it cannot be built; and what its compiler could not do."""
        program, told = build_program(self.env, name, self.scratch)
        if program is None or self._stopped:
            return None, told
        return run_program(program, name, given, self.scratch, self.seconds, self.patience), told

    def _judge(self, futures: dict[str, Future[tuple[ProgramRun | None, str]]], unwritten: list[str], shared: bool,
               given: Path) -> None:
        done = {name: future.result() for name, future in futures.items()}
        runs = {name: run for name, (run, _) in done.items() if run is not None}
        self._notes({name: told for name, (_, told) in done.items() if told}, runs)
        if "sanitized" in runs:
            check_sanitizers(self.env, runs["sanitized"], self.checks)
        if {"zero", "pattern"} <= runs.keys() and first_difference(runs["zero"], runs["pattern"]):
            runs["again"] = run_program(self.scratch / "zero", "zero", given, self.scratch, self.seconds / 2,
                                        self.patience, tag="again")
            _, told = build_object(self.env, self.scratch, "-O0", "-fanalyzer")
            unwritten = unwritten or unwritten_lines(told)
        check_run(self.env, {name: run for name, run in runs.items() if name != "again"}, self.checks)
        observer = "c_observe" if "PLAIN_STATE" in self.hooks else "c_set_state"
        check_comparisons(runs, unwritten, shared, self.checks, observer)

    def _notes(self, told: dict[str, str], runs: dict[str, Any]) -> None:
        """What could not be looked at on this machine."""
        if "sanitized" not in runs:
            self.checks["memory"].add(f"the sanitizers are not there ({told.get('sanitized', '')}); only writes just "
                                      "outside of a buffer are seen", "install gcc's libasan and libubsan", fatal=False)
        if "pattern" in told and "pattern" in runs:
            self.checks["initialised"].add(f"{told['pattern']}; local variables were not looked at",
                                           "use gcc 12 or clang 8 or later", fatal=False)
        for name in ("zero", "pattern"):
            if name not in runs:
                self.checks["compiles"].add(f"the program that checks it does not compile: {told.get(name, '')}",
                                            "does the header define a name that begins with check_?")

    def _show(self, names: list[str]) -> None:
        """Of an environment that did not run to its end, only what is wrong is known."""
        ran = not self.checks.failed("compiles", "runs")
        for name in names:
            if ran or self.checks[name].findings:
                self.printer.show(self.checks[name])
            else:
                del self.checks[name]
