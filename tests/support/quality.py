"""Runs by the command line, as a person starts them, for the tests of what is learned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SEEDS = (1, 2, 3, 4, 5)
FUSED = os.environ.get("PUFFER_IL_TEST_FUSED", "true")  # false: the same claims with torch alone


def puffer_il(*arguments: object) -> str:
    done = subprocess.run([sys.executable, "-m", "puffer_il", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(algo: str, env: str, seed: int, folder: Path, *arguments: object) -> tuple[dict[str, Any], float]:
    """A run's summary and its wall time in seconds, the process's start included."""
    run_dir, begin = folder / f"{algo}-{seed}", time.perf_counter()
    puffer_il("train", algo, env, "--seed", seed, "--run-dir", run_dir, "--train.fused", FUSED, *arguments)
    wall = time.perf_counter() - begin
    summary = json.loads((run_dir / "summary.json").read_text())
    played = summary["eval"]
    print(f"\n{algo} {env} seed {seed}: return {played['return_mean']:.1f} of {played['episodes']} episodes, "
          f"normalised {played['normalized']}, {summary['env_steps']:,} steps, {wall:.1f} s")
    assert played["episodes"] == 100
    return summary, wall
