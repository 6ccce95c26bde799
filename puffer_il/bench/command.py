"""The command line: what is measured, in which order, and where it goes."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from puffer_il.bench import backends, limits, loops, memory, networks, rivals, stages
from puffer_il.bench.measure import Effort, Say
from puffer_il.bench.page import describe, markdown, show
from puffer_il.bench.tables import sections
from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError, unknown
from puffer_il.kernels.threads import cores
from puffer_il.learners.registry import get_learner
from puffer_il.vector.make import find_creator

INTERRUPTED = 130
WHAT = {  # bench → steps, each of which fills a list of results under its name
    "throughput": ("throughput", "memory"), "stages": ("stages",), "scaling": ("scaling",), "env": ("env",),
    "buffer": ("buffer",), "learners": ("learners",), "mlp": ("mlp", "update")}
PEERS = ("rivals", "expert")
ALL = tuple(step for steps in WHAT.values() for step in steps)
WITH_LIMITS = {"stages", "buffer", "mlp"}
HELP = {"throughput": "whole training loops, and peak memory", "stages": "each stage alone against its limit",
        "scaling": "loops by environments, horizon, hidden size, threads, workers",
        "env": "stepping: C loops, and one process against workers",
        "buffer": "advantages, writes, gathers against memory", "learners": "every learner's cost against GAIL's",
        "mlp": "fused networks against torch", "all": "all of that",
        "scores": "how well and how soon every algorithm learns; hours, and options of its own: 'bench scores --help'"}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see '{self.prog} --help'")


def main(arguments: list[str]) -> int:
    """`puffer-il bench …`: tables on the terminal, JSON and Markdown into files. 130 if it was interrupted, having kept
    what was measured until then."""
    if arguments[:1] == ["scores"]:
        from puffer_il.bench import scores  # late: it uses what stands here

        return scores.main(arguments[1:])
    args = parse(arguments)
    console, steps = Console(), plan(args.what, args.peers)
    data: dict[str, Any] = {"machine": limits.machine(cores(), shlex.join(["puffer-il", "bench", *arguments])),
                            "limits": {}, "results": {}, "interrupted": True}
    console.print(describe(data["machine"]), style="dim", highlight=False)
    try:
        with progress() as say:
            if WITH_LIMITS & set(steps):
                data["limits"] = limits.measure_limits(cores(), args.effort, say)
            for step in steps:
                entries = data["results"].setdefault(step, [])
                try:
                    STEPS[step](args, entries, say)
                finally:
                    write(data, args)
        data["interrupted"] = False
    except KeyboardInterrupt:
        print("puffer-il: interrupted; what was measured is kept", file=sys.stderr)
    for section in sections(data):
        show(section, console)
    write(data, args)
    return INTERRUPTED if data["interrupted"] else 0


def plan(what: str | None, peers: bool) -> tuple[str, ...]:
    """The steps in their order. --peers alone takes what stands beside the comparison as well."""
    if what == "all":
        return ALL + (PEERS if peers else ())
    if what is None and peers:
        return ("throughput", "memory", "stages", "buffer", "update", *PEERS)
    return WHAT[what or "throughput"] + (PEERS if peers else ())


class Arguments(argparse.Namespace):
    """What was typed, checked."""

    what: str | None
    peers: bool
    peer_expert: bool
    json: Path | None
    markdown: Path | None
    algos: list[str]
    env: str
    num_envs: int  # 0: the default of each bench
    num_steps: int
    epochs: int
    updates: int
    hidden: tuple[int, ...]
    workers: int
    repeats: int
    seconds: float
    seeds: int

    @property
    def effort(self) -> Effort:
        return Effort(self.repeats, self.seconds)

    @property
    def envs(self) -> int:
        return self.num_envs or 4096


def parse(arguments: list[str]) -> Arguments:
    """InputError in one line for whatever cannot be done, before anything is measured."""
    parser = Parser(prog="puffer-il bench", description="How fast each part is, against what the machine can do and "
                     "against other packages.", epilog="; ".join(f"{k}: {v}" for k, v in HELP.items()))
    add = parser.add_argument
    add("what", nargs="?", metavar="what", help=f"{', '.join(HELP)} (default throughput)")
    add("--peers", action="store_true", help="imitation, Stable-Baselines3 and PufferLib's PPO beside ours, in virtual "
        "environments of their own (about 3 GB, made on first use in PUFFER_IL_PEERS)")
    add("--peer-expert", action="store_true", help="with --peers: imitation's time to the expert too, some minutes")
    add("--json", type=Path, metavar="FILE", help="write all figures here, again after every step")
    add("--markdown", type=Path, metavar="FILE", help="write the tables here as a page")
    add("--algos", default="ppo,gail", type=lambda text: text.split(","), help="algorithms of throughput: ppo,gail")
    add("--env", default="CartPole-v1", help="Python environment of env (default CartPole-v1)")
    add("--num-envs", type=count, default=0, metavar="N", help="default 4096; 64 for Python environments")
    add("--num-steps", type=count, default=64, metavar="N", help="steps of a rollout (default 64)")
    add("--epochs", type=count, default=1, metavar="N", help="PPO epochs of throughput (default 1)")
    add("--updates", type=count, default=10, metavar="N", help="counted iterations of throughput (default 10)")
    add("--hidden", type=counts, default=(64, 256), metavar="N,…", help="hidden widths of stages (default 64,256)")
    add("--workers", type=count, default=2, metavar="N", help="worker processes of env (default 2)")
    add("--repeats", "--pairs", type=count, default=7, metavar="N", help="repeats of everything else (default 7)")
    add("--seconds", type=_seconds, default=0.1, metavar="S", help="least seconds of one repeat (default 0.1)")
    add("--seeds", type=count, default=5, metavar="N", help="with --peers: seeds of time to the expert (default 5)")
    args = parser.parse_args(arguments, Arguments())
    if args.what is not None and args.what not in HELP:
        raise InputError(unknown("benchmark", args.what, list(HELP)))
    if args.what == "scores":
        raise InputError("scores has options of its own; write 'puffer-il bench scores' first and them after it")
    for algo in args.algos:
        get_learner(algo)
    if "env" in plan(args.what, args.peers):
        find_creator(args.env, None).facts()
    for path in (args.json, args.markdown):
        if path is not None:
            check_writable(path)
    return args


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    return tuple(map(count, text.split(",")))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 60")
    return seconds


def check_writable(path: Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path} cannot be written ({reason}); choose another file") from None


def write(data: dict[str, Any], args: Arguments) -> None:
    if args.json:
        checkpoint.write_json(args.json, data)
    if args.markdown:
        checkpoint.write_text(args.markdown, markdown(data))


@contextmanager
def progress() -> Iterator[Say]:
    """Says what is being measured: in place on a terminal, else line by line, on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        begin = time.perf_counter()
        yield lambda text: print(f"[{time.perf_counter() - begin:6.1f} s] {text}", file=sys.stderr, flush=True)
        return
    column = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    with Progress(SpinnerColumn(), TimeElapsedColumn(), column, console=console, transient=True,
                  refresh_per_second=2) as bar:  # drawing takes time from what is measured
        task = bar.add_task("", total=None)
        yield lambda text: bar.update(task, description=text)


def _throughput(args: Arguments, entries: list[dict[str, Any]], say: Say) -> None:
    variants = loops.standard_variants(args.envs, args.num_steps, args.epochs, args.algos)
    loops.throughput(entries, variants, args.updates, say)


def _learners(args: Arguments, entries: list[dict[str, Any]], say: Say) -> None:
    size = {"env.num_envs": args.envs, "train.num_steps": args.num_steps}
    loops.learners(entries, size, args.repeats, args.seconds, say)


def _scaling(args: Arguments, entries: list[dict[str, Any]], say: Say) -> None:
    loops.scaling(entries, loops.standard_axes(args.num_envs or 65_536), min(5, args.repeats), args.seconds, say)


def _env(args: Arguments, entries: list[dict[str, Any]], say: Say) -> None:
    backends.environments(entries, args.envs, args.num_steps, args.effort, say)
    backends.backends(entries, args.env, args.num_envs or 64, args.workers, args.effort, say)


def _buffer(args: Arguments, entries: list[dict[str, Any]], say: Say) -> None:
    sizes = (args.num_envs,) if args.num_envs else (4096, 65_536)
    memory.buffers(entries, sizes, args.num_steps, args.effort, say)


STEPS: dict[str, Callable[[Arguments, list[dict[str, Any]], Say], None]] = {
    "throughput": _throughput, "learners": _learners, "scaling": _scaling, "env": _env, "buffer": _buffer,
    "memory": lambda args, entries, say: loops.peak_memory(entries, args.envs, args.num_steps, say),
    "stages": lambda args, entries, say: stages.stages(entries, args.envs, args.num_steps, args.hidden, args.effort,
                                                       say),
    "mlp": lambda args, entries, say: networks.mlps(entries, cores(), args.effort, say),
    "update": lambda args, entries, say: networks.continuous_update(entries, cores(), args.effort, say),
    "rivals": lambda args, entries, say: rivals.rivals(entries, args.repeats, say),
    "expert": lambda args, entries, say: rivals.expert_times(entries, args.seeds, args.peer_expert, say)}
