"""A policy in any framework; the loop sees only arrays of it."""

from typing import Any, Protocol

import numpy as np

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.nn.policy import Policy


class NumpyPolicy(Protocol):
    """What `Learner.policy` is where that is no `puffer_il.nn.policy.Policy`; `predict` is Stable-Baselines3's.

    One without a state may say so (`memoryless = True`): as an expert it is asked about a whole rollout at once.
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
    """What such a policy also needs for a learner with rollouts (it has no recurrent state there)."""

    def act(self, obs: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Sampled actions (n, dim), their log-probabilities (n,) and the values (n,) of n observations."""

    def value(self, obs: Array) -> Array:
        """Values (n,) of n observations."""


class EnvPolicy:
    """A NumpyPolicy with all of Stable-Baselines3's `predict`, like `Policy.predict`."""

    def __init__(self, policy: NumpyPolicy, spec: EnvSpec) -> None:
        self.policy, self.spec = policy, spec
        policy.set_random_seed(0)
        self._stacks = spec.pictures.stack > 1

    def predict(self, obs: Any, state: Any = None, episode_start: Any = None,
                deterministic: bool = False) -> tuple[Array, Any]:
        """See `Policy.predict`: one observation or a batch, actions in the environment's own form."""
        own, seen = state if self._stacks and state is not None else (state, None)
        rows, batched, again = self.spec.pack_next(obs, seen, episode_start)
        starts = np.full(len(rows), state is None) if episode_start is None else np.atleast_1d(episode_start)
        actions, state = self.policy.predict(rows, own, starts, deterministic)
        if self._stacks:
            state = (state, rows if again else None)
        result = self.spec.action.to_env(np.asarray(actions).reshape(len(rows), -1))
        return (result if batched else result[0]), state


def env_policy(policy: Policy | NumpyPolicy, spec: EnvSpec) -> Policy | EnvPolicy:
    """A policy that answers in the environment's own form."""
    return policy if isinstance(policy, Policy) else EnvPolicy(policy, spec)
