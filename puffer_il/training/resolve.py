"""What the user asked for → a run's `Config`: the command line and Python call the same function."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from puffer_il.core.config import Config, read_toml
from puffer_il.core.errors import InputError
from puffer_il.learners import experiment
from puffer_il.learners.experiment import Layer, replaced
from puffer_il.learners.registry import get_learner
from puffer_il.native.catalogue import env_folders
from puffer_il.training import auto
from puffer_il.training.run_dir import check_named
from puffer_il.vector import trust
from puffer_il.vector.make import Creator, fastest_name, find_creator

WORDS = ("shipped", "script", "person", "random")  # that stand where a path may stand


def resolve(algo: str | None, env: str | None, layers: Sequence[Layer] = (), resume: Path | None = None,
            given: Mapping[str, Any] | None = None, say: Callable[[str], None] = lambda notice: None,
            trusted: bool = False) -> Config:
    """The shipped experiment, or the config of the run `resume`, under `layers`: (origin, {section: {key: value}}).

    Later layers win. Values are checked and converted; text such as "1e-3" or "64,64" stands for numbers. `algo` and
    `env` may be None if a layer names them; `algo` may be "auto". `given` are objects in place of names, as `assemble`
    takes them. `say` is told what the user should know. `trusted`: see trust.check, of the run's environment.
    Raises InputError, which names the layer's origin, for what is unknown or does not fit.
    """
    if resume and not (resume / "config.toml").is_file():
        raise InputError(f"--resume {resume}: no run directory (it has no config.toml); give one that 'puffer-il "
                         "train' wrote")
    before = [(str(resume / "config.toml"), read_toml(resume / "config.toml"))] if resume else []
    for path, tables in before:
        check_named(Path(path), tables)
    own, named = _named(before), _named([*before, *layers])
    algo, env = algo or named.get("algo"), env or named.get("env")
    if not algo or not env:
        raise InputError("train needs an algorithm and an environment, such as 'puffer-il train gail cartpole'; "
                         "see 'puffer-il train --help'")
    if resume:
        if (algo, env) != (own.get("algo"), own.get("env")):
            raise InputError(f"--resume {resume}: that is a run of {own.get('algo')} on {own.get('env')}, not of "
                             f"{algo} on {env}; leave both out")
        # The run may have been moved since its config was written.
        again = _built(algo, [*before, *layers, ("--resume", {"train": {"run_dir": str(resume)}})])
        if "make_env" not in (given or {}):
            trust.check(env, _built(algo, before).env.kwargs, str(resume / "config.toml"), trusted)
            trust.remember(env, again.env.kwargs)
        if "train.bf16" in given_keys(layers):
            _check_bf16(again)  # or the run goes on without, with a notice
        return again
    env = fastest_name(env, say)
    layers = [*layers, ("the environment", {"env": {"name": env}})]

    def config(name: str, reasons: tuple[str, ...] = ()) -> Config:
        return _built(name, [*experiment.experiment_layers(name, env), *layers,
                             (auto.NAME, {"chosen_because": reasons})])

    if algo == auto.NAME:
        choice = auto.pick(_without_learner(layers), given or {}, config)
        chosen = config(choice.algo, choice.reasons)
    else:
        chosen = config(algo)
    _check_bf16(chosen)
    chosen = _from_anywhere(chosen)
    return chosen if "env.num_envs" in given_keys(layers) else _of_whole_environments(chosen, given or {}, say)


def _check_bf16(config: Config) -> None:
    if config.train.bf16 == "on":
        from puffer_il.training.process import check_bf16  # torch, which others need not wait for

        check_bf16(config.train)


def _from_anywhere(config: Config) -> Config:
    """The config with whole paths for those that begin in the working folder, so that the run can be resumed from any.

    Words that stand for something else than a path stay, whatever the folder holds.
    """
    keys = ["demos.source", "mix.expert", f"{config.algo}.expert", *(["transfer.reward"] * (config.algo == "transfer"))]
    named = {key: value for key in keys if isinstance(value := config.get(key), str) and value not in WORDS}
    env = Path(config.env.name)
    if config.env.name not in env_folders() and any(any(env.glob(file)) for file in ("env.toml", "*.pyx")):
        named["env.name"] = config.env.name
    return replaced(config, {key: str(Path(value).absolute()) for key, value in named.items()
                             if value and not Path(value).is_absolute() and Path(value).exists()})


def _of_whole_environments(config: Config, given: Mapping[str, Any], say: Callable[[str], None]) -> Config:
    """The config with as many of its rows as whole environments have, since each agent of one is a row; at least one.

    Only for a number that the user has not given: another one is refused where the environments are made.
    """
    env, make_env = config.env, given.get("make_env")
    creator = find_creator(env.name, env.kwargs) if make_env is None else Creator(env.name, "callable", make_env,
                                                                                  env.kwargs)
    if not get_learner(config.algo).needs_rollouts or creator.kind == "gymnasium":  # those have one agent
        return config
    agents = creator.facts().num_agents
    if env.num_envs % agents == 0:
        return config
    rows = max(env.num_envs // agents, 1) * agents
    say(f"env.num_envs = {rows} instead of {env.num_envs}, since each of the {agents} agents of {env.name} is a row")
    return replaced(config, {"env.num_envs": rows})


def _built(algo: str, layers: Sequence[Layer]) -> Config:
    config = experiment.build(algo, layers)
    if get_learner(algo).needs_demos and not config.demos.source:
        config = replaced(config, {"demos.source": "shipped"})
    return config


def _named(layers: Sequence[Layer]) -> dict[str, Any]:
    """Algorithm and environment as the last layer says that names them."""
    named: dict[str, Any] = {}
    for _, tables in layers:
        section = tables.get("env", {})
        found = {"algo": tables.get("algo"), "env": section.get("name") if isinstance(section, dict) else None}
        named |= {key: value for key, value in found.items() if value}
    return named


def _without_learner(layers: Sequence[Layer]) -> Config:
    """What the layers say of environment and demonstrations, before there is an algorithm."""
    kept = ("env", "demos", "train")
    return experiment.build("ppo", [(origin, {name: table for name, table in tables.items() if name in kept})
                                 for origin, tables in layers])


def given_keys(layers: Sequence[Layer]) -> set[str]:
    """The keys ("section.key") that the layers name."""
    return {f"{section}.{key}".replace("-", "_") for _, tables in layers
            for section, table in tables.items() if isinstance(table, dict) for key in table}
