"""What every layer agrees on: specs of an environment, demonstrations, one vector step, the learner protocol.

Arrays are time-major, `(num_steps, num_envs, …)`. `num_envs` counts rows of a vector step: one per agent, so an
environment with two agents contributes two. Only numpy is imported here, so that every layer may import it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

if TYPE_CHECKING:
    from puffer_il.buffer import RolloutBuffer
    from puffer_il.config import Config

Array = np.ndarray
Metrics = dict[str, float]


class InputError(Exception):
    """The user's input was wrong: one line that names the key or file, the value and the remedy (exit code 2)."""


class Quit(Exception):
    """A person who is asked has had enough: the run ends here as if it had been interrupted."""


class EnvFailure(RuntimeError):
    """An environment or its worker process died; the message holds its traceback or signal (exit code 1)."""


@dataclass(frozen=True)
class ActionSpec:
    """Actions of one agent. Discrete and multi-discrete ones have `nvec`; continuous ones have `low` and `high`.

    A batch of actions is always two-dimensional: int32 `(n, len(nvec))` or float32 `(n, prod(shape))`.
    """

    nvec: tuple[int, ...] = ()
    low: Array | None = None  # float32, flat
    high: Array | None = None
    shape: tuple[int, ...] = ()  # what the environment itself expects for one action

    @property
    def discrete(self) -> bool:
        return bool(self.nvec)

    @property
    def kind(self) -> str:
        """One of `About.spaces`."""
        return "continuous" if not self.nvec else "discrete" if len(self.nvec) == 1 else "multi-discrete"

    @property
    def dim(self) -> int:
        """Columns of a stored action row."""
        return len(self.nvec) if self.nvec else int(np.prod(self.shape))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32 if self.nvec else np.float32)

    @property
    def half_range(self) -> Array:
        """(dim,) float32 half the width of a continuous range, 1 where it has no bounds."""
        width = (np.asarray(self.high) - np.asarray(self.low)) / 2
        return np.where(np.isfinite(width), width, 1).astype(np.float32)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActionSpec) or (self.nvec, self.shape) != (other.nvec, other.shape):
            return False
        bounds = ((self.low, other.low), (self.high, other.high))
        return self.discrete or all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in bounds)


@dataclass(frozen=True)
class ObsField:
    """One leaf of an observation inside its flat row, as PufferLib's emulation lays it out (byte offset, dtype, shape).

    `categories` is nonzero for a leaf that holds a category number: the policy sees it one-hot.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int = 0
    categories: int = 0

    @property
    def image(self) -> bool:
        """uint8 with three axes: the policy sends it through its convolutional encoder."""
        return self.dtype == np.uint8 and len(self.shape) == 3


@dataclass(frozen=True)
class EnvSpec:
    """What a learner may know of an environment: the shapes of one agent's observation and action."""

    name: str
    obs_shape: tuple[int, ...]
    obs_dtype: np.dtype
    action: ActionSpec
    obs_fields: tuple[ObsField, ...] = ()  # one per leaf of a Dict or Tuple; a single one otherwise
    num_agents: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "obs_dtype", np.dtype(self.obs_dtype))
        if not self.obs_fields:
            object.__setattr__(self, "obs_fields", (ObsField("obs", self.obs_dtype, self.obs_shape),))

    @property
    def structured(self) -> bool:
        """True if the row must be cut into fields before a network can read it."""
        only = self.obs_fields[0]
        return len(self.obs_fields) > 1 or only.categories > 0 or only.dtype != self.obs_dtype


@dataclass(slots=True)
class Batch:
    """One vector step of the environments in `rows`, after the actions sent for them.

    obs          (n, *obs_shape)  what to act on next: after an end, the first observation of the next episode, or,
                                  where `valid` will be False next, the final one (next-step autoreset)
    rewards      (n,) float32     for the actions sent
    terminations (n,) bool        those actions ended the episode
    truncations  (n,) bool        a time limit cut it (never together with a termination)
    valid        (n,) bool        False where the action was ignored: a resetting environment or an absent agent
    final_obs    (n, *obs_shape)  true successor of the rows that ended; other rows are undefined. May alias `obs`.
    episode_returns, episode_lengths, (k,): true return and length of the episodes that ended in this step
    Views are good until the next `send` for the same rows.
    """

    rows: slice
    obs: Array
    rewards: Array
    terminations: Array
    truncations: Array
    valid: Array
    final_obs: Array
    episode_returns: Array
    episode_lengths: Array


@dataclass(frozen=True)
class Demos:
    """Demonstrations: flat transitions plus episode offsets, checked on construction and read-only afterwards.

    obs, next_obs   (n, *obs_shape); next_obs is the true successor, never the next episode's first observation
    actions         (n, dim): int32 for discrete and multi-discrete ones, float32 otherwise; None where only the
                    observations were recorded
    terminations, truncations  (n,) bool, set on at most the last row of an episode, never both
    episode_starts  (episodes,) int64, increasing, the first 0
    rewards         (n,) float32 or None, the true reward
    episode_returns, episode_lengths, episode_terminations, episode_truncations  (episodes,) float64, int64, bool, bool
                    of the whole episodes; given where the rows are only a part of each (subsampled), None otherwise
    weights         (n,) float32, at least 0: how much each row counts against the others; None where all count alike
    states          (n, state size) float64 or None: the environment's whole state at each obs, to put it back there
    """

    obs: Array
    actions: Array | None
    next_obs: Array
    terminations: Array
    truncations: Array
    episode_starts: Array
    rewards: Array | None = None
    episode_returns: Array | None = None
    episode_lengths: Array | None = None
    episode_terminations: Array | None = None
    episode_truncations: Array | None = None
    weights: Array | None = None
    states: Array | None = None
    source: str = "memory"
    notes: tuple[str, ...] = field(default=(), compare=False)  # what the reader skipped or assumed

    def __post_init__(self) -> None:
        n = len(self.obs)
        if n == 0:
            raise InputError(f"demos {self.source}: no transitions; collect at least one episode")
        for name in ("actions", "next_obs", "terminations", "truncations", "rewards", "weights", "states"):
            array = getattr(self, name)
            if array is not None and len(array) != n:
                raise InputError(f"demos {self.source}: {name} has {len(array)} rows but obs has {n}; "
                                 "every array must hold one row per transition")
        if self.next_obs.shape != self.obs.shape:
            raise InputError(f"demos {self.source}: next_obs has shape {self.next_obs.shape} but obs {self.obs.shape}; "
                             "they must agree")
        if self.actions is not None and self.actions.ndim != 2:
            raise InputError(f"demos {self.source}: actions has {self.actions.ndim} axes instead of 2 (row, dimension)")
        starts = self.episode_starts
        if len(starts) == 0 or starts[0] != 0 or starts[-1] >= n or np.any(np.diff(starts) <= 0):
            raise InputError(f"demos {self.source}: episode_starts must rise from 0 and stay below {n} transitions, "
                             f"got {starts[:5].tolist()}…")
        for name in ("episode_returns", "episode_lengths", "episode_terminations", "episode_truncations"):
            array = getattr(self, name)
            if array is not None and array.shape != starts.shape:
                raise InputError(f"demos {self.source}: {name} has shape {array.shape} but there are {len(starts)} "
                                 "episodes; give one number per episode")
        for name in ("obs", "next_obs", "actions", "rewards", "episode_returns", "weights", "states"):
            array = getattr(self, name)
            if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = int(np.argwhere(~np.isfinite(array))[0][0])
                raise InputError(f"demos {self.source}: {name} is NaN or infinite in row {bad}; "
                                 "remove that episode or repair the recording")
        ends = self.terminations | self.truncations
        inner = np.setdiff1d(np.flatnonzero(ends), self.episode_ends - 1)
        if len(inner):
            raise InputError(f"demos {self.source}: row {inner[0]} ends an episode but episode_starts has no start at "
                             f"row {inner[0] + 1}; split the episodes there")
        both = np.flatnonzero(self.terminations & self.truncations)
        if len(both):
            raise InputError(f"demos {self.source}: row {both[0]} is both a termination and a truncation; keep one "
                             "(a time limit is a truncation)")
        if self.weights is not None and (self.weights.ndim != 1 or self.weights.min() < 0 or self.weights.max() <= 0):
            raise InputError(f"demos {self.source}: weights have shape {self.weights.shape} and lie in "
                             f"[{self.weights.min():.4g}, {self.weights.max():.4g}]; give one number per transition, "
                             "none negative and not all zero")
        if self.states is not None and self.states.ndim != 2:
            raise InputError(f"demos {self.source}: states has {self.states.ndim} axes instead of 2 (row, number)")
        for name in ("obs", "actions", "next_obs", "terminations", "truncations", "episode_starts", "rewards",
                     "episode_returns", "episode_lengths", "episode_terminations", "episode_truncations", "weights",
                     "states"):
            array = getattr(self, name)
            if array is not None:
                array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_starts)

    @property
    def episode_ends(self) -> Array:
        """(episodes,) one past the last row of each episode."""
        return np.append(self.episode_starts[1:], len(self.obs))

    @property
    def lengths(self) -> Array:
        """(episodes,) rows stored of each episode."""
        return self.episode_ends - self.episode_starts

    @property
    def whole_lengths(self) -> Array:
        """(episodes,) steps of each whole episode: more than its rows where they are subsampled."""
        return self.lengths if self.episode_lengths is None else self.episode_lengths

    @property
    def terminated(self) -> Array:
        """(episodes,) bool, True where the whole episode ended in a termination."""
        if self.episode_terminations is not None:
            return self.episode_terminations
        return self.terminations[self.episode_ends - 1]

    @property
    def truncated(self) -> Array:
        """(episodes,) bool, True where a time limit cut the whole episode."""
        if self.episode_truncations is not None:
            return self.episode_truncations
        return self.truncations[self.episode_ends - 1]

    @property
    def returns(self) -> Array | None:
        """(episodes,) undiscounted true returns of the whole episodes, None without rewards."""
        if self.episode_returns is not None or self.rewards is None:
            return self.episode_returns
        return np.add.reduceat(self.rewards, self.episode_starts, dtype=np.float64)

    @property
    def episode_weights(self) -> Array:
        """(episodes,) float64 mean weight of each episode's rows, 1 without weights."""
        if self.weights is None:
            return np.ones(self.num_episodes)
        return np.add.reduceat(self.weights, self.episode_starts, dtype=np.float64) / self.lengths

    @property
    def return_mean(self) -> float | None:
        """Mean of `returns`, each episode counting as its `episode_weights` say."""
        return None if self.returns is None else float(np.average(self.returns, weights=self.episode_weights))


@dataclass(frozen=True)
class Starts:
    """Where some episodes begin: with probability `share` in one of `states` (n, state size), all equally likely."""

    states: Array
    share: float


@dataclass(frozen=True)
class About:
    """What `puffer-il algos` and `train auto` tell of an algorithm.

    paper   authors, year and address
    when    one sentence: whom it suits, and what it costs
    spaces  the action spaces it covers: "discrete", "multi-discrete", "continuous"
    """

    paper: str
    when: str
    spaces: tuple[str, ...] = ("discrete", "multi-discrete", "continuous")


class NumpyPolicy(Protocol):
    """A policy in any framework, of which the loop sees arrays alone. `predict` is Stable-Baselines3's.

    It is what `Learner.policy` is where that is no `puffer_il.policy.Policy`.
    """

    num_parameters: int

    def predict(self, obs: Array, state: Any, episode_start: Array, deterministic: bool) -> tuple[Array, Any]:
        """Actions (n, dim) for raw observations (n, *obs_shape), and a state of its own that comes back next time.

        `state` is None in the first call; `episode_start` (n,) bool is True where a row begins a new episode. Without
        `deterministic` actions may be sampled.
        """

    def set_random_seed(self, seed: int) -> None:
        """Where the sampling of `predict` begins; learning must not depend on it."""

    def state_dict(self) -> dict[str, Any]:
        """Its weights: arrays (or tensors), numbers, strings, dicts and lists."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class NumpyActorCritic(NumpyPolicy, Protocol):
    """What such a policy needs besides for a learner with rollouts (it has no recurrent state there)."""

    def act(self, obs: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Sampled actions (n, dim), their log-probabilities (n,) and the values (n,) of n observations."""

    def value(self, obs: Array) -> Array:
        """Values (n,) of n observations."""


class Expert(Protocol):
    """Whom a learner asks what to do; it may be a file, a function of the environment, or a person.

    stepwise   True if it looks at the environments as they stand, or remembers: it must be asked at every step
    """

    stepwise: bool

    def act(self, obs: Array, starts: Array, rows: slice) -> Array:
        """(n, dim) what it would do after obs (n, *obs_shape) in the environments `rows`; starts (n,) bool where an
        episode begins. Without `stepwise` the rows may be any."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers: tensors, numbers, strings, dicts and lists."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Mixer(Protocol):
    """Who acts in a rollout, of a learner with `needs_expert`: the first three are read once per rollout.

    expert_acts, policy_acts   whether `mix` needs the actions of each; without the expert's it is not called
    greedy                     True if the policy acts by its mode
    """

    @property
    def expert_acts(self) -> bool: ...

    @property
    def policy_acts(self) -> bool: ...

    @property
    def greedy(self) -> bool: ...

    def mix(self, own: Array | None, expert: Array, starts: Array, rows: slice) -> Array:
        """(n, dim) what is done in the environments `rows`, the policy's and the expert's actions being (n, dim)."""


class Learner(Protocol):
    """One algorithm: it sees arrays and demonstrations, never a vector environment.

    Built as `Learner(spec, demos, config, device, seed)`; `config` is the run's Config, whose attributes are the
    sections (`config.ppo`, `config.policy`, …). A learner that needs no rollouts gets `buffer=None` in `update`, and
    one update is one pass of its own (BC: an epoch); `done` then tells the trainer that it has converged.
    `progress` is the share of the run that is over, in [0, 1].

    `policy` is a `puffer_il.policy.Policy`, which has the fast way, or a `NumpyPolicy` (with rollouts a
    `NumpyActorCritic`) of any framework. In the second case the class has `make_policy(spec, config)` too, which makes
    an untrained one for a checkpoint's weights. `register` fills in `needs_actions`, `needs_expert` and `about`.

    A learner whose reward can be kept also has `learned_reward()`, which returns a `learned_reward.LearnedReward`; it
    is written beside every checkpoint.
    """

    name: ClassVar[str]
    section: ClassVar[type]  # the dataclass of its config section
    needs_rollouts: ClassVar[bool]
    needs_demos: ClassVar[bool]
    needs_actions: ClassVar[bool]  # False: it reads observations alone, and `demos.actions` may be None
    needs_expert: ClassVar[bool]  # True: it is a Mixer, asks the expert that its section's key `expert` names what to
    # do in states of its own, and finds the answers in `buffer.expert_actions`; demonstrations are then optional
    about: ClassVar[About]
    promised_metrics: ClassVar[tuple[str, ...]]  # keys that `relabel` and `update` report together, every time

    policy: Any  # see above
    done: bool
    steps_per_update: int  # samples of one update, for learners without rollouts
    notices: list[str]  # warnings for the user; the trainer hands them on and clears the list

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: Any, seed: int) -> None: ...

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Write what the learner optimises into `buffer.rewards`, in one pass over the whole rollout."""

    def advantages(self, buffer: RolloutBuffer) -> None:
        """Fill `buffer.advantages` and `buffer.returns`."""

    def update(self, buffer: RolloutBuffer | None, progress: float) -> Metrics:
        """Learn from the rollout (or from the demonstrations) and report the promised metrics as plain floats."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on exactly: tensors, arrays, numbers, strings, dicts, lists."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def finish(self) -> None:
        """Called once when the run has reached its end, before the last evaluation."""
