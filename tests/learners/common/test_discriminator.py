"""The discriminator's input rows and the replay of earlier policies."""


import numpy as np
import pytest
import torch

from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.learners.common.discriminator import Discriminator
from puffer_il.learners.common.inputs import paired_with
from puffer_il.nn.observations import obs_moments
from tests.support.rollouts import sign_demos

FLOAT = np.dtype(np.float32)
CPU = torch.device("cpu")


def test_rows_are_features_actions_and_a_flag(route):
    spec = EnvSpec("box", (2,), FLOAT, ActionSpec(low=np.float32([-2]), high=np.float32([2]), shape=(1,)))
    discriminator = Discriminator(spec, (8,), "tanh", False)
    discriminator.update_norm(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 1.0]), 10)
    rows = discriminator.rows(torch.tensor([[3.0, 0.5]]), torch.tensor([[9.0]]))
    torch.testing.assert_close(rows, torch.tensor([[1.0, 0.5, 1.0, 0.0]]))  # the action as it is executed: clipped
    assert discriminator.absorbing_rows(2).tolist() == [[0, 0, 0, 1]] * 2


def test_rows_of_transitions_hold_both_states(route):
    spec = EnvSpec("box", (2,), FLOAT, ActionSpec(nvec=(2,)))
    discriminator = Discriminator(spec, (8,), "tanh", False, "state_next_state")
    discriminator.update_norm(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 1.0]), 10)
    obs, later = torch.tensor([[3.0, 0.5], [0.0, 0.0]]), torch.tensor([[5.0, 0.25], [99.0, 0.0]])
    rows = discriminator.rows(obs, later)
    torch.testing.assert_close(rows, torch.tensor([[1.0, 0.5, 2.0, 0.25, 0.0], [-0.5, 0.0, 10.0, 0.0, 0.0]]))
    assert torch.equal(discriminator.rows(obs, later, torch.tensor([1])), rows[1:])
    assert discriminator.absorbing_rows(1).tolist() == [[0, 0, 0, 0, 1]]
    assert discriminator.actions is None and discriminator(rows).shape == (2,)


def test_rows_of_states_hold_nothing_else(route):
    spec = EnvSpec("box", (2,), FLOAT, ActionSpec(nvec=(2,)))
    discriminator = Discriminator(spec, (8,), "tanh", False, "state")
    assert discriminator.rows(torch.tensor([[3.0, 0.5]])).tolist() == [[3.0, 0.5, 0.0]]
    assert discriminator.absorbing_rows(1).tolist() == [[0, 0, 1]]


def test_other_inputs_are_refused():
    with pytest.raises(ValueError, match="action_state"):
        Discriminator(EnvSpec("x", (1,), FLOAT, ActionSpec(nvec=(2,))), (8,), "tanh", False, "action_state")


def test_what_stands_beside_demonstrated_states():
    demos = sign_demos()
    assert paired_with("state_action", demos.actions, demos.next_obs) is demos.actions
    assert paired_with("state_next_state", demos.actions, demos.next_obs) is demos.next_obs
    assert paired_with("state", None, demos.next_obs) is None
    assert paired_with("next_state", demos.actions, demos.next_obs) is demos.next_obs


def test_a_row_of_the_next_state_is_the_row_of_that_state(route):
    spec = EnvSpec("x", (3,), FLOAT, ActionSpec(nvec=(2,)))
    arrival, departure = (Discriminator(spec, (8,), "tanh", False, kind) for kind in ("next_state", "state"))
    obs, next_obs = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([3, 3, 19])
    for each in (arrival, departure):
        each.update_norm(torch.ones(3), torch.full((3,), 4.0), 20)
    assert torch.equal(arrival.rows(obs, next_obs), departure.rows(next_obs))
    assert torch.equal(arrival.rows(obs, next_obs, index), departure.rows(next_obs, None, index))
    arrival.load_state_dict(departure.state_dict())
    assert torch.equal(arrival.logits(obs, next_obs), departure.logits(next_obs, None))


def test_images_and_categories_of_both_states_reach_the_logit():
    struct = np.dtype([("kind", np.int32), ("speed", np.float32), ("image", np.uint8, (8, 8, 3))], align=True)
    fields = (ObsField("kind", np.dtype(np.int32), (), 0, 3), ObsField("speed", FLOAT, (), 4),
              ObsField("image", np.dtype(np.uint8), (8, 8, 3), 8))
    torch.manual_seed(0)
    spec = EnvSpec("dict", (struct.itemsize,), np.dtype(np.uint8), ActionSpec(nvec=(2,)), fields)
    discriminator = Discriminator(spec, (8,), "relu", False, "state_next_state")
    raw = np.zeros((2, 6), struct)
    raw["kind"], raw["speed"] = np.array([[0, 1, 2] * 2, [2] * 6]), np.array([[1.0] * 6, [1.5] * 6])
    raw["image"] = np.random.default_rng(0).integers(0, 255, (2, 6, 8, 8, 3))
    obs, later = (torch.from_numpy(rows.view(np.uint8).reshape(6, -1)) for rows in raw)
    rows = discriminator.rows(obs, later).requires_grad_()
    one, pixels = 1 + 3, 8 * 8 * 3
    assert rows.shape == (6, 2 * (one + pixels) + 1)
    assert rows[1, one + pixels:2 * one + pixels].tolist() == [1.5, 0, 0, 1]
    gradient, = torch.autograd.grad(discriminator(rows).sum(), rows)
    assert (gradient[:, one:one + pixels].abs().sum(1) > 0).all()
    assert (gradient[:, -1 - pixels:-1].abs().sum(1) > 0).all()


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
