"""`make sanitize`: C under AddressSanitizer and UBSan, in states that nobody has been in, and its threads under
ThreadSanitizer; with --all the tests of the compiled rooms too, against a build of everything with both sanitizers.

    python -m tests.fuzz.sanitize [--seconds S] [--only NAME…] [--all]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy

from puffer_il.core.errors import InputError
from puffer_il.envkit.check.child import write_input
from puffer_il.envkit.check.program import build_program, run_program
from puffer_il.native.envdata import open_env
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import CSRC, FLAGS, c_source, package_flags
from tests.support.environments import FOLDERS

ROOT = Path(__file__).resolve().parents[2]
COVERAGE = ("-O1", "-DCHECK_COVERAGE", "-fsanitize-coverage=trace-pc")
OTHERS = {"tron": {"players": 3}, "merge": {"controlled": 2}, "highway": {"observation": "lidar"}}  # not the defaults
ROOMS = ("tests/kernels", "tests/nn/test_fused.py", "tests/rollout/test_buffer.py", "tests/rollout/test_replay.py",
         "tests/rollout/test_rollout.py", "tests/learners/test_pwil.py", "tests/learners/test_ppo_kernel.py",
         "tests/learners/test_airl_kernel.py", "tests/learners/common")
IN_ITS_PLACE = """
import importlib.util, sys
import pytest
name, library, tests = sys.argv[1:]
__import__(name.rpartition(".")[0])
spec = importlib.util.spec_from_file_location(name, library)
sys.modules[name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.exit(pytest.main(["-q", "-x", "-s", "-m", "not slow", "-p", "no:cacheprovider", tests]))
"""
FLAGGED = "-fsanitize=address,undefined -fno-sanitize=alignment -fno-omit-frame-pointer -g1 -O1"
RACE = r"""
#include <stdio.h>
#include <stdlib.h>
#include "kernels/pool.h"

enum { ENVS = 64, STEPS = 200, THREADS = 4 };
static void race_turn(void *context, int64_t i, int thread) {
    (void)thread;
    vec_api.step(context, 4 * i, 4 * i + 4);
}

/* All environments of a batch, four to a task, on four threads. */
int main(int argc, char **argv) {
    const VecApi *api = &vec_api;
    const size_t rows = (size_t)(ENVS * api->agents);
    FILE *input = argc > 1 ? fopen(argv[1], "rb") : NULL;
    void *params = calloc(1, (size_t)api->params_bytes + 1);
    if (!input || (api->params_bytes && fread(params, (size_t)api->params_bytes, 1, input) != 1))
        return 4;
    struct { void *at; int64_t count; } *arrays = calloc(1, (size_t)api->data_bytes + 1);
    for (int64_t i = 0; i < api->data_bytes / 16; i++) {
        int64_t bytes;
        if (fread(&bytes, 8, 1, input) != 1 || fread(&arrays[i].count, 8, 1, input) != 1)
            return 4;
        arrays[i].at = malloc((size_t)bytes + 1);
        if (bytes && fread(arrays[i].at, (size_t)bytes, 1, input) != 1)
            return 4;
    }
    VecEnv vec = {calloc(ENVS, (size_t)api->env_bytes), calloc(ENVS, (size_t)api->clock_bytes), params, arrays, NULL,
                  calloc(rows, (size_t)api->action_bytes), calloc(rows, (size_t)api->obs_bytes), calloc(rows, 4),
                  calloc(rows, 1), calloc(rows, 1), calloc(rows, 1), calloc(rows, (size_t)api->obs_bytes),
                  calloc(rows, 8 * (size_t)(1 + api->log_size)), NULL, 0, 0};
    if ((api->share && api->share(&vec)) || (api->open && api->open(&vec, 0, ENVS)))
        return 3;
    api->seed(&vec, 1, 0, 0, ENVS);
    api->reset(&vec, 0, ENVS);
    for (int step = 0; step < STEPS; step++) {
        Work work = begin_work(THREADS, 64);
        run_tasks(&work, ENVS / 4, race_turn, &vec);
        end_work(&work);
    }
    return 0;
}
"""


def crafted(folder: Path, given: dict, seconds: float, scratch: Path) -> tuple[int, int, str]:
    """Inputs, places in the code that they have reached, and what went wrong: "" if nothing did."""
    write_input(folder, given, scratch / "input")
    env = read_env(folder, open_env(folder, given)[1])
    program, told = build_program(env, "sanitized", scratch, *COVERAGE)
    if program is None:
        return 0, 0, told
    run = run_program(program, "sanitized", scratch / "input", scratch, seconds, 5.0, phases="crafted")
    inputs, reached = next(iter(run.all("inputs")), ("0", "0"))
    failed = run.code != 0 or "runtime error" in run.log
    return int(inputs), int(reached), f"ended with {run.code}\n{run.log}\n{run.records[-3:]}" if failed else ""


def raced(folder: Path, scratch: Path) -> str:
    """What ThreadSanitizer says of a batch whose steps are shared out to threads."""
    write_input(folder, {}, scratch / "input")
    env = read_env(folder, open_env(folder, {})[1])
    (scratch / "race.c").write_text(f"{c_source(env)}\n{RACE}")
    usual = [flag for flag in FLAGS if not flag.startswith(("-O", "-W"))]
    built = subprocess.run(["gcc", *usual, "-O1", "-g1", "-w", "-fsanitize=thread", f"-I{env.folder}",
                            f"-I{CSRC}", str(scratch / "race.c"), "-o", str(scratch / "race"), *package_flags(env),
                            "-lm", "-lpthread"], capture_output=True, text=True)
    if built.returncode:
        return built.stderr[-2000:]
    done = subprocess.run([scratch / "race", scratch / "input"], capture_output=True, text=True, timeout=600)
    return "" if done.returncode == 0 else done.stderr[:3000] or f"exit {done.returncode}"


def whole_build() -> Path:
    """The package with every extension under both sanitizers, in build/sanitized."""
    target, compiler = ROOT / "build" / "sanitized", ROOT / "build" / "sanitized-cc"
    compiler.parent.mkdir(exist_ok=True)
    compiler.write_text(f'#!/bin/sh\nexec gcc "$@" {FLAGGED}\n')  # behind the flags that setup.py gives
    compiler.chmod(0o755)
    environment = os.environ | {"CC": str(compiler), "LDSHARED": f"{compiler} -shared"}
    subprocess.run([sys.executable, "setup.py", "-q", "build", "--build-base",
                    str(ROOT / "build" / "sanitized-objects"), "--build-lib", str(target)], cwd=ROOT, env=environment,
                   check=True)
    return target


def environment() -> dict[str, str]:
    """Of a Python that loads such builds; other people's leaks are not looked at."""
    preload = " ".join(subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True,
                                      check=True).stdout.strip() for name in ("libasan.so", "libubsan.so"))
    return os.environ | {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
                         "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "OPENBLAS_NUM_THREADS": "1"}


def file_tested(pyx: str, tests: str, scratch: Path, spoil: Callable[[str], str] = str) -> subprocess.CompletedProcess:
    """The tests of one compiled file ("puffer_il/rollout/_buffer.pyx") against a build of that alone, which `make test`
    has time for. `spoil` changes its text."""
    name = pyx.removesuffix(".pyx").replace("/", ".")
    source, library = scratch / Path(pyx).name, scratch / f"{name}.so"
    source.write_text(spoil((ROOT / pyx).read_text()))
    switches = [f"-X{switch}=False" for switch in ("boundscheck", "wraparound", "initializedcheck")]
    subprocess.run([sys.executable, "-m", "cython", "-3", *switches, "-Xcdivision=True", "-I",
                    str(Path(pyx).parent), "--module-name", name, str(source)], cwd=ROOT, check=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", *FLAGGED.split(), f"-I{CSRC}", f"-I{numpy.get_include()}",
                    f"-I{sysconfig.get_path('include')}", str(source.with_suffix(".c")), "-o", str(library), "-lm"],
                   check=True)
    return subprocess.run([sys.executable, "-c", IN_ITS_PLACE, name, library, tests], cwd=ROOT, env=environment(),
                          capture_output=True, text=True, timeout=300)


def rooms(package: Path) -> int:
    """The tests of what is compiled, against that build."""
    return subprocess.run([sys.executable, "-P", "-m", "pytest", "-q", "-p", "puffer_il", "-m", "not slow", "-x",
                           "--deselect", "tests/kernels/test_pool.py::test_the_pool_has_no_data_race",  # has its own
                           *ROOMS], cwd=ROOT, env=environment() | {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"}
                          ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.sanitize", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="processor time for each environment")
    parser.add_argument("--only", nargs="+", choices=sorted(FOLDERS), default=sorted(FOLDERS), metavar="NAME")
    parser.add_argument("--all", action="store_true", help="the tests of the compiled rooms too")
    args = parser.parse_args()
    failed = 0
    for name in args.only:
        for given in ({}, *([OTHERS[name]] if name in OTHERS else [])):
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    inputs, reached, wrong = crafted(FOLDERS[name], given, args.seconds, Path(scratch))
                    race = raced(FOLDERS[name], Path(scratch)) if not given else ""
                except InputError as error:
                    print(f"{name:24} left out: {error}")
                    continue
            failed += bool(wrong) + bool(race)
            print(f"{name:24} {given or ''!s:24} {inputs:9,} inputs, {reached:6,} places, "
                  f"{'FAILED' if wrong else 'clean'}, threads {'FAILED' if race else 'clean'}", flush=True)
            if wrong or race:
                print("\n".join((wrong or race).splitlines()[:30]), flush=True)
    if args.all:
        failed += rooms(whole_build()) != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
