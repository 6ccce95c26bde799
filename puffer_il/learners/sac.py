"""Soft actor-critic, and soft Q-learning where actions are discrete: off-policy learning from a reward (off_policy.py).

    each iteration: replay ← the rollout's valid rows
                    gradient updates on minibatches drawn from the replay, a fixed number or as the rollout is long
"""

import torch

from puffer_il.core.config import Config
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About, Learner
from puffer_il.learners.common.cuda_graphs import Graphs, wanted
from puffer_il.learners.common.off_policy import STATS, STEPS_PER_UPDATE, SACConfig, make_engine
from puffer_il.learners.common.transition_batches import GraphedUpdates
from puffer_il.learners.registry import register
from puffer_il.nn import Policy, obs_moments
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.replay import ReplayBuffer, Transitions
from puffer_il.rollout.tensors import allocator, rollout_on


@register("sac")
class SAC(Learner):
    """Soft actor-critic from a replay, on `buffer.rewards`."""

    section = SACConfig
    config: SACConfig
    needs_demos = needs_actions = False
    about = About("Haarnoja et al. 2018, arXiv:1812.05905", "a reward, no demonstrations, and expensive environment "
                  "steps: it makes several gradient updates for each", ("discrete", "continuous"), bounded=True)
    promised_metrics = (*(f"losses/{name}" for name in STATS), "replay/rows")
    saved = ("policy", "engine", "replay")

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.policy = Policy(spec, config.policy).to(device)
        self.engine = make_engine(self.policy, self.config, config.policy.activation, device, seed)
        if wanted(config, device):
            graphs = Graphs("SAC's updates", device, self.engine.changing, self.notices)
            self.engine.graphed = GraphedUpdates(graphs, self.policy, self.engine.shift)
        self.replay = ReplayBuffer(spec, self.config.replay_size, seed, allocate=allocator(device))
        self.updates = self.config.updates  # that the last rollout calls for

    def update(self, buffer: RolloutBuffer, progress: float) -> Metrics:
        self.store(buffer)
        if not self.ready:
            return self.idle()
        return self.learn(self.replay.sample(self.updates, self.config.batch_size))

    def store(self, buffer: RolloutBuffer, normalise: bool = True) -> None:
        """Put the rollout's valid rows into the replay, and its observations into the policy's normaliser."""
        gathered = self.replay.append_rollout(buffer)
        self.updates = self.config.updates or max(1, gathered // STEPS_PER_UPDATE)
        if normalise:
            obs, valid = rollout_on(buffer, self.device)["obs"].flatten(0, 1), buffer.flat().valid
            chosen = None if valid.all() else torch.from_numpy(valid).to(self.device)
            self.policy.encoder.update_norm(*obs_moments(self.policy.flatten, obs, chosen))

    @property
    def ready(self) -> bool:
        return self.replay.stored >= max(1, self.config.warmup)

    def learn(self, rows: Transitions, end_value: float = 0.0, move: bool = True) -> Metrics:
        """A gradient update on each minibatch of rows (updates, n, …); `end_value` is what follows a termination.

        Without `move` the critics learn what the policy is worth, and it stays.
        """
        return self._report(self.engine.learn(rows, end_value, move).tolist())  # the only read from the device

    def idle(self) -> Metrics:
        """What is reported while the replay fills."""
        return self._report([0.0] * len(STATS))

    def _report(self, stats: list[float]) -> Metrics:
        return {**{f"losses/{name}": x for name, x in zip(STATS, stats, strict=True)},
                "replay/rows": float(len(self.replay))}
