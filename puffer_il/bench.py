"""Throughput, stage by stage: the names are those of the dashboard and of metrics.jsonl."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from puffer_il.config import build
from puffer_il.evaluate import random_actor
from puffer_il.sinks import RunInfo
from puffer_il.trainer import PHASES, Run
from puffer_il.types import Metrics
from puffer_il.vec import make_vec

WARM_UP = 2  # iterations that are not counted: first touch of memory, threads starting


class _Record:
    """A sink that only remembers."""

    def __init__(self) -> None:
        self.metrics: list[Metrics] = []

    def start(self, run: RunInfo) -> None: ...
    def message(self, text: str) -> None: ...
    def finish(self, summary: dict[str, Any]) -> None: ...

    def log(self, step: int, metrics: Metrics) -> None:
        self.metrics.append(metrics)


def throughput(algo: str, num_envs: int, num_steps: int, epochs: int, updates: int) -> dict[str, Any]:
    """Whole iterations of `algo` on the C CartPole: median steps/s with its range, median seconds per stage."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        tables: dict[str, dict[str, Any]] = {
            "env": {"name": "cartpole", "num_envs": num_envs}, "demos": {"source": "shipped"},
            "train": {"num_steps": num_steps, "total_steps": 10**12}, "eval": {"episodes": 1, "final_episodes": 1}}
        if algo in ("ppo", "gail"):
            tables["ppo"] = {"update_epochs": epochs}
        record = _Record()
        run = Run(build(algo, [("bench", tables)]), [record], Path(folder), stack)
        for _ in range(WARM_UP + updates):
            run.iterate()
    counted = record.metrics[WARM_UP:]
    rates = sorted(m["SPS"] for m in counted)
    return {"algo": algo, "num_envs": num_envs, "num_steps": num_steps, "epochs": epochs, "updates": updates,
            "sps": median(rates), "sps_min": rates[0], "sps_max": rates[-1],
            "seconds": {p: median(m[f"time/{p}"] for m in counted) for p in PHASES if p != "eval"}}


def backends(name: str, num_envs: int, workers: int, seconds: float, pairs: int) -> dict[str, Any]:
    """Steps/s of an environment stepped serially and by workers, in interleaved pairs, with the ratio pair by pair."""
    rates: dict[str, list[float]] = {"serial": [], "multiprocessing": []}
    with ExitStack() as stack:
        steppers = {}
        for backend in rates:
            vec = stack.enter_context(make_vec(name, num_envs=num_envs, backend=backend,
                                               num_workers=workers if backend == "multiprocessing" else 0))
            act, obs = random_actor(vec.spec, 0), vec.reset(0)
            actions = act(obs, np.ones(len(obs), bool))
            steppers[backend] = _stepper(vec.step, actions)
        for _ in range(pairs):
            for backend, step in steppers.items():
                rates[backend].append(_rate(step, num_envs, seconds))
    ratios = [m / s for s, m in zip(rates["serial"], rates["multiprocessing"], strict=True)]
    return {"env": name, "num_envs": num_envs, "workers": workers, "pairs": pairs,
            **{f"{k}_sps": median(v) for k, v in rates.items()}, "ratio": median(ratios), "ratios": ratios}


def _stepper(step: Callable[[Any], Any], actions: Any) -> Callable[[], Any]:
    return lambda: step(actions)


def _rate(step: Callable[[], Any], rows: int, seconds: float) -> float:
    count, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        step()
        count += rows
    return count / elapsed


def machine() -> dict[str, Any]:
    return {"cpu": _cpu_name(), "python": platform.python_version(),
            "torch": torch.__version__, "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
             if line.startswith("model name")] if info.is_file() else []
    return f"{names[0]} × {len(names)}" if names else platform.processor()


def main(arguments: list[str]) -> int:
    """`puffer-il bench throughput|env`: tables on the terminal, JSON into --json FILE."""
    parser = argparse.ArgumentParser(prog="puffer-il bench", description=__doc__)
    parser.add_argument("what", choices=("throughput", "env"), nargs="?", default="throughput",
                        help="whole training iterations of the C CartPole; or stepping, serial against workers")
    parser.add_argument("--algos", default="ppo,gail", help="algorithms of `throughput`")
    parser.add_argument("--env", default="CartPole-v1", help="environment of `env`")
    parser.add_argument("--num-envs", type=int, default=0, help="default 4096 for throughput, 64 for env")
    parser.add_argument("--num-steps", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1, help="PPO epochs")
    parser.add_argument("--updates", type=int, default=10, help="iterations that are counted")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs of `env`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    args = parser.parse_args(arguments)
    console, host = Console(), machine()
    console.print(f"[dim]{host['cpu']}, torch {host['torch']}[/]")
    if args.what == "throughput":
        results = [throughput(algo, args.num_envs or 4096, args.num_steps, args.epochs, args.updates)
                   for algo in args.algos.split(",")]
        console.print(_throughput_table(results))
    else:
        results = [backends(args.env, args.num_envs or 64, args.workers, 0.5, args.pairs)]
        console.print(_backend_table(results[0]))
    if args.json:
        args.json.write_text(json.dumps({"machine": host, "results": results}, indent=2) + "\n")
    return 0


def _throughput_table(results: list[dict[str, Any]]) -> Table:
    first = results[0]
    table = Table(title=f"C CartPole, {first['num_envs']} environments × {first['num_steps']} steps, "
                        f"{first['epochs']} PPO epoch(s); medians of {first['updates']} iterations")
    for column in ("algorithm", "steps/s", "range", *(f"{p} ms" for p in PHASES if p != "eval")):
        table.add_column(column, justify="left" if column == "algorithm" else "right")
    for r in results:
        table.add_row(r["algo"], f"{r['sps']:,.0f}", f"{r['sps_min']:,.0f}–{r['sps_max']:,.0f}",
                      *(f"{1e3 * seconds:.1f}" for seconds in r["seconds"].values()))
    return table


def _backend_table(r: dict[str, Any]) -> Table:
    table = Table(title=f"{r['env']}, {r['num_envs']} environments; medians of {r['pairs']} interleaved pairs")
    for column in ("serial steps/s", f"{r['workers']} workers steps/s", "ratio", "range"):
        table.add_column(column, justify="right")
    table.add_row(f"{r['serial_sps']:,.0f}", f"{r['multiprocessing_sps']:,.0f}", f"{r['ratio']:.2f}",
                  f"{min(r['ratios']):.2f}–{max(r['ratios']):.2f}")
    return table
