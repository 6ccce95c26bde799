"""What a run has learned, from its checkpoint."""

import sys
from pathlib import Path
from typing import Any

import torch

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from puffer_il.core.spec import EnvSpec
from puffer_il.core.text import shown
from puffer_il.learners.experiment import make_policy
from puffer_il.learners.registry import get_learner
from puffer_il.nn import NumpyPolicy, Policy
from puffer_il.training.run_dir import load_config


def load_policy(run_dir: Path, device: str = "cpu") -> tuple[Policy | NumpyPolicy, Config, dict[str, Any]]:
    """The policy that is a run's result so far (by `train.result`, the best evaluated one or the last), its config, and
    the newest checkpoint's state, whose "spec" is now the run's EnvSpec.

    Needs no environment.
    """
    config = load_config(run_dir)
    state, path, notices = checkpoint.load_newest(run_dir, device)
    for notice in notices:
        print(f"puffer-il: {shown(notice)}", file=sys.stderr)
    with checkpoint.fitting(f"checkpoint {path}", f"it is of another run than {run_dir / 'config.toml'}, or crafted"):
        state["spec"] = checkpoint.spec_from_state(state["spec"])
        _check_sizes(state["spec"], config, state["policy"])
        policy = make_policy(state["spec"], config, device)
        policy.load_state_dict(state["policy"])
        _check_numbers(state)
    return policy, config, state


def _check_sizes(spec: EnvSpec, config: Config, weights: Any) -> None:
    """ValueError if a torch policy of `config` has other sizes than `weights`, before memory is taken for it."""
    if hasattr(get_learner(config.algo), "make_policy"):
        return
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in make_policy(spec, config, "meta").state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise ValueError(f"{wrong[0]} has shape {found.get(wrong[0])} instead of {wanted.get(wrong[0])}")


def _check_numbers(state: dict[str, Any]) -> None:
    """TypeError unless what evaluations are compared with are numbers, or None where nobody knows them."""
    known = [state["policy_steps"], *(state[name] for name in ("expert_return", "random_return")
                                      if state[name] is not None)]
    if not all(isinstance(number, int | float) for number in known):
        raise TypeError(f"steps and returns are {known}")

