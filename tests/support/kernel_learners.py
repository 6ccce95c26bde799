"""What the tests of the kernels of learners share: specs and rows of every kind, weights as after some training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.airl import AIRL
from puffer_il.learners.common.adversarial import DISC_METRICS
from puffer_il.learners.common.discriminator import Logit, discriminator_gradients
from puffer_il.learners.experiment import build
from puffer_il.learners.gail import GAIL
from tests.support.rollouts import expert_rows

CPU = torch.device("cpu")
ACTIONS = {
    "discrete": ActionSpec(nvec=(4,)),
    "multidiscrete": ActionSpec(nvec=(3, 2, 5), shape=(3,)),
    "box": ActionSpec(low=np.float32([-2, 0, -1]), high=np.float32([1, 4, 1]), shape=(3,)),
    "unbounded": ActionSpec(low=np.float32([-np.inf] * 2), high=np.float32([np.inf] * 2), shape=(2,)),
}
BENT = [{"squash": True}, {"state_std": True}, {"squash": True, "state_std": True}]  # of policies over a box
DTYPES = ("float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")


def make_spec(action: str = "discrete", dtype: str = "float32", shape: tuple[int, ...] = (5,)) -> EnvSpec:
    return EnvSpec("test", shape, np.dtype(dtype), ACTIONS[action])


def random_obs(spec: EnvSpec, n: int, rng: np.random.Generator) -> Array:
    """Columns of different scales, far from zero on either side."""
    columns = math.prod(spec.obs_shape)
    scales = (np.linspace(1, 4, columns) * (-1) ** np.arange(columns)).reshape(spec.obs_shape)
    numbers, kind = rng.normal(size=(n, *spec.obs_shape)) * scales + 20 * scales, spec.obs_dtype.kind
    return numbers > 20 * scales if kind == "b" else (abs(numbers) if kind == "u" else numbers).astype(spec.obs_dtype)


def actions_for(spec: EnvSpec, n: int, rng: np.random.Generator) -> Array:
    action = spec.action
    if action.discrete:
        return (rng.random((n, action.dim)) * np.array(action.nvec)).astype(np.int32)
    return (2 * rng.normal(size=(n, action.dim))).astype(np.float32)  # some of them out of range


def random_demos(spec: EnvSpec, n: int = 300) -> Demos:
    rng = np.random.default_rng(5)
    obs, ends = random_obs(spec, n, rng), np.arange(n) % 50 == 49
    return Demos(obs, actions_for(spec, n, rng), np.roll(obs, -1, 0), ends, np.zeros(n, bool), np.arange(0, n, 50))


def config(algo: str, **tables: dict[str, Any]) -> Any:
    return build(algo, [("test", tables)])


def shake(module: nn.Module, seed: int = 1) -> None:
    """Weights as after some training: biases that are not zero, an actor that is not flat."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)


def spoil_memory(net: nn.Module) -> None:
    """Leave a NaN wherever a network of this shape has its activations."""
    kernels.set_threads(1)
    with torch.no_grad():
        assert bool(net(torch.full((kernels.BLOCK_ROWS, net[0].in_features), math.nan)).isnan().all())


def by_the_kernels(cfg: Any, logit: Logit, expert: Tensor, policy: Tensor, mix: Tensor | None) -> Tensor:
    stats = discriminator_gradients(logit, expert, policy, loss=cfg.loss, label_smoothing=cfg.label_smoothing,
                                    ent_coef=cfg.disc_ent_coef, gp_coef=cfg.gp_coef, gp_kind=cfg.gp_kind,
                                    gp_target=cfg.gp_target, mix=mix)
    assert stats is not None and len(stats) == len(DISC_METRICS)
    return stats


def check_that_torch_steps(learner: GAIL | AIRL, paired: Any) -> None:
    rows = expert_rows(learner)
    keys: dict[str, Any] = {"loss": "bce", "label_smoothing": 0.0, "ent_coef": 0.0, "gp_coef": 0.0,
                            "gp_kind": "interpolated", "gp_target": 1.0}
    assert discriminator_gradients(learner.discriminator.logit(), rows, rows, mix=None, **keys) is None
    learner.optimizer.prepare()
    flat = learner.optimizer.flat.clone()
    learner._update_discriminator(learner.demo_obs, paired, None)
    assert not torch.equal(learner.optimizer.flat, flat) and bool(learner.optimizer.flat.isfinite().all())
