"""What every learner that holds PPO takes as options, section [mix]: demonstrations beside whatever reward it follows.

    expert resets   a share of the training episodes begins in demonstrated states (FILTER, Swamy et al. 2023,
                    arXiv:2303.14623; HyPE, Ren et al. 2024, arXiv:2402.08848)
    expert rows     L_actor = (1 − h) · L_clip − h · mean log π(a|s) over demonstrated (s, a): a share h of the actor's
                    batch is the expert's. To first order a demonstrated row counts as a row of the rollout whose
                    normalised advantage is 1, since ∇ of the surrogate at ratio 1 is A ∇ log π
    annealed BC     L + c · λ^progress · (−mean log π(a|s)), a loss that fades out (DAPG, Rajeswaran et al. 2018,
                    arXiv:1709.10087, eq. 7, whose advantage factor is 1 where advantages are normalised)

    expert slices   an expert drives a share s of the environments: L_actor = (1 − s) · L_clip − s · mean log π(a|s),
                    over what it did there, as for expert rows; PPO and discriminators see the other environments alone

Expert rows and annealed BC are one term: the same demonstrated rows, weighted h + c · λ^progress.
"""

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.config import MixConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, Starts
from puffer_il.demos import spread
from puffer_il.demos.dataset import Demos
from puffer_il.learners.common.cloning import clone_gradients, sequence_gradients
from puffer_il.learners.common.demo_rows import DemoRows, DemoSequences, load_rows
from puffer_il.nn import FlatAdam, Policy
from puffer_il.rollout.buffer import RolloutBuffer

SEQUENCE = 16  # steps of a chunk of demonstrations for a memory


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
    """Demonstrated rows beside PPO's minibatches: those of the demonstrations, and those of the rollout's expert slice;
    see above. InputError without demonstrations or their actions, where those are wanted.

    own  the share of the actor's loss that is left for the policy's own rows
    """

    def __init__(self, config: MixConfig, demos: Demos | None, policy: Policy, optimizer: FlatAdam,
                 device: torch.device) -> None:
        self.config, self.policy, self.device = config, policy, device
        self.length = SEQUENCE if policy.memory is not None else 0
        self.count = max(1, config.batch_size // max(1, self.length))
        self.gradient = optimizer.grad[:sum(p.numel() for p in policy.actor_parameters())]
        self.own = 1.0
        self.rows: DemoRows | None = None
        self.limits: Array | None = None
        if config.expert_rows or config.bc_coef:
            self.rows, self.limits = self._demonstrated(demos)
        self.sources: list[tuple[DemoRows, Array | None, float]] = []  # of this update: rows, their limits, weight

    def start(self, progress: float, buffer: RolloutBuffer) -> None:
        """An update begins: what is demonstrated, with what weight, and what precedes it for a memory."""
        cfg, self.sources, driven = self.config, [], 0.0
        if self.rows is not None:
            self.sources.append((self.rows, self.limits, cfg.expert_rows + cfg.bc_coef * cfg.bc_final ** progress))
        if buffer.shown is not None and buffer.shown.any():
            driven = float(buffer.shown.any(0).mean())
            self.sources.append((self._driven(buffer), None, driven))
        self.own = max(0.0, 1 - cfg.expert_rows - driven)
        for rows, *_ in self.sources:
            rows.refresh(self.policy)

    def gradients(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """What is to be added to the optimiser's gradient (all but the critic's), whose present content is lost, and
        the mean −log π(a|s) of the rows that `rng` draws, of the slice's if there are both."""
        total, loss = torch.zeros_like(self.gradient), torch.zeros((), device=self.gradient.device)
        for rows, limits, weight in self.sources:
            gradient, loss = self._of(rows, self._draw(rows, limits, rng), weight)
            total += gradient
        return total, loss

    def _of(self, rows: DemoRows, index: Array, weight: float) -> tuple[Tensor, Tensor]:
        """The weighted gradient and the loss of the rows `index`."""
        if isinstance(rows, DemoSequences):
            mean = sequence_gradients(self.policy, rows.shown(), index)
        else:
            mean = clone_gradients(self.policy, rows.obs, rows.actions, index)
        if mean is not None:
            return self.gradient * weight, torch.tensor(mean, dtype=torch.float32)
        params, actions, *_ = rows.evaluate(self.policy, index)
        loss = -self.policy.dist.log_prob(params, actions).mean()
        self.gradient.zero_()
        (weight * loss).backward()
        return self.gradient.clone(), loss.detach()

    def _draw(self, rows: DemoRows, limits: Array | None, rng: np.random.Generator) -> Array:
        """Numbers of rows, or of sequences, drawn with replacement, each as often as its weight says."""
        if limits is None:
            return rng.integers(len(rows), size=self.count)
        return np.searchsorted(limits, rng.random(self.count), side="right")

    def _demonstrated(self, demos: Demos | None) -> tuple[DemoRows, Array | None]:
        if demos is None:
            raise InputError(f"{wants(self.config)} needs demonstrations; give a file with --demos, or set it to 0")
        if demos.actions is None:
            raise InputError(f"{wants(self.config)} needs demonstrated actions but demos {demos.source} stores none; "
                             "set it to 0")
        episodes = np.repeat(np.arange(demos.num_episodes), demos.lengths)
        rows = load_rows(demos.obs, demos.actions, demos.weights, episodes, self.length, self.device)
        return rows, _limits(rows)

    def _driven(self, buffer: RolloutBuffer) -> DemoRows:
        """What the expert did in its environments, one after the other."""
        assert buffer.shown is not None
        columns = np.flatnonzero(buffer.shown.any(0))
        obs, actions, shown, starts = (array[:, columns].swapaxes(0, 1) for array in
                                       (buffer.obs, buffer.actions, buffer.shown, buffer.episode_starts))
        starts = starts.copy()
        starts[:, 0] = True
        episodes = np.cumsum(starts.reshape(-1)).reshape(shown.shape)
        return load_rows(obs[shown], actions[shown], None, episodes[shown], self.length, self.device)


def _limits(rows: DemoRows) -> Array | None:
    """(rows,) the upper end of each row's or chunk's part of [0, 1); None where all parts are equal."""
    weights = rows.example_weights()
    if weights is None:
        return None
    weights = weights.double().reshape(len(rows), -1)
    if isinstance(rows, DemoSequences):  # of the rows that are there; padding has a weight that means nothing
        weights = weights * rows.valid / rows.valid.sum(1, keepdim=True)
    total = np.cumsum(weights.sum(1).cpu().numpy())
    return total / total[-1]
