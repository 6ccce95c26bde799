"""What a run has learned, from its checkpoint."""

from pathlib import Path
from typing import Any

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from puffer_il.learners.experiment import make_policy
from puffer_il.nn import NumpyPolicy, Policy
from puffer_il.training.run_dir import load_config


def load_policy(run_dir: Path, device: str = "cpu") -> tuple[Policy | NumpyPolicy, Config, dict[str, Any]]:
    """The policy that is a run's result so far (by `train.result`, the best evaluated one or the last), its config, and
    the newest checkpoint's state, whose "spec" is now the run's EnvSpec.

    Needs no environment.
    """
    config = load_config(run_dir)
    state = checkpoint.load(checkpoint.latest(run_dir), device)
    state["spec"] = checkpoint.spec_from_state(state["spec"])
    policy = make_policy(state["spec"], config, device)
    policy.load_state_dict(state["policy"])
    return policy, config, state
