"""`--section.key VALUE` on the command line: told from options, and turned into tables of a config."""

import dataclasses
import re
import tomllib
from collections.abc import Iterable
from typing import Any

from puffer_il.cli.parser import UsageError

# Keys of demos that a command without a learner takes.
READING = ("format", "episodes", "subsample", "clip_actions", "fields", "columns", "obs_columns")
PREPARING = ("resize", "grey", "stack", "channels")  # keys of env likewise
OVERRIDE = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)


def split(arguments: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Take `--section.key VALUE` and `--section.key=VALUE` out of the arguments; UsageError if a value is missing."""
    found, rest, words = [], [], list(arguments)
    while words:
        word = words.pop(0)
        match = OVERRIDE.fullmatch(word)
        if match is None:
            rest.append(word)
        elif match[2] is not None:
            found.append((match[1], match[2]))
        elif words and not words[0].startswith("--"):
            found.append((match[1], words.pop(0)))
        else:
            raise UsageError(f"{word} needs a value: {word} VALUE, or {word} true for a switch")
    return found, rest


def override(key: str, text: str) -> dict[str, Any]:
    """`env.kwargs.gravity`, "9.9" → {"env": {"kwargs": {"gravity": 9.9}}}. A key of a section keeps its text."""
    section, name, *path = key.replace("-", "_").split(".")
    value: Any = _literal(text) if path else text
    for part in reversed(path):
        value = {part: value}
    return {section: {name: value}}


def env_kwargs(overrides: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The environment's parameters out of `--env.kwargs.NAME VALUE` pairs; UsageError for any other key."""
    kwargs: dict[str, Any] = {}
    for key, text in overrides:
        if not key.replace("-", "_").startswith("env.kwargs."):
            raise UsageError(f"--{key}: only parameters of the environment can be set here: --env.kwargs.NAME VALUE")
        _merge(kwargs, override(key, text)["env"]["kwargs"])
    return kwargs


def pictures(overrides: Iterable[tuple[str, str]]) -> tuple[Any, list[tuple[str, str]]]:
    """How pictures are prepared, out of `--env.KEY VALUE` pairs, as `core.frames.Pictures`, None if no pair says; and
    the other pairs."""
    from puffer_il.core.config import EnvConfig, convert

    keys, others = {}, []
    fields = {field.name: field for field in dataclasses.fields(EnvConfig) if field.name in PREPARING}
    for key, text in overrides:
        section, _, name = key.replace("-", "_").partition(".")
        if section == "env" and name in fields:
            keys[name] = convert(f"env.{name}", text, EnvConfig, fields[name])
        else:
            others.append((key, text))
    return (EnvConfig(**keys).pictures if keys else None), others


def demo_keys(overrides: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """How demonstrations are read, out of `--demos.KEY VALUE` pairs, and the other pairs; UsageError for a key that
    only learning has."""
    from puffer_il.core.config import DemosConfig, convert

    keys, others = {}, []
    fields = {field.name: field for field in dataclasses.fields(DemosConfig) if field.name in READING}
    for key, text in overrides:
        section, _, name = key.replace("-", "_").partition(".")
        if section != "demos":
            others.append((key, text))
        elif name not in fields:
            raise UsageError(f"--{key}: only {', '.join(f'--demos.{one}' for one in READING).replace('_', '-')} can be "
                             "set here")
        else:
            keys[name] = convert(f"demos.{name}", text, DemosConfig, fields[name])
    return keys, others


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
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
