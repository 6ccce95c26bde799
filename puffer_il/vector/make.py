"""An environment's name → a picklable creator of it, and the facts that a vector needs to know beforehand."""

import importlib
import inspect
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from puffer_il.core.errors import EnvFailure, InputError, one_line
from puffer_il.core.frames import Pictures, picture_notices
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import Array, EnvSpec, Starts
from puffer_il.native.catalogue import env_folders, twin_of
from puffer_il.native.cython_env import load_cython
from puffer_il.native.glue import import_failure
from puffer_il.native.gymnasium_env import GymnasiumEnv
from puffer_il.native.masked_env import MaskedEnv, open_native
from puffer_il.native.native_env import NativeEnv
from puffer_il.native.pufferlib import pufferlib
from puffer_il.vector.emulation import Parallel, Single, action_spec, emulate, num_choices
from puffer_il.vector.gym_compat import OldGym, is_old
from puffer_il.vector.gym_vector import Vectorized, open_envpool, open_vector_entry_point
from puffer_il.vector.prepared import prepared_env
from puffer_il.vector.rewards import KEY, check_rewards, read_weights
from puffer_il.vector.statistics import check_statistics
from puffer_il.vector.success import LOGGED
from puffer_il.vector.trust import check_callable, same_name

# Packages with a registry of their own, what opens it, and what that is told beside the id: gym:CartPole-v1 is not
# Gymnasium's.
OWN_IDS: dict[str, tuple[str | Callable, dict[str, Any]]] = {
    "gym": ("gym:make", {}), "pettingzoo": ("pettingzoo:make", {"env_type": "parallel"}), "envpool": (open_envpool, {})}


AS_THEY_ARE = Pictures()


@dataclass(frozen=True)
class EnvFacts:
    """Facts of one environment that hold for all of them."""

    spec: EnvSpec
    single_observation_space: gymnasium.Space  # of a row, as PufferLib sees it
    single_action_space: gymnasium.Space
    native: bool  # a PufferEnv, which resets itself; others are told to in the step after an end
    batched: bool  # one instance can step any number of environments
    indexed: bool  # seeded by one seed and the index of its first environment
    has_final: bool  # hands over final observations
    exact: bool  # its state can be saved and restored exactly
    own_state: bool  # it hands that out itself (get_state, set_state)
    log: tuple[str, ...] = ()  # what its episodes log
    masked: int = 0  # how many choices it says beside its observations may be taken or not; 0 if it does not
    notices: tuple[str, ...] = ()  # what the user should know of its observations
    each: int = 1  # environments of one instance: a vector's that has a size of its own
    time_limit: int | None = None  # steps after which it truncates its episodes, where it tells

    @property
    def rows(self) -> int:
        """Rows of one instance, of which there can only be whole ones."""
        return self.num_agents * self.each

    def rows_for(self, environments: int) -> int:
        """Rows of so many environments, rounded up to whole instances."""
        return -(-environments // self.each) * self.rows

    @property
    def num_agents(self) -> int:
        return self.spec.num_agents


@dataclass(frozen=True)
class Creator:
    """Opens environments by name, in this process or, sent to it, in a worker."""

    name: str  # as the user wrote it
    kind: str  # "folder", "cython", "gymnasium" or "callable"
    target: Any  # the folder, the id, module:function, or the function itself
    kwargs: dict[str, Any] = field(default_factory=dict)
    starts: Starts | None = None  # where some episodes are to begin
    vector: bool = False  # open a Gymnasium id by its vector entry point
    pictures: Pictures = AS_THEY_ARE  # how those of the observations are prepared

    def __call__(self, buf: dict[str, Array] | None = None, seed: int = 0, masked: int = 0, **batch: int) -> Any:
        """A PufferEnv, or an emulated environment, that writes into `buf`. `masked`: as in its EnvFacts. `batch`:
        num_envs and first_env, if it is one that takes them. InputError if the user can mend it, EnvFailure if it
        breaks."""
        with self._constructing():
            make = self._make()
            known = self._parameters(make)
            weights, kwargs = self._weighted(make)

            def opened(seed: int) -> Any:
                offered = {"buf": buf, "seed": seed, **batch}
                return make(**{k: v for k, v in offered.items() if k in known}, **kwargs)

            env = opened(seed)
            if self.starts is not None:
                if not isinstance(env, NativeEnv):
                    raise InputError(f"only a C environment can be put into a demonstrated state, and {self.name} is "
                                     "not one; set mix.expert_resets to 0")
                env.begin_in(self.starts)
            if isinstance(env, pufferlib.PufferEnv):
                return env
            check_rewards(env, weights)
            if not isinstance(env, VectorEnv):
                return emulate(env, buf, seed, masked, weights)
            wanted = batch.get("num_envs")
            if "num_envs" in known and env.num_envs != wanted and buf is not None:  # without, to see how large it is
                raise InputError(f"it is a vector of {env.num_envs} environments where {wanted} are asked for; its "
                                 "function must hand its parameter num_envs on")
            return Vectorized(env, buf, masked, weights, opened if "seed" in known else None, seed)

    def facts(self) -> EnvFacts:
        """Open one environment, look at it and at how an episode begins, and close it."""
        env, masked = self(num_envs=1), 0
        notices: list[str] = []
        with self._constructing():
            check_statistics(env.env if isinstance(env, Vectorized) else getattr(env, "original", None))
            if isinstance(env, Single | Parallel | Vectorized):
                notices, told = env.look(0)
                if told and (masked := num_choices(env.own_action_space)):
                    env = Vectorized(env.env, masked=masked) if isinstance(env, Vectorized) else emulate(
                        env, None, 0, masked)
            known = self._parameters(self._make())
            native, each = isinstance(env, pufferlib.PufferEnv), env.num_agents if isinstance(env, Vectorized) else 1
            spec = _spec(self.name, env).prepared(self.pictures)
            if spec.frames is not None or isinstance(env, Single | Parallel | Vectorized):
                notices = [*notices, *picture_notices(spec)]
            facts = EnvFacts(spec, env.single_observation_space, env.single_action_space, native,
                          batched=native and "num_envs" in known and each == 1, indexed=native and "first_env" in known,
                          has_final=native and hasattr(env, "final_observations"),
                          exact=(own := native and hasattr(env, "get_state") and hasattr(env, "set_state")),
                          own_state=own,
                          log=env.env_file.log if isinstance(env, NativeEnv) else
                          LOGGED if isinstance(env, Single | Parallel | Vectorized) else (), masked=masked,
                          notices=tuple(notices), each=each, time_limit=_time_limit(env))
        with suppress(Exception):
            env.close()
        return facts

    def as_gymnasium(self, render_mode: str | None = None) -> gymnasium.Env:
        """One environment as a plain Gymnasium one, as its author wrote it; InputError if it is none."""
        if self.kind == "folder":
            return prepared_env(GymnasiumEnv(self.target, render_mode, **self.kwargs), self.name, self.pictures)
        with self._constructing():
            make = self._make()
            if self.kind == "gymnasium":
                make = partial(gymnasium.make, self.target, disable_env_checker=True)
            env = make(**self._weighted(make)[1], **({"render_mode": render_mode} if render_mode else {}))
            single = not isinstance(env, pufferlib.PufferEnv | VectorEnv)
            if single and is_old(env):
                env = OldGym(env)
            if single and isinstance(env, gymnasium.Env):
                return prepared_env(env, self.name, self.pictures)
            raise InputError(f"it is a {type(env).__name__}, no Gymnasium environment; use it by this name in `train`, "
                             "`evaluate` and `collect`")

    def _make(self) -> Callable:
        if self.kind == "folder":
            return lambda num_envs=1, buf=None, seed=0, first_env=0, threads=0, **kwargs: open_native(
                self.target, num_envs, buf, seed, first_env, threads, **kwargs)
        if self.kind == "cython":
            return load_cython(self.target)
        if self.vector:
            return partial(open_vector_entry_point, self.target)
        if self.kind == "gymnasium":
            return partial(_plain, self.target)
        if callable(self.target):
            return self.target
        module, _, attribute = self.target.partition(":")
        check_callable(self.name, found := getattr(import_found(module), attribute))
        return found

    def _weighted(self, make: Callable) -> tuple[Array | None, dict[str, Any]]:
        """The weights of its reward, and its own parameters; those weights are one only where it says so."""
        taker: Any = make
        if self.kind == "gymnasium":
            entry = gymnasium.spec(self.target.rpartition(":")[2]).entry_point
            taker = gymnasium.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry or make
        with suppress(ValueError):
            if self.kind in ("folder", "cython") or KEY in inspect.signature(taker).parameters:
                return None, self.kwargs
        return read_weights(self.kwargs.get(KEY)), {k: v for k, v in self.kwargs.items() if k != KEY}

    def _parameters(self, make: Callable) -> set[str]:
        """Names of parameters that a vector may fill in: those that the user has not."""
        try:
            return set(inspect.signature(make).parameters) - set(self.kwargs)
        except ValueError:  # built-in callables may have no signature
            return set()

    @contextmanager
    def _constructing(self) -> Iterator[None]:
        about = f"environment {self.name!r}"
        try:
            yield
        except EnvFailure:
            raise
        except InputError as error:
            raise InputError(str(error) if self.kind in ("folder", "cython") else f"{about}: {error}") from None
        except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
            broken = import_failure("mujoco") if self._needs_mujoco() else ""  # Gymnasium says it were not installed
            raise InputError(f"{about} cannot be opened: {broken or one_line(error) + self._remedy(error)}") from None
        except gymnasium.error.Error as error:
            raise InputError(f"{about}: {one_line(error)}") from None
        except (Exception, SystemExit) as error:
            if type(error).__module__ in ("gym.error", "pettingzoo.env_registry.exceptions"):
                raise InputError(f"{about}: {_nearest_id(error) or one_line(error)}") from None
            if isinstance(error, TypeError) and "keyword argument" in str(error):
                raise InputError(f"{about}: env.kwargs = {self.kwargs}: {one_line(error)}") from None
            if isinstance(error, AttributeError) and "MjModel' object has no attribute" in str(error):
                mujoco = version("mujoco")  # as dm_control meets a later MuJoCo
                raise InputError(f"{about} cannot be opened: it was not made for MuJoCo {mujoco} ({one_line(error)}); "
                                 f"pip install 'mujoco<{mujoco}'") from None
            raise EnvFailure(f"{about} cannot be opened:\n{traceback.format_exc()}") from error

    def _needs_mujoco(self) -> bool:
        spec = gymnasium.registry.get(self.name.rpartition(":")[2])
        return spec is not None and ".mujoco." in str(spec.entry_point)

    def _remedy(self, error: BaseException) -> str:
        missing = getattr(error, "name", None) or ""
        if not missing and not isinstance(error, gymnasium.error.DependencyNotInstalled):
            return ""
        if self._needs_mujoco():
            return "; pip install 'puffer-il[mujoco]'"
        if self.kind == "callable" and missing.split(".")[0] == "pettingzoo":
            return "; pip install 'puffer-il[pettingzoo]'"
        return f"; install {missing}" if missing else ""


def _plain(id: str, **kwargs: Any) -> gymnasium.Env:
    """A Gymnasium id without two wrappers that cost time in every step: the checker, as PufferLib checks the first
    observation and action itself, and the one that asks for a reset before the first step, which a vector begins with.
    """
    module, _, known = id.rpartition(":")
    if module:
        importlib.import_module(module)
    if known not in gymnasium.registry:  # which only `make` complains of in full
        return gymnasium.make(id, disable_env_checker=True, **kwargs)
    spec = deepcopy(gymnasium.spec(known))
    spec.order_enforce = False
    return gymnasium.make(spec, disable_env_checker=True, **kwargs)


def find_creator(name: str | Callable, kwargs: dict[str, Any] | None = None, pictures: Pictures | None = None
                 ) -> Creator:
    """The creator for a folder's name or path, a Gymnasium id, module:function, or a function that makes an environment
    (a Creator is one); InputError if there is none. `pictures`: how those of its observations are prepared."""
    if pictures is not None:
        return replace(find_creator(name, kwargs), pictures=pictures)
    kwargs = dict(kwargs or {})
    if isinstance(name, Creator):
        return replace(name, kwargs=name.kwargs | kwargs)
    if not isinstance(name, str):
        return Creator(name_of(name), "callable", name, kwargs)
    folders = env_folders()
    if name in folders:
        return Creator(name, "folder", str(folders[name]), kwargs)
    path = Path(name).expanduser()
    if name and path.is_dir():
        for kind, what in (("folder", "env.toml"), ("cython", "*.pyx")):
            if any(path.glob(what)):
                return Creator(name, kind, str(path.resolve()), kwargs)
        raise InputError(f"environment {name!r}: the folder has no env.toml and no .pyx; 'puffer-il env new' writes "
                         "one to begin with")
    module, _, attribute = name.partition(":")
    if attribute:
        creator = Creator(name, "callable", name, kwargs)
        with creator._constructing():
            if callable(getattr(import_found(module), attribute, None)):
                return creator
        if module in OWN_IDS and hasattr(import_found(module), "make"):
            target, more = OWN_IDS[module]
            return Creator(name, "callable", target, {**more, "id": attribute, **kwargs})
        if attribute not in gymnasium.registry:  # Gymnasium writes "module:id" as well
            raise InputError(f"environment {name!r}: module {module} has no function or class {attribute}, nor does it "
                             "register a Gymnasium environment of that name")
    try:
        spec = gymnasium.spec(attribute or name)
    except gymnasium.error.NameNotFound:
        raise InputError(_unknown(name, folders)) from None
    except gymnasium.error.Error as error:
        if name.startswith("ALE/"):  # registered by its own import only
            raise InputError(f"environment {name!r}: Atari environments come from ale-py: pip install ale-py, and use "
                             f"'ale_py:{name}'") from None
        known = gymnasium.error.VersionNotFound | gymnasium.error.NamespaceNotFound
        raise InputError(f"environment {name!r}: {one_line(error)}" if isinstance(error, known)
                         else _unknown(name, folders)) from None
    return Creator(name, "gymnasium", name, kwargs, vector=spec.entry_point is None)


def same_environment(one: str, other: str) -> bool:
    """True for two ways to write the same environment, such as `my_env` and `./my_env/`. Nothing is imported."""
    def same(one: str, other: str) -> bool:
        with suppress(InputError):
            a, b = find_creator(one), find_creator(other)
            return (a.kind, a.target) == (b.kind, b.target)
        return one == other

    return same_name(one, other, same)


def fastest_name(name: str, say: Callable[[str], None] = lambda notice: None) -> str:
    """The C environment that equals the Gymnasium id `name` step for step, where it can be built; else `name` itself.

    `say` is told of either choice. "gymnasium:ID" is always Gymnasium's own.
    """
    twin = twin_of(name)
    if twin is None:
        return name
    try:
        find_creator(twin).facts()
    except InputError as error:
        say(f"{name} is Gymnasium's own, because the C environment {twin!r} cannot be used: {error}")
        return name
    say(f"{name} is the C environment {twin!r}, its equal step for step; 'gymnasium:{name}' is Gymnasium's own")
    return twin


def name_of(make: Callable) -> str:
    """What a function that opens environments is called: module:function if it can be found again by that name, else
    function(). InputError for what cannot be called."""
    if not callable(make):
        raise InputError(f"environment {make!r}: that is a {type(make).__name__}; give a name, or a function that "
                         "opens a new environment, such as lambda: gymnasium.make('CartPole-v1')")
    module, name = getattr(make, "__module__", ""), getattr(make, "__qualname__", type(make).__name__)
    found = getattr(sys.modules.get(module), name, None) is make and module != "__main__"
    return f"{module}:{name}" if found else f"{name.rpartition('.')[2].strip('<>')}()"


def _spec(name: str, env: Any) -> EnvSpec:
    action = action_spec(env.single_action_space, getattr(env, "own_action_space", None))
    if isinstance(env, Single | Parallel | Vectorized | MaskedEnv):
        layout, agents = env.layout, 1 if isinstance(env, Vectorized) else env.num_agents
        return EnvSpec(name, layout.shape, layout.dtype, action, layout.fields, agents)
    rows = env.single_observation_space  # of a PufferEnv, which writes them itself
    choices = env.env_file.observation.nvec if isinstance(env, NativeEnv) else ()
    layout = lay_out(gymnasium.spaces.Discrete(choices[0]) if choices else rows)
    fields = layout.fields if (layout.shape, layout.dtype) == (rows.shape, rows.dtype) else ()
    return EnvSpec(name, rows.shape, rows.dtype, action, fields, env.num_agents)


def _time_limit(env: Any) -> int | None:
    """Steps after which an environment truncates its episodes, where it tells: C ones and Gymnasium's."""
    if isinstance(env, NativeEnv):
        return env.time_limit
    own = env.env if isinstance(env, Vectorized) else getattr(env, "original", None)
    limit = getattr(getattr(own, "spec", None), "max_episode_steps", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _unknown(name: str, folders: dict[str, Path]) -> str:
    near = get_close_matches(name, [*folders, *gymnasium.registry], n=1)
    hint = f"did you mean {near[0]!r}?" if near else (
        f"known: {', '.join(folders)}, any Gymnasium id, module:function, or the path of a folder with an env.toml")
    return f"unknown environment {name!r}; {hint}"


def import_found(module: str) -> Any:
    """A module from the path or from the working directory, as `python -m` would find it."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):  # it lacks a module itself
            raise
        if near := _nearest_module(error.name):
            raise InputError(f"there is no module {error.name!r}; did you mean {near!r}?") from None
        raise InputError(f"no module {error.name!r} is in the current folder ({os.getcwd()}) or on Python's path; go "
                         "to the folder that holds it, or name that folder in PYTHONPATH") from None


def _nearest_module(name: str) -> str:
    """The module of the same package whose name comes nearest, such as a later version's; empty if there is none."""
    package, _, last = name.rpartition(".")
    paths = getattr(sys.modules.get(package), "__path__", ())
    near = get_close_matches(last, [module.name for module in pkgutil.iter_modules(paths)], n=1)
    return f"{package}.{near[0]}" if near else ""


def _nearest_id(error: BaseException) -> str:
    """What an error that lists all ids after the one it does not know makes of them in one line; empty for others."""
    wrong, *known = re.findall(r"'([^' ]+)'", str(error)) or [""]
    near = get_close_matches(wrong, known, n=1)
    return f"there is no {wrong!r}; did you mean {near[0]!r}?" if near else ""


def env_seed(seed: int, index: int) -> int:
    """The seed of environment `index`: distinct within a run whatever `seed`, and unlike those of the next `seed`."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0] % 2**30) + index
