"""JSON → tables with a word on what their numbers mean; the terminal and the Markdown page show the same ones."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from puffer_il.bench.against import against_tables
from puffer_il.bench.cliffs import STEEP
from puffer_il.bench.limits import KINDS
from puffer_il.bench.locomotion_tables import locomotion_tables
from puffer_il.bench.loops import STAGES
from puffer_il.bench.measure import Figure
from puffer_il.bench.peers.compare import best_of_theirs
from puffer_il.bench.rows import FORMS
from puffer_il.core.text import Table, number, quantity

Entries = Sequence[dict[str, Any]]
DEAR = 1.5  # times GAIL's cost per step, beyond which an on-policy learner is named
INTRODUCTION = """\
# Benchmarks

This page is written by `{command}`; `make bench` writes it again. {machine}

Every figure is the median of several repeats, with the lowest and the highest beside it. Things that are compared were
measured in turn, so that a slow moment of the machine affects all of them alike; a ratio is the median of such pairs.
`--json FILE` keeps every figure. The other packages run in virtual environments of their own, which are made on first
use; this takes some minutes and about 3 GB, in the folder that `PUFFER_IL_PEERS` names (default
`~/.cache/puffer_il/peers`).
"""


def tables(data: dict[str, Any]) -> list[Table]:
    """All that has been measured so far."""
    made = limit_tables(data["limits"]) if data["limits"] else []
    for name, build in TABLES.items():
        if data["results"].get(name):
            made += build(data["results"][name])
    return made


def markdown(data: dict[str, Any]) -> str:
    """The page of `--markdown`: an introduction and all tables."""
    machine = data["machine"]
    parts = [INTRODUCTION.format(command=machine["command"], machine=f"Machine: {describe(machine)}.")]
    if data["interrupted"]:
        parts.append("This run was interrupted; what is missing was not measured.\n")
    return "\n".join([*parts, *map(markdown_table, tables(data))])


def describe(machine: dict[str, Any]) -> str:
    return (f"{machine['cpu']}, {machine['cores']} usable, {machine['instruction_set']}, "
            f"{machine['gpu'] or 'no GPU'}, torch {machine['torch']}, Python {machine['python']}, {machine['date']}")


def markdown_table(table: Table) -> str:
    lines = [f"## {table.title}", "", *(f"{note}\n" for note in table.notes)]
    if table.columns:
        lines += [_line(table.columns), "|---|" + "---:|" * (len(table.columns) - 1), *map(_line, table.rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def both(figure: Figure | None, write: Callable[[float], str] = quantity) -> list[str]:
    """Median and range, whose unit stands once where both ends have the same; dashes where nothing was measured."""
    if not figure:
        return ["–", "–"]
    median, low, high = (write(figure[key]) for key in ("median", "min", "max"))
    return [median, f"{low[:-1] if low[-1] == high[-1] and not low[-1].isdigit() else low}–{high}"]


def milliseconds(seconds: float) -> str:
    return number(1e3 * seconds)


def failed(entries: Entries) -> list[str]:
    return [f"{e['name']} was not measured: {e['error']}." for e in entries if e.get("error")]


def limit_tables(limits: dict[str, Any]) -> list[Table]:
    lines = {"multiply-adds in registers, FLOP/s": limits["fma"], "torch.matmul of 1,024³, FLOP/s": limits["gemm"],
             "C CartPole alone, steps/s": limits["steps"]}
    for level, found in limits["bandwidth"].items():
        lines |= {f"{kind}, {found['bytes'] / 2**20:.3g} MiB ({level}), B/s": found[kind] for kind in KINDS}
    counts = list(limits["fma"])
    rows = [[name, *(cell for figure in by_threads.values() for cell in both(figure))]
            for name, by_threads in lines.items()]
    columns = [title for n in counts for title in (f"{n} thread{'s' * (n != '1')}", "range")]
    return [Table("Limits of the machine", ("what", *columns), rows, (
        "Measured by C loops of our own with the processor's widest vectors. A multiply-add counts as two operations. "
        "Bytes are those that a loop names; what the processor reads because of a store is not counted.",
        "'cache' is a core's own, 'shared' the last level, 'memory' beyond both. On a shared machine two threads may "
        "get no more than one."))]


def throughput_tables(entries: Entries) -> list[Table]:
    keys, titles = entries[0]["keys"], ("collect ms", "reward ms", "GAE ms", "update ms")
    rows = [[e["name"], *both(e.get("steps_per_s")), *(milliseconds(e["stages"].get(s, 0)) for s in STAGES)]
            for e in entries]
    return [Table("Whole training loop", ("experiment", "steps/s", "range", *titles), rows, (
        f"C CartPole, {keys['env.num_envs']:,} environments × {keys['train.num_steps']} steps, "
        f"{keys['ppo.update_epochs']} PPO epoch(s) unless the name says otherwise; policy and critic apart (or on a "
        "shared trunk), 2×64 tanh. GAIL: 8 discriminator updates of 4,096 + 4,096 rows with a gradient penalty.",
        "Whole iterations, all rows of this table in turn. The stages are median times of one iteration; 'reward' is "
        "the discriminator's updates and the relabelling.", *failed(entries)))]


def memory_tables(entries: Entries) -> list[Table]:
    rows = [[f"gail, {e['keys']['env.num_envs']:,} × {e['keys']['train.num_steps']}", f"{e['bytes'] / 2**20:.0f}"]
            for e in entries]
    return [Table("Peak memory", ("run", "MiB"), rows, (
        "Resident memory of `puffer-il train gail cartpole`, Python and torch included, in a process of its own.",))]


NETWORK_NOTES = (
    "Networks: the matrices' floating-point operations (forward 2 per weight and row, forward and backward 6, the "
    "gradient penalty 12), at the speed of multiply-adds in registers. Activations, losses, sampling and the optimiser "
    "are not counted, so 100 % is out of reach.",
    "Stepping: the time of the C loop alone over that of the stage, which Python calls once per step.")


def stage_tables(entries: Entries, title: str = "Each stage against its limit",
                   notes: Sequence[str] = NETWORK_NOTES) -> list[Table]:
    rows = [[_stage_name(e), str(e["threads"]), quantity(e["rows_per_s"]["median"]),
             milliseconds(e["seconds"]["median"]), e["limit"], *both(e["share"], "{:.0%}".format)] for e in entries]
    return [Table(title, ("stage", "threads", "rows/s", "ms", "limit", "of it", "range"), rows, (
        *notes, "Memory: the time in which a plain C loop moves the bytes that the stage must move, at the same level "
        "of memory, over the stage's time. Above 100 %, a part of them stayed in a nearer cache. Stage and limit are "
        "measured in turn."))]


def _stage_name(e: dict[str, Any]) -> str:
    if "hidden" in e:
        return f"{e['name']}, 2×{e['hidden']}"
    return f"{e['name']}, {e['num_envs']:,}" if "num_envs" in e else e["name"]


def buffer_tables(entries: Entries) -> list[Table]:
    return stage_tables(entries, "Rollout buffer against memory", (
        f"CartPole's rows, {entries[0]['num_steps']} steps of as many environments as the name says. One thread, so "
        "that rows/s are environment steps per second and core.",))


def scaling_tables(entries: Entries) -> list[Table]:
    made = []
    what = {"environments": "environments, 64 steps each", "horizon": "steps, 4,096 environments",
            "hidden": "units of both hidden layers of every network, 1,024 environments", "threads": "threads",
            "torch_threads": "threads of torch, which rounds otherwise with each number",
            "workers": "worker processes for 64 of Gymnasium's CartPole (0: in this process)"}
    for axis, group in groupby(entries, lambda e: e["axis"]):
        found = list(group)
        rows = [[f"{e['value']:,}", *both(e.get("steps_per_s"))] for e in found]
        made.append(Table(f"GAIL by {axis}", (axis, "steps/s", "range"), rows,
                          (f"Whole training loop by {what.get(axis, axis)}.", *failed(found))))
    return made


def env_tables(entries: Entries) -> list[Table]:
    rows = [[f"{e['name']}, {way}", f"{e['num_envs']:,}", *both(figure)] for e in entries
            for way, figure in e["steps_per_s"].items()]
    return [Table("Environments", ("environment, stepped by", "number", "steps/s", "range"), rows, (
        "Random actions, restarts included; the ways of one environment in turn. 'C alone' is the environment by "
        "itself, all else a vector as training uses it.",))]


def learner_tables(entries: Entries) -> list[Table]:
    measured = [e for e in entries if not e["error"]]
    rows = [[e["name"], e["kind"], quantity(e["steps_per_s"]["median"]), *both(e["cost"], number),
             quantity(e["updates_per_s"]["median"]) if "updates_per_s" in e else "–"] for e in measured]
    dear = [f"{e['name']} ({e['cost']['median']:.2f}×)" for e in measured
            if e["kind"] == "on-policy" and e["cost"]["median"] > DEAR]
    keys, columns = entries[0]["keys"], ("learner", "kind", "rows/s", "cost", "range", "updates/s")
    return [Table("Learners", columns, rows, (
        f"C CartPole, {keys['env.num_envs']:,} environments × {keys['train.num_steps']} steps; whole loops, all in "
        "turn. 'cost' is the time per row over GAIL's, pair by pair: below 1 is cheaper. The reward or critic network "
        "of a learner that has one is of the size of GAIL's discriminator (2×64), with its 8 updates per iteration of "
        "4,096 + 4,096 rows; everything else is the learner's default.",
        f"On-policy learners above {DEAR} times GAIL's cost: {', '.join(dear) or 'none'}.",
        "A row is a step of an environment or, without rollouts, a demonstrated sample. Off-policy learners make a "
        "number of gradient updates after each rollout that does not depend on its size, so their updates/s say more "
        "than their rows/s. Learners that ask an expert train on all of its answers so far, so their cost grows.",
        *failed(entries)))]


def row_tables(entries: Entries) -> list[Table]:
    found = [[e["algo"], e["name"], FORMS[e["name"]], *both(e.get("steps_per_s")),
              *both(e.get("cost"), lambda x: f"{x:.2f}×")] for e in entries]
    return [Table("Rows of other kinds", ("algorithm", "rows", "what they are", "steps/s", "range", "cost", "range"),
                  found, (
        f"One Python environment, {entries[0]['keys']['env.num_envs']} copies in one process, on one thread; PPO's "
        "steps are those of the environment, its rollouts included, and BC's are demonstrated rows. The cost is the "
        "time of a step over that of plain rows, which is measured in turn. Policies of plain rows and of Dicts of one "
        "dtype run in the C kernels; those with masks, or with parts of several dtypes, in torch.", *failed(entries)))]


def cliff_tables(entries: Entries) -> list[Table]:
    found = [[e["algo"], e["name"], *both(e.get("steps_per_s")), *both(e["cost"], _times), _times(e["growth"]),
              _times(e["cost"]["median"] / e["growth"]) if e["cost"] else "–",
              f"up to {e['told']:g}×" if e["told"] > 1 else ""] for e in entries]
    steep = [f"{e['algo']}, {e['walk']}: {e['name']}" for e in entries if e["steep"]]
    columns = ("algorithm", "key", "rows/s", "range", "cost", "range", "growth", "cost over growth", "told")
    return [Table("Cliffs: one key more", columns, found, (
        "Whole loops on one thread; the cost is the processor's time of a step or sample over that of the plain "
        "experiment above it, pair by pair. 'growth' is how many more multiply-adds an iteration has, where a key "
        f"changes the size of a network. What costs more than {STEEP} times as much is a cliff, unless a notice of the "
        "run tells its cost.",
        f"Cliffs: {'; '.join(steep) or 'none'}."))]


def _times(value: float) -> str:
    return f"{value:.2f}×"


def bf16_tables(entries: Entries) -> list[Table]:
    found = [[e["name"], *both(e.get("steps_per_s")), *both(e["speedup"], _times)] for e in entries]
    return [Table("bfloat16 beside float32", ("loop", "bf16 steps/s", "range", "over float32", "range"), found, (
        "Whole iterations on one thread with train.bf16 on and off, in turns; by the processor's time, pair by pair.",
        *failed(entries)))]


def mlp_tables(entries: Entries) -> list[Table]:
    made = []
    for key, name in (("forward", "forward"), ("forward_backward", "forward and backward")):
        rows = [[e["name"], *(quantity(e[key][f"{who}_rows_per_s"]["median"]) for who in ("fused", "torch")),
                 str(e[key]["torch_threads"]), *both(e[key]["ratio"], number)] for e in entries]
        columns = ("4 → hidden → 2", "fused rows/s", "torch rows/s", "its threads", "ratio", "range")
        made.append(Table(f"Fused networks against torch: {name}", columns, rows, (
            f"torch eager, an nn.Sequential of its own layers, with one thread or {entries[0]['threads']}, whichever "
            "is faster; ours with all. Interleaved; a ratio above 1 is in our favour.",)))
    return made


def update_tables(entries: Entries) -> list[Table]:
    rows = [[e["name"], *both(e["fused_rows_per_s"]), *both(e["torch_rows_per_s"]), *both(e["ratio"], number)]
            for e in entries]
    columns = ("update", "fused rows/s", "range", "torch rows/s", "range", "ratio", "range")
    return [Table("PPO update, continuous actions", columns, rows, (
        f"One epoch on {entries[0]['rows']:,} rows, 17 → {'×'.join(map(str, entries[0]['hidden']))} → 6, Gaussian; the "
        "same learner with its C kernels on and off (train.fused), interleaved.",))]


def peer_tables(entries: Entries) -> list[Table]:
    made = []
    for group in entries:
        rows = [[e["name"], *both(e.get("rate"))] for e in group["entries"]]
        best = [best_of_theirs(group, peer) for peer in ("pufferlib", "envpool")]
        for pair in group["ratios"]:
            if pair["theirs"] in best or not pair["theirs"].startswith(("pufferlib", "envpool")):
                median, spread = both(pair["ratio"], number)
                rows.append([f"{pair['ours']} / {pair['theirs']}", f"{median}×", spread])
        made.append(Table(f"Side by side: {group['name']}", ("who", f"{group['unit']}/s", "range"), rows,
                            [*_remarks(group), *failed(group["entries"])]))
    return made


REMARKS = {
    "GAIL": "imitation has no tuned settings for CartPole; these are its tutorials': 8 environments × 2,048 steps, 5 "
            "PPO epochs in minibatches of 64, 8 discriminator updates of 1,024 + 1,024 rows, no gradient penalty. Ours "
            "are 4,096 environments × 64 steps, 1 epoch, 8 updates of 4,096 + 4,096. The ratio therefore compares each "
            "with its own settings; 'no penalty' is what imitation's GAIL computes.",
    "PPO": "PufferLib: its trainer and C CartPole, 4,096 × 64, the same two networks of 2×64 tanh, Adam; the ratio is "
           "to the faster of its thread settings. Its CartPole ends after 200 steps, ours after 500.",
    "BC": "One epoch over 10 episodes of 500 steps. Ours holds one of them out and scores it after every epoch, and "
           "its time includes this; imitation's does not.",
    "SAC": "64 updates of 256 rows of Pendulum a call, one thread, the same networks. Normalised critics are our "
           "default; Stable-Baselines3 has none.",
    "Pictures": "4 epochs of 4 minibatches, one thread. Ours steps C Breakout; Stable-Baselines3's pictures are drawn "
                "beforehand and cost it nothing. Its NatureCNN has twice the multiply-adds at 84×84."}


def _remarks(group: dict[str, Any]) -> list[str]:
    remarks = [text for start, text in REMARKS.items() if group["name"].startswith(start)]
    if any(e["name"].startswith("sb3 ") for e in group["entries"]):
        remarks.append("Stable-Baselines3: 8 of Gymnasium's CartPole × 256 steps, 4 epochs in minibatches of 512.")
    versions = {f"{k} {v}" for e in group["entries"] for k, v in (e.get("versions") or {}).items()}
    return [*remarks, *([f"Theirs: {', '.join(sorted(versions))}."] if versions else [])]


def expert_tables(entries: Entries) -> list[Table]:
    rows = [[e["name"], *both(e.get("seconds"), number),
             ", ".join("never" if t is None else number(t) for t in e["times"])] for e in entries]
    return [Table("Time to the expert", ("who", "seconds", "range", "each seed"), rows, (
        "From the start of the process until an evaluation reaches the expert's level: `puffer-il train gail cartpole` "
        "from the shipped demonstrations, the start of Python and torch included. imitation: until 20 greedy episodes "
        "average 475, checked after every round.", *failed(entries)))]


TABLES: dict[str, Callable[[Entries], list[Table]]] = {
    "throughput": throughput_tables, "memory": memory_tables, "stages": stage_tables, "buffer": buffer_tables,
    "scaling": scaling_tables, "env": env_tables, "learners": learner_tables, "rows": row_tables,
    "bf16": bf16_tables, "cliffs": cliff_tables, "mlp": mlp_tables, "update": update_tables, "peers": peer_tables,
    "mujoco": peer_tables, "expert": expert_tables, "locomotion": locomotion_tables, "against": against_tables}
