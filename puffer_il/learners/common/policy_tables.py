"""Tabular policies compared in a finite MDP, tables (S, A) of probabilities: divergence, occupancy, likelihood."""

from collections.abc import Mapping

import numpy as np
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.native.tabular import MDP, mean_length, occupancy
from puffer_il.nn.policy import Policy


def policy_divergence(policy: Array, expert: Array, state_weights: Array) -> float:
    """KL(expert ‖ policy) in nats, the states counting as `state_weights` (S,) says, such as the expert's occupancy.

    Infinite where the expert takes an action that the policy never does.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(expert > 0, expert * (np.log(expert) - np.log(policy)), 0).sum(1)
    seen = state_weights > 0
    return float((state_weights[seen] * each[seen]).sum() / state_weights[seen].sum())


def total_variation(occupancy: Array, other: Array) -> float:
    """Half the absolute difference of two occupancies, each taken as a distribution: 0 if equal, 1 if apart."""
    return float(abs(occupancy / occupancy.sum() - other / other.sum()).sum() / 2)


def log_likelihood(policy: Array, demos: Demos) -> float:
    """The mean log-probability of the demonstrated actions, in nats; -inf if the policy never takes one of them."""
    if demos.actions is None:
        raise InputError(f"demos {demos.source}: no actions are stored, so their likelihood is unknown; give others")
    taken = policy[demos.obs.reshape(-1).astype(np.int64), demos.actions[:, 0].astype(np.int64)]
    with np.errstate(divide="ignore"):
        return float(np.log(taken).mean())


def report(mdp: MDP, policies: Mapping[str, Array], expert: Array, demos: Demos | None = None, gamma: float = 1.0,
           horizon: int | None = None) -> dict[str, dict[str, float]]:
    """For each policy: `return`, `length`, `kl` from the expert's policy over the states that the expert sees (nats),
    `occupancy_tv` from the expert's occupancy, and with `demos` its `log_likelihood` (nats per action)."""
    seen = occupancy(mdp, expert, gamma, horizon)
    rows = {}
    for name, policy in policies.items():
        own = occupancy(mdp, policy, gamma, horizon)
        rows[name] = {"return": float((own * mdp.mean_rewards).sum()), "length": mean_length(mdp, policy, horizon),
                      "kl": policy_divergence(policy, expert, seen.sum(1)), "occupancy_tv": total_variation(own, seen)}
        if demos is not None:
            rows[name]["log_likelihood"] = log_likelihood(policy, demos)
    return rows


def tabulate(policy: Policy) -> Array:
    """(S, A) what a learned policy does in each state. InputError if it sees or does anything but one category."""
    spec = policy.spec
    field = spec.obs_fields[0]
    states = field.categories if len(spec.obs_fields) == 1 else 0
    if not states or len(spec.action.nvec) != 1 or policy.memory is not None:
        raise InputError(f"{spec.name}: only a policy without memory, from one category to one discrete action, has a "
                         "table")
    device = next(policy.parameters()).device
    numbers = torch.arange(field.first, field.first + states, dtype=torch.int32, device=device)
    with torch.no_grad():
        logits = policy.action_params(numbers.reshape(-1, 1))
    return logits.double().softmax(1).cpu().numpy()
