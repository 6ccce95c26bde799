"""What `import puffer_il` offers: what the command line can do, on objects as well as on names.

An environment is the name of a C environment or its folder, a Gymnasium id, "module:function", or the function itself,
which opens a Gymnasium (or parallel PettingZoo) environment. Whatever is wrong with what was given is an InputError of
one line; EnvFailure says that an environment broke.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.demos import load
from puffer_il.demos.dataset import Demos
from puffer_il.demos.read import Source
from puffer_il.native.gymnasium_env import GymnasiumVectorEnv
from puffer_il.vector.make import Creator, fastest_name, find_creator

__all__ = ["Demos", "EnvFailure", "InputError", "algorithms", "load_demos", "make", "make_vec"]

Env = str | Callable[..., Any]


def load_demos(source: Source, env: Env | None = None, *, episodes: int = 0, subsample: int = 1, seed: int = 0,
               clip_actions: bool = False, time_limit: int | None = None, **kwargs: Any) -> Demos:
    """Demonstrations, checked; with an environment also made to fit it, in its dtypes.

    source        an .npz of ours, of `imitation` or of CS 285; "minari:ID"; "shipped" for those that come with `env`;
                  arrays named as in an .npz; or a tuple (obs, actions, next_obs, terminations, truncations[, rewards])
                  of n rows each, in which an episode begins after each end
    episodes      only the first so many; 0 takes all
    subsample     keep every n-th transition, from a random offset in each episode that `seed` draws
    clip_actions  clip continuous actions to the environment's range instead of refusing them
    time_limit    the recorder's, in steps, for files that do not tell terminations from truncations
    kwargs        parameters of the environment
    """
    spec = None if env is None else _creator(env, kwargs).facts().spec
    return load.load_demos(source, spec, episodes=episodes, subsample=subsample, seed=seed, clip_actions=clip_actions,
                           time_limit=time_limit)


def make(env: Env, *, render_mode: str | None = None, **kwargs: Any) -> gymnasium.Env:
    """One environment, as a `gymnasium.Env`.

    render_mode  for C environments "rgb_array" (uint8 (height, width, 3)) or "ansi" (text with colours)
    kwargs       parameters of the environment, such as `gravity=20.0`
    """
    return _creator(env, kwargs).single(render_mode)


def make_vec(env: Env, num_envs: int, **kwargs: Any) -> VectorEnv:
    """`num_envs` environments as one `gymnasium.vector.VectorEnv`, which begins a new episode in the step that ends the
    last one (AutoresetMode.SAME_STEP). One call of C steps all of a C environment, a SyncVectorEnv those of Python.

    observations (num_envs, …) in the environment's dtype, actions (num_envs, …); rewards float64, terminations and
    truncations bool (num_envs,). `infos["final_obs"]` holds the last observations of the episodes that ended.
    """
    if num_envs < 1:
        raise InputError(f"num_envs = {num_envs}: must be at least 1")
    creator = _creator(env, kwargs)
    if creator.kind == "folder":
        return GymnasiumVectorEnv(creator.target, num_envs, **creator.kwargs)
    return SyncVectorEnv([creator.single] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def algorithms() -> dict[str, dict[str, Any]]:
    """All algorithms by name, also those of installed packages: what each needs, the kinds of actions that it covers,
    its paper, and when to use it."""
    from puffer_il.learners.registry import describe, usable_learners

    return {name: describe(name, learner) for name, learner in usable_learners()[0].items()}


def _creator(env: Env, kwargs: dict[str, Any]) -> Creator:
    return find_creator(fastest_name(env) if isinstance(env, str) else env, kwargs)
