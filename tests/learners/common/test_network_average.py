"""The average of a network over iterations: the plain mean at first, then one that fades; the network stays itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from puffer_il.learners.common.network_average import NetworkAverage


def set_to(network: nn.Linear, number: float) -> None:
    with torch.no_grad():
        network.weight.fill_(number)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_mean_of_few_and_forgets_the_oldest_of_many(dtype):
    network = nn.Linear(1, 1, bias=False, dtype=dtype)
    average = NetworkAverage(network, 4)
    for number in (1.0, 2.0, 6.0):
        set_to(network, number)
        average.add()
    assert average.mean["weight"].item() == 3
    for _ in range(40):
        average.add()
    assert abs(average.mean["weight"].item() - 6) < 1e-3


def test_a_memory_of_one_is_the_last_network():
    network = nn.Linear(1, 1, bias=False)
    average = NetworkAverage(network, 1)
    for number in (1.0, 2.0):
        set_to(network, number)
        average.add()
    assert average.mean["weight"].item() == 2


def test_the_network_has_its_own_weights_again_afterwards():
    network = nn.Linear(1, 1, bias=False)
    average = NetworkAverage(network, 4)
    for number in (0.1, 0.3):
        set_to(network, number)
        average.add()
    place = network.weight.data_ptr()
    with average.in_place():
        assert abs(network.weight.item() - 0.2) < 1e-6
    assert network.weight.item() == torch.tensor(0.3).item() and network.weight.data_ptr() == place


def test_it_goes_on_from_its_state():
    network = nn.Linear(2, 1)
    average, again = NetworkAverage(network, 4), NetworkAverage(network, 4)
    set_to(network, 5.0)
    average.add()
    again.load_state_dict(average.state_dict())
    set_to(network, 7.0)
    for one in (average, again):
        one.add()
    assert torch.equal(average.mean["weight"], again.mean["weight"]) and (again.mean["weight"] == 6).all()
