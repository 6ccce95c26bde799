"""Convex pieces of polygons: they are convex, and the inside of the polygon is theirs, no more and no less."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.native.polygons import convex_pieces


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """By the even-odd rule."""
    found = np.zeros(len(points), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        between = (ay > points[:, 1]) != (by > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            found ^= between & (points[:, 0] < ax + (points[:, 1] - ay) * (bx - ax) / (by - ay))
    return found


def star(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(4, 15))  # no gap of half a turn, across which edges could meet
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(0, 0.9, count)) / count
    return rng.uniform(0.2, 3, len(angles))[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def comb(rng: np.random.Generator) -> np.ndarray:
    teeth = rng.integers(1, 5)
    upper = [(k, 1 + (k % 2) * rng.uniform(1, 4)) for k in range(2 * teeth)]
    return np.array([(0, 0), *[(x, 0) for x in (2 * teeth - 1,)], *upper[::-1]], float)


@pytest.mark.parametrize("kind", [star, comb])
def test_pieces_cover_a_polygon_exactly(kind):
    rng, concave = np.random.default_rng(0), 0
    for _ in range(100):
        given = kind(rng)
        turned = np.roll(given, int(rng.integers(9)), 0)[::rng.choice([-1, 1])]
        outline, pieces = convex_pieces(np.concatenate((turned, turned[:1])))  # closed, as files have them
        concave += len(pieces) > 1
        assert area(outline) == pytest.approx(abs(area(given))) == sum(map(area, pieces))
        for piece in pieces:
            a, b, c = piece, np.roll(piece, -1, 0), np.roll(piece, -2, 0)
            assert ((b - a)[:, 0] * (c - b)[:, 1] > (b - a)[:, 1] * (c - b)[:, 0]).all()
        points = rng.uniform(given.min(0), given.max(0), (200, 2))
        hits = np.sum([inside(piece, points) for piece in pieces], 0)
        assert np.array_equal(hits, inside(given, points))
    assert concave > 30


def test_a_convex_polygon_is_its_own_piece_without_corners_that_are_none():
    square = np.array([(0, 0), (1, 0), (2, 0), (2, 2), (2, 2), (0, 2), (0, 1)], float)
    outline, pieces = convex_pieces(square[::-1])
    assert len(outline) == 4 and len(pieces) == 1 and area(outline) == 4
