"""What stands behind the actor, by `policy.head`: the distribution of an action, or of a chunk of them."""

from __future__ import annotations

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec
from puffer_il.nn.distributions import Categorical, Gaussian, make_distribution
from puffer_il.nn.flow import Flow
from puffer_il.nn.mixture import Mixture

Head = Categorical | Gaussian | Mixture | Flow


def make_head(action: ActionSpec, config: PolicyConfig, features: int) -> Head:
    """`features` is what encoder or memory gives, which a flow reads itself. InputError for what does not fit."""
    if config.head == "plain":
        return make_distribution(action, config.squash, config.init_log_std, config.state_std)
    if action.discrete:
        raise InputError(f"policy.head = {config.head!r}: the actions are discrete, and their softmax can have several "
                         "modes already; set policy.head to 'plain'")
    if config.squash:
        raise InputError(f"policy.squash = True: a policy with policy.head = {config.head!r} is clipped, not squashed; "
                         "set policy.squash to false")
    if config.head == "mixture":
        return Mixture(action, config.mixtures, config.init_log_std, config.state_std)
    if config.shared:
        raise InputError("policy.shared = True: a flow has a network of its own; set policy.shared to false")
    return Flow(action, features, config.hidden, config.activation, config.flow_steps)
