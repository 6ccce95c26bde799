"""What has diverged when a loss, a gradient or a weight is NaN or infinite, and the smaller steps of a run that goes
back to its last checkpoint because of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core import checkpoint
from puffer_il.core.checkpoint import Stateful
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Metrics
from puffer_il.nn import FlatAdam
from puffer_il.nn.observations import RunningNorm

SMALLER = 0.5  # times which learning rates count after each time that a run goes back
SHOWN = 3  # names of a kind that a line holds
OWN = "puffer_il.learners"  # the package whose objects are looked into


def diverged(metrics: Metrics, learner: Any) -> str:
    """What of an update is not finite, a line; "" if all is. The networks themselves are looked at too, as a last step
    may break them without a trace in the losses."""
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    parts = dict(_parts(learner))
    if not wrong and all(_finite(x) for part in parts.values() for x in _quick(part)) and _policy_finite(learner):
        return ""
    said = [f"{name} is {metrics[name]}" for name in wrong[:SHOWN]]
    for what, of in (("gradients", lambda p: p.grad), ("weights", lambda p: p.detach())):
        groups = dict.fromkeys(group for group, tensor in _named(parts, of) if not _finite(tensor))
        if groups:
            said.append(f"the {what} of {', '.join(list(groups)[:SHOWN])} are not finite")
    norms = [path for path, part in parts.items() if isinstance(part, nn.Module)
             for norm in part.modules() if isinstance(norm, RunningNorm) and not _finite(norm.mean + norm.var)]
    if norms:
        said.append(f"the observations' statistics of {norms[0]} are not finite")
    return "; ".join(said or ["the policy's weights are not finite"])


def go_back(trainer: Any, cause: str) -> bool:
    """Take a run (a Trainer) back to its last checkpoint, with smaller steps; False where it is to stop."""
    cfg, wall, spent, times = trainer.config.train, trainer.wall_s, trainer.train_s, trainer.rollbacks + 1
    able = any(isinstance(part, FlatAdam | torch.optim.Optimizer) for _, part in _parts(trainer.learner))
    state: dict[str, Any] | None = None
    if cfg.on_divergence == "rollback" and times <= cfg.max_rollbacks and able:
        with suppress(InputError, OSError):  # the directory may be gone
            state, _, _ = checkpoint.load_newest(trainer.run_dir, "cpu")
    if state is None:
        return False
    trainer.checkpoints.take_up(state)
    slow_down(trainer.learner, times, trainer.rollbacks)
    trainer.rollbacks, trainer.train_s = times, spent
    trainer.wall_before += wall - trainer.wall_s  # the clock does not go back
    if trainer.collector is not None and state["collector"] is None:
        trainer.collector.begin()
    for logger in trainer.loggers:
        logger.rewind()
    trainer.message(f"{cause}; the run goes back to step {trainer.env_steps:,} with half the learning rates, time "
                    f"{times} of {cfg.max_rollbacks} (train.on_divergence = 'stop' ends it instead)")
    return True


def slow_down(learner: Any, times: int, since: int) -> None:
    """Let a learner take steps as small as after going back `times`; its present state is of a run that had gone back
    `since` times."""
    for _, optimizer in _parts(learner):
        if isinstance(optimizer, FlatAdam):
            optimizer.slowed = SMALLER ** times
            optimizer.zero_grad()
            optimizer.prepare()
        elif isinstance(optimizer, torch.optim.Optimizer):
            for group in optimizer.param_groups:
                group["lr"] *= SMALLER ** (times - since)


def _parts(root: Any, path: str = "", known: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """The optimisers and networks of a learner, with the attributes that lead to them."""
    known = set() if known is None else known
    for name, value in list(vars(root).items()):
        if id(value) in known:
            continue
        where = f"{path}.{name}".lstrip("._")
        if isinstance(value, nn.Module | FlatAdam | torch.optim.Optimizer):
            known.add(id(value))
            yield where, value
        elif isinstance(value, Stateful) or (type(value).__module__.startswith(OWN) and hasattr(value, "__dict__")):
            known.add(id(value))
            yield from _parts(value, where, known)


def _quick(part: Any) -> Iterator[Tensor]:
    """What tells in few passes that a part is finite."""
    if isinstance(part, FlatAdam):
        yield part.flat
    elif isinstance(part, torch.optim.Optimizer):
        yield from (p.detach() for group in part.param_groups for p in group["params"])
    else:
        for norm in (m for m in part.modules() if isinstance(m, RunningNorm)):
            yield from (norm.mean, norm.var)


def _policy_finite(learner: Any) -> bool:
    """Of a policy in another framework."""
    if isinstance(learner.policy, nn.Module):
        return True
    arrays = (np.asarray(x) for x in learner.policy.state_dict().values() if isinstance(x, np.ndarray | Tensor))
    return all(bool(np.isfinite(array).all()) for array in arrays if array.dtype.kind == "f")


def _named(parts: dict[str, Any], of: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors of the networks' parameters, by the part of a network that they belong to: "policy.actor"."""
    for path, part in parts.items():
        if isinstance(part, nn.Module):
            for name, parameter in part.named_parameters():
                if (tensor := of(parameter)) is not None:
                    yield f"{path}.{name.split('.')[0]}", tensor


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
