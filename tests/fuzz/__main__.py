"""python -m tests.fuzz [--count N] [--bytes N] [--seconds S] [--only NAME…] [--jobs J] [--seed K] [--keep]"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from tests.fuzz import corpus
from tests.fuzz.engine import Outcome, digest, in_child, lay
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz the targets, tell a line of each; 1 if anything was found, whose inputs then lie in build/fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="inputs over all targets")
    parser.add_argument("--bytes", type=int, default=0, help="go on until so many were mutated for each target")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop earlier, after so long altogether")
    parser.add_argument("--only", nargs="+", choices=sorted(TARGETS), default=sorted(TARGETS), metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="add to tests/fuzz/corpus what reaches new lines")
    parser.add_argument("--json", type=Path, help="write the counts there")
    args = parser.parse_args()
    torch.set_num_threads(1)  # whoever is forked has no others
    begin = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        outcomes = shared(args, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    ours = sum(len(outcome.ours()) for outcome in outcomes)
    inputs = sum(outcome.count for outcome in outcomes)
    print(f"{inputs:,} inputs over {len(outcomes)} readers in {time.monotonic() - begin:.0f} s; {ours} findings")
    if args.json:
        args.json.write_text(json.dumps({o.name: {"inputs": o.count, "bytes": o.bytes, "refused": o.refused,
                                                  "lines": o.lines, "seconds": round(o.seconds),
                                                  "findings": sorted(o.findings)}
                                         for o in outcomes}, indent=1) + "\n")
    return 1 if ours or len(outcomes) < len(args.only) else 0


def shared(args: argparse.Namespace, scratch: Path) -> list[Outcome]:
    """The outcomes of all targets, by `jobs` processes, each of which takes every so many of them."""
    results, children = [scratch / f"{job}.outcomes" for job in range(args.jobs)], []
    for job, result in enumerate(results):
        if child := os.fork():
            children.append(child)
            continue
        code = 1
        try:
            made = [one(args, name, scratch) for name in args.only[job::args.jobs]]
            result.write_bytes(pickle.dumps(made))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    for child in children:
        os.waitpid(child, 0)
    return [outcome for result in results if result.is_file() for outcome in pickle.loads(result.read_bytes())]


def one(args: argparse.Namespace, name: str, scratch: Path) -> Outcome:
    """Fuzz a target, tell of it, and keep what it found."""
    share = args.jobs / len(args.only)
    outcome = in_child(TARGETS[name], args.seed, -(-args.count // len(args.only)), args.seconds * share, scratch,
                       corpus.load(name), args.bytes)
    rate = outcome.count / max(outcome.seconds, 1e-9)
    print(f"{outcome.name:12} {outcome.count:9,} inputs, {outcome.bytes:11,} bytes, {outcome.refused:9,} refused, "
          f"{outcome.lines:5} lines, {rate:6.0f} a second, {len(outcome.findings)} findings", flush=True)
    for wrong, files in outcome.findings.items():
        folder = Path("build", "fuzz", f"{outcome.name}-{digest(files)}")
        folder.mkdir(parents=True, exist_ok=True)
        lay(files, folder)
        print(f"  {wrong}\n    {folder}", flush=True)
    if args.keep:
        corpus.keep(outcome.name, outcome.kept)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
