"""JSON → tables with a word on what their numbers mean; the terminal and the Markdown page show the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from puffer_il import _limits
from puffer_il.bench.loops import STAGES
from puffer_il.bench.measure import Figure
from puffer_il.bench.rivals import best_of_theirs

Entries = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """One table; the first column is text, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def sections(data: dict[str, Any]) -> list[Section]:
    """All that has been measured so far."""
    made = limit_sections(data["limits"]) if data["limits"] else []
    for name, build in SECTIONS.items():
        if data["results"].get(name):
            made += build(data["results"][name])
    return made


def short(x: float) -> str:
    """Three significant digits, with k, M or G."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if x >= 0.9995 * limit:
            return f"{_digits(x / limit)}{unit}"
    return _digits(x)


def _digits(x: float) -> str:
    return f"{x:.0f}" if x >= 99.95 else f"{x:.1f}" if x >= 9.995 else f"{x:.2f}"


def span(figure: Figure) -> str:
    return f"{short(figure['min'])}–{short(figure['max'])}"


def both(figure: Figure | None) -> list[str]:
    """Median and range, dashes where nothing was measured."""
    return [short(figure["median"]), span(figure)] if figure else ["–", "–"]


def percent(figure: Figure) -> list[str]:
    return [f"{100 * figure['median']:.0f} %", f"{100 * figure['min']:.0f}–{100 * figure['max']:.0f}"]


def _failed(entries: Entries) -> list[str]:
    return [f"{e['name']} was not measured: {e['error']}." for e in entries if e.get("error")]


def limit_sections(limits: dict[str, Any]) -> list[Section]:
    lines = {"multiply-adds in registers, FLOP/s": limits["fma"], "torch.matmul of 1,024³, FLOP/s": limits["gemm"],
             "C CartPole alone, steps/s": limits["steps"]}
    for level, found in limits["bandwidth"].items():
        lines |= {f"{kind}, {found['bytes'] / 2**20:.3g} MiB ({level}), B/s": found[kind] for kind in _limits.STREAMS}
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
    keys = entries[0]["keys"]
    rows = [[e["name"], *both(e.get("steps_per_s")), *(f"{1e3 * e['stages'].get(s, 0):.1f}" for s in STAGES)]
            for e in entries]
    return [Section(
        "Whole training loop", ("experiment", "steps/s", "range", *(f"{s} ms" for s in ("collect", "reward", "GAE", "update"))),
        rows, (f"C CartPole, {keys['env.num_envs']:,} environments × {keys['train.num_steps']} steps, "
               f"{keys['ppo.update_epochs']} PPO epoch(s) where the name says nothing else; policy and critic apart, "
               "2×64 tanh. GAIL: 8 discriminator updates of 4,096 + 4,096 rows with a gradient penalty.",
               "Whole iterations, all rows of this table in turn. The stages are the median time of one iteration.",
               *_failed(entries)))]


def memory_sections(entries: Entries) -> list[Section]:
    rows = [[f"gail, {e['keys']['env.num_envs']:,} × {e['keys']['train.num_steps']}", f"{e['bytes'] / 2**20:.0f}"]
            for e in entries]
    return [Section("Peak memory", ("run", "MiB"), rows, (
        "Resident memory of `puffer-il train gail cartpole`, Python and torch included, in a process of its own.",))]


def stage_sections(entries: Entries, title: str = "Each stage against its limit", note: str = "") -> list[Section]:
    rows = [[_stage_name(e), str(e["threads"]), short(e["rows_per_s"]["median"]), f"{1e3 * e['seconds']['median']:.3g}",
             e["limit"], *percent(e["share"])] for e in entries]
    return [Section(title, ("stage", "threads", "rows/s", "ms", "limit", "of it", "range"), rows, (
        note or "Networks: floating-point operations of the matrices alone (forward 2 per weight and row, forward and "
        "backward 6, the gradient penalty 12) over the multiply-adds that registers can do. Activations, losses, "
        "sampling and optimiser are work as well and are not counted, so that 100 % is out of reach.",
        "Memory: the bytes that must move at least, over those that a plain C loop moves at the same level of the "
        "memory. Above 100 %: part of it stayed in a nearer cache. Stage and limit are measured in turn.",
        "Stepping: the C loop alone, over C stepping plus what surrounds it."))]


def _stage_name(e: dict[str, Any]) -> str:
    if "hidden" in e:
        return f"{e['name']}, 2×{e['hidden']}"
    return f"{e['name']}, {e['num_envs']:,}" if "num_envs" in e else e["name"]


def buffer_sections(entries: Entries) -> list[Section]:
    return stage_sections(entries, "Rollout buffer against memory",
                          f"CartPole's rows, {entries[0]['num_steps']} steps of so many environments, one thread. 'rows/s' "
                          "are environment steps per second and core.")


def scaling_sections(entries: Entries) -> list[Section]:
    made = []
    what = {"environments": "environments, 64 steps each", "horizon": "steps, 4,096 environments",
            "hidden": "units of both hidden layers, of every network", "threads": "threads",
            "workers": "worker processes for 64 of Gymnasium's CartPole (0: in this process)"}
    for axis, group in groupby(entries, lambda e: e["axis"]):
        found = list(group)
        rows = [[f"{e['value']:,}", *both(e.get("steps_per_s"))] for e in found]
        made.append(Section(f"GAIL by {axis}", (axis, "steps/s", "range"), rows,
                            (f"Whole training loop by {what.get(axis, axis)}.", *_failed(found))))
    return made


def env_sections(entries: Entries) -> list[Section]:
    native = [e for e in entries if "steps_per_s" in e]
    made = []
    if native:
        rows = [[e["name"], "C loop" if how != "vec" else "vec, from Python", how if how != "vec" else "1", *both(figure)]
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
    rows = [[e["name"], e["unit"], *both(e.get("steps_per_s")), *both(e["cost"])] for e in entries]
    return [Section("Learners", ("learner", "unit", "units/s", "range", "cost", "range"), rows, (
        "'cost' is the whole loop's time per step over GAIL's, pair by pair: below 1 is cheaper. Without rollouts a unit "
        "is a demonstrated sample.", *_failed(entries)))]


def mlp_sections(entries: Entries) -> list[Section]:
    made = []
    for key, name in (("forward", "forward"), ("forward_backward", "forward and backward")):
        rows = [[e["name"], short(e[key]["fused_rows_per_s"]["median"]), short(e[key]["torch_rows_per_s"]["median"]),
                 str(e[key]["torch_threads"]), *both(e[key]["ratio"])] for e in entries]
        made.append(Section(f"Fused networks against torch: {name}", ("4 → hidden → 2", "fused rows/s", "torch rows/s",
                                                                      "its threads", "ratio", "range"), rows, (
            f"torch eager, an nn.Sequential of its own layers, with one thread or {entries[0]['threads']}, whichever is "
            "faster; ours with all. Interleaved; a ratio above 1 is in our favour.",)))
    return made


def update_sections(entries: Entries) -> list[Section]:
    rows = [[e["name"], *both(e["fused_rows_per_s"]), *both(e["torch_rows_per_s"]), *both(e["ratio"])] for e in entries]
    return [Section("PPO update, continuous actions", ("update", "fused rows/s", "range", "torch rows/s", "range", "ratio",
                                                       "range"), rows, (
        f"One epoch on {entries[0]['rows']:,} rows, 17 → {'×'.join(map(str, entries[0]['hidden']))} → 6, Gaussian; the "
        "same learner with its C kernels on and off (train.fused), interleaved.",))]


def rival_sections(entries: Entries) -> list[Section]:
    made = []
    for group in entries:
        rows = [[e["name"], *both(e.get("rate"))] for e in group["entries"]]
        best = best_of_theirs(group, "pufferlib")
        for pair in group["ratios"]:
            if pair["theirs"] == best or not pair["theirs"].startswith("pufferlib"):
                median, spread = both(pair["ratio"])
                rows.append([f"{pair['ours']} / {pair['theirs']}", f"{median}×", spread])
        made.append(Section(f"Side by side: {group['name']}", ("who", f"{group['unit']}/s", "range"), rows,
                            [*_remarks(group), *_failed(group["entries"])]))
    return made


def _remarks(group: dict[str, Any]) -> list[str]:
    said = {
        "GAIL": "imitation has no tuned settings for CartPole; these are its tutorials': 8 environments × 2,048 steps, 5 "
                "PPO epochs in minibatches of 64, 8 discriminator updates of 1,024 + 1,024 rows, no gradient penalty. Ours "
                "are 4,096 environments × 64 steps, 1 epoch, 8 updates of 4,096 + 4,096. So the ratio compares what each "
                "does by its own settings; 'no penalty' is what imitation's GAIL computes.",
        "PPO": "PufferLib: its trainer and C CartPole, 4,096 × 64, the same two networks of 2×64 tanh, Adam; the ratio is "
               "to the faster of its thread settings. Its CartPole ends after 200 steps, ours after 500.",
        "BC": "One epoch over 10 episodes of 500 steps. Ours holds one of them out and scores it after every epoch, which "
              "is in its time; imitation's does not."}
    remarks = [text for start, text in said.items() if group["name"].startswith(start)]
    if any(e["name"].startswith("sb3") for e in group["entries"]):
        remarks.append("Stable-Baselines3: 8 of Gymnasium's CartPole × 256 steps, 4 epochs in minibatches of 512.")
    versions = {f"{k} {v}" for e in group["entries"] for k, v in (e.get("versions") or {}).items()}
    return [*remarks, *([f"Theirs: {', '.join(sorted(versions))}."] if versions else [])]


def expert_sections(entries: Entries) -> list[Section]:
    rows = [[e["name"], *both(e.get("seconds")), ", ".join("never" if t is None else f"{t:.1f}" for t in e["times"])]
            for e in entries]
    return [Section("Time to the expert", ("who", "seconds", "range", "each seed"), rows, (
        "From the start of the process until an evaluation reaches the expert's level: `puffer-il train gail cartpole` as "
        "it is, from the shipped demonstrations, Python's and torch's start included. imitation: until 20 greedy "
        "episodes average 475, asked after every round.", *_failed(entries)))]


SECTIONS: dict[str, Callable[[Entries], list[Section]]] = {
    "throughput": throughput_sections, "memory": memory_sections, "stages": stage_sections, "buffer": buffer_sections,
    "scaling": scaling_sections, "env": env_sections, "learners": learner_sections, "mlp": mlp_sections,
    "update": update_sections, "rivals": rival_sections, "expert": expert_sections}
