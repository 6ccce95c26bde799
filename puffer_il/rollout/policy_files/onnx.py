"""A network exported to ONNX, as rsl_rl's and Isaac Lab's exporters write it (`policy.onnx`), or torch.onnx for skrl,
Stable-Baselines3 or any other package. It runs in the package onnxruntime.

The first input is observations, the first output actions or the logits of choices. Further inputs and outputs are the
states of a GRU or an LSTM, (layers, 1, units) each.
"""

from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import one_line
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.rollout.policy_files.file_policy import FilePolicy, output_head
from puffer_il.rollout.policy_files.networks import Refuse, numbers, plain


def read(path: Path, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    plain(spec, refuse)
    try:
        import onnxruntime
    except ImportError:
        refuse("needs the package onnxruntime: pip install 'puffer-il[onnx]'")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has exceptions of its own for every kind of damage
        refuse(f"cannot be read as ONNX ({one_line(error)}); export it again")
    inputs = session.get_inputs()
    if len(inputs) > 3 or any(len(one.shape) != 3 or not isinstance(one.shape[2], int) for one in inputs[1:]):
        refuse(f"has {len(inputs)} inputs ({', '.join(one.name for one in inputs)}); export one that takes "
               "observations alone, or observations and the states of a GRU or an LSTM")
    network = _Network(session, spec)
    return FilePolicy(str(path), network, output_head(network, spec, refuse), 0, memoryless=len(inputs) == 1)


class _Network:
    """rows → outputs, one row at a time where the file fixes the batch's size."""

    def __init__(self, session: Any, spec: EnvSpec) -> None:
        self.session, self.inputs, self.spec = session, session.get_inputs(), spec
        self.outputs = [one.name for one in session.get_outputs()]
        self.single = isinstance(self.inputs[0].shape[0], int) or len(self.inputs) > 1

    def __call__(self, rows: Array, state: Any, starts: Array | None) -> tuple[Array, Any]:
        rows = numbers(self.spec, rows).numpy()
        if not self.single:
            return self.session.run(self.outputs[:1], {self.inputs[0].name: rows})[0], state
        names = [one.name for one in self.inputs]
        if state is None:  # (layers, rows, units) of each
            state = [np.zeros((one.shape[0], len(rows), one.shape[2]), np.float32) for one in self.inputs[1:]]
        elif starts is not None:
            state = [array * (1 - np.asarray(starts, np.float32))[None, :, None] for array in state]
        results = [self.session.run(self.outputs[:len(names)], dict(zip(names, (
            rows[i:i + 1], *(array[:, i:i + 1] for array in state)), strict=True))) for i in range(len(rows))]
        return (np.concatenate([one[0] for one in results]),
                [np.concatenate([one[k] for one in results], 1) for k in range(1, len(names))])
