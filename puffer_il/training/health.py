"""What a run's metrics say about its health, for people who do not know yet where to look."""

from collections.abc import Callable
from dataclasses import dataclass

from puffer_il.core.spec import Metrics

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

