"""Absorbing states: what an episode is worth once it has terminated, which no reward of living steps may decide."""

import math
from collections.abc import Callable

UNSEEN = 0.5  # terminations that are taken for granted beside those counted, so that none seen does not mean never

# The score of a discriminator that has learned its loss to the end (loss → score) at a state that is the share d of the
# demonstrated steps and the share p of the policy's. A Wasserstein critic's is not given by the shares.
SCORES: dict[str, Callable[[float, float], float]] = {
    "bce": lambda d, p: math.log(d / p),
    "least_squares": lambda d, p: (d - p) / (d + p),
}


def absorbing_share(terminations: float, rows: float, gamma: float) -> float:
    """Share of absorbing steps where each termination is followed by 1 / (1 − γ) of them, discounted."""
    weight = terminations / (1 - gamma)
    return weight / max(1e-9, weight + rows)


def absorbing_reward(demo_share: float, policy_share: float, shown: float) -> float:
    """Share of the absorbing steps that are demonstrated, if `shown` of all steps are; 0 where there are none, for then
    nothing reads it.

    demo_share, policy_share: of absorbing steps on either side
    """
    demonstrated = shown * demo_share
    return demonstrated / (demonstrated + (1 - shown) * policy_share) if demonstrated else 0.0
