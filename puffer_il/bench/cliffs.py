"""Cliffs: what one key more costs, per step or sample, beside the nearest plain option. Measured are the processor's
seconds of whole loops on one thread, which other programs change least.

Where a key changes the size of a network, its cost is divided by how many more multiply-adds an iteration has. What
then costs more than STEEP times as much must be told by a notice of the run ("… takes up to N times as long"), or the
benchmark fails.
"""

import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from puffer_il.bench.loops import Keys, Loop, entry
from puffer_il.bench.measure import Say
from puffer_il.bench.peers.run import Entry, interleave, ratio
from puffer_il.demos import shipped_path
from puffer_il.nn import fused

STEEP = 1.5
TOLD = re.compile(r"takes up to (\d+(?:\.\d+)?) times as long")
DEEP, DEEPEST, TOO_DEEP = [64] * 4, [64] * 8, [64] * 9


class Walk(NamedTuple):
    """Changes of single keys, each named by what it sets, around a plain experiment."""

    name: str
    algo: str
    plain: Keys
    turned: dict[str, Keys]


def standard_walks(folder: Path) -> list[Walk]:
    """Around PPO, GAIL, BC and SAC; environments that they need are written into `folder`."""
    small: Keys = {"env.num_envs": 512, "train.num_steps": 64}
    few: Keys = {"train.num_steps": 128, "ppo.update_epochs": 4}
    pendulum: Keys = {"env.name": "pendulum", "demos.source": str(shipped_path("pendulum"))}
    bc: Keys = {"bc.patience": 0}
    sac: Keys = {"env.num_envs": 64, "train.num_steps": 8}
    wide: Keys = {"env.num_envs": 16, "train.num_steps": 64, "demos.source": ""}
    return [
        Walk("2×64", "ppo", small, keys("policy", "hidden", DEEP, DEEPEST, TOO_DEEP, [64, 65], [64]) |
             keys("policy", "activation", "relu", "silu", "elu") | keys("policy", "shared", True) |
             keys("policy", "lstm", 64) | keys("policy", "gru", 64) | keys("policy", "obs_norm", False) |
             keys("ppo", "minibatch", "rows") | keys("ppo", "vf_clip_coef", 0.2) |
             keys("ppo", "norm_advantages", False) | keys("ppo", "norm_values", False) | keys("ppo", "ent_coef", 0.01) |
             keys("ppo", "target_kl", 0.02) | keys("ppo", "max_grad_norm", 0.0)),
        Walk("2×512", "ppo", wide | {"policy.hidden": [512, 512]}, keys(
            "policy", "hidden", [513, 513], [1024, 1024])),
        Walk("2×2,048", "ppo", wide | {"policy.hidden": [2048, 2048]}, keys("policy", "hidden", [2049, 2049])),
        Walk("24 environments", "ppo", few | {"env.num_envs": 24}, keys("env", "num_envs", 23, 16)),
        Walk("12 environments", "ppo", few | {"env.num_envs": 12}, keys("env", "num_envs", 8)),
        Walk("a continuous action", "ppo", small | pendulum, keys("policy", "squash", True) |
             keys("policy", "state_std", True)),
        *(Walk(f"{dims} action dimensions", "ppo", wide | {"env.name": write_env(folder, dims)},
               {f"{dims + 1} dimensions": {"env.name": write_env(folder, dims + 1)}}) for dims in (64, 256)),
        Walk("2×64", "gail", small, keys("gail", "disc_hidden", DEEP, DEEPEST, TOO_DEEP, [64, 65]) |
             keys("gail", "disc_activation", "relu", "silu", "elu") | keys("gail", "gp_coef", 0.0) |
             keys("gail", "gp_kind", "zero_centred") | keys("gail", "loss", "least_squares", "wasserstein") |
             keys("gail", "label_smoothing", 0.1) | keys("gail", "absorbing", False) |
             keys("gail", "spectral_norm", True) | keys("gail", "replay_size", 50_000) |
             keys("mix", "expert_rows", 0.2) | keys("policy", "hidden", DEEP) | keys("policy", "shared", True)),
        Walk("discrete", "bc", bc, keys("bc", "loss", "mse") | keys("bc", "label_smoothing", 0.1) |
             keys("bc", "class_balanced", True) | keys("demos", "weighting", "rank") | keys("bc", "ent_coef", 0.01) |
             keys("bc", "validation", 0.0) | keys("bc", "window", 3000) | keys("policy", "hidden", DEEP)),
        Walk("continuous", "sac", sac | pendulum, keys("policy", "hidden", DEEP) |
             keys("policy", "state_std", True) | keys("policy", "shared", True) | keys("policy", "activation", "relu") |
             keys("sac", "critic_hidden", [128] * 4) | keys("sac", "critic_norm", False) |
             keys("sac", "target_negentropy", 1.0)),
        Walk("continuous", "bc", bc | pendulum, keys("bc", "loss", "mse") | keys("demos", "weighting", "rank") |
             keys("policy", "squash", True) | keys("policy", "state_std", True) | keys("policy", "hidden", DEEP) |
             keys("policy", "chunk", 4) | keys("policy", "head", "mixture", "flow")),
        Walk("squared distances", "bc", bc | pendulum | {"bc.loss": "mse"}, keys("policy", "squash", True) |
             keys("policy", "state_std", True)),
    ]


def keys(section: str, name: str, *values: Any) -> dict[str, Keys]:
    """One change for each value, under its name."""
    def written(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()

    return {f"{section}.{name} = {written(value)}": {f"{section}.{name}": value} for value in values}


def cliffs(results: list[dict[str, Any]], walks: Sequence[Walk], rounds: int, seconds: float, say: Say) -> None:
    """Each walk's loops in turn, the plain one first."""
    for walk in walks:
        with ExitStack() as stack:
            loops: list[Loop] = []
            for name, turned in {"": {}, **walk.turned}.items():
                say(f"cliffs: setting up {walk.algo}, {walk.name} {name}")
                fused.forget()  # what an earlier loop has been told
                loops.append(Loop(walk.algo, {"train.threads": 1, **walk.plain, **turned}, stack, seconds))
            names = [f"plain: {walk.name}", *walk.turned]
            done = interleave([Entry(name, partial(_cpu, loop)) for name, loop in zip(names, loops, strict=True)],
                              rounds, lambda line: say(f"cliffs: {line}"))
        plain = multiply_adds(loops[0])
        for result, loop in zip(done, loops, strict=True):
            growth = max(1.0, multiply_adds(loop) / plain)
            cost = ratio(done[0], result)
            found = entry(result, walk.algo, loop.keys, walk=walk.name, cost=cost, growth=growth,
                          told=told(loop.heard), notices=loop.heard)
            results.append(found | {"steep": cost is not None and is_steep(cost["median"] / growth, found["told"])})


def _cpu(loop: Loop) -> dict[str, Any]:
    sample = loop()
    return sample | {"seconds": sample["cpu_seconds"]}


def multiply_adds(loop: Loop) -> float:
    """Of an iteration's matrices, per row: forward 1, forward and backward 3, with a gradient penalty 6 beside."""
    learner: Any = loop.run.learner
    config, penalty = loop.run.config, 0
    total = float(_weights(learner.policy)) * (1 + 3 * config.ppo.update_epochs if hasattr(config, "ppo") else 3)
    if hasattr(learner, "engine"):
        total += 3 * sum(_weights(part) for part in vars(learner.engine).values() if isinstance(part, nn.Module))
    if hasattr(learner, "discriminator"):
        penalty = 2 if learner.config.gp_coef else 0
        rows = learner.config.disc_updates * 2 * min(loop.rows // 2, 4096)
        total += _weights(learner.discriminator) * (1 + rows * (3 + penalty) / loop.rows)
    return total


def _weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.dim() > 1)


def told(notices: Sequence[str]) -> float:
    """How many times as long a run says that it takes, 1 if it says nothing."""
    return max((float(times) for notice in notices for times in TOLD.findall(notice)), default=1.0)


def is_steep(cost: float, said: float) -> bool:
    """True if this many times the plain cost is more than there may be, and more than was said."""
    return cost > STEEP * said


def write_env(folder: Path, dims: int) -> str:
    """A C environment with so many continuous actions, which does next to nothing itself; its folder."""
    place = folder / f"reach{dims}"
    if not place.is_dir():
        place.mkdir()
        (place / "env.toml").write_text(ENV_TOML.format(dims=dims))
        (place / f"{place.name}.h").write_text(ENV_C)
    return str(place)


ENV_TOML = """\
max_episode_steps = 100
[observation]
dtype = "float32"
shape = [8]
low = -10.0
high = 10.0
[action]
dtype = "float32"
shape = [{dims}]
low = -1.0
high = 1.0
"""
ENV_C = """\
#include "env.h"
typedef struct { float place[8]; } Env;

static inline void c_reset(Env *env, Io io) {
    for (int i = 0; i < 8; i++)
        io.observations[i] = env->place[i] = (float)rng_below(io.rng, 3) - 1;
}

static inline void c_step(Env *env, Io io) {
    for (int i = 0; i < 8; i++) {
        env->place[i] += 0.1f * (io.actions[i] - env->place[i]);
        io.observations[i] = env->place[i];
        io.rewards[0] -= env->place[i] * env->place[i];
    }
}
"""


def run(results: list[dict[str, Any]], rounds: int, seconds: float, say: Say) -> None:
    """The standard walks."""
    with tempfile.TemporaryDirectory() as folder:
        cliffs(results, standard_walks(Path(folder)), rounds, seconds, say)
