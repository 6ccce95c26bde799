"""What autotuning says: the settings that were measured, the chosen ones, and the flags that give them again."""

from collections.abc import Callable, Collection
from typing import Any

from puffer_il.core.config import Config
from puffer_il.core.text import Table, number, quantity
from puffer_il.learners.registry import get_learner
from puffer_il.training.tune.search import KEYS, Trial, Tuner, changes, flags


def report(tuner: Tuner, chosen: Config, seconds: float, notices: Collection[str] = ()) -> Table:
    """Every setting that was measured, and what comes of it."""
    config, done = tuner.config, [trial for trial in tuner.trials if trial.cost]
    count = len(tuner.trials)
    title = f"autotune: {config.algo} on {config.env.name}, {count} setting{'s' * (count != 1)} in {seconds:.1f} s"
    rollouts = get_learner(config.algo).needs_rollouts
    shown = {name: cell for name, cell in CELLS.items() if len({cell(trial.config) for trial in tuner.trials}) > 1}
    shown = shown or {"threads": CELLS["threads"]}
    rows = [(*(cell(trial.config) for cell in shown.values()), *_figures(trial),
             "taken" if not trial.collecting and _settings(trial.config) == _settings(chosen) else "")
            for trial in tuner.trials]
    columns = (*shown, "ms/iteration", f"{'steps' if rollouts else 'samples'}/s", "")
    remarks = [f"{_describe(trial.config, shown)}: {trial.error}" for trial in tuner.trials if not trial.cost]
    if any(trial.collecting for trial in done):
        remarks.append("processes are compared by the steps/s of collecting alone; the other rows are whole iterations")
    changed = changes(config, chosen)
    remarks += [*tuner.remarks, *_chosen(tuner, chosen, changed)]
    kept = [f"{key} = {config.get(key)}" for key in KEYS if key in tuner.given]
    if kept:
        remarks.append(f"kept as you gave it: {', '.join(kept)}")
    if flags(changed):
        remarks.append(f"the same without measuring: {flags(changed)}")
    return Table(title, columns, rows, [*remarks, *notices])


def _settings(config: Config) -> tuple[Any, ...]:
    return tuple(config.get(key) for key in KEYS)


def _processes(config: Config) -> str:
    env = config.env
    groups = f" in {env.num_groups} groups" if env.num_groups > 1 else ""
    return f"{env.num_workers} workers{groups}" if env.num_workers else "1" if env.backend == "serial" else env.backend


CELLS: dict[str, Callable[[Config], str]] = {
    "processes": _processes, "environments": lambda config: f"{config.env.num_envs:,}",
    "threads": lambda config: str(config.train.threads or "auto"),
    "minibatches": lambda config: str(config.get("ppo.num_minibatches"))}


def _figures(trial: Trial) -> tuple[str, str]:
    if trial.cost is None:
        return "–", "–"
    return "–" if trial.collecting else number(1000 * trial.cost.seconds), quantity(trial.rate)


def _describe(config: Config, shown: Collection[str]) -> str:
    return ", ".join(f"{name} {CELLS[name](config)}" for name in shown)


def _chosen(tuner: Tuner, chosen: Config, changed: dict[str, Any]) -> list[str]:
    """What was chosen, what that gains, and what more environments mean for learning."""
    if not changed:
        measured = any(trial.rate for trial in tuner.trials)
        return ["chosen: the settings as they are" + ("" if measured else ", as nothing could be measured in time")]
    gain = f", {tuner.gain:.2f} times the steps/s" if tuner.gain else ""
    said = [f"chosen: {', '.join(f'{key} {tuner.config.get(key)} → {new}' for key, new in changed.items())}{gain}"]
    if "env.num_envs" in changed:
        said.append(f"{chosen.env.num_envs:,} environments make each update larger and rarer; fewer environments, down "
                    f"to --env.num-envs {tuner.config.env.num_envs}, learn from fewer samples")
    return said
