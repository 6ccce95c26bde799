"""A flow learns a distribution with two modes, and repeats itself where it is asked to."""

import numpy as np
import pytest
import torch

from puffer_il.core.spec import ActionSpec
from puffer_il.nn.distributions import Noise
from puffer_il.nn.flow import Flow

BOX = ActionSpec(low=np.float32([-2]), high=np.float32([2]), shape=(1,))
CPU = torch.device("cpu")


def make(steps: int = 8) -> Flow:
    torch.manual_seed(0)
    return Flow(BOX, 1, (32, 32), "silu", steps)


def test_actions_of_two_kinds_come_out_as_two_kinds_and_depend_on_the_features():
    dist, generator = make(), torch.Generator().manual_seed(0)
    dist.measure(torch.tensor([[-1.5], [-0.5], [0.5], [1.5]]))
    optimizer = torch.optim.Adam(dist.parameters(), 1e-2)
    for _ in range(500):
        features = torch.randint(2, (256, 1), generator=generator).float()
        sign = torch.randint(2, (256, 1), generator=generator) * 2.0 - 1
        loss = dist.loss(features, sign * (0.5 + features), None, generator).mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    for feature, expected in ((0.0, 0.5), (1.0, 1.5)):
        actions, _ = dist.sample(torch.full((2000, 1), feature), Noise.on(CPU, 0))
        close = ((actions.abs() - expected).abs() < 0.25).float().mean()
        assert float(close) > 0.7 and 0.35 < float((actions > 0).float().mean()) < 0.65


def test_units_are_those_of_the_first_demonstrations_and_stay_with_the_weights():
    dist, actions = make(), torch.tensor([[1.0], [3.0], [50.0]])
    dist.measure(actions, torch.tensor([[True], [True], [False]]))
    assert (float(dist.center), float(dist.scale)) == (2.0, 1.0)
    dist.measure(actions)
    copy = make()
    copy.load_state_dict(dist.state_dict())
    assert (float(copy.center), float(copy.scale), bool(copy.measured)) == (2.0, 1.0, True)
    never = make()
    never.measure(torch.ones(4, 1))
    assert float(never.scale) == pytest.approx(0.002)


def test_the_mode_is_the_same_every_time_and_in_every_copy():
    dist, features = make(), torch.randn(5, 1)
    assert torch.equal(dist.mode(features), dist.mode(features))
    copy = Flow(BOX, 1, (32, 32), "silu", 8)
    copy.load_state_dict(dist.state_dict())
    assert torch.equal(copy.mode(features), dist.mode(features))
    assert not torch.equal(dist.sample(features)[0], dist.sample(features)[0])


def test_what_is_beyond_an_episode_has_no_loss():
    dist, features, actions = make(), torch.randn(6, 1), torch.randn(6, 1)
    counts = torch.tensor([[True], [False]] * 3)
    every, some = (dist.loss(features, actions, c, torch.Generator().manual_seed(1)) for c in (None, counts))
    assert torch.equal(some[::2], every[::2]) and bool((some[1::2] == 0).all())


def test_more_steps_follow_the_same_flow_more_closely():
    torch.manual_seed(0)
    features, flows = torch.randn(20, 1), {steps: make(steps) for steps in (2, 8, 64)}
    with torch.no_grad():
        for flow in flows.values():
            flow.end[-1].weight.mul_(200)
    ends = {steps: flow.mode(features).detach() for steps, flow in flows.items()}
    assert float((ends[8] - ends[64]).abs().mean()) < float((ends[2] - ends[64]).abs().mean())
