"""A spec with an observation of every kind."""

from __future__ import annotations

import numpy as np

from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField


def structured_spec() -> EnvSpec:
    """A Dict of a float vector, a category and an image, laid out as an aligned struct of bytes."""
    struct = np.dtype([("a", np.float32, (2,)), ("b", np.int32), ("c", np.uint8, (8, 8, 3))], align=True)
    fields = (ObsField("a", np.dtype(np.float32), (2,), struct.fields["a"][1]),
              ObsField("b", np.dtype(np.int32), (), struct.fields["b"][1], categories=4),
              ObsField("c", np.dtype(np.uint8), (8, 8, 3), struct.fields["c"][1]))
    return EnvSpec("dict", (struct.itemsize,), np.dtype(np.uint8), ActionSpec(nvec=(2,)), fields)
