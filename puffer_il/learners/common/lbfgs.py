"""Limited-memory BFGS for smooth functions of some thousand numbers, in float64 (Nocedal and Wright 2006, algorithm
7.5), with the bisection of Lewis and Overton (2013) for the weak Wolfe conditions."""

import math
from collections.abc import Callable

import numpy as np

from puffer_il.core.checkpoint import Stateful
from puffer_il.core.spec import Array

Function = Callable[[Array], tuple[float, Array]]  # x (n,) → value and gradient (n,); an infinite value is a wall

DECREASE, CURVATURE = 1e-4, 0.9  # of the Wolfe conditions, as the book has them
TRIALS = 40  # of a line search: by then a step is 1e-12 of the first one


class LBFGS(Stateful):
    """Minimises `function` from `x` on, an iteration at a time; remembers the last `memory` steps.

    x, value, gradient  where it stands
    evaluations         of the function so far
    """

    saved = ("x", "value", "gradient", "steps", "changes", "evaluations")

    def __init__(self, function: Function, x: Array, memory: int = 20) -> None:
        self.function, self.memory = function, memory
        self.x = np.array(x, np.float64)
        self.steps: list[Array] = []  # the last changes of x
        self.changes: list[Array] = []  # and those of the gradient
        self.value, self.gradient = function(self.x)
        self.evaluations = 1

    def iterate(self) -> bool:
        """One step downhill; False, with everything as it was, if no lower point was found."""
        direction = self._direction()
        found = self._search(direction)
        if found is None and self.steps:  # its memory misleads it: once more by the gradient alone
            self.steps, self.changes = [], []
            found = self._search(self._direction())
        if found is None:
            return False
        x, value, gradient = found
        step, change = x - self.x, gradient - self.gradient
        # Anything else would cost the inverse Hessian its positive definiteness.
        if _dot(step, change) > 1e-12 * _dot(change, change):
            self.steps, self.changes = [*self.steps, step][-self.memory:], [*self.changes, change][-self.memory:]
        self.x, self.value, self.gradient = x, value, gradient
        return True

    def _direction(self) -> Array:
        """−H g, H being the inverse Hessian that the remembered steps suggest (two-loop recursion)."""
        if not self.steps:
            return -self.gradient / max(1.0, float(abs(self.gradient).sum()))  # there is no scale yet
        q, shares = self.gradient.copy(), []
        for step, change in zip(reversed(self.steps), reversed(self.changes), strict=True):
            shares.append(_dot(step, q) / _dot(step, change))
            q -= shares[-1] * change
        step, change = self.steps[-1], self.changes[-1]
        q *= _dot(step, change) / _dot(change, change)
        for step, change, share in zip(self.steps, self.changes, reversed(shares), strict=True):
            q += (share - _dot(change, q) / _dot(step, change)) * step
        return -q

    def _search(self, direction: Array) -> tuple[Array, float, Array] | None:
        """A point along `direction` that is low enough and flat enough; None if there is none."""
        slope = _dot(self.gradient, direction)
        if not slope < 0:
            return None
        low, high, length, best = 0.0, math.inf, 1.0, None
        for _ in range(TRIALS):
            x = self.x + length * direction
            value, gradient = self.function(x)
            self.evaluations += 1
            if not value <= self.value + DECREASE * length * slope:
                high = length
            else:
                best = x, value, gradient
                if _dot(gradient, direction) >= CURVATURE * slope:
                    return best
                low = length
            length = (low + high) / 2 if high < math.inf else 2 * low
        return best


def _dot(a: Array, b: Array) -> float:
    """Not by BLAS, whose threads wait for one another over a few thousand numbers."""
    return float((a * b).sum())
