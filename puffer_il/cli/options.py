"""From the command line to a run's Config, and back: every key as an option, with its value and its sentence."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from puffer_il.core.config import Config, read_toml
from puffer_il.core.errors import InputError
from puffer_il.learners import experiment
from puffer_il.learners.experiment import Layer
from puffer_il.native.catalogue import env_folders
from puffer_il.training import auto
from puffer_il.training.resolve import given_keys
from puffer_il.training.resolve import resolve as experiment_of

Tables = dict[str, Any]  # section → table of its keys; at the top level also the algorithm's name


def resolve(args: Namespace) -> Config:
    """The shipped files or the resumed run's, over it --config, over it the command line.

    `args` is what `puffer-il train` was given, with `overrides`: pairs of a dotted key and the text of its value.
    """
    if args.resume and args.run_dir:
        raise InputError(f"--run-dir {args.run_dir}: a resumed run goes on in its own directory; leave it out")
    flags = {"demos": {"source": args.demos}, "train": {"seed": args.seed, "device": args.device,
                                                        "total_steps": args.total_steps, "run_dir": args.run_dir}}
    typed = [{section: {key: value for key, value in table.items() if value is not None}
              for section, table in flags.items()}, *(override(key, text) for key, text in args.overrides)]
    return experiment_of(args.algo, args.env, [*_file(args), *(("command line", tables) for tables in typed)],
                         args.resume, say=lambda notice: print(f"puffer-il: {notice}", file=sys.stderr))


def _file(args: Namespace) -> list[Layer]:
    return [(str(args.config), read_toml(args.config))] if args.config else []


def given(args: Namespace) -> set[str]:
    """The keys ("section.key") that the user named, in --config or on the command line."""
    return given_keys([*_file(args), *(("", override(key, text)) for key, text in args.overrides)])


def override(key: str, text: str) -> Tables:
    """`env.kwargs.gravity`, "9.9" → {"env": {"kwargs": {"gravity": 9.9}}}. A key of a section keeps its text."""
    section, name, *path = key.replace("-", "_").split(".")
    value: Any = _literal(text) if path else text
    for part in reversed(path):
        value = {part: value}
    return {section: {name: value}}


def env_kwargs(overrides: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The environment's parameters out of `--env.kwargs.NAME VALUE` pairs; InputError for any other key."""
    kwargs: dict[str, Any] = {}
    for key, text in overrides:
        if not key.replace("-", "_").startswith("env.kwargs."):
            raise InputError(f"--{key}: only parameters of the environment can be set here: --env.kwargs.NAME VALUE")
        _merge(kwargs, override(key, text)["env"]["kwargs"])
    return kwargs


def _merge(table: dict[str, Any], more: dict[str, Any]) -> None:
    """`more` into `table`, tables in tables entry by entry."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            _merge(table[key], value)
        else:
            table[key] = value


def _literal(text: str) -> Any:
    """The TOML value that `text` is, or `text` itself."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def keys_help(algo: str, env: str) -> str:
    """Every key of `train <algo> <env>` as an option: its value in that experiment, its sentence, its choices."""
    layers = [*experiment.experiment_layers(algo, env), ("command line", {"env": {"name": env}})]
    config = experiment.build(algo, layers)
    lines = [f"keys, with their values in 'puffer-il train {algo} {env}':"]
    for section, cls in experiment.section_types(algo).items():
        lines += ["", *section_help(section, cls, getattr(config, section))]
    return "\n".join([*lines, *_parameters(env)])


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
    folder = env_folders().get(env, Path(env))
    if not (folder / "env.toml").is_file():
        return []
    from puffer_il.native.envfile import read_env

    return ["", *(_option(f"env.kwargs.{p.name}", p.default, p.help) for p in read_env(folder).parameters)]


def _option(key: str, value: Any, help: str) -> str:
    return f"  {f'--{key} {_typed(value)}':<46} {help}"


def _typed(value: Any) -> str:
    """A value as it would be typed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_typed, value)) or "''"
    return str(value) or "''"


def unknown_argument(argument: str, args: Namespace) -> str:
    """What to type instead of something that no command knows: the config key that may be meant."""
    if not argument.startswith("-"):
        return f"unexpected argument {argument!r}; see 'puffer-il --help'"
    if getattr(args, "algo", None) in (None, auto.NAME):
        return f"unknown option {argument!r}; see 'puffer-il --help'"
    name = argument.lstrip("-").partition("=")[0].replace("-", "_")
    meant = [f"--{section}.{field.name}" for section, cls in experiment.section_types(args.algo).items()
             for field in dataclasses.fields(cls) if field.name == name]
    hint = f"did you mean {' or '.join(meant)}?" if meant else f"see 'puffer-il train {args.algo} <env> --help'"
    return f"unknown option {argument!r}; {hint}"
