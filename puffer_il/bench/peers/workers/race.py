"""Training anew until a deterministic evaluation reaches a return, or until the seconds are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

EVALUATE_EVERY = 20_000  # environment steps between evaluations
EPISODES = 5  # of each evaluation

Demonstration = tuple[Any, Any, bool]  # obs (T + 1, observation), actions (T, action), whether it terminated


def shown(path: str, episodes: int) -> Iterator[Demonstration]:
    """The first episodes of one of our .npz files."""
    import numpy as np

    with np.load(path, allow_pickle=False) as data:
        obs, actions, ended = data["obs"], data["actions"], data["terminations"]
        bounds = np.append(data["episode_starts"], len(obs))
        finals = data["final_obs"] if "final_obs" in data else data["next_obs"][bounds[1:] - 1]
    for (a, b), final in list(zip(pairwise(bounds), finals, strict=True))[:episodes]:
        yield np.concatenate([obs[a:b], final[None]]), actions[a:b], bool(ended[b - 1])


def race(s: dict[str, Any], setup: float, train: Callable[[], int], evaluate: Callable[[], float]) -> dict[str, Any]:
    """Call `train`, which says how many steps it made, until `evaluate` gives `s["target"]` or `s["cap"]` seconds are
    over. The clock begins at `setup` seconds, those from the start of the process, and stands still during evaluations:
    how often a peer is asked is our choice, not its cost."""
    steps, due, seconds = 0, EVALUATE_EVERY, setup
    evaluations: list[tuple[int, float, float]] = []  # steps, seconds, return
    while not evaluations or (evaluations[-1][2] < s["target"] and seconds < s["cap"]):
        begin = time.perf_counter()
        steps += train()
        seconds += time.perf_counter() - begin
        if steps >= due or seconds >= s["cap"]:
            due = steps + EVALUATE_EVERY
            evaluations.append((steps, seconds, evaluate()))
    return {"steps": steps, "process_seconds": seconds, "reached": evaluations[-1][2] >= s["target"],
            "best": max(e[2] for e in evaluations), "evaluations": evaluations}
