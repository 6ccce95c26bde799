"""Greedy coupling of rollouts with demonstrated rows (Dadashi et al. 2021, arXiv:2006.04678, algorithm 1).

Every episode has all n demonstrated rows ("atoms") to spend, and each of its steps, of which a whole episode has
`horizon`, takes n / horizon of them: the nearest ones that are left. Over an episode the mean distance of what is taken
bounds the Wasserstein distance between its rows and the demonstrated ones from above.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import puffer_il.learners.common._coupling as kernels
from puffer_il.core.spec import Array

SPENT = 1e-4  # of an atom; what rounding leaves over is nothing


class Coupling:
    """What the episodes of some environments have left of the atoms (n, width); `horizon` steps use all of them."""

    def __init__(self, atoms: Array, horizon: float) -> None:
        if not 1 <= len(atoms) <= kernels.MOST_ATOMS:
            raise ValueError(f"{len(atoms)} atoms; between 1 and {kernels.MOST_ATOMS} can be coupled")
        self.columns = np.ascontiguousarray(atoms.T, np.float32)
        self.share = len(atoms) / horizon
        self.left = np.empty((0, len(atoms)), np.float32)  # (num_envs, n), once a rollout has been seen

    def distances(self, rows: Array, starts: Array, valid: Array, threads: int = 1) -> Array:
        """(num_steps, num_envs) float32: how far each row of a rollout is from what it takes; infinite where nothing is
        left to take, or the row is not valid.

        rows (num_steps, num_envs, width) float32; starts (num_steps, num_envs) bool, where an episode begins. What is
        left in the end is where the next rollout goes on.
        """
        num_envs = rows.shape[1]
        if self.left.shape != (num_envs, self.columns.shape[1]):  # the first rollout
            self.left = np.ones((num_envs, self.columns.shape[1]), np.float32)
        found = np.empty(rows.shape[:2], np.float32)
        arguments = (np.ascontiguousarray(rows, np.float32), self.columns, self.left, starts.view(np.uint8),
                     valid.view(np.uint8), self.share)
        bounds = np.linspace(0, num_envs, threads + 1).astype(int)
        if threads == 1:
            kernels.couple(*arguments, 0, num_envs, found)
            return found
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda first, stop: kernels.couple(*arguments, first, stop, found), bounds[:-1], bounds[1:]))
        return found
