"""Loops that multiply in bfloat16 (train.bf16) beside the same loops in float32, in turns. Measured are the processor's
seconds of whole iterations on one thread, which other programs change least."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from puffer_il.bench.against import WIDE, Row, adversarial, rows
from puffer_il.bench.loops import Loop, entry
from puffer_il.bench.measure import Say
from puffer_il.bench.peers.run import Entry, interleave, ratio
from puffer_il.core.errors import InputError
from puffer_il.kernels import _kernels as kernels

ROWS = ("PPO", "PPO, 2×256", "PPO, 16 environments", "PPO, LSTM of 128", "GAIL", "GAIL, 2×256", "AIRL", "BC",
        "SAC, 2×64", "SAC, 2×256")


def standard_rows() -> list[Row]:
    """Loops of `bench --against`, and some of other widths."""
    known = {row.name: row for row in rows()}
    plain, gail = known["PPO"], adversarial("gail")
    large = {"env.num_envs": 4096, "train.num_steps": 64}
    return [*(known[name] for name in ROWS),
            *(Row(f"PPO, 2×{width}", "ppo", {**plain.keys, "policy.hidden": [width] * 2}) for width in (32, 128, 512)),
            Row("GAIL, 2×256, 4,096 × 64", "gail", {**gail, **large, "policy.hidden": WIDE, "gail.disc_hidden": WIDE}),
            Row("PPO, LSTM of 128, 4,096 × 64", "ppo", {**plain.keys, **large, "policy.lstm": 128})]


def check() -> None:
    """InputError where there is nothing to measure."""
    if not kernels.has_bf16():
        raise InputError(f"bench bf16: this processor ({kernels.instruction_set()}) has no instruction for bfloat16; "
                         "run it on one with AVX512_BF16")


def beside_float32(results: list[dict[str, Any]], chosen: Sequence[Row], rounds: int, seconds: float, say: Say) -> None:
    """Row by row; `speedup` is how many times the steps of float32."""
    for row in chosen:
        say(f"bf16: setting up {row.name}")
        with ExitStack() as stack:
            loops = [Loop(row.algo, {**row.keys, "train.bf16": how}, stack, seconds) for how in ("off", "on")]
            sides = [Entry(row.name, partial(_cpu, loop)) for loop in loops]
            floats, ours = interleave(sides, rounds, lambda line: say(f"bf16: {line}"))
        results.append(entry(ours, row.algo, loops[1].keys, speedup=ratio(ours, floats)))


def _cpu(loop: Loop) -> dict[str, Any]:
    sample = loop()
    return sample | {"seconds": sample["cpu_seconds"]}
