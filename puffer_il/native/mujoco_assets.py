"""Where the MuJoCo environments find their models: Gymnasium ships them, without needing MuJoCo for that."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array


def model(name: str, xml_file: str = "") -> Array:
    """uint8, the path of the model `xml_file`, by default Gymnasium's own `name`, as C reads it."""
    path = Path(xml_file).expanduser() if xml_file else Path(gymnasium.__file__).parent / "envs/mujoco/assets" / name
    if not path.is_file():
        key, remedy = ("xml_file", "give the path of a model") if xml_file else ("model", "pip install gymnasium")
        raise InputError(f"{key} = {str(path)!r}: there is no such file; {remedy}")
    return np.frombuffer(bytes(path.resolve()) + b"\0", np.uint8)
