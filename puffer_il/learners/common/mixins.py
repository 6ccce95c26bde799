"""What every learner that holds PPO takes as options, section [mix]: demonstrations beside whatever reward it follows.

    expert resets   a share of the training episodes begins in demonstrated states (FILTER, Swamy et al. 2023,
                    arXiv:2303.14623; HyPE, Ren et al. 2024, arXiv:2402.08848)
    expert rows     L_actor = (1 − h) · L_clip − h · mean log π(a|s) over demonstrated (s, a): a share h of the actor's
                    batch is the expert's. To first order a demonstrated row counts as a row of the rollout whose
                    normalised advantage is 1, since ∇ of the surrogate at ratio 1 is A ∇ log π
    annealed BC     L + c · λ^progress · (−mean log π(a|s)), a loss that fades out (DAPG, Rajeswaran et al. 2018,
                    arXiv:1709.10087, eq. 7, whose advantage factor is 1 where advantages are normalised)

The last two are one term: the same demonstrated rows, weighted h + c · λ^progress.
"""

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.config import MixConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, Starts
from puffer_il.demos import spread
from puffer_il.demos.dataset import Demos
from puffer_il.learners.common.cloning import clone_gradients
from puffer_il.learners.common.demo_rows import DemoRows, DemoSequences, load_rows
from puffer_il.nn import FlatAdam, Policy

SEQUENCE = 16  # steps of a chunk of demonstrations for an LSTM


def wants(config: MixConfig) -> str:
    """The setting that needs demonstrations, as "key = value"; empty if none does."""
    keys = [key for key in ("expert_resets", "expert_rows", "bc_coef") if getattr(config, key)]
    return f"mix.{keys[0]} = {getattr(config, keys[0])}" if keys else ""


def starts_of(config: MixConfig, demos: Demos | None, env: str) -> Starts | None:
    """Where training episodes are to begin, None if always where the environment says.

    Of weighted demonstrations each state is there as often as its weight says. InputError without states.
    """
    if not config.expert_resets:
        return None
    if demos is None or demos.states is None:
        raise InputError(f"mix.expert_resets = {config.expert_resets}: demos {demos.source if demos else ''} hold no "
                         f"states to begin in; collect them again: puffer-il demos collect {env} …")
    states = demos.states
    if demos.weights is not None:
        states = states[spread(demos.weights, len(states))]
    return Starts(states, config.expert_resets)


class ExpertRows:
    """Demonstrated rows beside PPO's minibatches; see above. InputError without demonstrations or their actions."""

    def __init__(self, config: MixConfig, demos: Demos | None, policy: Policy, optimizer: FlatAdam,
                 device: torch.device) -> None:
        if demos is None:
            raise InputError(f"{wants(config)} needs demonstrations; give a file with --demos, or set it to 0")
        if demos.actions is None:
            raise InputError(f"{wants(config)} needs demonstrated actions but demos {demos.source} stores none; set it "
                             "to 0")
        self.config, self.policy = config, policy
        length = SEQUENCE if policy.lstm is not None else 0
        episodes = np.repeat(np.arange(demos.num_episodes), demos.lengths)
        self.rows = load_rows(demos.obs, demos.actions, demos.weights, episodes, length, device)
        self.count = max(1, config.batch_size // max(1, length))
        self.limits = _limits(self.rows)
        self.gradient = optimizer.grad[:sum(p.numel() for p in policy.actor_parameters())]
        self.weight = 0.0

    def start(self, progress: float) -> None:
        """An update begins: the weight of its demonstrated rows, and what precedes them for an LSTM."""
        cfg = self.config
        self.weight = cfg.expert_rows + cfg.bc_coef * cfg.bc_final ** progress
        self.rows.refresh(self.policy)

    def gradients(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """What is to be added to the optimiser's gradient (all but the critic's), whose present content is lost, and
        the mean −log π(a|s) of the rows that `rng` draws."""
        index = self._draw(rng)
        if type(self.rows) is DemoRows:
            mean = clone_gradients(self.policy, self.rows.obs, self.rows.actions, index)
            if mean is not None:
                return self.gradient * self.weight, torch.tensor(mean, dtype=torch.float32)
        params, actions, *_ = self.rows.evaluate(self.policy, torch.from_numpy(index).to(self.rows.obs.device))
        loss = -self.policy.dist.log_prob(params, actions).mean()
        self.gradient.zero_()
        (self.weight * loss).backward()
        return self.gradient.clone(), loss.detach()

    def _draw(self, rng: np.random.Generator) -> Array:
        """Numbers of rows, or of chunks, drawn with replacement, each as often as its weight says."""
        if self.limits is None:
            return rng.integers(len(self.rows), size=self.count)
        return np.searchsorted(self.limits, rng.random(self.count), side="right")


def _limits(rows: DemoRows) -> Array | None:
    """(rows,) the upper end of each row's or chunk's part of [0, 1); None where all parts are equal."""
    if rows.weights is None:
        return None
    weights = rows.weights.double().reshape(len(rows), -1)
    if isinstance(rows, DemoSequences):  # of the rows that are there; padding has a weight that means nothing
        weights = weights * rows.valid / rows.valid.sum(1, keepdim=True)
    total = np.cumsum(weights.sum(1).cpu().numpy())
    return total / total[-1]
