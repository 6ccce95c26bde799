"""A classifier of demonstrated steps: how much each is like those of episodes that are known to be good.

    L = −mean over good rows log D − mean over the others log(1 − D);   logit = log p_good − log p_rest

Every row is judged by a network that has not seen its part of the demonstrations (cross-fitting), because one that has
would know good rows by heart and find nothing like them among the others.
"""

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.learners.common.demo_rows import on_device
from puffer_il.learners.common.discriminator import Discriminator, discriminator_gradients
from puffer_il.learners.common.inputs import paired_with, pass_rows
from puffer_il.nn import FlatAdam, discriminator_loss, obs_moments

FOLDS = 3
UPDATES = 1000
BATCH = 256  # good rows and others of an update, each
HIDDEN, LEARNING_RATE, WEIGHT_DECAY = (64, 64), 1e-3, 1e-4


def row_logits(demos: Demos, known: Array, spec: EnvSpec, seed: int, device: torch.device) -> Array:
    """(n,) logits of the rows of `demos`; `known` (episodes,) bool: those known to be good. By state and action or,
    where no actions are stored, by state and successor."""
    kind = "state_next_state" if demos.actions is None else "state_action"
    paired = paired_with(kind, demos.actions, demos.next_obs)
    obs, paired = on_device(demos.obs, device), on_device(paired, device)
    good, fold = np.repeat(known, demos.lengths), folds(demos, known, np.random.default_rng(seed))
    logits = np.empty(len(demos), np.float32)
    with torch.random.fork_rng([]):  # the policy begins as it would without
        torch.manual_seed(seed)
        for k in range(FOLDS):
            network = Discriminator(spec, HIDDEN, "tanh", False, kind).to(device)
            network.update_norm(*obs_moments(network.flatten, obs))
            learned, judged = fold != k, torch.from_numpy(np.flatnonzero(fold == k)).to(device)
            sides = [torch.from_numpy(np.flatnonzero(side & learned)).to(device) for side in (good, ~good)]
            _fit(network, obs, paired, sides, torch.Generator(device).manual_seed(seed + k))
            for part in judged.split(pass_rows(spec)):
                logits[part.cpu()] = network.logits(obs[part], paired[part]).cpu().numpy()
    return logits


def folds(demos: Demos, known: Array, rng: np.random.Generator) -> Array:
    """(n,) which part of the demonstrations a row belongs to: whole episodes, as many good ones in each; of fewer than
    FOLDS episodes on one side each is cut into FOLDS."""
    part, step = np.empty(demos.num_episodes, int), np.concatenate([np.arange(n) for n in demos.lengths])
    cut = step * FOLDS // np.repeat(demos.lengths, demos.lengths)
    whole = np.ones(demos.num_episodes, bool)
    for side in (known, ~known):
        episodes = rng.permutation(np.flatnonzero(side))
        part[episodes] = np.arange(len(episodes)) % FOLDS
        whole[episodes] = len(episodes) >= FOLDS
    return np.where(np.repeat(whole, demos.lengths), np.repeat(part, demos.lengths), cut)


def _fit(network: Discriminator, obs: Tensor, paired: Tensor, sides: list[Tensor], generator: torch.Generator) -> None:
    """UPDATES steps of Adam on equally many rows of the two `sides`, good ones first."""
    optimizer = FlatAdam((p for p in network.parameters() if p.requires_grad), learning_rate=LEARNING_RATE,
                         weight_decay=WEIGHT_DECAY, max_grad_norm=1.0)
    optimizer.prepare()
    for _ in range(UPDATES):
        good, rest = (network.rows(obs, paired, rows[torch.randint(len(rows), (BATCH,), generator=generator,
                                                                   device=rows.device)]) for rows in sides)
        done = discriminator_gradients(network.logit(), good, rest, loss="bce", label_smoothing=0.0, ent_coef=0.0,
                                       gp_coef=0.0, gp_kind="interpolated", gp_target=1.0, mix=None)
        if done is None:
            optimizer.zero_grad()
            discriminator_loss("bce", network(good), network(rest)).backward()
        optimizer.step()
