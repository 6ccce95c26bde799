"""Vector environments of Gymnasium as they are: one batch, stepped by one call, without Python for each environment.

Anything that is a `gymnasium.vector.VectorEnv`: the vector entry points of `gymnasium.make_vec`, SyncVectorEnv and
AsyncVectorEnv, EnvPool, ale-py's AtariVectorEnv, `puffer_il.make_vec`. When the next episode begins, its autoreset
mode says: in the step after the end (NEXT_STEP: that step's action is ignored, so that its row is not valid), in the
same one (SAME_STEP: the final observation is in the infos), or when it is told to (DISABLED: it is told at once).
"""

import importlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from puffer_il.core.actions import first_of
from puffer_il.core.errors import InputError
from puffer_il.core.rows import MASK_KEY, put_masks
from puffer_il.core.spaces import lay_out, remarks
from puffer_il.core.spec import Array
from puffer_il.native.pufferlib import pufferlib
from puffer_il.vector.emulation import num_choices, plain_actions, row_space
from puffer_il.vector.rewards import one_number
from puffer_il.vector.success import LOGGED, Successes

FINAL = ("final_obs", "final_observation")  # of infos: Gymnasium's name since 1.1, and before


class Vectorized(pufferlib.PufferEnv):
    """A Gymnasium vector environment that writes rows, its final observations among them, into the vector's memory.

    reopen   makes it anew from a seed, for one that can be seeded only so (EnvPool)
    masked   how many choices its infos tell may be taken or not, which rows then hold too; 0 if they do not
    weights  of the parts of its rewards
    """

    def __init__(self, env: VectorEnv, buf: dict[str, Array] | None = None, masked: int = 0,
                 weights: Array | None = None, reopen: Callable[[int], VectorEnv] | None = None, seed: int = 0) -> None:
        own = env.single_action_space
        self.env, self.weights, self.mode = env, weights, autoreset_mode(env)
        self.num_agents: int = env.num_envs
        self.own_observation_space, self.own_action_space = env.single_observation_space, own
        self.layout = lay_out(env.single_observation_space, masked, num_choices(own))
        self.single_observation_space = row_space(env.single_observation_space, self.layout)
        self.single_action_space, self._decode = plain_actions(own)
        super().__init__(buf)
        self.final_observations = (buf or {}).get("final_observations", np.zeros_like(self.observations))
        self.logs = (buf or {}).get("logs", np.zeros((self.num_agents, 1 + len(LOGGED))))
        self._successes = Successes(self.num_agents, self.logs)
        self._reopen, self._opened = reopen, seed  # by which seed it has been opened; -1 once it has begun
        self._targets, self._finals = (self.layout.targets(rows) for rows in (self.observations,
                                                                             self.final_observations))
        self._over = np.zeros(self.num_agents, bool)  # ended in the last step, and will begin anew in the next

    def reset(self, seed: int | None = None) -> tuple[Array, list]:
        """New episodes everywhere: environment i is seeded by `seed` + i, as Gymnasium's vectors do it."""
        obs, infos = self._begun(seed)
        self._write(self._targets, obs, infos)
        self.rewards[:], self.terminals[:], self.truncations[:], self.masks[:] = 0, False, False, True
        self._over[:] = False
        self._successes.begin()
        return self.observations, []

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, list]:
        obs, rewards, terminations, truncations, infos = self.env.step(self._own_actions(actions))
        np.logical_not(self._over, out=self.masks)
        self.rewards[:] = one_number(rewards, self.weights, (self.num_agents,))
        for flags, given, name in ((self.terminals, terminations, "terminations"),
                                   (self.truncations, truncations, "truncations")):
            if np.shape(given) != flags.shape:
                raise InputError(f"its {name} have shape {np.shape(given)} for {self.num_agents} environments; return "
                                 "one for each")
            flags[:] = given
        ended = (self.terminals | self.truncations) & self.masks
        self._successes.step_all(infos, self.masks, ended)
        self._write(self._targets, obs, infos)
        if not np.count_nonzero(ended):
            self._over[:] = False
        elif self.mode is AutoresetMode.SAME_STEP:
            self._write_final(infos, np.flatnonzero(ended))
        else:
            self.final_observations[ended] = self.observations[ended]
            if self.mode is AutoresetMode.DISABLED:
                obs, infos = self.env.reset(options={"reset_mask": ended})
                self._write(self._targets, obs, infos, ended)
            else:
                self._over[:] = ended
        return self.observations, self.rewards, self.terminals, self.truncations, []

    def look(self, seed: int) -> tuple[list[str], bool]:
        """As `Single.look`, of the first environment."""
        try:
            obs, infos = self._begun(seed)
            self._write(self._targets, obs, infos)
            notices = remarks(self.own_observation_space, self.layout, first_of(obs))
        except Exception:
            return [], False
        if self._takes_no_seed and self._reopen is None:
            notices.append("it is seeded when it is opened only, so that its episodes do not follow from the run's "
                           "seed; let its function take a parameter `seed`, and hand that on")
        return notices, self.layout.mask is None and MASK_KEY in infos

    def close(self) -> None:
        self.env.close()

    @property
    def _takes_no_seed(self) -> bool:
        """EnvPool ignores the seed of a reset, with a warning."""
        return hasattr(self.env.unwrapped, "all_env_ids")

    def _begun(self, seed: int | None) -> tuple[Any, dict]:
        if seed is None or not self._takes_no_seed:
            return self.env.reset() if seed is None else self.env.reset(seed=int(seed))
        if self._reopen is not None and seed != self._opened:
            with suppress(Exception):
                self.env.close()
            self.env = self._reopen(int(seed))
        self._opened = -1
        return self.env.reset()

    def _own_actions(self, rows: Array) -> Any:
        """The batch of actions that the environment takes: a copy, as it may keep it."""
        if self._decode is None:
            return rows.astype(self.single_action_space.dtype)  # always a copy
        return self._decode(rows.reshape(self.num_agents, -1))

    def _write(self, targets: list, obs: Any, infos: dict, only: Array | None = None) -> None:
        """Observations into rows; `only` (n,) some of them."""
        rows = slice(None) if only is None else only
        for field, target in targets:
            if field.path is not None:
                leaf = np.asarray(field.leaf(obs))
                if leaf.shape[:1] != (len(target),):
                    raise InputError(f"it gave observations of shape {leaf.shape} for {len(target)} environments; one "
                                     "that returns parts of its batch (asynchronously) cannot be used")
                into = target if only is None else target[rows]
                field.put(into, leaf[rows])
                if only is not None:
                    target[rows] = into
            else:
                allowed = np.ones_like(target)
                if MASK_KEY in infos:
                    put_masks(allowed, infos[MASK_KEY])
                    allowed[~infos.get(f"_{MASK_KEY}", np.ones(len(target), bool))] = 1
                target[rows] = allowed[rows]

    def _write_final(self, infos: dict, rows: Array) -> None:
        """The final observations of `rows`, which Gymnasium gives as an array of objects, others as whole batches."""
        name = next((name for name in FINAL if name in infos), None)
        if name is None:
            raise InputError("it begins the next episode in the step that ends one (SAME_STEP), and its infos have no "
                             "'final_obs', the true last observation; open it with autoreset_mode NEXT_STEP")
        final = infos[name]
        each = isinstance(final, np.ndarray) and final.dtype == object
        for field, target in self._finals:
            if field.path is None:
                target[rows] = 1
                continue
            leaf = np.stack([np.asarray(field.leaf(final[row])) for row in rows]) if each else (
                np.asarray(field.leaf(final))[rows])
            into = target[rows]
            field.put(into, leaf)
            target[rows] = into


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """When it begins the next episode; InputError if it does not say."""
    said = getattr(env.unwrapped, "autoreset_mode", None) or (env.metadata or {}).get("autoreset_mode")
    with suppress(ValueError):
        return said if isinstance(said, AutoresetMode) else AutoresetMode(said)
    raise InputError(f"it is a vector of environments, a {type(env).__name__}, that does not say when it begins the "
                     "next episode; set metadata['autoreset_mode'] in its class to one of gymnasium.vector."
                     "AutoresetMode")


def open_envpool(id: str, num_envs: int = 1, seed: int = 0, **kwargs: Any) -> Any:
    """EnvPool's task `id`, as the name envpool:ID opens it."""
    import envpool

    return envpool.make_gymnasium(id, num_envs=num_envs, seed=seed, **kwargs)


def open_vector_entry_point(id: str, num_envs: int = 1, **kwargs: Any) -> VectorEnv:
    """The vector that an id has registered beside the environment itself; InputError if there is none."""
    module, _, known = id.rpartition(":")
    if module:
        importlib.import_module(module)
    spec = gymnasium.spec(known)
    if spec.vector_entry_point is None:
        raise InputError("env.backend = 'vector': it has no vector_entry_point, which would step a whole batch; use "
                         "'auto'")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*AutoresetMode")  # `autoreset_mode` says more
        return gymnasium.make_vec(known, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)
