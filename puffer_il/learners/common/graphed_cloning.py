"""Behaviour cloning's minibatches as CUDA graphs, which take the rows where they lie on the device."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from puffer_il.core.config import Config
from puffer_il.core.spec import Array
from puffer_il.learners.common.cuda_graphs import Graphs, wanted
from puffer_il.learners.common.demo_rows import DemoRows, Examples
from puffer_il.nn import FlatAdam, Flow, Policy, RandomShift
from puffer_il.nn.page_locked import page_locked


class GraphedCloning:
    """Steps of `optimizer` on the policy, from minibatches of single rows."""

    def __init__(self, policy: Policy, optimizer: FlatAdam, shift: RandomShift | None, device: torch.device,
                 notices: list[str]) -> None:
        self.policy, self.shift, self.device = policy, shift, device
        self.graphs = Graphs("cloning's minibatches", device, optimizer.changing, notices)

    def __call__(self, learn: Callable[[Examples], Tensor], data: DemoRows, index: Array,
                 constants: Sequence[Tensor]) -> Tensor | None:
        """What `learn` gives for the examples `index` (k,); it reads `constants` as well. None where they are sequences
        or do not lie on the device."""
        if type(data) is not DemoRows or not data.resident:
            return None
        shift, moves = self.shift, None
        if shift is not None:
            moves = page_locked(shift.draw(len(index)).numpy(), self.device)

        def step(rows: Tensor, moves: Tensor | None) -> Tensor:
            obs = data.obs.index_select(0, rows)
            obs = obs if shift is None or moves is None else shift.move(obs, moves)
            return learn(data.examples(self.policy, rows, obs))

        rows = page_locked(data.numbers(index), self.device)
        return self.graphs(step, (rows, moves), (*data.sources(), *constants))


def graphed_cloning(config: Config, policy: Policy, optimizer: FlatAdam, shift: RandomShift | None,
                    device: torch.device, notices: list[str]) -> GraphedCloning | None:
    """None where they are not asked for, or differ too much from each other; the user is told of the latter."""
    if not wanted(config, device):
        return None
    if policy.memory is None and not isinstance(policy.dist, Flow):
        return GraphedCloning(policy, optimizer, shift, device, notices)
    what = "a flow" if policy.memory is None else "sequences"
    notices.append(f"train.cuda_graphs = true: cloning of {what} runs without CUDA graphs")
    return None
