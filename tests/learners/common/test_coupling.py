"""Coupling: the kernel against plain NumPy, an expert against itself, and what a whole episode uses up."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.core.spec import Array
from puffer_il.learners.common.coupling import SPENT, Coupling


def reference_distances(rows: Array, starts: Array, valid: Array, atoms: Array, horizon: float) -> Array:
    """`Coupling.distances` of a first rollout in NumPy, float64, one environment and step after the other."""
    found = np.full(rows.shape[:2], np.inf)
    for i in range(rows.shape[1]):
        left = np.ones(len(atoms))
        for t in range(len(rows)):
            left = np.ones(len(atoms)) if starts[t, i] else left
            wanted, cost = len(atoms) / horizon, 0.0
            distances = np.linalg.norm(atoms.astype(np.float64) - rows[t, i], axis=1)
            while valid[t, i] and wanted > SPENT and left.max() > SPENT:
                nearest = int(np.argmin(np.where(left > SPENT, distances, np.inf)))
                used = min(left[nearest], wanted)
                cost, wanted = cost + used * distances[nearest], wanted - used
                left[nearest] -= used
            if valid[t, i] and wanted <= SPENT:
                found[t, i] = cost / (len(atoms) / horizon)
    return found


def rollout(steps: int, envs: int, width: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(steps, envs, width)).astype(np.float32)
    starts = rng.random((steps, envs)) < 0.1
    starts[0] = True
    return rows, starts, rng.random((steps, envs)) < 0.95


@pytest.mark.parametrize(("atoms", "horizon"), [(1, 1), (20, 20), (20, 7), (20, 50), (33, 12.5)])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_kernel_is_numpys(atoms, horizon, threads):
    rows, starts, valid = rollout(40, 7, 5)
    points = np.random.default_rng(1).normal(size=(atoms, 5)).astype(np.float32)
    found = Coupling(points, horizon).distances(rows, starts, valid, threads)
    expected = reference_distances(rows, starts, valid, points, horizon)
    assert np.isfinite(expected).any() and np.isinf(expected).any()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_coupling_by_hand():
    # Two atoms at 0 and 10, four steps: the first two use the near one up, the third has only the far one.
    rows = np.float32([1, 2, 0, 11, 10]).reshape(5, 1, 1)
    starts = np.array([True, False, False, False, False]).reshape(5, 1)
    found = Coupling(np.float32([[0], [10]]), 4).distances(rows, starts, np.ones((5, 1), bool))
    assert found[:, 0].tolist() == [1, 2, 10, 1, np.inf]


def test_an_expert_that_does_the_same_again_is_at_no_distance_in_any_order():
    atoms = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    order = np.random.default_rng(1).permutation(50)
    starts = np.zeros((51, 1), bool)
    starts[0] = True
    rows = np.concatenate((atoms[order], atoms[:1]))[:, None]
    found = Coupling(atoms, 50).distances(rows, starts, np.ones((51, 1), bool))
    assert (found[:50] == 0).all() and np.isinf(found[50]).all()  # all are used up


def test_what_is_left_is_where_the_next_rollout_goes_on():
    rows, starts, valid = rollout(40, 3, 5)
    starts[20] = False
    atoms = np.random.default_rng(1).normal(size=(30, 5)).astype(np.float32)
    whole, cut = Coupling(atoms, 30), Coupling(atoms, 30)
    expected = whole.distances(rows, starts, valid)
    parts = [cut.distances(rows[part], starts[part], valid[part]) for part in (slice(0, 20), slice(20, 40))]
    assert np.array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("atoms", [0, 5000])
def test_too_many_atoms_are_refused(atoms):
    with pytest.raises(ValueError, match=f"{atoms} atoms; between 1 and 4096"):
        Coupling(np.zeros((atoms, 2), np.float32), 10)
