"""From the name of an actor, or an object, to the Actor: experts, `eval`, `demos collect` and `env play` call it."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from puffer_il.core.config import Config
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import EnvSpec
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import Actor, FunctionActor, NumpyActor, RandomActor, ScriptActor, policy_actor
from puffer_il.rollout.policy_files import read_policy, rl_zoo
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.make import import_found
from puffer_il.vector.vec import Vec

SCRIPT, PERSON, RANDOM = "script", "person", "random"
MakePerson = Callable[[Vec], Actor]


def resolve_actor(given: str, source: Any, vec: Vec, *, deterministic: bool = True, seed: int = 0,
                  person: MakePerson | None = None) -> Actor:
    """The Actor that `source` stands for in `vec`, which has been reset. `source` is one of:

    "script"            the environment's function c_expert
    "person"            somebody at the terminal, whom `person` makes
    "random"            uniform actions: a control, from which nothing can be learned
    another path        a run directory, or a file that `rollout.policy_files` reads; what its user should know is added
                        to `vec.notices`
    a Policy, a NumpyPolicy, or anything else with Stable-Baselines3's `predict`, such as a model of that library
    a function          of n observations alone, which gives n actions, both in the environment's own form
    an Actor            as it is

    A policy acts by its mode if `deterministic`, else it samples; `seed` seeds everything random.
    InputError, beginning with `given` (such as "--policy x"), if the source cannot act or does not fit.
    """
    if source == SCRIPT:
        if vec.expert_actions() is None:
            raise InputError(f"{given}: " + (
                "no script can be asked in worker processes; set env.backend = 'serial' and env.num_workers = 0, or "
                "give a policy's run directory or file" if vec.backend == "multiprocessing" and vec.native else
                f"{vec.spec.name} has no scripted expert (a function c_expert in its header); give a policy's run "
                "directory or file"))
        return ScriptActor(vec)
    if source == PERSON:
        if person is None:
            raise InputError(f"{given}: there is no terminal to ask somebody at; give 'script', or a policy's run "
                             "directory or file")
        return person(vec)
    if source == RANDOM:
        return RandomActor(vec.spec, seed)
    if isinstance(source, str | Path):
        source = _policy_at(given, source, vec.spec)
        vec.notices += getattr(source, "notices", ())
    if isinstance(source, Actor):
        return source
    if isinstance(source, Policy):
        _check_spaces(given, source.spec, vec.spec)
        return policy_actor(source, vec, deterministic, seed)
    if hasattr(source, "predict"):
        own_form = not hasattr(source, "num_parameters")  # as a NumpyPolicy has
        return NumpyActor(source, vec.spec, deterministic, seed, own_form)
    if callable(source):
        return FunctionActor(source, vec.spec)
    raise InputError(f"{given}: {source!r} cannot act; give a policy, a function of observations, or a run directory "
                     "or file")


def asks_person(config: Config) -> bool:
    """True if the learner of a run asks somebody at the terminal."""
    return config.get(f"{config.algo}.expert") == PERSON


def given_policy(policy: Path | None) -> Path | None:
    """--policy, of which a folder of RL Zoo stands for the model in it."""
    return rl_zoo.model_in(policy) if policy is not None and rl_zoo.is_one(policy) else policy


def flagged(policy: Path | None, expert: bool) -> tuple[str, Any]:
    """`given` and `source` of what --policy, --expert or, without either, --random stand for. A policy may also be
    module:function, of n observations, or module:object with Stable-Baselines3's `predict`; a class is called."""
    if policy is not None:
        module, _, name = str(policy).partition(":")
        code = bool(name) and not policy.exists()
        return f"--policy {policy}", _actor_of(module, name) if code else policy
    return ("--expert", SCRIPT) if expert else ("--random", RANDOM)


def _actor_of(module: str, name: str) -> Any:
    given = f"--policy {module}:{name}"
    try:
        found = getattr(import_found(module), name, None)
        found = found() if inspect.isclass(found) else found
    except InputError as error:
        raise InputError(f"{given}: {error}") from None
    except Exception as error:  # whatever somebody's module does
        raise InputError(f"{given}: cannot be imported ({type(error).__name__}: {one_line(error)}); correct it"
                         ) from error
    if not (callable(found) or hasattr(found, "predict")):
        raise InputError(f"{given}: module {module} has no function {name}; give one of n observations, or an object "
                         "with a method predict")
    return found


def _policy_at(given: str, source: str | Path, spec: EnvSpec) -> Any:
    path = Path(source)
    if not path.exists():
        words = ", or 'script' or 'person'" if isinstance(source, str) else ""
        raise InputError(f"{given}: there is no such file or run directory; give one{words}")
    if not path.is_dir():
        return read_policy(path, spec)
    policy, _, state = load_policy(path)
    _check_spaces(given, state["spec"], spec)
    return policy


def _check_spaces(given: str, own: EnvSpec, spec: EnvSpec) -> None:
    if not own.same_spaces(spec):
        if own.raw.same_spaces(spec.raw) and own.pictures != spec.pictures:
            raise InputError(f"{given}: a policy that saw pictures prepared with {own.pictures}, where those of "
                             f"{spec.name} are with {spec.pictures}; give the same, or another policy")
        parts = [", ".join(f"{field.name} {field.shape}" for field in one.layout.own) for one in (own, spec)]
        named = f"observations ({parts[0]})" if parts[0] != parts[1] else f"observations {own.obs_shape} or actions"
        raise InputError(f"{given}: a policy for {own.name}, whose {named} are not those of {spec.name}"
                         f"{f' ({parts[1]})' if parts[0] != parts[1] else ''}; give a run on that")
