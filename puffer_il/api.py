"""What `import puffer_il` offers: what the command line can do, with objects wherever that has names.

An environment is the name of a C environment or the path of its folder, a Gymnasium id, "module:function", or the
function itself, which opens a Gymnasium or parallel PettingZoo environment; `kwargs` are its parameters.
A policy is what `load` gives, a Run or its directory, a model with Stable-Baselines3's `predict` or the file of one, a
function from n observations to n actions, "script" (the environment's own expert) or "random".
Wrong input raises an InputError of one line; an environment that breaks raises an EnvFailure.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from puffer_il import demos as demonstrations
from puffer_il.core.config import read_toml
from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.spec import Metrics
from puffer_il.core.text import number
from puffer_il.demos.dataset import Demos
from puffer_il.demos.read import Source, read_demos
from puffer_il.native.gymnasium_env import GymnasiumVectorEnv
from puffer_il.vector import trust as code
from puffer_il.vector import vec as vectors
from puffer_il.vector.make import Creator, fastest_name, find_creator, name_of

if TYPE_CHECKING:
    from puffer_il.learners.common.learned_reward import LearnedReward
    from puffer_il.training.trainer import Outcome

__all__ = ["Demos", "EnvFailure", "InputError", "Run", "algorithms", "collect", "evaluate", "load", "load_demos",
           "load_reward", "make", "make_vec", "train"]

Env = str | Callable[..., Any]
MOST_ROWS = 64  # environments in which demonstrations are collected
# As on the command line, and before torch is imported: its threads must not spin while the environments step.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class Run:
    """A run that has ended, and what it has left.

    policy   what it has learned: `policy.predict(obs, deterministic=True)`, as in Stable-Baselines3
    summary  the content of summary.json: "status" ("finished", "interrupted", "diverged"), "env_steps", "wall_s", and
             in "eval" the "return_mean", "normalized" (0 plays like random, 1 like the expert), "ci95", …
    config   the resolved config: `run.config.ppo.learning_rate`
    dir      its directory. A temporary one is removed with this object.
    """

    def __init__(self, outcome: Outcome, given: dict[str, Any], before: Run | None = None) -> None:
        from puffer_il.nn.numpy_policy import env_policy

        self.policy, self.summary = env_policy(outcome.policy, outcome.spec), outcome.summary
        self.config, self.dir = outcome.config, outcome.run_dir
        self._given = given  # objects in place of names
        self._before = before  # the run that went on in this one owns the directory

    def __repr__(self) -> str:
        known, played = self.summary, self.summary["eval"]
        score = f"return {number(played['return_mean'])}" if played else "not evaluated"
        if played and played["normalized"] is not None:
            score += f", {played['normalized']:.2f} of the expert"
        return f"Run({known['algo']} on {known['env']}, seed {known['seed']}, {known['status']}: {score})"


def train(algo: str | None = None, env: Env | None = None, /, *, demos: Source | None = None, seed: int | None = None,
          total_steps: float | None = None, device: str | None = None, config: str | Path | None = None,
          run_dir: str | Path | None = None, resume: str | Path | Run | None = None, autotune: bool = False,
          callback: Callable[[Metrics], bool | None] | None = None, progress: bool = True, trust: bool = False,
          **sections: Mapping[str, Any]) -> Run:
    """Train a policy, as `puffer-il train` does: the shipped experiment, with the keys that you give on top.

        run = puffer_il.train("gail", "cartpole", seed=1, ppo={"learning_rate": 1e-3}, env={"num_envs": 512})
        run = puffer_il.train("dagger", lambda: gymnasium.make("CartPole-v1"), dagger={"expert": model})

    algo, env  what learns ("auto" chooses by the demonstrations) and where; leave both out with `resume`
    demos      as `load_demos` takes them, or the section: {"source": demos, "episodes": 5}. By default those that come
               with the environment, where some are needed
    sections   config keys by section: env, policy, train, eval, mix and the algorithm's own, as 'puffer-il train ALGO
               ENV --help' lists them. The expert that is asked (dagger={"expert": …}) may be any policy
    config     a TOML file of such sections, under the keys given here
    seed, total_steps, device, run_dir  short for keys of the section train; device is "auto", "cpu" or "cuda"
    resume     a run or its directory to continue from its newest checkpoint, usually to more `total_steps`
    autotune   first measure for some seconds which settings are fastest
    callback   is called after every iteration with its metrics; if it returns False, the run ends there
    progress   show the run: the dashboard in a terminal, lines elsewhere
    trust      with `resume`: open the run's environment, although it is code that was not used in this form before

    Without `run_dir` nothing stays on the disk after the Run. Ctrl-C ends the run after its iteration and returns it;
    a second one raises KeyboardInterrupt.
    """
    began = time.monotonic()
    from puffer_il.envkit.person import person_asked
    from puffer_il.learners.experiment import replaced
    from puffer_il.training import trainer
    from puffer_il.training.dashboard import make_loggers
    from puffer_il.training.resolve import given_keys, resolve
    from puffer_il.training.run_dir import run_directory
    from puffer_il.training.tune import tune

    before, folder = (resume if isinstance(resume, Run) else None), _folder(resume)
    tables, given = _named(sections | ({"demos": demos} if demos is not None else {}))
    if resume and (run_dir or autotune):
        raise InputError(f"resume = {folder}: a run continues in its own directory and with its own settings; leave "
                         f"{'run_dir' if run_dir else 'autotune'} out")
    if env is not None and not isinstance(env, str):
        given["make_env"], env = env, name_of(env)
    given = before._given | given if before else given
    if autotune and given:
        raise InputError(f"autotune = True: only runs by names are measured, but {' and '.join(given)} is an object; "
                         "leave one of the two out")
    short = {"seed": seed, "total_steps": total_steps, "device": device, "run_dir": run_dir and str(run_dir)}
    layers = [*([(str(config), read_toml(Path(config)))] if config else []), ("train()", tables),
              ("train()", {"train": {key: value for key, value in short.items() if value is not None}})]
    chosen = resolve(algo, env, layers, folder, given, say=print if progress else lambda notice: None,
                     trusted=trust)
    if autotune:
        chosen = tune(chosen, given_keys(layers))
    with ExitStack() as stack:
        if not chosen.train.run_dir:
            chosen = replaced(chosen, {"train.run_dir": tempfile.mkdtemp(prefix="puffer_il-")})
            stack.callback(shutil.rmtree, chosen.train.run_dir, ignore_errors=True)
        with person_asked(chosen) as person, run_directory(chosen, folder) as run_folder:
            outcome = trainer.train(chosen, make_loggers(chosen, progress), run_folder, resume=folder is not None,
                                    callback=callback, began=began, person=person, **given)
        run = Run(outcome, given, before)
        weakref.finalize(run, stack.pop_all().close)
    if outcome.unwritten:
        warnings.warn(outcome.unwritten, stacklevel=2)
    if progress:
        print(run)
    return run


def load(run: str | Path | Run, device: str = "cpu") -> Any:
    """The policy of a run directory: the best evaluated one or the last, as its key `train.result` says. It has
    Stable-Baselines3's `predict(obs, state=None, episode_start=None, deterministic=False) -> (actions, state)`, for one
    observation or a batch."""
    from puffer_il.nn.numpy_policy import env_policy
    from puffer_il.training.process import choose_device
    from puffer_il.training.saved_run import load_policy

    if isinstance(run, Run):
        return run.policy
    policy, _, state = load_policy(Path(run), str(choose_device(device)))
    return env_policy(policy, state["spec"])


def evaluate(policy: Any, env: Env | None = None, *, episodes: int = 100, seed: int = 0,
             deterministic: bool | None = None, demos: Source | dict[str, Any] | None = None, both: bool = False,
             clip_actions: bool | None = None, pictures: Any = None, trust: bool = False, **kwargs: Any
             ) -> dict[str, Any]:
    """Play complete episodes on the true reward.

    env            by default the one that the policy was trained in
    seed           of the starting states and of sampled actions
    deterministic  act by the mode; by default as the run does, and True for other policies
    demos          also report how likely the policy finds these demonstrations, as `train` takes them. A policy that is
                   not a run is compared with them, or without them with those that come with the environment
    both           also play by the mode and by sampling, and return the two under "eval_greedy" and "eval_sampled"
    clip_actions   clip continuous actions to their range first; by default as the run does, and True for other policies
    pictures       how those of the observations are prepared, as `make` takes it; by default as the policy saw them
    trust          open the environment that the run names, although it is code that was not used in this form before

    Returns the keys of `summary["eval"]` (episodes, return_mean, return_std, length_mean, normalized, ci95: the 95%
    interval of normalized, or else of the return; success_rate where the environment tells it; unscored: why normalized
    is None although both returns are known), and expert_return and random_return. Unknown numbers are None.
    """
    from puffer_il.training.score import score

    _positive("episodes", episodes)
    source, creator = _scene(policy, env, kwargs, trust, pictures)
    return score(source, creator, episodes, seed, deterministic=deterministic, demos=demos, both=both,
                 clip_actions=clip_actions)


def collect(policy: Any, env: Env | None = None, *, episodes: int, seed: int = 0, deterministic: bool = True,
            pictures: Any = None, trust: bool = False, **kwargs: Any) -> Demos:
    """Record `episodes` complete episodes of a policy, with the arguments of `evaluate`.

    `demos.save("d.npz")` keeps them, and `train(…, demos=demos)` learns from them.
    """
    from puffer_il.demos.record import recorded
    from puffer_il.training.hung import guarded
    from puffer_il.training.process import torch_threads
    from puffer_il.training.resolve_actor import resolve_actor
    from puffer_il.training.run_dir import patience_of

    _positive("episodes", episodes)
    source, creator = _scene(policy, env, kwargs, trust, pictures)
    rows = creator.facts().rows_for(min(episodes, MOST_ROWS))
    limit, watch = patience_of(source)
    with torch_threads(1), vectors.make_vec(creator, num_envs=rows, seed=seed, watch=watch) as vec, guarded(vec):
        vec.reset()
        actor = resolve_actor("policy", source, vec, deterministic=deterministic, seed=seed)
        return recorded(vec, actor, episodes, f"collected in {creator.name}", seed, limit)


def load_demos(source: Source, env: Env | None = None, *, episodes: int = 0, subsample: int = 1, seed: int = 0,
               clip_actions: bool = False, fields: tuple[str, ...] = (), time_limit: int | None = None,
               format: str = "auto", columns: str | Path = "", obs_columns: tuple[str, ...] = (),
               pictures: Any = None, **kwargs: Any) -> Demos:
    """Demonstrations, checked; with an environment also made to fit it, in its dtypes.

    source        a file or folder of a format that docs/demonstrations.md names; "minari:ID"; "shipped" for those that
                  come with `env`; a dict of arrays named as in an .npz; or a tuple of arrays (obs, actions, next_obs,
                  terminations, truncations[, rewards]) of n rows each, in which an episode begins after each end
    episodes      how many of the first episodes to take; 0 takes all
    subsample     keep every n-th transition, from a random offset in each episode that `seed` draws
    clip_actions  clip continuous actions to the environment's range instead of refusing them
    fields        the names of the observation's parts in the order of the columns, where a recording has no names
    time_limit    the recorder's, in steps, for files that do not tell terminations from truncations
    format        of a source that may be of several
    columns       of a table (CSV, Parquet): the TOML file that says which columns are what; by default that beside it
    obs_columns   of a LeRobot data set: the columns that make up the observation; by default all of observation.*
    pictures      how those of the observations are prepared, as `make` takes it
    """
    spec = None if env is None else _creator(env, kwargs, pictures).facts().spec
    return demonstrations.load_demos(source, spec, episodes=episodes, subsample=subsample, seed=seed,
                                     clip_actions=clip_actions, fields=fields, time_limit=time_limit, format=format,
                                     columns=str(columns), obs_columns=obs_columns)


def load_reward(run: str | Path | Run, device: str = "cpu") -> LearnedReward:
    """The learned reward of a run, of its directory, or of a file reward.pt: a torch module of rows whose
    `predict(obs, actions, next_obs)` takes arrays and returns (n,) float32."""
    from puffer_il.learners.common.learned_reward import load_reward

    return load_reward(_folder(run), device)


def make(env: Env, *, render_mode: str | None = None, pictures: Any = None, **kwargs: Any) -> gymnasium.Env:
    """One environment, as a `gymnasium.Env`.

    render_mode  for C environments "rgb_array" (uint8 (height, width, 3)) or "ansi" (text with colours)
    pictures     how those of the observations are prepared: {"resize": (84, 84), "grey": True, "stack": 4}, keys of
                 the section env of a run; or a policy or Run, as it saw them
    kwargs       parameters of the environment, such as `gravity=20.0`
    """
    return _creator(env, kwargs, pictures).as_gymnasium(render_mode)


def make_vec(env: Env, num_envs: int, pictures: Any = None, **kwargs: Any) -> VectorEnv:
    """`num_envs` environments as one `gymnasium.vector.VectorEnv`, which begins a new episode in the step that ends the
    last one (AutoresetMode.SAME_STEP). C environments are stepped by one call, those in Python, and those whose
    `pictures` are prepared (see `make`), by a SyncVectorEnv.

    observations (num_envs, …) in the environment's dtype, actions (num_envs, …); rewards float64, terminations and
    truncations bool (num_envs,). `infos["final_obs"]` holds the last observations of the episodes that ended.
    """
    _positive("num_envs", num_envs)
    creator = _creator(env, kwargs, pictures)
    if creator.kind == "folder" and not creator.pictures.change:
        return GymnasiumVectorEnv(creator.target, num_envs, **creator.kwargs)
    return SyncVectorEnv([creator.as_gymnasium] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def algorithms() -> dict[str, dict[str, Any]]:
    """All algorithms by name, also those of installed packages: what each needs, the kinds of actions that it covers,
    its paper, and when to use it."""
    from puffer_il.learners.registry import describe, usable_learners

    return {name: describe(name, learner) for name, learner in usable_learners()[0].items()}


def _named(sections: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sections with names in place of objects, and the objects, as `assemble` takes them."""
    demos = sections.get("demos", {})
    if not (isinstance(demos, Mapping) and ("source" in demos or all(np.ndim(x) == 0 for x in demos.values()))):
        sections = {**sections, "demos": {"source": demos}}  # a source itself: a name, an object, or arrays
    given: dict[str, Any] = {}
    tables = {name: dict(table) if isinstance(table, Mapping) else table for name, table in sections.items()}
    for name, key in [(name, key) for name, table in tables.items() if isinstance(table, dict) for key in table]:
        value = tables[name][key]
        if isinstance(value, Run | Path):
            tables[name][key] = str(_folder(value))
        elif (name, key) == ("demos", "source") and not isinstance(value, str):
            given["demos"] = read_demos(value)
            tables[name][key] = given["demos"].source
        elif key == "expert" and not isinstance(value, str):
            given["expert"] = value
            tables[name][key] = getattr(value, "__name__", type(value).__name__)
    return tables, given


def _folder(source: Any) -> Any:
    """The directory of a run, or the path that a string is; anything else as it is."""
    return source.dir if isinstance(source, Run) else Path(source) if isinstance(source, str) else source


def _scene(policy: Any, env: Env | None, kwargs: dict[str, Any], trusted: bool, given: Any) -> tuple[Any, Creator]:
    """The policy as `resolve_actor` takes it, and where it is to act: in the environment given, or else in its own, if
    that is no code that nobody has `trusted`. Pictures are prepared as `given`, or else as the policy saw them."""
    from puffer_il.training.resolve_actor import RANDOM, SCRIPT
    from puffer_il.training.run_dir import environment_of, load_config

    source = policy if policy in (RANDOM, SCRIPT) else _folder(policy)
    pictures = _pictures(given) or (_pictures(policy) if isinstance(policy, Run) or hasattr(policy, "spec") else None)
    if env is None and isinstance(policy, Run) and "make_env" in policy._given:
        return source, find_creator(policy._given["make_env"], policy.config.env.kwargs | kwargs, pictures)
    if env is None and isinstance(source, Path):
        load_config(source)  # only a run tells where it acts
    if env is None and hasattr(policy, "spec"):
        code.check(env := policy.spec.name, {}, "policy", trusted)
    if env is None or isinstance(env, str):  # the run's parameters hold in its own environment
        run = source if isinstance(source, Path) else None
        env, kwargs, own = environment_of(run, env and fastest_name(env), kwargs, trusted)
        pictures = pictures or own
    return source, find_creator(env, kwargs, pictures)


def _creator(env: Env, kwargs: dict[str, Any], pictures: Any = None) -> Creator:
    return find_creator(fastest_name(env) if isinstance(env, str) else env, kwargs, _pictures(pictures))


def _pictures(given: Any) -> Pictures | None:
    """How pictures are prepared: as a table says, or as a policy or a run saw them."""
    if isinstance(given, Run):
        return given.config.env.pictures
    return given.spec.pictures if hasattr(given, "spec") else None if given is None else Pictures.of(given)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{name} = {value}: must be at least 1")
