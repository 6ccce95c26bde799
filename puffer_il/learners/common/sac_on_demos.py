"""SAC from two replays, the demonstrations' and the policy's own: what the off-policy imitators have in common."""

from typing import ClassVar

import torch

from puffer_il.core.config import Config
from puffer_il.core.spec import EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import Learner
from puffer_il.learners.common.absorbing import absorbing_reward, absorbing_share
from puffer_il.learners.sac import SAC
from puffer_il.rollout.demo_replay import DemoReplay
from puffer_il.rollout.replay import Transitions, joined


class SACOnDemos(Learner):
    """A SAC is held; a subclass says what the demonstrations in `demos` are paid, rewards rollouts in `relabel` and
    learns from what it draws. Of its section `demo_share` and `absorbing` are read here.

    demos  a replay of the demonstrations, without rewards yet
    """

    saved: ClassVar[tuple[str, ...]] = ("sac",)
    promised_metrics: ClassVar[tuple[str, ...]] = (*SAC.promised_metrics, "reward/absorbing")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.sac = SAC(spec, None, config, device, seed)
        self.policy, self.notices, self.gamma = self.sac.policy, self.sac.notices, config.sac.gamma
        self.demos = DemoReplay(spec, demos, seed, stream=1)
        self.demo_absorbing = self._absorbing_share(int(demos.terminated.sum()), int(demos.whole_lengths.sum()))

    def absorbing_reward(self) -> float:
        """What a step in the absorbing state is paid, where demonstrated steps are paid 1 and the policy's 0."""
        replay = self.sac.replay
        own = self._absorbing_share(replay.terminated, len(replay))
        return absorbing_reward(self.demo_absorbing, own, self.config.demo_share)

    def draw(self) -> Transitions:
        """Rows (updates, batch_size, …), demonstrated ones first."""
        updates, size = self.sac.updates, self.sac.config.batch_size
        return joined(self.demos.sample(updates, self.shown), self.sac.replay.sample(updates, size - self.shown))

    @property
    def shown(self) -> int:
        """How many rows of a minibatch are demonstrated."""
        return round(self.config.demo_share * self.sac.config.batch_size)

    def _absorbing_share(self, terminations: int, rows: int) -> float:
        return absorbing_share(terminations, rows, self.gamma) if self.config.absorbing else 0.0
