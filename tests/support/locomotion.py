"""Experts and demonstrations of the MuJoCo tasks, made when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.support.quality import puffer_il

# What a task is told besides its name. Ant-v1 had 27 numbers, without contacts.
KEYS = {"ant": ("--env.kwargs.include-cfrc-ext-in-observation", "false")}
# Of tasks whose published experts are no more: the steps of PPO by its defaults.
EXPERT_STEPS = {"walker2d": 6_000_000, "ant": 2_000_000, "humanoid": 2_000_000, "swimmer": 2_000_000,
                "reacher": 1_000_000}


def experts(folder: Path, test_data: Path) -> Callable[[str], Path]:
    """A function from a task to a policy that acts it: the GAIL paper's of Hopper and HalfCheetah, else PPO's run."""

    @cache
    def expert(task: str) -> Path:
        if task not in EXPERT_STEPS:
            return test_data / "gail_paper_experts" / f"{task}.npz"
        puffer_il("train", "ppo", task, "--total-steps", EXPERT_STEPS[task], "--run-dir", folder / task,
                  *KEYS.get(task, ()))
        return folder / task

    return expert


def fifty_trajectories(folder: Path, expert: Callable[[str], Path]) -> Callable[[str], tuple[Path, float]]:
    """A function from a task to a file of 50 episodes, acting at random, and the expert's mean return by its modes."""

    @cache
    def made(task: str) -> tuple[Path, float]:
        files = [folder / f"{task}-{mode}.npz" for mode in ("sampled", "modes")]
        for file, how in zip(files, (("--stochastic",), ()), strict=True):
            print("\n", puffer_il("demos", "collect", task, "--policy", expert(task), *how, "--episodes", 50, "--seed",
                                  11, "--out", file, *KEYS.get(task, ())).strip())
        return files[0], json.loads(puffer_il("demos", "info", files[1], "--json"))["returns"]["mean"]

    return made
