"""Environments that are made and closed again and again leave nothing behind: descriptors, threads, memory."""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from puffer_il.vector.vec import make_vec

WARM = 5  # cycles until everything that is made once is there
SLACK = 16 * 2**20  # bytes by which allocators may grow


def held() -> dict[str, int]:
    """Descriptors, threads, shared mappings and child processes of this process."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task")),
            "shared": sum("/dev/shm" in line or "(deleted)" in line or " rw-s " in line for line in maps),
            "children": len(children)}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cycle(name: str, **options) -> None:
    with make_vec(name, num_envs=4, **options) as vec:
        vec.reset()
        vec.step(np.zeros((4, vec.spec.action.dim), vec.spec.action.dtype))


def check_flat(cycles: int, name: str, **options) -> None:
    for _ in range(WARM):
        cycle(name, **options)
    gc.collect()  # what earlier tests have left to be closed
    before, memory = held(), resident()
    for _ in range(cycles):
        cycle(name, **options)
    assert held() == before
    assert resident() - memory < SLACK


@pytest.mark.parametrize(("cycles", "name", "options"), [
    (60, "cartpole", {"backend": "native"}),
    (1000, "CartPole-v1", {"backend": "serial"}),
    (3, "cartpole", {"backend": "multiprocessing", "num_workers": 2}),
])
def test_made_and_closed_again_and_again_nothing_is_left(cycles, name, options):
    check_flat(cycles, name, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [
    ("cartpole", {"backend": "native"}), ("ngsim", {"backend": "native"}),
    ("hopper", {"backend": "native"}),
    ("cartpole", {"backend": "multiprocessing", "num_workers": 2}),
    ("CartPole-v1", {"backend": "multiprocessing", "num_workers": 2})])
def test_a_thousand_cycles_of_every_backend_leave_nothing(name, options):
    check_flat(1000, name, **options)
