"""Spaces as Minari's metadata.json declares them, made without importing minari: nothing is evaluated, and no more
memory is taken than the text itself is long."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, one_line

MOST_JSON, MOST_BITS = 2**26, 2**20  # bytes of metadata.json; numbers of a MultiBinary
SPACES = ("observation_space", "action_space")


def read_metadata(path: Path) -> dict[str, Any]:
    """What a data set's metadata.json says. InputError for what is no JSON object."""
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError(f"it is longer than {MOST_JSON:,} bytes")
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it is no JSON object")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"demos {path}: cannot be read ({one_line(error)}); copy the data set again") from None
    return found


def declared_spaces(path: Path, metadata: Mapping[str, Any]) -> tuple[Any, Any]:
    """Gymnasium's spaces of observations and actions. InputError for what declares none."""
    try:
        obs, actions = (_space(json.loads(given) if isinstance(given := metadata[name], str) else given)
                        for name in SPACES)
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError, RecursionError) as error:
        raise InputError(f"demos {path}: its spaces cannot be read ({one_line(error)}); copy the data set again"
                         ) from None
    return obs, actions


def _space(given: Mapping[str, Any]) -> Any:
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

    kind = given["type"]
    if kind == "Dict":
        return Dict({str(key): _space(part) for key, part in given["subspaces"].items()})
    if kind == "Tuple":
        return Tuple([_space(part) for part in given["subspaces"]])
    if kind == "Discrete":
        return Discrete(int(given["n"]), start=int(given.get("start", 0)))
    if kind == "MultiDiscrete":
        nvec = np.array(given["nvec"], np.int64)
        return MultiDiscrete(nvec, start=np.array(given.get("start", np.zeros_like(nvec)), np.int64))
    if kind == "MultiBinary":
        shape = tuple(int(n) for n in np.ravel(given["n"]))
        if math.prod(shape) > MOST_BITS:
            raise ValueError(f"MultiBinary of {math.prod(shape):,} numbers")
        return MultiBinary(shape if isinstance(given["n"], list) else shape[0])
    if kind != "Box":
        raise ValueError(f"{str(kind)[:40]} is no space of numbers")
    low, high = (np.array(given[name], np.dtype(str(given["dtype"]))) for name in ("low", "high"))
    if low.shape != tuple(given["shape"]) or low.dtype.kind not in "biuf":
        raise ValueError(f"Box of {low.dtype} {given['shape']} with bounds {low.shape}")
    return Box(low, high, low.shape, low.dtype.type)
