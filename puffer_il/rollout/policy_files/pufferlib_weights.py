"""Weights of PufferLib 3's own policy (`pufferlib.models.Default`, alone or in its LSTMWrapper), as its trainer saves
them: one layer with GELU, an LSTM where there is one, and the decoder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.rollout.policy_files.file_policy import Choices, FilePolicy, Head, Normal
from puffer_il.rollout.policy_files.networks import Refuse, count, linear, lstm, under

ENCODER = {"encoder.0.weight", "encoder.0.bias"}
DISCRETE = {"decoder.weight", "decoder.bias", "value.weight", "value.bias"}
CONTINUOUS = {"decoder_mean.weight", "decoder_mean.bias", "decoder_logstd", "value.weight", "value.bias"}


def recognises(state: Any) -> bool:
    weights = _own(state)
    return weights is not None and weights.keys() in (ENCODER | DISCRETE, ENCODER | CONTINUOUS)


def read(path: Path, state: Any, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    weights = _own(state)
    assert weights is not None
    fits = f"use a policy of {spec.name}"
    if spec.structured:
        refuse(f"reads one array, but the observations of {spec.name} have parts; {fits}")
    encoder = linear(weights["encoder.0.weight"], weights["encoder.0.bias"])
    inputs = int(np.prod(spec.obs_shape))
    if encoder.in_features != inputs:
        refuse(f"has a layer of shape {(encoder.in_features, encoder.out_features)} for {inputs} inputs; {fits}")
    if ("decoder.weight" in weights) != spec.action.discrete:
        refuse(f"acts in another kind of actions than {spec.name}; {fits}")
    name = "decoder" if spec.action.discrete else "decoder_mean"
    decoder = linear(weights[f"{name}.weight"], weights[f"{name}.bias"])
    head: Head = Choices(spec.action.nvec) if spec.action.discrete else Normal(
        spec.action.width, weights["decoder_logstd"].reshape(-1).numpy())
    if decoder.out_features != head.width():
        refuse(f"has {decoder.out_features} outputs but {spec.name} needs {head.width()}; {fits}")
    memory = under(state, "lstm.")
    network = _Network(encoder, lstm(memory, refuse) if memory else None, decoder)
    return FilePolicy(str(path), network, head, count([encoder, decoder]), not memory,
                      (f"policy {path}: read as PufferLib's Default policy",))


class _Network:
    def __init__(self, encoder: nn.Linear, memory: nn.LSTM | None, decoder: nn.Linear) -> None:
        self.encoder, self.memory, self.decoder = encoder, memory, decoder

    def __call__(self, rows: Array, state: Any, starts: Array | None) -> tuple[Array, Any]:
        with torch.no_grad():
            x = torch.from_numpy(np.ascontiguousarray(rows.reshape(len(rows), -1), np.float32))
            x = nn.functional.gelu(self.encoder(x))
            if self.memory is not None:
                if state is None:
                    state = (torch.zeros(1, len(x), self.memory.hidden_size),) * 2
                elif starts is not None:
                    keep = 1 - torch.from_numpy(np.asarray(starts, np.float32)).view(1, -1, 1)
                    state = state[0] * keep, state[1] * keep
                out, state = self.memory(x.unsqueeze(0), state)
                x = out[0]
            return self.decoder(x).numpy(), state


def _own(state: Any) -> dict[str, Tensor] | None:
    """The weights of the policy itself, without its LSTM."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        return None
    return under(state, "policy.") or dict(state)
