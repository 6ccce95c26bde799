"""MaxEnt IRL of `imitation` and ours on the same MDPs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from puffer_il.bench.peers.install import cache_folder
from puffer_il.learners.common.lbfgs import LBFGS
from puffer_il.learners.common.maxent import (
    InverseProblem,
    SoftMDP,
)
from puffer_il.native import tabular
from tests.support.mdps import exact_evidence

PEER = Path(__file__).with_name("imitation_mce.py")


def peer_python() -> Path:
    folder = cache_folder() / "imitation"
    if not (folder / "complete").is_file():
        pytest.skip(f"no environment of imitation at {folder}; 'puffer-il bench --peers' makes it")
    return folder / "bin" / "python"


def beside_imitation(folder: Path, names: list[str], eps: float = 5e-5) -> dict[str, dict[str, float]]:
    """The same MDPs, expert occupancies and stopping rule for both, one after the other, each on one thread. Ours is
    timed with its set-up, theirs without."""
    subprocess.run([peer_python(), PEER, folder, str(eps), *names], check=True, capture_output=True, timeout=500)
    rows = {}
    for name in names:
        with np.load(folder / f"{name}.npz") as theirs:
            peer = dict(theirs)
        begin = time.perf_counter()
        states, horizon = len(peer["initial"]), int(peer["horizon"])
        mdp = tabular.MDP(peer["transitions"], np.ones(states), peer["initial"], np.zeros(states, bool))
        soft = SoftMDP(mdp, 1.0, horizon)
        problem = InverseProblem(soft, exact_evidence(soft, peer["expert_policy"]), "state")
        optimizer = LBFGS(problem, np.zeros(states))
        while abs(optimizer.gradient).max() > eps:
            assert optimizer.iterate()
        seconds = time.perf_counter() - begin
        policy = problem.solve(optimizer.x).policy
        reached = np.append(soft.starts(), np.zeros((1, states)), 0)
        soft.model.moves(policy, reached)  # theirs counts the state after the last action too
        ours = reached.sum(0)
        rows[name] = {"faster": float(peer["seconds"]) / seconds, "ours": abs(ours - peer["expert"]).max(),
                      "theirs": abs(peer["found"] - peer["expert"]).max(), "apart": abs(ours - peer["found"]).max()}
    return rows
