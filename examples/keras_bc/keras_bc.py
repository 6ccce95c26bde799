"""Behaviour cloning with a Keras network, on TensorFlow or whatever backend Keras is set to: a package of its own.

    L = −mean log π(a|s), minimised by AdamW in Keras's own compiled training step

    pip install ./examples/keras_bc tensorflow && puffer-il train keras_bc cartpole
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import Array, EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About, Learner
from puffer_il.learners.registry import register


@dataclass(frozen=True)
class KerasBCConfig:
    learning_rate: float = setting(1e-3, "AdamW's step size", low=0)
    batch_size: int = setting(256, "transitions per minibatch", low=1)
    weight_decay: float = setting(1e-4, "decoupled weight decay", low=0)


class KerasPolicy:
    """An MLP with a softmax: a `NumpyPolicy` of `puffer_il.nn`. Its inputs are normalised by `mean` and `std`."""

    def __init__(self, spec: EnvSpec, config: Config, seed: int = 0) -> None:
        size, layers = int(np.prod(spec.obs_shape)), [*config.policy.hidden, spec.action.nvec[0]]
        activations = [config.policy.activation] * (len(layers) - 1) + [None]
        self.network = keras.Sequential([keras.Input((size,)), *(  # seeds of its own: Keras's global one stays alone
            keras.layers.Dense(units, activation, kernel_initializer=keras.initializers.GlorotUniform(seed + i))
            for i, (units, activation) in enumerate(zip(layers, activations, strict=True)))])
        self.mean, self.std = np.zeros(size, np.float32), np.ones(size, np.float32)
        self.num_parameters = self.network.count_params()
        self.rng = np.random.default_rng(0)

    def normalised(self, obs: Array) -> Array:
        return (obs.reshape(len(obs), -1) - self.mean) / self.std

    def predict(self, obs: Array, state: Any = None, episode_start: Array | None = None,
                deterministic: bool = True) -> tuple[Array, None]:
        logits = self.network.predict_on_batch(self.normalised(obs))
        if not deterministic:  # Gumbel-max
            logits = logits + self.rng.gumbel(size=logits.shape)
        return logits.argmax(1)[:, None], None

    def set_random_seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.get_weights(), "mean": self.mean, "std": self.std}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.set_weights(state["network"])
        self.mean, self.std = state["mean"], state["std"]


@register("keras_bc")
class KerasBC(Learner):
    """Supervised learning of the demonstrated actions; one `update` is one epoch."""

    section = KerasBCConfig
    config: KerasBCConfig
    needs_rollouts = False
    about = About("Pomerleau 1991, doi:10.1162/neco.1991.3.1.88", "an example of a learner with a Keras network",
                  ("discrete",))
    promised_metrics = ("bc/train_nll",)
    saved = ("policy", "rng")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: Any, seed: int) -> None:
        assert demos.actions is not None
        super().__init__(spec, demos, config, device, seed)
        self.rng = np.random.default_rng(seed)
        self.policy = KerasPolicy(spec, config, seed)
        rows = demos.obs.reshape(len(demos), -1)
        self.policy.mean, self.policy.std = rows.mean(0), rows.std(0) + 1e-6
        self.obs, self.actions = self.policy.normalised(demos.obs), demos.actions[:, 0]
        self.steps_per_update = len(demos)
        self.optimizer = keras.optimizers.AdamW(self.config.learning_rate, weight_decay=self.config.weight_decay)
        self.policy.network.compile(self.optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self.optimizer.build(self.policy.network.trainable_variables)  # or a resumed run had nothing to load into

    def update(self, buffer: None, progress: float) -> Metrics:
        order = self.rng.permutation(len(self.obs))  # ours, and so part of the checkpoint
        history = self.policy.network.fit(self.obs[order], self.actions[order], batch_size=self.config.batch_size,
                                          shuffle=False, verbose=0)
        return {"bc/train_nll": float(history.history["loss"][0])}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"optimizer": [keras.ops.convert_to_numpy(v) for v in self.optimizer.variables]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for variable, value in zip(self.optimizer.variables, state["optimizer"], strict=True):
            variable.assign(value)

    @classmethod
    def make_policy(cls, spec: EnvSpec, config: Config) -> KerasPolicy:
        return KerasPolicy(spec, config)
