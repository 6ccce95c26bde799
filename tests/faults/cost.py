"""`python -m tests.faults.cost ALGO ENV --minutes 5 [--KEY VALUE …]`: what checkpoints cost a real run, and how much
work a kill at the worst moment would have cost it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from puffer_il.core import checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algo")
    parser.add_argument("env")
    parser.add_argument("--minutes", type=float, default=5)
    args, keys = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="puffer_il-cost-") as place:
        folder = Path(place) / "run"
        command = [sys.executable, "-m", "puffer_il", "train", args.algo, args.env, "--run-dir", str(folder),
                   "--total-steps", "1e12", *keys]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until, written = time.monotonic() + 60 * args.minutes, []
        try:
            while time.monotonic() < until and process.poll() is None:
                time.sleep(0.1)
                if checkpoint.has_any(folder) and (name := checkpoint.latest(folder).name) not in dict(written):
                    written.append((name, time.monotonic()))
        finally:
            process.kill()
            process.wait()
        ended = time.monotonic()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
                 if line.endswith(b"\n")]
        spent, wall = sum(line.get("time/checkpoint", 0.0) for line in lines), lines[-1]["wall_s"]
        size = checkpoint.latest(folder).stat().st_size
        times = [at for _, at in written] + [ended]
        gaps = [after - before for before, after in pairwise(times)]
        print(f"| {args.algo} on {args.env} {' '.join(keys)} | {wall:.0f} s, {lines[-1]['step']:,} steps | "
              f"{len(written)} of {size / 1e6:.1f} MB | {spent / wall:.2%} | {max(gaps):.1f} s |")


if __name__ == "__main__":
    main()
