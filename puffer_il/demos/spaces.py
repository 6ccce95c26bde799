"""The space of observations or actions in memory: arrays, or dicts and tuples of them to any depth."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError


def is_nested(batch: Any) -> bool:
    return isinstance(batch, Mapping | tuple)


def space_of(batch: Any, name: str = "obs") -> Any:
    """Gymnasium's space of one of n observations, whose bounds are not known. InputError for what are no numbers."""
    from gymnasium.spaces import Box, Dict, Tuple

    if isinstance(batch, Mapping):
        return Dict({key: space_of(part, f"{name}.{key}") for key, part in batch.items()})
    if isinstance(batch, tuple):
        return Tuple([space_of(part, f"{name}.{k}") for k, part in enumerate(batch)])
    rows = np.asarray(batch)
    if rows.dtype.kind not in "biuf" or rows.ndim == 0:
        raise InputError(f"{name} is {rows.dtype} {rows.shape}; give plain numbers, a row per transition")
    low: Any = -np.inf if rows.dtype.kind == "f" else 0 if rows.dtype.kind == "b" else np.iinfo(rows.dtype).min
    high: Any = np.inf if rows.dtype.kind == "f" else 1 if rows.dtype.kind == "b" else np.iinfo(rows.dtype).max
    return Box(low, high, rows.shape[1:], rows.dtype.type)


def space_of_parts(parts: Any) -> Any:
    """Gymnasium's Dict or Tuple of spaces that are dicts and tuples already; a space itself as it is."""
    from gymnasium.spaces import Dict, Tuple

    if isinstance(parts, Mapping):
        return Dict({key: space_of_parts(part) for key, part in parts.items()})
    return Tuple([space_of_parts(part) for part in parts]) if isinstance(parts, tuple) else parts
