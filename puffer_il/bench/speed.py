"""`puffer-il bench`: how fast each part is, against what the machine can do and against other packages.

--json FILE holds all of it. Every rate is per second, of operations, bytes, steps, rows or samples:

    {"machine": {"cpu", "cores", "instruction_set", "threads", "torch", "python", "puffer_il", "gpu", "date",
                 "command"},
     "limits": {"fma": {THREADS: figure}, "gemm": {THREADS: figure},     C loop in registers, torch.matmul
                "bandwidth": {LEVEL: {"bytes": working set, "read" | "fill" | "copy" | "triad": {THREADS: figure}}},
                "steps": {THREADS: figure}},                             C CartPole, stepped by a C loop
     "results": {STEP: [entry, …]},       a STEP of STEPS
     "interrupted": bool}

A figure is {"median", "min", "max", "samples"} over repeats; an entry one measured thing: "name", what was set, and its
figures. Ratios and shares are of pairs that were measured one right after the other. A new kind of entry is one
function in the file of its subject, and one in tables.py that says what its numbers mean.
"""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from puffer_il.bench import (
    against,
    bf16,
    cliffs,
    environment,
    limits,
    locomotion,
    loops,
    memory,
    networks,
    rows,
    stages,
)
from puffer_il.bench.measure import Effort, Say
from puffer_il.bench.peers import compare
from puffer_il.bench.peers.install import PeerError
from puffer_il.bench.peers.revisions import commit, ensure_revision
from puffer_il.bench.session import Session
from puffer_il.bench.tables import markdown, tables
from puffer_il.core.errors import InputError
from puffer_il.kernels.threads import cores
from puffer_il.learners.registry import get_learner
from puffer_il.native.catalogue import env_folders
from puffer_il.vector.make import find_creator

PLANS = {  # bench → steps, each of which fills a list of results under its name
    "throughput": ("throughput", "memory"), "stages": ("stages",), "scaling": ("scaling",), "env": ("env",),
    "buffer": ("buffer",), "learners": ("learners",), "rows": ("rows",), "mlp": ("mlp", "update")}
PEERS = ("peers", "expert")
ALL = tuple(step for steps in PLANS.values() for step in steps)
PLANS["cliffs"] = ("cliffs",)
PLANS["bf16"] = ("bf16",)
PLANS["mujoco"] = ("mujoco",)
PLANS["locomotion"] = ("locomotion",)
WITH_LIMITS = {"stages", "buffer", "mlp"}


def main(args: Namespace) -> int:
    """Measure what `args`, those of cli/bench.py, ask for; 1 if a key costs too much (cliffs.py). InputError before
    anything is measured."""
    steps, algos = plan(args.what, args.peers), args.algos or ["ppo", "gail"]
    for algo in algos:
        get_learner(algo)
    if "bf16" in steps:
        bf16.check()
    if "locomotion" in steps:
        locomotion.check(args)
    if "env" in steps:
        find_creator(args.env, None).facts()
    args.algos, args.effort = algos, Effort(args.repeats, args.seconds)
    args.envs = args.num_envs or 4096
    session = Session(args, {"limits": {}, "results": {}}, markdown)
    if args.against:
        return beside(args.against, args, session)

    def work(say: Say) -> None:
        if WITH_LIMITS & set(steps):
            session.data["limits"] = limits.measure_limits(cores(), args.effort, say)
        for step in steps:
            entries = session.data["results"].setdefault(step, [])
            try:
                STEPS[step](args, entries, say)
            finally:
                session.save()

    code = session.run(work, tables)
    return code or int(any(entry["steep"] for entry in session.data["results"].get("cliffs", ())))


def beside(revision: str, args: Namespace, session: Session) -> int:
    """`--against REV`: the exit code is 1 if a loop has lost speed. InputError if that commit is not there."""
    sha, entries = commit(revision), session.data["results"].setdefault("against", [])
    session.data["against"] = sha

    def work(say: Say) -> None:
        try:
            python = ensure_revision(sha, lambda line: say(f"against: {line}"))
        except PeerError as error:
            raise InputError(f"--against {revision}: {error}") from None
        for entry in against.against(against.rows(), python, args.effort, say):
            entries.append(entry)
            session.save()

    return session.run(work, tables) or against.verdict(entries)


def plan(what: str | None, peers: bool) -> tuple[str, ...]:
    """The steps in their order. --peers alone takes what stands beside the comparison as well."""
    if what == "all":
        return ALL + (PEERS if peers else ())
    if what is None and peers:
        return ("throughput", "memory", "stages", "buffer", "update", *PEERS)
    return PLANS[what or "throughput"] + (PEERS if peers and what != "locomotion" else ())  # it asks peers itself


Entries = list[dict[str, Any]]


def _throughput(args: Namespace, entries: Entries, say: Say) -> None:
    variants = loops.standard_variants(args.envs, args.num_steps, args.epochs, args.algos)
    loops.throughput(entries, variants, args.updates, say)


def _learners(args: Namespace, entries: Entries, say: Say) -> None:
    size = {"env.num_envs": args.envs, "train.num_steps": args.num_steps}
    loops.learners(entries, size, args.repeats, args.seconds, say)


def _scaling(args: Namespace, entries: Entries, say: Say) -> None:
    loops.scaling(entries, loops.standard_axes(args.num_envs or 65_536), min(5, args.repeats), args.seconds, say)


def _env(args: Namespace, entries: Entries, say: Say) -> None:
    for name, size in (*((name, args.envs) for name in sorted(env_folders())), (args.env, args.num_envs or 64)):
        say(f"env: {name}")
        creator = find_creator(name)
        facts = creator.facts()
        native = creator.kind == "folder"
        chosen = [way for way in environment.ways(facts, native, size) if way.backend == "native" or not native]
        entries.append({"name": name, "num_envs": size,
                        "steps_per_s": environment.measure(creator, facts, size, chosen, args.effort)})


def _buffer(args: Namespace, entries: Entries, say: Say) -> None:
    sizes = (args.num_envs,) if args.num_envs else (4096, 65_536)
    memory.buffers(entries, sizes, args.num_steps, args.effort, say)


STEPS: dict[str, Callable[[Namespace, Entries, Say], None]] = {
    "throughput": _throughput, "learners": _learners, "scaling": _scaling, "env": _env, "buffer": _buffer,
    "memory": lambda args, entries, say: loops.peak_memory(entries, args.envs, args.num_steps, say),
    "stages": lambda args, entries, say: stages.stages(entries, args.envs, args.num_steps, args.hidden, args.effort,
                                                       say),
    "cliffs": lambda args, entries, say: cliffs.run(entries, args.repeats, args.seconds, say),
    "bf16": lambda args, entries, say: bf16.beside_float32(entries, bf16.standard_rows(), args.repeats, args.seconds,
                                                           say),
    "rows": lambda args, entries, say: rows.rows(
        entries, {"env.num_envs": args.num_envs or rows.NUM_ENVS, "train.num_steps": args.num_steps}, args.repeats,
        args.seconds, say),
    "mlp": lambda args, entries, say: networks.mlps(entries, cores(), args.effort, say),
    "update": lambda args, entries, say: networks.continuous_update(entries, cores(), args.effort, say),
    "peers": lambda args, entries, say: compare.compare(entries, args.repeats, say, compare.groups()),
    "mujoco": lambda args, entries, say: compare.compare(entries, args.repeats, say, compare.mujoco_groups()),
    "locomotion": locomotion.locomotion,
    "expert": lambda args, entries, say: compare.expert_times(entries, args.seeds, args.peer_expert, say)}
