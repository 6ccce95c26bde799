"""Who acts: a policy, an environment's script, a function, or chance. A person is in `envkit.person`.

`training.resolve_actor` makes one of what the user names.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.checkpoint import Stateful
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.nn import Noise, NumpyActorCritic, NumpyPolicy, Policy
from puffer_il.rollout.answers import rows_of
from puffer_il.vector.vec import Vec

EVERY = slice(None)  # row of a vector


class Actor(Stateful):
    """Who acts in a vector of environments. Subclasses say what is done, and in `saved` what their state is.

    stepwise  True if actions depend on the environments' present state or on earlier calls: call it at every step
    """

    stepwise = False

    def begin(self, seed: int) -> None:
        """New episodes begin everywhere, with everything random from `seed`."""

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        """Actions (n, dim) for obs (n, *obs_shape) of the environments `rows`; starts (n,) bool is True where an
        episode begins. Without `stepwise`, obs may come from anywhere. Actions need not keep to their range."""
        raise NotImplementedError


class PolicyActor(Actor):
    """A `Policy`; with a memory it keeps a recurrent state for each row."""

    saved = ("state",)

    def __init__(self, policy: Policy, num_envs: int, deterministic: bool = True, seed: int = 0) -> None:
        self.policy, self.deterministic = policy, deterministic
        self.device = next(policy.parameters()).device
        self.noise = Noise.on(self.device, seed)
        self.state = policy.initial_state(num_envs)
        self.stepwise = not deterministic or self.state is not None

    def begin(self, seed: int) -> None:
        self.noise = Noise.on(self.device, seed)
        self.state = None if self.state is None else self.policy.initial_state(len(self.state))

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        state = None
        if self.state is not None:
            keep = 1 - torch.as_tensor(starts, dtype=torch.float32, device=self.device)
            state = self.state[rows] * keep.unsqueeze(1)
        actions, _, _, state = self.policy.act(torch.from_numpy(obs).to(self.device), state, self.noise,
                                               rows.start or 0, self.deterministic)
        self.noise.step += 1
        if self.state is not None and state is not None:
            self.state[rows] = state
        return actions.cpu().numpy()


class NumpyActor(Actor):
    """Anything with Stable-Baselines3's `predict`: a NumpyPolicy, or with `own_form` a model of that library, whose
    observations and actions are in the environment's own form instead of rows. Its state is not saved."""

    def __init__(self, policy: Any, spec: EnvSpec, deterministic: bool = True, seed: int = 0,
                 own_form: bool = False) -> None:
        self.policy, self.spec, self.deterministic, self.own_form = policy, spec, deterministic, own_form
        self.stepwise = not (deterministic and getattr(policy, "memoryless", False))
        self.states: dict[int | None, Any] = {}  # by the first of the rows
        parameters = inspect.signature(policy.predict).parameters
        self.masked = own_form and spec.mask is not None and "action_masks" in parameters
        self.begin(seed)

    def begin(self, seed: int) -> None:
        self.states.clear()
        if not self.deterministic and hasattr(self.policy, "set_random_seed"):
            self.policy.set_random_seed(seed)

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        state, spec = self.states.get(rows.start), self.spec
        seen = spec.unpack(obs) if self.own_form else obs
        allowed = spec.allowed(obs) if self.masked else None
        masks = {} if allowed is None else {"action_masks": np.concatenate(allowed, 1)}
        actions, self.states[rows.start] = self.policy.predict(seen, state, starts, self.deterministic, **masks)
        return rows_of("the policy", actions, spec.action, len(obs)) if self.own_form else spec.action.rows(actions)


class FunctionActor(Actor):
    """A function of n observations alone, which gives n actions, both in the environment's own form."""

    def __init__(self, function: Callable[[Any], Any], spec: EnvSpec) -> None:
        self.function, self.spec = function, spec

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        answer = self.function(self.spec.unpack(obs))
        return rows_of("the function that acts", answer, self.spec.action, len(obs))


class ScriptActor(Actor):
    """The environments' own c_expert, which sees all of their state."""

    stepwise = True

    def __init__(self, vec: Vec) -> None:
        self.vec = vec

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        actions = self.vec.expert_actions()
        assert actions is not None
        return actions[rows]


class RandomActor(Actor):
    """Uniform over the action space, or over what may be done; standard normal where a continuous range has no
    bounds."""

    saved = ("rng",)
    stepwise = True

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self.rng, self.action, self.spec = np.random.default_rng(seed), spec.action, spec
        if not self.action.discrete:
            low, high = np.asarray(self.action.low), np.asarray(self.action.high)
            self.bounded = np.isfinite(low) & np.isfinite(high)
            self.range = np.where(self.bounded, low, 0), np.where(self.bounded, high, 1)
            self.center = np.clip(0, low, high)

    def begin(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, obs: Array, starts: Array, rows: slice = EVERY) -> Array:
        size = (len(obs), self.action.dim)
        allowed = self.spec.allowed(obs)
        if allowed is not None:
            drawn = [(self.rng.random(part.shape) * part).argmax(1) for part in allowed]
            return np.stack(drawn, 1).astype(np.int32)
        if self.action.discrete:
            return self.rng.integers(0, self.action.nvec, size).astype(np.int32)
        uniform = self.rng.uniform(*self.range, size)
        return np.where(self.bounded, uniform, self.center + self.rng.standard_normal(size)).astype(np.float32)


def policy_actor(policy: Policy | NumpyPolicy, vec: Vec, deterministic: bool = True, seed: int = 0) -> Actor:
    """A policy in the environments of `vec`; without `deterministic` its noise comes from `seed`."""
    if isinstance(policy, Policy):
        return PolicyActor(policy, vec.num_envs, deterministic, seed)
    return NumpyActor(policy, vec.spec, deterministic, seed)


class TensorActorCritic:
    """A NumpyActorCritic whose `act` and `value` take and give tensors, as those of a `Policy` do.

    Its noise is a function of (seed, step, first row), as the torch policy's is on the CPU, so that nothing of it needs
    to be saved.
    """

    state_dim = 0

    def __init__(self, policy: NumpyActorCritic, action: ActionSpec) -> None:
        self.policy, self.action = policy, action

    def initial_state(self, n: int) -> None:
        return None

    def act(self, obs: Tensor, state: None, noise: Noise, first_row: int) -> tuple[Tensor, Tensor, Tensor, None]:
        actions, logprobs, values = self.policy.act(obs.numpy(), np.random.default_rng(
            (noise.seed, noise.step, first_row)))
        return (torch.from_numpy(np.ascontiguousarray(actions, self.action.dtype)).reshape(len(obs), self.action.dim),
                _column(logprobs), _column(values), None)

    def value(self, obs: Tensor, state: None = None) -> Tensor:
        return _column(self.policy.value(obs.numpy()))


def _column(numbers: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers, np.float32)).reshape(-1)
