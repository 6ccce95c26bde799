"""A network exported to TorchScript (torch.jit), as rsl_rl's and Isaac Lab's exporters write it (`policy.pt`), or made
by torch.jit.trace of a model of skrl or any other package.

It takes observations (n, width) and gives actions, or the logits of choices; of several outputs the first is taken.
"""

from pathlib import Path
from typing import Any

import torch

from puffer_il.core.errors import one_line
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.rollout.policy_files.file_policy import FilePolicy, output_head
from puffer_il.rollout.policy_files.networks import Refuse, count, numbers, plain


def recognises(members: frozenset[str]) -> bool:
    return any(name.endswith("/constants.pkl") for name in members) and any("/code/" in name for name in members)


def read(path: Path, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    plain(spec, refuse)
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        refuse(f"cannot be read as TorchScript ({one_line(error)}); export it again")

    def network(rows: Array, state: Any, starts: Array | None) -> tuple[Array, Any]:
        with torch.no_grad():
            given = module(numbers(spec, rows))
        while isinstance(given, tuple | list):
            given = given[0]
        return given.numpy(), state

    if {name.rpartition(".")[2] for name, _ in module.named_buffers()} & {"hidden_state", "cell_state"}:
        refuse("keeps the recurrent state of one environment in itself; export it to ONNX, where the state is an input")
    return FilePolicy(str(path), network, output_head(network, spec, refuse), count([module]))
