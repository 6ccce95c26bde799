"""Absorbing states: what an episode is worth once it has terminated, which no reward of living steps may decide."""


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
