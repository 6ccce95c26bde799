"""A checkpoint of skrl (`agent_1000.pt`): its networks are its user's own classes, which it does not describe."""

from pathlib import Path
from typing import Any

from puffer_il.core.spec import EnvSpec
from puffer_il.rollout.policy_files.file_policy import FilePolicy
from puffer_il.rollout.policy_files.networks import Refuse


def recognises(state: Any) -> bool:
    return isinstance(state, dict) and isinstance(state.get("policy"), dict) and (
        "optimizer" in state or "value" in state or any("preprocessor" in key for key in state))


def read(path: Path, state: Any, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """Refused: neither layers' order nor activations are in the file."""
    return refuse("is a checkpoint of skrl, which does not describe its network; trace one that maps observations to "
                  "mean actions, with its preprocessor, and give that: torch.jit.trace(net, obs).save('policy.pt')")
