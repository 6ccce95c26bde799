"""L-BFGS on functions whose minima are known, on walls, and stopped and resumed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from puffer_il.learners.common.lbfgs import LBFGS


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    a, b = x[:-1], x[1:]
    gradient = np.zeros_like(x)
    gradient[:-1] = -400 * a * (b - a**2) - 2 * (1 - a)
    gradient[1:] += 200 * (b - a**2)
    return float((100 * (b - a**2) ** 2 + (1 - a) ** 2).sum()), gradient


def quadratic(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Curvatures from 1 to 1,000."""
    curvature = np.logspace(0, 3, len(x))
    return float(curvature @ (x - 1) ** 2 / 2), curvature * (x - 1)


@pytest.mark.parametrize(("function", "start", "most"), [(rosenbrock, np.full(10, -1.0), 150),
                                                         (quadratic, np.zeros(50), 250)])
def test_minima_are_found(function, start, most):
    optimizer = LBFGS(function, start)
    for _ in range(most):
        before = optimizer.value
        if not optimizer.iterate():
            break
        assert optimizer.value < before
    assert abs(optimizer.x - 1).max() < 1e-5
    assert optimizer.evaluations < 1.5 * most


def test_walls_are_kept_away_from():
    """−log x + x is infinite from 0 on; the first step would go far beyond."""
    optimizer = LBFGS(lambda x: (float((x - np.log(x)).sum()), 1 - 1 / x) if (x > 0).all()
                      else (math.inf, np.zeros_like(x)), np.array([1e-3, 50.0]))
    for _ in range(60):
        optimizer.iterate()
    assert optimizer.x == pytest.approx([1, 1], abs=1e-6)


def test_at_a_minimum_nothing_moves():
    optimizer = LBFGS(quadratic, np.ones(5))
    assert not optimizer.iterate()
    assert (optimizer.x == 1).all() and optimizer.value == 0


def test_a_resumed_search_is_the_one_that_was_not_stopped():
    whole = LBFGS(rosenbrock, np.full(10, -1.0), memory=5)
    for _ in range(20):
        whole.iterate()
    state = whole.state_dict()
    rest = LBFGS(rosenbrock, np.zeros(10), memory=5)
    rest.load_state_dict(state)
    for optimizer in (whole, rest):
        for _ in range(10):
            optimizer.iterate()
    assert (whole.x == rest.x).all() and whole.evaluations == rest.evaluations
