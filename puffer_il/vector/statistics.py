"""Wrappers whose running statistics no other copy of the environment shares."""

from typing import Any

from puffer_il.core.errors import InputError
from puffer_il.vector.gym_compat import OldGym, layers

REMEDIES = {  # by the class, which gym, Gymnasium and Minari's examples call the same
    "NormalizeObservation": "policy.obs_norm does it, with one set of statistics that the run keeps",
    "NormalizeReward": "ppo.norm_values does it, and returns stay those of the environment",
}


def check_statistics(env: Any) -> None:
    """InputError for a wrapper that goes on averaging: each copy of the environment then shows other numbers for the
    same state, and an evaluation begins without what training has learned of them."""
    found = [*layers(env)]
    if isinstance(found[-1], OldGym):
        found += layers(found[-1].env)
    for layer in found:
        name = type(layer).__name__
        if name in REMEDIES and getattr(layer, "update_running_mean", True):
            raise InputError(f"its wrapper {name} averages in each copy of the environment by itself, so that an "
                             f"evaluation would not be of the same task; leave it out ({REMEDIES[name]})")
