"""What a run's metrics say about its health, for people who do not know yet where to look."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.rollout.buffer import RolloutBuffer

LASTING = 50  # rollouts in a row from which on a sign is no accident
GOOD = 0.9  # the normalised score from which on nothing is wrong, whatever the signs: at the expert's level returns
# hardly vary, and a policy should hardly move
WINDING_DOWN = 0.9  # the share of a run from which on annealed learning rates stop the policy by design


@dataclass(frozen=True)
class Sign:
    """One way of being unwell: `seen` looks at the values of `metrics`, `advice` says what it means and the remedy."""

    metrics: tuple[str, ...]
    seen: Callable[..., bool]
    advice: str


SIGNS = (
    Sign(("losses/explained_variance",), lambda explained: explained < 0.05,
         "the critic does not follow the returns (losses/explained_variance below 0.05), so the policy learns from "
         "noise; use more ppo.update_epochs or a smaller ppo.gamma, and leave ppo.norm_values on"),
    Sign(("disc/accuracy_expert", "disc/accuracy_policy"), lambda expert, policy: min(expert, policy) > 0.995,
         "the discriminator tells expert and policy apart without error (disc/accuracy_… above 0.995), so its reward "
         "is nearly flat; use fewer disc_updates, a smaller disc_learning_rate or a larger gp_coef, and check that "
         "demonstrations and environment have the same units"),
    Sign(("losses/approx_kl",), lambda kl: kl < 1e-6,
         "the policy has stopped moving (losses/approx_kl below 1e-6); raise ppo.learning_rate or ppo.ent_coef"),
)


class Health:
    """Watches a run and tells the user once about each sign that lasts."""

    def __init__(self) -> None:
        self.lasted = dict.fromkeys(SIGNS, 0)  # rollouts in a row
        self.said: set[Sign] = set()

    def notices(self, metrics: Metrics, score: float | None) -> list[str]:
        """One line for each sign that has now lasted LASTING rollouts; `score` is the last evaluation's, normalised."""
        well = (score or 0.0) >= GOOD or metrics.get("progress", 0.0) > WINDING_DOWN
        found = []
        for sign in SIGNS:
            values = [metrics[name] for name in sign.metrics if name in metrics]
            unwell = not well and len(values) == len(sign.metrics) and sign.seen(*values)
            self.lasted[sign] = self.lasted[sign] + 1 if unwell else 0
            if self.lasted[sign] >= LASTING and sign not in self.said:
                self.said.add(sign)
                found.append(f"for {LASTING} rollouts, {sign.advice}")
        return found


def cause_of(buffer: RolloutBuffer | None, spec: EnvSpec) -> str | None:
    """What in a rollout made a loss NaN or infinite, and the remedy; None if the environment is not to blame."""
    if buffer is None:
        return None
    bad = np.argwhere(~np.isfinite(buffer.env_rewards) & buffer.valid)
    if len(bad):
        step, row = bad[0]
        return (f"the reward of row {row} in step {step} of the rollout is {buffer.env_rewards[step, row]}; look for a "
                f"division by zero or the log of 0 in {spec.name}")
    seen = buffer.obs.reshape(-1, *spec.obs_shape)[buffer.valid.ravel()]
    for leaf in (f for f in spec.obs_fields if f.dtype.kind == "f"):
        for rows in (seen, buffer.final_obs):
            values = leaf.of(rows).reshape(len(rows), leaf.size)
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                part = f" of {leaf.name!r}" if len(spec.obs_fields) > 1 else ""
                return (f"an observation is {values[tuple(bad[0])]} in column {bad[0][1]}{part}; let {spec.name} give "
                        "finite numbers")
    return None
