"""Recurrent TorchScript, which keeps the state of one environment in itself: it acts in many at once, or is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from puffer_il.core.errors import InputError
from puffer_il.rollout.policy_files import read_policy
from tests.support.policy_files import OBS, given, spec


class Recurrent(nn.Module):
    """As rsl_rl exports it: the state of one environment is in the module."""

    def __init__(self, kind="lstm", begins=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.begins, self.mlp = kind, begins, nn.Linear(6, 2)
        self.rnn = (nn.LSTM if kind == "lstm" else nn.GRU)(4, 6, 2)
        self.register_buffer("hidden_state", torch.full((2, 1, 6), begins))
        if kind == "lstm":
            self.register_buffer("cell_state", torch.zeros(2, 1, 6))


class Lstm(Recurrent):
    def forward(self, x):
        x, (h, c) = self.rnn(x.unsqueeze(0), (self.hidden_state, self.cell_state))
        self.hidden_state[:] = h
        self.cell_state[:] = c
        return self.mlp(x.squeeze(0))

    @torch.jit.export
    def reset(self) -> None:
        self.hidden_state[:] = self.begins
        self.cell_state[:] = 0.0


class Gru(Recurrent):
    def __init__(self):
        super().__init__("gru")

    def forward(self, x):
        x, h = self.rnn(x.unsqueeze(0), self.hidden_state)
        self.hidden_state[:] = h
        return self.mlp(x.squeeze(0))

    @torch.jit.export
    def reset(self) -> None:
        self.hidden_state[:] = 0.0


class Mixes(Gru):
    """Of several rows the first one's state is that of all."""

    def forward(self, x):
        x, h = self.rnn(x.unsqueeze(0), self.hidden_state)
        self.hidden_state[:] = h[:, :1]
        return self.mlp(x.squeeze(0))


def one_after_the_other(net, rows, starts):
    """(steps, n, 2) means of a recurrent network of one environment, for each of them by itself."""
    columns = []
    for row, begins in zip(rows.swapaxes(0, 1), starts.T, strict=True):
        net.reset()
        outputs = []
        for obs, begin in zip(row, begins, strict=True):
            if begin:
                net.reset()
            outputs.append(given(net, obs[None])[0])
        columns.append(outputs)
    return np.array(columns).swapaxes(0, 1)


@pytest.mark.parametrize("net", [Lstm(), Gru()])
def test_recurrent_torchscript_acts_in_many_environments_as_in_each_of_them(tmp_path, net):
    torch.jit.script(net).save(str(tmp_path / "policy.pt"))
    policy, rows, state = read_policy(tmp_path / "policy.pt", spec()), OBS[:60].reshape(12, 5, 4), None
    starts = np.random.default_rng(1).random((12, 5)) < 0.2
    wanted = one_after_the_other(net, rows, starts)
    assert not policy.memoryless
    for obs, begins, means in zip(rows, starts, wanted, strict=True):
        actions, state = policy.predict(obs, state, begins, deterministic=True)
        np.testing.assert_allclose(actions, means, atol=1e-5)


class TakesItsState(nn.Module):
    def forward(self, x, hidden):
        return x[:, :2], hidden


@pytest.mark.parametrize(("net", "message"), [
    (TakesItsState(), r"takes more than observations \(hidden\).*ONNX"),
    (Lstm(begins=1.0), "does not begin with zeros; export it to ONNX"),
    (Mixes(), "acts otherwise for two environments at once"),
])
def test_a_state_that_cannot_be_kept_for_each_environment_is_refused(tmp_path, net, message):
    torch.jit.script(net).save(str(tmp_path / "policy.pt"))
    with pytest.raises(InputError, match=message):
        read_policy(tmp_path / "policy.pt", spec())


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_real_rsl_rls_recurrent_networks_agree(tmp_path, kind):
    pytest.importorskip("rsl_rl", reason="pip install rsl-rl-lib")
    from rsl_rl.models import RNNModel
    from tensordict import TensorDict

    torch.manual_seed(0)
    model = RNNModel(TensorDict({"policy": torch.zeros(1, 4)}, [1]), {"actor": ["policy"]}, "actor", 2, [8], "elu",
                     True, {"class_name": "GaussianDistribution"}, rnn_type=kind, rnn_hidden_dim=6)
    model.eval()
    torch.jit.script(model.as_jit()).save(str(tmp_path / "policy.pt"))
    policy, state = read_policy(tmp_path / "policy.pt", spec()), None
    starts = np.zeros((100, 10), bool)
    starts[0] = starts[40, 1] = starts[41, 2] = True
    for obs, begins in zip(OBS.reshape(100, 10, 4), starts, strict=True):
        model.reset(torch.from_numpy(begins.astype(np.float32)))
        with torch.no_grad():
            wanted = model(TensorDict({"policy": torch.from_numpy(obs)}, [10])).numpy()
        actions, state = policy.predict(obs, state, begins, deterministic=True)
        np.testing.assert_allclose(actions, wanted, atol=1e-5)
