"""The discriminator's input rows and the replay of earlier policies."""

import numpy as np
import torch

from puffer_il.discriminator import REPLAY_KEEP, Discriminator, Replay
from puffer_il.fast import obs_moments
from puffer_il.types import ActionSpec, EnvSpec, ObsField

FLOAT = np.dtype(np.float32)
CPU = torch.device("cpu")


def test_rows_are_features_actions_and_a_flag(route):
    spec = EnvSpec("box", (2,), FLOAT, ActionSpec(low=np.float32([-2]), high=np.float32([2]), shape=(1,)))
    discriminator = Discriminator(spec, (8,), "tanh", False)
    discriminator.update_norm(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 1.0]), 10)
    rows = discriminator.rows(torch.tensor([[3.0, 0.5]]), torch.tensor([[9.0]]))
    torch.testing.assert_close(rows, torch.tensor([[1.0, 0.5, 1.0, 0.0]]))  # the action as it is executed: clipped
    assert discriminator.absorbing_rows(2).tolist() == [[0, 0, 0, 1]] * 2


def test_images_and_categories_reach_the_logit_and_its_gradient():
    struct = np.dtype([("kind", np.int32), ("image", np.uint8, (8, 8, 3))], align=True)
    fields = (ObsField("kind", np.dtype(np.int32), (), 0, 3), ObsField("image", np.dtype(np.uint8), (8, 8, 3), 4))
    torch.manual_seed(0)
    spec = EnvSpec("dict", (struct.itemsize,), np.dtype(np.uint8), ActionSpec(nvec=(2,)), fields)
    discriminator = Discriminator(spec, (8,), "relu", True)
    raw = torch.randint(0, 3, (5, struct.itemsize), dtype=torch.uint8)
    raw[:, 1:4] = 0  # the category's upper bytes
    rows = discriminator.rows(raw, torch.randint(0, 2, (5, 1), dtype=torch.int32)).requires_grad_()
    gradient, = torch.autograd.grad(discriminator(rows).sum(), rows, create_graph=True)
    gradient.square().sum().backward()  # what a gradient penalty needs
    assert (gradient[:, 3:-3].abs().sum(1) > 0).all()
    mean, variance, count = obs_moments(discriminator.flatten, raw)
    assert mean.shape == variance.shape == (0,) and count == 5  # nothing of it is normalised
    discriminator.update_norm(mean, variance, count)


def test_the_replay_keeps_a_share_of_each_rollout_and_forgets_the_oldest():
    spec = EnvSpec("x", (1,), FLOAT, ActionSpec(nvec=(2,)))
    replay, generator = Replay(25, spec, CPU), torch.Generator().manual_seed(0)
    assert len(replay) == 0
    for k in range(6):
        replay.add(torch.full((1000, 1), float(k)), torch.zeros(1000, 1, dtype=torch.int32), None, generator)
    assert len(replay) == 25
    values, counts = replay.obs.unique(return_counts=True)
    assert values.tolist() == [3.0, 4.0, 5.0] and counts.tolist() == [5, 10, 10]
    assert round(1000 * REPLAY_KEEP) == 10


def test_only_valid_rows_enter_the_replay():
    spec = EnvSpec("x", (1,), FLOAT, ActionSpec(nvec=(2,)))
    replay = Replay(50, spec, CPU)
    obs = torch.arange(2000.0).unsqueeze(1)
    replay.add(obs, torch.zeros(2000, 1, dtype=torch.int32), torch.arange(0, 2000, 2), torch.Generator().manual_seed(0))
    kept = replay.obs[:len(replay), 0]
    assert len(kept) == 10 and (kept % 2 == 0).all()
