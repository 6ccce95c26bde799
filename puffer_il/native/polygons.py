"""Polygons as the convex pieces that collisions are told from."""

from __future__ import annotations

import numpy as np

from puffer_il.core.spec import Array

FLAT = 1e-9  # of the polygon's size squared: a turn that is none


def convex_pieces(corners: Array) -> tuple[Array, list[Array]]:
    """A polygon (n, 2) counterclockwise and without corners that are none, and convex polygons, counterclockwise too,
    which cover it exactly and do not overlap: itself, or triangles (ear clipping, Meisters 1975). ValueError for one
    that has no area, or meets itself."""
    corners = _cleaned(corners)
    if len(corners) < 3:
        raise ValueError(f"its polygon has {len(corners)} corners")
    if _meets_itself(corners):
        raise ValueError("its polygon crosses or touches itself")
    area = _turn(corners, np.roll(corners, -1, 0), np.zeros(2)).sum()
    corners = corners if area > 0 else corners[::-1]
    if (_turns(corners) > 0).all():
        return corners, [corners]
    return corners, _ears(corners)


def _turn(a: Array, b: Array, c: Array) -> Array:
    """Twice the signed area of triangles (…, 2): above 0 where a, b, c go counterclockwise."""
    ab, ac = b - a, c - a
    return ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]


def _turns(corners: Array) -> Array:
    return _turn(np.roll(corners, 1, 0), corners, np.roll(corners, -1, 0))


def _cleaned(corners: Array) -> Array:
    """Without corners that repeat the one before them, as in closed ones, and those in the middle of an edge."""
    while len(corners) > 2:
        flat = FLAT * float(np.ptp(corners, axis=0).max()) ** 2
        kept = np.abs(_turns(corners)) > flat
        if kept.all():
            break
        corners = np.delete(corners, np.argmin(kept), 0)  # one by one: a neighbour may become a corner
    return corners


def _meets_itself(corners: Array) -> bool:
    """Whether two edges that are no neighbours have a point in common, their ends too."""
    n, ends = len(corners), np.roll(corners, -1, 0)
    for i in range(n):
        for j in range(i + 2, n - (i == 0)):
            a, b, c, d = corners[i], ends[i], corners[j], ends[j]
            if (_turn(a, b, c) * _turn(a, b, d) <= 0 and _turn(c, d, a) * _turn(c, d, b) <= 0
                    and np.all(np.minimum(a, b) <= np.maximum(c, d)) and np.all(np.minimum(c, d) <= np.maximum(a, b))):
                return True
    return False


def _ears(corners: Array) -> list[Array]:
    """Triangles, each an ear of what is left: a corner whose triangle holds no other corner."""
    left, triangles = list(range(len(corners))), []
    while len(left) > 3:
        for k in range(len(left)):
            ear = corners[[left[k - 1], left[k], left[(k + 1) % len(left)]]]
            others = corners[[left[m] for m in range(len(left)) if m not in (k, (k - 1) % len(left),
                                                                             (k + 1) % len(left))]]
            sides = [_turn(ear[m], ear[(m + 1) % 3], others) >= 0 for m in range(3)]
            if _turn(*ear) > 0 and not np.logical_and.reduce(sides).any():
                triangles.append(ear)
                del left[k]
                break
        else:
            raise ValueError("its polygon crosses or touches itself")
    return [*triangles, corners[left]]
