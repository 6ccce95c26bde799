"""What `bench locomotion` measured, as tables: one for each task."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from puffer_il.core.text import Table, number, quantity

Entry = dict[str, Any]


def locomotion_tables(entries: Sequence[Entry]) -> list[Table]:
    tasks = dict.fromkeys(entry["task"] for entry in entries)
    return [_table(task, [e for e in entries if e["task"] == task]) for task in tasks]


def _table(task: str, entries: Sequence[Entry]) -> Table:
    columns = ("who", "arrived", "seconds", "steps", "best return", "times our seconds")
    return Table(f"Time to the expert on {task}", columns, [_row(e) for e in entries], (
        f"From the start of the process until a deterministic evaluation returns {number(entries[0]['target'])}, which "
        "is 0.95 of the mean of the 10 demonstrated episodes: medians over the seeds. The peers' evaluations are not "
        "counted, ours are. '>' says that not all runs had arrived when they were given up.",
        *(f"{e['name']}: left out, {e['error']}." for e in entries if e["error"])))


def _row(entry: Entry) -> list[str]:
    runs, ratio = entry["runs"], entry.get("ratio")
    if not runs:
        return [entry["name"], *"–––––"]
    arrived = sum(run["reached"] for run in runs)
    more = "> " * (arrived < len(runs))
    return [entry["name"], f"{arrived} of {len(runs)}", more + number(median(r["seconds"] for r in runs)),
            more + quantity(median(r["steps"] for r in runs)), number(max(r["best"] for r in runs)),
            f"{'> ' * ratio['bound']}{number(ratio['median'])}" if ratio else "–"]
