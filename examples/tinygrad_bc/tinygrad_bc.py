"""Behaviour cloning in tinygrad: a learner in another framework, installed as a package of its own.

    L = −mean log π(a|s), minimised by AdamW; a whole step is one replay of tinygrad's JIT

    pip install ./examples/tinygrad_bc && puffer-il train tinygrad_bc cartpole
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from tinygrad import Context, Tensor, TinyJit, nn

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import Array, EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About, Learner
from puffer_il.learners.registry import register


@dataclass(frozen=True)
class TinygradBCConfig:
    learning_rate: float = setting(1e-3, "AdamW's step size", low=0)
    batch_size: int = setting(256, "transitions per minibatch", low=1)
    weight_decay: float = setting(1e-4, "decoupled weight decay", low=0)


class TinygradPolicy:
    """An MLP with a softmax: a `NumpyPolicy` of `puffer_il.nn`. Its inputs are normalised by `mean` and `std`."""

    def __init__(self, spec: EnvSpec, config: Config) -> None:
        sizes = [int(np.prod(spec.obs_shape)), *config.policy.hidden, spec.action.nvec[0]]
        self.layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.mean, self.std = Tensor.zeros(sizes[0]).contiguous(), Tensor.ones(sizes[0]).contiguous()
        self.activation = config.policy.activation
        self.num_parameters = sum(p.numel() for p in nn.state.get_parameters(self.layers))
        self.rng = np.random.default_rng(0)
        self.modes: dict[int, TinyJit] = {}  # a JIT replays one shape alone
        Tensor.realize(*self.tensors().values())

    def __call__(self, obs: Tensor) -> Tensor:
        """Logits (n, actions) of observations (n, size)."""
        x = (obs - self.mean) / self.std
        for layer in self.layers[:-1]:
            x = getattr(layer(x), self.activation)()
        return self.layers[-1](x)

    def predict(self, obs: Array, state: Any = None, episode_start: Array | None = None,
                deterministic: bool = True) -> tuple[Array, None]:
        forward = self.modes.setdefault(len(obs), TinyJit(lambda rows: self(rows).realize()))
        logits = forward(_upload(obs.reshape(len(obs), -1))).numpy()
        if not deterministic:  # Gumbel-max
            logits = logits + self.rng.gumbel(size=logits.shape)
        return logits.argmax(1)[:, None], None

    def set_random_seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def tensors(self) -> dict[str, Tensor]:
        return nn.state.get_state_dict({"layers": self.layers, "mean": self.mean, "std": self.std})

    def state_dict(self) -> dict[str, Array]:
        return {name: tensor.numpy() for name, tensor in self.tensors().items()}

    def load_state_dict(self, state: dict[str, Array]) -> None:
        _assign(self.tensors(), state)


@register("tinygrad_bc")
class TinygradBC(Learner):
    """Supervised learning of the demonstrated actions; one `update` is one epoch."""

    section = TinygradBCConfig
    config: TinygradBCConfig
    needs_rollouts = False
    about = About("Pomerleau 1991, doi:10.1162/neco.1991.3.1.88", "an example of a learner in another framework",
                  ("discrete",))
    promised_metrics = ("bc/train_nll",)
    saved = ("policy", "rng")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: Any, seed: int) -> None:
        assert demos.actions is not None
        super().__init__(spec, demos, config, device, seed)
        Tensor.manual_seed(seed)  # of the first weights
        self.rng = np.random.default_rng(seed)
        self.policy = TinygradPolicy(spec, config)
        self.obs, self.actions = demos.obs.reshape(len(demos), -1), demos.actions[:, 0]
        self.batch_size = min(self.config.batch_size, len(demos))
        self.steps_per_update = len(demos) // self.batch_size * self.batch_size  # whole minibatches: one shape
        _assign(self.policy.tensors(), {"mean": self.obs.mean(0), "std": self.obs.std(0) + 1e-6})
        self.optimizer = nn.optim.AdamW(nn.state.get_parameters(self.policy.layers), lr=self.config.learning_rate,
                                        weight_decay=self.config.weight_decay)
        self.step = TinyJit(self._step)

    def _step(self, obs: Tensor, actions: Tensor) -> Tensor:
        loss = self.policy(obs).sparse_categorical_crossentropy(actions)
        self.optimizer.zero_grad()
        loss.backward()
        return loss.realize(*self.optimizer.schedule_step())

    def update(self, buffer: None, progress: float) -> Metrics:
        order = self.rng.permutation(len(self.obs))[:self.steps_per_update].reshape(-1, self.batch_size)
        with Context(TRAINING=1):
            losses = [self.step(_upload(self.obs[rows]), _upload(self.actions[rows])).numpy() for rows in order]
        return {"bc/train_nll": float(np.mean(losses))}

    def state_dict(self) -> dict[str, Any]:
        optimizer = {name: tensor.numpy() for name, tensor in nn.state.get_state_dict(self.optimizer).items()}
        return super().state_dict() | {"optimizer": optimizer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        _assign(nn.state.get_state_dict(self.optimizer), state["optimizer"])

    @classmethod
    def make_policy(cls, spec: EnvSpec, config: Config) -> TinygradPolicy:
        return TinygradPolicy(spec, config)


def _upload(array: Array) -> Tensor:
    """The JIT takes only tensors that are in memory."""
    return Tensor(np.ascontiguousarray(array)).realize()


def _assign(tensors: dict[str, Tensor], arrays: dict[str, Array]) -> None:
    """In place, for what the JIT has recorded goes on reading the same memory."""
    for name, array in arrays.items():
        tensors[name].assign(Tensor(array, dtype=tensors[name].dtype)).realize()
