"""A network exported to TorchScript (torch.jit), as rsl_rl's and Isaac Lab's exporters write it (`policy.pt`), or made
by torch.jit.trace of a model of skrl or any other package.

It takes observations (n, width) and gives actions, or the logits of choices; of several outputs the first is taken. A
recurrent one keeps the state of one environment in itself, as buffers `hidden_state` and `cell_state` (layers, 1,
units) which its method `reset` zeroes: these are put there before every step, for as many environments as act, and
taken out behind it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.errors import one_line
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.rollout.policy_files.file_policy import FilePolicy, output_head
from puffer_il.rollout.policy_files.networks import Refuse, count, numbers, plain

STATES = ("hidden_state", "cell_state")
EXPORT = "export it to ONNX, where the state is an input"


def recognises(members: frozenset[str]) -> bool:
    return any(name.endswith("/constants.pkl") for name in members) and any("/code/" in name for name in members)


def read(path: Path, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    plain(spec, refuse)
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        refuse(f"cannot be read as TorchScript ({one_line(error)}); export it again")
    more = [one.name for one in module.forward.schema.arguments[2:] if not one.has_default_value()]
    if more:
        refuse(f"takes more than observations ({', '.join(more)}), and does not say of what shape they are; {EXPORT}")
    owned = [(owner, name) for owner in module.modules() for name, _ in owner.named_buffers(recurse=False)
             if name in STATES]
    network = _Network(module, spec, owned)
    if owned:
        _check_state(network, refuse)
    head = output_head(network, spec, refuse)
    if owned:
        _check_rows(network, spec, refuse)
    return FilePolicy(str(path), network, head, count([module]), memoryless=not owned)


class _Network:
    """rows → outputs; the state is one tensor (layers, n, units) for each of the buffers that are `owned`."""

    def __init__(self, module: torch.jit.ScriptModule, spec: EnvSpec, owned: list[tuple[Any, str]]) -> None:
        self.module, self.spec, self.owned = module, spec, owned

    @torch.no_grad()
    def __call__(self, rows: Array, state: list[Tensor] | None, starts: Array | None) -> tuple[Array, Any]:
        if self.owned and state is None:
            state = [buffer.new_zeros(buffer.shape[0], len(rows), buffer.shape[2]) for buffer in self.buffers]
        elif self.owned and starts is not None:
            keep = torch.from_numpy(1 - np.asarray(starts, np.float32))[None, :, None]
            state = [part * keep for part in state or ()]
        for (owner, name), part in zip(self.owned, state or (), strict=True):
            setattr(owner, name, part.clone())  # which it may overwrite
        given = self.module(numbers(self.spec, rows))
        while isinstance(given, tuple | list):
            given = given[0]
        return given.numpy(), self.buffers if self.owned else state

    @property
    def buffers(self) -> list[Tensor]:
        return [getattr(owner, name) for owner, name in self.owned]


def _check_state(network: _Network, refuse: Refuse) -> None:
    """Refuse a state that does not begin with zeros, or is not that of a GRU or an LSTM."""
    fits = all(buffer.ndim == 3 and buffer.shape[1] == 1 for buffer in network.buffers)
    if not fits or not hasattr(network.module, "reset"):
        refuse(f"keeps the recurrent state of one environment in itself, and has no method reset for it; {EXPORT}")
    try:
        network.module.reset()
    except (RuntimeError, TypeError) as error:
        refuse(f"keeps a recurrent state that its method reset does not reset ({one_line(error)}); {EXPORT}")
    if any(bool(buffer.any()) for buffer in network.buffers):
        refuse(f"keeps a recurrent state that does not begin with zeros; {EXPORT}")


def _check_rows(network: _Network, spec: EnvSpec, refuse: Refuse) -> None:
    """Refuse a network that does not act for several environments at once as it does for each of them."""
    obs = np.random.default_rng(1).random((3, 2, *spec.obs_shape)).astype(spec.obs_dtype)
    together: Any = None
    alone: list[Any] = [None, None]
    for rows in obs:
        outputs, together = network(rows, together, None)
        for k in range(2):
            single, alone[k] = network(rows[k:k + 1], alone[k], None)
            if not np.allclose(outputs[k], single[0], rtol=1e-4, atol=1e-5):
                refuse(f"acts otherwise for two environments at once than for each of them; {EXPORT}")
