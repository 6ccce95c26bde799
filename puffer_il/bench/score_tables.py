"""The runs of `bench scores` as tables: over all environments, and one for each."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from puffer_il.bench.tables import Entries, describe, markdown_table
from puffer_il.core.text import Table, number, quantity
from puffer_il.rollout.stats import iqm, stratified_bootstrap_ci, unscored

EXPERT_LEVEL = 0.95
LEAST_RUNS = 3  # an interval from fewer would only look like one
INTRODUCTION = """\
# The algorithms, measured

This page is written by `{command}`; with the same `--json` file it repeats only what has changed. Machine:
{machine}.

Every run is `puffer-il train ALGORITHM ENVIRONMENT --demos.episodes N --seed SEED` with the shipped experiment (from
`configs/`, or the defaults). The score is the true return of the last 100 episodes, 0 for a random policy and 1 for the
demonstrations that were used; an algorithm that uses none is scored against those of the environment. IQM is the mean
of the middle half of the runs (Agarwal et al. 2021, arXiv:2108.13264); beside it stands the 95% stratified-bootstrap
interval, where there are {least} runs or more. A run that diverged counts as 0. With `--jobs` above 1 the seconds are
those of runs that shared the machine.
"""


def markdown(data: dict[str, Any]) -> str:
    machine = data["machine"]
    text = INTRODUCTION.format(command=machine["command"], machine=describe(machine), least=LEAST_RUNS)
    parts = [text, *(["This page is not complete: the rest was not measured yet.\n"] * bool(data["interrupted"]))]
    return "\n".join([*parts, *map(markdown_table, tables(data))])


def tables(data: dict[str, Any]) -> list[Table]:
    """Over all environments, one table for each, and what was not measured; of the cells so far."""
    cells = [cell for cell in data["cells"] if cell["score"] is not None]
    envs = list(dict.fromkeys(cell["env"] for cell in cells))
    made = [_together(cells, envs)] if len(envs) > 1 else []
    made += [_environment(env, [cell for cell in cells if cell["env"] == env]) for env in envs]
    failed = [cell for cell in data["cells"] if cell["score"] is None]
    return [*made, *([_missing(data["refused"], failed)] if data["refused"] or failed else [])]


def _together(cells: Entries, envs: Sequence[str]) -> Table:
    rows = []
    for (algo, demos), group in _groups(cells).items():
        by_env = {env: [c["score"] for c in group if c["env"] == env] for env in envs}
        there = {env: scores for env, scores in by_env.items() if scores}
        runs = min(map(len, there.values()))  # seeds that all have: the interval is over runs within environments
        scores = np.array([s[:runs] for s in there.values()]).T
        rows.append([algo, _demos(demos), ", ".join(there), str(runs), *_iqm(scores)])
    return Table("Over environments", ("algorithm", "demos", "environments", "seeds", "IQM", "95%"), rows, (
        "'demos' is the number of demonstrated episodes. The bootstrap draws runs within each environment. Algorithms "
        "that do not apply everywhere are scored where they do; compare only rows with the same environments.",))


def _environment(env: str, cells: Entries) -> Table:
    rows, tells = [], any(cell.get("success_rate") is not None for cell in cells)
    for (algo, demos), group in _groups(cells).items():
        reached = [cell for cell in group if cell["expert_steps"] is not None]
        steps, seconds = (_first(reached, len(group), key) for key in ("expert_steps", "expert_s"))
        rows.append([algo, _demos(demos), *_iqm(np.array([[c["score"]] for c in group])),
                     number(float(np.mean([c["return_mean"] for c in group]))), *([_success(group)] if tells else []),
                     f"{len(reached)} of {len(group)}", quantity(steps), number(seconds)])
    best, random = (median(c[key] for c in cells if c[key] is not None) for key in ("expert_return", "random_return"))
    sources = ", ".join(dict.fromkeys(c["source"] for c in cells if c["source"])) or "no demonstrations"
    columns = ("algorithm", "demos", "IQM", "95%", "return", *(["success"] if tells else []), f"at {EXPERT_LEVEL}",
               "steps", "seconds")
    return Table(env, columns, rows, (
        f"{sources[0].upper()}{sources[1:]}, return {number(best)}; a random policy's: {number(random)}. Steps (or "
        f"samples) and seconds since the process was started until an evaluation reached {EXPERT_LEVEL}: medians over "
        "all runs, with a dash where half of them or more never reached it. Evaluations come as often as the "
        "experiment says, and many experiments stop soon after.",))


def _missing(refused: Entries, failed: Entries) -> Table:
    """One line for each algorithm and reason."""
    why: dict[tuple[str, str], list[str]] = {}
    for r in refused:
        why.setdefault((r["algo"], r["why"]), []).append(r["env"])
    for c in failed:
        reason = f"failed: {c['error']}" if c["error"] else (
            unscored(c["random_return"], c["expert_return"]) or "no normalised score: no expert's return is known")
        why.setdefault((c["algo"], reason), []).append(
            f"{c['env']} ({_demos(c['demos'])} demos, seed {c['seed']})")
    return Table("Not measured", (), (), [f"{algo} on {', '.join(envs)}: {reason}."
                                            for (algo, reason), envs in sorted(why.items())])


def _groups(cells: Entries) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """(algorithm, demonstrations) → cells by seed, in the order of the names."""
    made: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for cell in sorted(cells, key=lambda c: (c["algo"], c["demos"], c["env"], c["seed"])):
        made.setdefault((cell["algo"], cell["demos"]), []).append(cell)
    return made


def _iqm(scores: np.ndarray) -> list[str]:
    """Of `scores` (runs, environments), with its interval."""
    if len(scores) < LEAST_RUNS:
        return [f"{float(iqm(scores)):.2f}", "–"]
    low, high = stratified_bootstrap_ci(scores)
    return [f"{float(iqm(scores)):.2f}", f"{low:.2f} to {high:.2f}"]


def _success(group: Entries) -> str:
    """The mean success rate of the runs that tell one."""
    told = [cell["success_rate"] for cell in group if cell.get("success_rate") is not None]
    return f"{np.mean(told):.0%}" if told else "–"


def _first(reached: Entries, runs: int, key: str) -> float:
    """The median over all runs, those that never got there being the last; NaN where that is one of them."""
    values = sorted(cell[key] for cell in reached)
    below, above = (runs - 1) // 2, runs // 2
    return (values[below] + values[above]) / 2 if above < len(values) else math.nan


def _demos(count: int) -> str:
    return str(count) if count else "–"
