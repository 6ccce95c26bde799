"""JSON → tables with a word on what their numbers mean; the terminal and the Markdown page show the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from puffer_il.bench.limits import KINDS
from puffer_il.bench.loops import STAGES
from puffer_il.bench.rivaltables import expert_sections, rival_sections
from puffer_il.bench.section import Entries, Section, both, failed, milliseconds, percent, short

DEAR = 1.5  # times GAIL's cost per step, beyond which an on-policy learner is named


def sections(data: dict[str, Any]) -> list[Section]:
    """All that has been measured so far."""
    made = limit_sections(data["limits"]) if data["limits"] else []
    for name, build in SECTIONS.items():
        if data["results"].get(name):
            made += build(data["results"][name])
    return made


def limit_sections(limits: dict[str, Any]) -> list[Section]:
    lines = {"multiply-adds in registers, FLOP/s": limits["fma"], "torch.matmul of 1,024³, FLOP/s": limits["gemm"],
             "C CartPole alone, steps/s": limits["steps"]}
    for level, found in limits["bandwidth"].items():
        lines |= {f"{kind}, {found['bytes'] / 2**20:.3g} MiB ({level}), B/s": found[kind] for kind in KINDS}
    counts = list(limits["fma"])
    rows = [[name, *(cell for figure in by_threads.values() for cell in both(figure))]
            for name, by_threads in lines.items()]
    columns = [title for n in counts for title in (f"{n} thread{'s' * (n != '1')}", "range")]
    return [Section("Limits of the machine", ("what", *columns), rows, (
        "Measured by C loops of our own with the processor's widest vectors. A multiply-add counts as two operations. "
        "Bytes are those that a loop names; what a store makes the processor read besides is not counted.",
        "'cache' is a core's own, 'shared' the last level, 'memory' beyond both. On a machine that others share, two "
        "threads may get no more than one."))]


def throughput_sections(entries: Entries) -> list[Section]:
    keys, titles = entries[0]["keys"], ("collect ms", "reward ms", "GAE ms", "update ms")
    rows = [[e["name"], *both(e.get("steps_per_s")), *(milliseconds(e["stages"].get(s, 0)) for s in STAGES)]
            for e in entries]
    return [Section("Whole training loop", ("experiment", "steps/s", "range", *titles), rows, (
        f"C CartPole, {keys['env.num_envs']:,} environments × {keys['train.num_steps']} steps, "
        f"{keys['ppo.update_epochs']} PPO epoch(s) where the name says nothing else; policy and critic apart (or on a "
        "shared trunk), 2×64 tanh. GAIL: 8 discriminator updates of 4,096 + 4,096 rows with a gradient penalty.",
        "Whole iterations, all rows of this table in turn. The stages are median times of one iteration; 'reward' is "
        "the discriminator's updates and the relabelling.", *failed(entries)))]


def memory_sections(entries: Entries) -> list[Section]:
    rows = [[f"gail, {e['keys']['env.num_envs']:,} × {e['keys']['train.num_steps']}", f"{e['bytes'] / 2**20:.0f}"]
            for e in entries]
    return [Section("Peak memory", ("run", "MiB"), rows, (
        "Resident memory of `puffer-il train gail cartpole`, Python and torch included, in a process of its own.",))]


NETWORK_NOTES = (
    "Networks: the matrices' floating-point operations (forward 2 per weight and row, forward and backward 6, the "
    "gradient penalty 12), at the speed of multiply-adds in registers. Activations, losses, sampling and optimiser are "
    "work as well and are not counted, so that 100 % is out of reach.",
    "Stepping: the time of the C loop alone, over that of the stage, which is called from Python once a step.")


def stage_sections(entries: Entries, title: str = "Each stage against its limit",
                   notes: Sequence[str] = NETWORK_NOTES) -> list[Section]:
    rows = [[_stage_name(e), str(e["threads"]), short(e["rows_per_s"]["median"]), milliseconds(e["seconds"]["median"]),
             e["limit"], *percent(e["share"])] for e in entries]
    return [Section(title, ("stage", "threads", "rows/s", "ms", "limit", "of it", "range"), rows, (
        *notes, "Memory: the time in which a plain C loop moves as many bytes as the stage must at least, at the same "
        "level of the memory, over the stage's. Above 100 %: part of it stayed in a nearer cache. Stage and limit are "
        "measured in turn."))]


def _stage_name(e: dict[str, Any]) -> str:
    if "hidden" in e:
        return f"{e['name']}, 2×{e['hidden']}"
    return f"{e['name']}, {e['num_envs']:,}" if "num_envs" in e else e["name"]


def buffer_sections(entries: Entries) -> list[Section]:
    return stage_sections(entries, "Rollout buffer against memory", (
        f"CartPole's rows, {entries[0]['num_steps']} steps of so many environments. One thread, so that rows/s are "
        "environment steps per second and core.",))


def scaling_sections(entries: Entries) -> list[Section]:
    made = []
    what = {"environments": "environments, 64 steps each", "horizon": "steps, 4,096 environments",
            "hidden": "units of both hidden layers of every network, 1,024 environments", "threads": "threads",
            "workers": "worker processes for 64 of Gymnasium's CartPole (0: in this process)"}
    for axis, group in groupby(entries, lambda e: e["axis"]):
        found = list(group)
        rows = [[f"{e['value']:,}", *both(e.get("steps_per_s"))] for e in found]
        made.append(Section(f"GAIL by {axis}", (axis, "steps/s", "range"), rows,
                            (f"Whole training loop by {what.get(axis, axis)}.", *failed(found))))
    return made


def env_sections(entries: Entries) -> list[Section]:
    native = [e for e in entries if "steps_per_s" in e]
    made = []
    if native:
        rows = [[e["name"], *(("vec, from Python", "1") if how == "vec" else ("C loop", how)), *both(figure)]
                for e in native for how, figure in e["steps_per_s"].items()]
        made.append(Section("C environments", ("environment", "by", "threads", "steps/s", "range"), rows, (
            f"{native[0]['num_envs']:,} environments with random actions, restarts included.",)))
    rows = [[e["name"], *both(e["serial_steps_per_s"]), *both(e["multiprocessing_steps_per_s"]), *both(e["ratio"])]
            for e in entries if "ratio" in e]
    if rows:
        first = next(e for e in entries if "ratio" in e)
        made.append(Section("One process against workers", ("environment", "serial steps/s", "range", "workers steps/s",
                                                            "range", "ratio", "range"), rows, (
            f"{first['num_envs']} environments, {first['workers']} worker processes, interleaved pairs.",)))
    return made


def learner_sections(entries: Entries) -> list[Section]:
    measured = [e for e in entries if not e["error"]]
    rows = [[e["name"], e["kind"], short(e["steps_per_s"]["median"]), *both(e["cost"]),
             short(e["updates_per_s"]["median"]) if "updates_per_s" in e else "–"] for e in measured]
    dear = [f"{e['name']} ({e['cost']['median']:.2f}×)" for e in measured
            if e["kind"] == "on-policy" and e["cost"]["median"] > DEAR]
    keys, columns = entries[0]["keys"], ("learner", "kind", "rows/s", "cost", "range", "updates/s")
    return [Section("Learners", columns, rows, (
        f"C CartPole, {keys['env.num_envs']:,} environments × {keys['train.num_steps']} steps; whole loops, all in "
        "turn. 'cost' is the time per row over GAIL's, pair by pair: below 1 is cheaper. The reward or critic network "
        "of a learner that has one is of the size of GAIL's discriminator (2×64), with its 8 updates per iteration of "
        "4,096 + 4,096 rows; all else is the learner's default.",
        f"On-policy learners above {DEAR} times GAIL's cost: {', '.join(dear) or 'none'}.",
        "A row is a step of an environment or, without rollouts, a demonstrated sample. Off-policy learners make a "
        "number of gradient updates after each rollout that does not depend on its size, so that their updates/s say "
        "more than their rows/s. Those that ask an expert train on all that it has answered so far: their cost grows.",
        *failed(entries)))]


def mlp_sections(entries: Entries) -> list[Section]:
    made = []
    for key, name in (("forward", "forward"), ("forward_backward", "forward and backward")):
        rows = [[e["name"], short(e[key]["fused_rows_per_s"]["median"]), short(e[key]["torch_rows_per_s"]["median"]),
                 str(e[key]["torch_threads"]), *both(e[key]["ratio"])] for e in entries]
        columns = ("4 → hidden → 2", "fused rows/s", "torch rows/s", "its threads", "ratio", "range")
        made.append(Section(f"Fused networks against torch: {name}", columns, rows, (
            f"torch eager, an nn.Sequential of its own layers, with one thread or {entries[0]['threads']}, whichever "
            "is faster; ours with all. Interleaved; a ratio above 1 is in our favour.",)))
    return made


def update_sections(entries: Entries) -> list[Section]:
    rows = [[e["name"], *both(e["fused_rows_per_s"]), *both(e["torch_rows_per_s"]), *both(e["ratio"])] for e in entries]
    columns = ("update", "fused rows/s", "range", "torch rows/s", "range", "ratio", "range")
    return [Section("PPO update, continuous actions", columns, rows, (
        f"One epoch on {entries[0]['rows']:,} rows, 17 → {'×'.join(map(str, entries[0]['hidden']))} → 6, Gaussian; the "
        "same learner with its C kernels on and off (train.fused), interleaved.",))]


SECTIONS: dict[str, Callable[[Entries], list[Section]]] = {
    "throughput": throughput_sections, "memory": memory_sections, "stages": stage_sections, "buffer": buffer_sections,
    "scaling": scaling_sections, "env": env_sections, "learners": learner_sections, "mlp": mlp_sections,
    "update": update_sections, "rivals": rival_sections, "expert": expert_sections}
