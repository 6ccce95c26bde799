"""The statistics of Stable-Baselines3's VecNormalize: `env.save("vecnormalize.pkl")`, read without unpickling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array
from puffer_il.rollout.policy_files import pickled

EXPORT = "save them with env.save('vecnormalize.pkl') and lay that file beside the model"


@dataclass
class Statistics:
    """obs → clip((obs − mean) / sqrt(var + epsilon), ±clip); `moments` are (mean, var), under None or by key."""

    source: str
    moments: dict[str | None, tuple[Array, Array]]
    clip: float
    epsilon: float

    def __call__(self, obs: Any) -> Any:
        """n observations in the environment's own form."""
        if isinstance(obs, dict):
            return {key: self._of(key, array) for key, array in obs.items()}
        return self._of(None, obs)

    def _of(self, key: str | None, array: Array) -> Array:
        if key not in self.moments:
            return array
        mean, var = self.moments[key]
        if array.shape[1:] != mean.shape:
            raise InputError(f"policy {self.source}: has statistics of shape {mean.shape} for observations of shape "
                             f"{array.shape[1:]}; give those that were saved with the model")
        return np.clip((array - mean) / np.sqrt(var + self.epsilon), -self.clip, self.clip).astype(np.float32)


def beside(model: Path) -> Path | None:
    """The statistics that lie beside a model, as Stable-Baselines3's documentation, its CheckpointCallback and RL Zoo
    name them."""
    stem = model.stem
    names = [f"{stem}_vecnormalize.pkl", f"{stem}.pkl", re.sub(r"_(\d+_steps)$", r"_vecnormalize_\1.pkl", stem),
             "vecnormalize.pkl", "vec_normalize.pkl", f"{stem}/vecnormalize.pkl", "vec_normalize_stats.pkl"]
    found = next((path for name in names if name.endswith(".pkl") and (path := model.parent / name).is_file()), None)
    below = [] if found else list(model.parent.glob("*/vecnormalize.pkl"))  # of best_model.zip in a folder of RL Zoo
    return below[0] if len(below) == 1 else found


def read_statistics(path: Path) -> Statistics | None:
    """None where the file says that observations were not normalised. InputError for a file that is none of these."""
    try:
        state = pickled.read(path.read_bytes()).state
        if not state["norm_obs"]:
            return None
        given = state["obs_rms"]
        keyed = dict(given) if isinstance(given, dict) else {None: given}
        if isinstance(given, dict) and state.get("norm_obs_keys"):
            keyed = {key: given[key] for key in state["norm_obs_keys"]}
        moments = {key: (pickled.array(one.state["mean"]), pickled.array(one.state["var"]))
                   for key, one in keyed.items()}
        return Statistics(str(path), moments, float(pickled.array(state["clip_obs"])),
                          float(pickled.array(state["epsilon"])))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(f"policy {path}: holds no statistics of VecNormalize ({type(error).__name__}: "
                         f"{one_line(error)}); {EXPORT}") from None
