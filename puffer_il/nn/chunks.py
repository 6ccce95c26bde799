"""Action chunks: a policy predicts several steps and does some of them before it looks again (Zhao et al. 2023).

    execute k   predict a_t … a_{t+h−1}, do the first k of them, then predict again
    ensemble m  predict at every step; a_t = Σ_i w_i a_t^(i) / Σ_i w_i over all predictions for it, w_i = exp(−m i), of
                which i = 0 is the oldest one (Zhao et al. 2023, arXiv:2304.13705, section IV-B)

What is still to be done is a part of the policy's state, a row of floats that is zeroed where an episode begins.

Where the environment says before every action which ones may be taken, that is not known of a later step when a chunk
is predicted. What is kept is then not the actions but their logits: each step is masked, and its action chosen, when
its turn comes. Demonstrations say of every step of a chunk what was allowed, so that this is the very distribution
whose likelihood is learned.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Array


class Chunks:
    """How `size` predicted steps of `dim` numbers become one action after the other.

    state_dim is the width of the state, 0 if none is needed. Its rows are, with `execute`, how many steps are left and
    these, the next one first, then zeros; with `ensemble`, for the next step and the size − 2 after it the weighted
    sums of what has been predicted, then for each of them how often it has been. Where actions are `masked`, a step is
    not its action but the logits of all its choices.
    """

    def __init__(self, action: ActionSpec, config: PolicyConfig, masked: bool = False) -> None:
        self.size, self.ensemble = config.chunk, config.ensemble
        self.dim = sum(action.nvec) if masked else action.dim
        self.execute = 1 if self.ensemble else config.execute or (config.chunk + 1) // 2
        _check(action, config)
        self.state_dim = 0
        if self.ensemble:
            self.state_dim = (self.size - 1) * (self.dim + 1)
        elif self.execute > 1:
            self.state_dim = 1 + (self.execute - 1) * self.dim

    def due(self, state: Tensor) -> Tensor:
        """(n,) bool, where a new chunk must be predicted."""
        return state[:, 0] == 0 if not self.ensemble else torch.ones(len(state), dtype=torch.bool, device=state.device)

    def follow(self, state: Tensor, due: Tensor, chunks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Actions (n, dim) float32 and the next state; `chunks` (n, size · dim) are new ones for the rows that are
        `due`, None if there is none."""
        if self.ensemble:
            assert chunks is not None
            return self._blend(state, chunks.float())
        left, steps = state[:, :1], state[:, 1:]
        if chunks is None:
            return steps[:, :self.dim], torch.cat((left - 1, _shifted(steps, self.dim)), 1)
        fresh = chunks[:, :self.execute * self.dim].float()
        actions = torch.where(due[:, None], fresh[:, :self.dim], steps[:, :self.dim])
        steps = torch.where(due[:, None], fresh[:, self.dim:], _shifted(steps, self.dim))
        return actions, torch.cat((torch.where(due[:, None], float(self.execute - 1), left - 1), steps), 1)

    def _blend(self, state: Tensor, chunks: Tensor) -> tuple[Tensor, Tensor]:
        n, last = len(state), self.size - 1
        sums, counts = state[:, :last * self.dim].reshape(n, last, self.dim), state[:, last * self.dim:]
        sums, counts = (torch.cat((x, torch.zeros_like(x[:, :1])), 1) for x in (sums, counts))
        weight = (-self.ensemble * counts).exp()
        sums = sums + weight.unsqueeze(-1) * chunks.reshape(n, self.size, self.dim)
        counts = counts + 1
        # The weights of i = 0 … c − 1 are a geometric series.
        norm = (1 - (-self.ensemble * counts[:, :1]).exp()) / -np.expm1(-self.ensemble)
        return sums[:, 0] / norm, torch.cat((sums[:, 1:].reshape(n, -1), counts[:, 1:]), 1)


def chunked(action: ActionSpec, size: int) -> ActionSpec:
    """`size` actions side by side, as one."""
    if size == 1:
        return action
    if action.discrete:
        return ActionSpec(nvec=action.nvec * size, shape=(action.dim * size,))
    return ActionSpec(low=np.tile(np.asarray(action.low), size), high=np.tile(np.asarray(action.high), size),
                      shape=(action.dim * size,))


def targets(actions: Array, episodes: Array, size: int) -> tuple[Array, Array]:
    """The chunk that begins at each row: (n, size · dim), and (n, size) bool where it is within the episode. What lies
    beyond is the episode's last action, and must not count.

    actions (n, dim), episodes (n,): what belongs together, in order
    """
    n = len(actions)
    ends = np.append(np.flatnonzero(episodes[1:] != episodes[:-1]), n - 1) if n else np.zeros(0, np.int64)
    last = ends[np.searchsorted(ends, np.arange(n))]
    rows = np.arange(n)[:, None] + np.arange(size)
    inside = rows <= last[:, None]
    return actions[np.minimum(rows, last[:, None])].reshape(n, size * actions.shape[1]), inside


def _shifted(steps: Tensor, dim: int) -> Tensor:
    return torch.cat((steps[:, dim:], torch.zeros_like(steps[:, :dim])), 1)


def _check(action: ActionSpec, config: PolicyConfig) -> None:
    """InputError for keys that do not go together."""
    if config.execute > config.chunk:
        raise InputError(f"policy.execute = {config.execute}: only policy.chunk = {config.chunk} steps are predicted; "
                         "raise policy.chunk or lower policy.execute")
    if config.ensemble and config.chunk == 1:
        raise InputError(f"policy.ensemble = {config.ensemble}: chunks of one step do not overlap; raise policy.chunk")
    if config.ensemble and config.execute > 1:
        raise InputError(f"policy.execute = {config.execute}: an ensemble predicts at every step; set policy.execute "
                         "to 0, or policy.ensemble to 0")
    if config.ensemble and action.discrete:
        raise InputError(f"policy.ensemble = {config.ensemble}: a mean of discrete actions is none of them; set it to "
                         "0 and use policy.execute")
