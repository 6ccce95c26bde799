"""`--against REV`: this working tree beside an earlier commit, loop by loop on the same work; the gate of speed.

Every loop runs in two processes, ours and the commit's, which take turns; the figure is the median of the pairs'
ratios. A loop that falls below FLOOR is measured once more with twice the rounds: a busy machine can do that by itself.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import puffer_il.bench.peers.run as peers
from puffer_il.bench.loops import Keys
from puffer_il.bench.measure import Effort, Say
from puffer_il.bench.peers.run import Entry, EntryResult, interleave, ratio
from puffer_il.core.text import Table, number, quantity
from puffer_il.demos import shipped_path

FLOOR = 0.97  # of the commit's rate: anything below is a loss of speed
WORKER = Path(peers.__file__).with_name("workers") / "revision_worker.py"
# What both sides are told, because defaults move and the same work is to be compared.
PPO: Keys = {"ppo.update_epochs": 4, "ppo.num_minibatches": 4, "ppo.minibatch": "columns", "ppo.norm_values": False,
             "ppo.target_kl": 0.0, "ppo.vf_coef": 0.5, "ppo.max_grad_norm": 0.5, "ppo.vf_clip_coef": 0.0,
             "policy.hidden": [64, 64], "policy.activation": "tanh", "policy.shared": False, "policy.obs_norm": True,
             "train.policy_memory": 1, "train.threads": 1, "train.torch_threads": 1}
ADVERSARIAL: Keys = {"disc_hidden": [64, 64], "disc_updates": 8, "disc_batch_size": 4096, "gp_coef": 1.0}
CLONING: Keys = {"bc.batch_size": 4096, "policy.hidden": [64, 64], "policy.activation": "tanh", "train.threads": 1,
                 "train.torch_threads": 1}
SOFT: Keys = {"demos.source": "", "env.name": "pendulum", "env.num_envs": 64, "train.num_steps": 8,
              "sac.batch_size": 256, "sac.updates": 64, "sac.warmup": 0, "sac.critic_hidden": [64, 64],
              "sac.critic_norm": False, "policy.hidden": [64, 64], "policy.activation": "relu", "policy.squash": True,
              "train.threads": 1, "train.torch_threads": 1}
WIDE = [256, 256]


@dataclass(frozen=True)
class Row:
    """One loop: an algorithm and every key that decides how much work it has."""

    name: str
    algo: str
    keys: Keys


def adversarial(algo: str) -> Keys:
    return {**PPO, "ppo.update_epochs": 1, **{f"{algo}.{name}": value for name, value in ADVERSARIAL.items()}}


def rows() -> list[Row]:
    gail = adversarial("gail")
    pendulum = {"demos.source": str(shipped_path("pendulum"))}
    small = {"env.num_envs": 8, "train.num_steps": 128}
    python = {"env.name": "CartPole-v1", "env.num_envs": 64, "train.num_steps": 128}
    return [
        Row("PPO", "ppo", PPO),
        Row("PPO, 2×256", "ppo", {**PPO, "policy.hidden": WIDE}),
        Row("PPO, 8 environments", "ppo", {**PPO, **small}),
        Row("PPO, 16 environments", "ppo", {**PPO, **small, "env.num_envs": 16}),
        Row("PPO, LSTM of 128", "ppo", {**PPO, "env.num_envs": 1024, "policy.lstm": 128}),
        Row("PPO, LSTM of 128, 8 environments", "ppo", {**PPO, **small, "policy.lstm": 128}),
        Row("PPO, pictures (snake)", "ppo", {**PPO, "demos.source": "", "env.name": "snake", "env.num_envs": 64,
                                              "train.num_steps": 32}),
        Row("PPO, Gymnasium's CartPole-v1", "ppo", {**PPO, **python}),
        Row("GAIL", "gail", gail),
        Row("GAIL, shared trunk", "gail", {**gail, "policy.shared": True}),
        Row("GAIL, 2×256", "gail", {**gail, "policy.hidden": WIDE, "gail.disc_hidden": WIDE}),
        Row("GAIL, pendulum", "gail", {**gail, **pendulum, "env.name": "pendulum"}),
        Row("AIRL", "airl", adversarial("airl")),
        Row("BC", "bc", CLONING),
        Row("BC, squared distance", "bc", {**CLONING, **pendulum, "env.name": "pendulum", "bc.loss": "mse"}),
        Row("BC, weighted", "bc", {**CLONING, "demos.weighting": "rank"}),
        Row("BC, LSTM of 64", "bc", {**CLONING, "policy.lstm": 64, "bc.batch_size": 256}),
        Row("SAC, 2×64", "sac", SOFT),
        Row("SAC, 2×256", "sac", {**SOFT, "policy.hidden": WIDE, "sac.critic_hidden": WIDE}),
        Row("SQIL, 2×64", "sqil", {**SOFT, **pendulum}),
    ]


def against(chosen: Sequence[Row], python: Path, effort: Effort, say: Say) -> Iterator[dict[str, Any]]:
    """Row by row, as soon as it is known. `python`: where the commit is installed."""
    for row in chosen:
        entry = _measured(row, python, effort, say)
        if slower(entry):
            say(f"against: {row.name} once more")
            entry = _measured(row, python, Effort(2 * effort.repeats, effort.seconds), say)
        yield entry


def slower(entry: dict[str, Any]) -> bool:
    return bool(entry["ratio"]) and entry["ratio"]["median"] < FLOOR


def _measured(row: Row, python: Path, effort: Effort, say: Say) -> dict[str, Any]:
    settings = json.dumps({"algo": row.algo, "keys": row.keys, "seconds": effort.seconds})
    sides = [Entry(name, (str(path), str(WORKER), settings)) for name, path in (("ours", sys.executable),
                                                                               ("the commit", python))]
    ours, theirs = interleave(sides, effort.repeats, lambda line: say(f"against: {row.name}, {line}"))
    return {"name": row.name, "algo": row.algo, "keys": row.keys, "ratio": ratio(ours, theirs),
            "ours": _side(ours), "theirs": _side(theirs)}


def _side(result: EntryResult) -> dict[str, Any]:
    return {"steps_per_s": result.rate, "stages": result.stages, "error": result.error,
            "unknown": result.facts.get("unknown", [])}


def verdict(entries: Sequence[dict[str, Any]]) -> int:
    """The exit code: 1 if a loop lost speed or does not run any more."""
    return int(any(slower(entry) or entry["ours"]["error"] for entry in entries))


def against_tables(entries: Sequence[dict[str, Any]]) -> list[Table]:
    lost = [entry["name"] for entry in entries if slower(entry)]
    return [Table("Beside an earlier commit", ("loop", "now, steps/s", "then", "ratio", "range"),
                  [_row(entry) for entry in entries], (
        f"Whole iterations on one thread, both in turn; BC's steps are samples. Below {FLOOR} is a loss: "
        f"{', '.join(lost) if lost else 'none'}.",
        *(f"{entry['name']}: the commit does not know {', '.join(entry['theirs']['unknown'])}."
          for entry in entries if entry["theirs"]["unknown"]),
        *(f"{entry['name']}: {side} was not measured, {entry[key]['error']}." for entry in entries
          for key, side in (("ours", "this tree"), ("theirs", "the commit")) if entry[key]["error"])))]


def _row(entry: dict[str, Any]) -> list[str]:
    rates = [entry[side]["steps_per_s"] for side in ("ours", "theirs")]
    found = entry["ratio"]
    spread = [number(found["median"]), f"{number(found['min'])}–{number(found['max'])}"] if found else ["–", "–"]
    return [entry["name"], *(quantity(rate["median"]) if rate else "–" for rate in rates), *spread]
