"""What every file of a policy becomes: a network, and how its outputs become actions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from puffer_il.core.actions import ActionSpec
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array, EnvSpec

Network = Callable[[Array, Any, Array | None], tuple[Array, Any]]  # rows, state, starts → outputs (n, width), state


class Head(Protocol):
    """How outputs become actions."""

    @property
    def samples(self) -> bool:
        """Whether a distribution is known, from which actions can be drawn."""

    def width(self) -> int:
        """How many outputs it needs."""

    def actions(self, outputs: Array, rng: np.random.Generator | None) -> Array:
        """Rows (n, dim); drawn from the distribution where `rng` is given, else its mode."""


@dataclass
class FilePolicy:
    """A NumpyPolicy: `network` gives the outputs, `head` the actions."""

    source: str  # the file
    network: Network
    head: Head
    num_parameters: int
    memoryless: bool = True
    notices: tuple[str, ...] = ()  # what its user should be told
    action: ActionSpec | None = None  # the environment's: dimensions that it locks have no column in a row
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def predict(self, obs: Array, state: Any = None, episode_start: Array | None = None,
                deterministic: bool = False) -> tuple[Array, Any]:
        """Stable-Baselines3's interface: (n, dim) for observations (n, *obs_shape). InputError where actions are to be
        sampled but the file holds no distribution."""
        if not (deterministic or self.head.samples):
            raise InputError(f"policy {self.source}: has no standard deviation per action, or other distribution; use "
                             "its deterministic actions")
        outputs, state = self.network(obs, state, episode_start)
        actions = self.head.actions(outputs, None if deterministic else self.rng)
        return (actions if self.action is None else self.action.chosen(actions)), state

    def set_random_seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)


@dataclass
class Choices:
    """One softmax for each entry of `nvec`. With `epsilon` the outputs are values: the highest is chosen, and a uniform
    choice with that probability where actions are sampled (Mnih et al. 2015). Where it is not `known` whether the
    outputs are logits or values, nothing is sampled."""

    nvec: tuple[int, ...]
    epsilon: float | None = None
    known: bool = True

    @property
    def samples(self) -> bool:
        return self.known

    def width(self) -> int:
        return sum(self.nvec)

    def actions(self, outputs: Array, rng: np.random.Generator | None) -> Array:
        if rng is not None and self.epsilon is None:
            outputs = outputs + rng.gumbel(size=outputs.shape)  # its argmax is a sample of the softmax
        blocks = np.split(outputs, np.cumsum(self.nvec)[:-1], axis=1)
        chosen = np.stack([block.argmax(1) for block in blocks], 1).astype(np.int32)
        if rng is None or self.epsilon is None:
            return chosen
        explores = rng.random((len(chosen), 1)) < self.epsilon
        return np.where(explores, rng.integers(0, self.nvec, chosen.shape), chosen).astype(np.int32)


@dataclass
class Bits:
    """One Bernoulli variable for each of `count` bits, the outputs are its log-odds."""

    count: int
    samples = True

    def width(self) -> int:
        return self.count

    def actions(self, outputs: Array, rng: np.random.Generator | None) -> Array:
        return (outputs + (0 if rng is None else rng.logistic(size=outputs.shape)) > 0).astype(np.int32)


@dataclass
class Normal:
    """The outputs are the means of a normal distribution, `log_std` (dim,) the logarithms of its deviations."""

    dim: int
    log_std: Array | None = None

    @property
    def samples(self) -> bool:
        return self.log_std is not None

    def width(self) -> int:
        return self.dim

    def actions(self, outputs: Array, rng: np.random.Generator | None) -> Array:
        if rng is not None and self.log_std is not None:
            outputs = outputs + np.exp(self.log_std) * rng.standard_normal(outputs.shape)
        return outputs.astype(np.float32)


@dataclass
class Squashed:
    """tanh(x) stretched over the range `low` to `high` (dim,).

    With `spread` the outputs are the means of a normal distribution of x and, behind them, the logarithms of its
    deviations, which are kept within −20 to 2 (Haarnoja et al. 2018).
    """

    low: Array
    high: Array
    spread: bool = False

    @property
    def samples(self) -> bool:
        return self.spread

    def width(self) -> int:
        return len(self.low) * (1 + self.spread)

    def actions(self, outputs: Array, rng: np.random.Generator | None) -> Array:
        dim = len(self.low)
        x = outputs[:, :dim]
        if rng is not None:
            x = x + np.exp(np.clip(outputs[:, dim:], -20, 2)) * rng.standard_normal(x.shape)
        return (self.low + 0.5 * (np.tanh(x) + 1) * (self.high - self.low)).astype(np.float32)


@dataclass
class Chosen:
    """The outputs are the numbers of the choices themselves, one for each of `count` choices."""

    count: int
    samples = False

    def width(self) -> int:
        return self.count

    def actions(self, outputs: Array, rng: np.random.Generator | None) -> Array:
        return outputs.reshape(-1, self.count).astype(np.int32)


def whole_range(action: ActionSpec) -> tuple[Array, Array]:
    """(width,) lowest and highest values of a continuous action, locked dimensions among them."""
    low, high = (action.whole(np.asarray(bound, np.float32).reshape(1, -1))[0] for bound in (action.low, action.high))
    return low, high


def output_head(network: Network, spec: EnvSpec, refuse: Callable[[str], Any]) -> Head:
    """How the outputs of an exported network become actions, from what it gives for some observations: whole numbers
    are choices, other numbers means, or one value per choice. None of them can be sampled. Refuses a network that does
    not take such observations, or answers the same ones in two ways."""
    rows = 2
    obs = np.random.default_rng(0).random((rows, *spec.obs_shape)).astype(spec.obs_dtype)
    try:
        outputs, again = (network(obs, None, None)[0] for _ in range(2))
    except Exception as error:  # other people's code, in whatever runs it, whose last line says what was wrong
        reason = one_line(RuntimeError(str(error).strip().rpartition("\n")[2] or type(error).__name__))
        refuse(f"does not take observations of shape {spec.obs_shape} ({reason}); use a policy of {spec.name}")
    if not np.array_equal(outputs, again):
        refuse("gives different actions for the same observations: it samples, or keeps a state in itself; export its "
               "mean, and a recurrent one to ONNX, where the state is an input")
    action, given = spec.action, outputs.reshape(rows, -1).shape[1] if outputs.size % rows == 0 else 0
    needed = sum(action.nvec) if action.discrete else action.width
    if action.discrete and outputs.dtype.kind in "iu" and given == len(action.nvec):
        return Chosen(given)
    if given != needed or outputs.ndim < 2:
        refuse(f"has {given} outputs but {spec.name} needs {needed}; use a policy of this environment")
    return Choices(action.nvec, known=False) if action.discrete else Normal(action.width)
