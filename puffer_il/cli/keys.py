"""Config keys as options, for --help: each with a value, its sentence and its choices."""

import dataclasses
from typing import Any

from puffer_il.cli.parser import terminal_width, wrapped
from puffer_il.core.config import as_option
from puffer_il.learners import experiment
from puffer_il.learners.registry import declaration
from puffer_il.native.catalogue import env_folder


def keys_help(algo: str, env: str) -> str:
    """Every key of `train <algo> <env>`, with its value in that experiment, and the environment's parameters."""
    layers = [*experiment.experiment_layers(algo, env, declaration), ("command line", {"env": {"name": env}})]
    config = experiment.build(algo, layers, declaration)
    lines = [f"keys, with their values in 'puffer-il train {algo} {env}':"]
    for section, cls in experiment.section_types(algo, declaration).items():
        lines += ["", *section_help(section, cls, getattr(config, section))]
    return "\n".join(wrapped(line, terminal_width()) for line in [*lines, *_parameters(env)])


def section_help(section: str, cls: type, values: Any) -> list[str]:
    """The keys of one section, with the values of `values`, an object of its dataclass `cls`."""
    lines = []
    for field in dataclasses.fields(cls):
        choices = field.metadata.get("choices")
        allowed = f" ({', '.join(map(str, choices))})" if choices else ""
        lines.append(_option(f"{section}.{field.name}", getattr(values, field.name),
                             field.metadata.get("help", "") + allowed))
    return lines


def _parameters(env: str) -> list[str]:
    """The parameters of an environment that describes them."""
    folder = env_folder(env)
    if not (folder / "env.toml").is_file():
        return []
    from puffer_il.native.envfile import read_env

    return ["", *(_option(f"env.kwargs.{p.name}", p.default, p.help) for p in read_env(folder).parameters)]


def _option(key: str, value: Any, help: str) -> str:
    return f"  {f'{as_option(key)} {_typed(value)}':<46} {help}"


def _typed(value: Any) -> str:
    """A value as it would be typed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_typed, value)) or "''"
    return str(value) or "''"
