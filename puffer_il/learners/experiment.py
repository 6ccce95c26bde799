"""An experiment: shipped TOML files → a run's `Config`, with the sections of its learner. An unknown key is an error.

Order of precedence: defaults, configs/base.toml, configs/fast.toml where stepping costs next to nothing,
configs/<algo>.toml, configs/<env>/base.toml, configs/<env>/<algo>.toml, --config FILE, the command line.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puffer_il.core.config import (
    Config,
    DemosConfig,
    EnvConfig,
    EvalConfig,
    MixConfig,
    PolicyConfig,
    TrainConfig,
    as_option,
    convert,
    read_toml,
)
from puffer_il.core.errors import InputError, unknown
from puffer_il.core.spec import EnvSpec
from puffer_il.learners.registry import Find, get_learner
from puffer_il.native.catalogue import env_folder

if TYPE_CHECKING:
    from puffer_il.nn import NumpyPolicy, Policy

COMMAND_LINE = "command line"  # the origin whose keys are written as options
Layer = tuple[str, dict[str, Any]]  # where it comes from, and section → table of its keys
SHARED: dict[str, type] = {"env": EnvConfig, "demos": DemosConfig, "policy": PolicyConfig, "train": TrainConfig,
                           "eval": EvalConfig}


def section_types(algo: str, find: Find = get_learner) -> dict[str, type]:
    """Section name → dataclass for the shared sections and those of the learner and what it uses; mix with PPO. `find`
    is `registry.declaration` where they are looked at only."""
    cls = find(algo)
    used = {name: find(name).section for name in cls.uses}
    mixed = {"mix": MixConfig} if "ppo" in (algo, *used) else {}
    return SHARED | mixed | used | {algo: cls.section}


def build(algo: str, layers: Sequence[Layer], find: Find = get_learner) -> Config:
    """Merge `layers` (where it comes from, tables), later over earlier, and check every key and value.

    What is in no layer has the default of its dataclass, or what the dataclass of another section of the learner
    `implies` of it: {section: {key: value}}. A key that is a table, such as env.kwargs, is merged entry by entry.
    """
    types_ = section_types(algo, find)
    values: dict[str, dict[str, Any]] = {name: {} for name in types_}
    reasons: tuple[str, ...] = ()
    for origin, tables in [*((algo, getattr(cls, "implies", {})) for cls in types_.values()), *layers]:
        reasons = tuple(map(str, tables.get("chosen_because", reasons)))
        for section, table in tables.items():
            if section in ("algo", "chosen_because"):
                continue
            if section not in types_:
                raise InputError(f"{origin}: {unknown('section', section, list(types_))}")
            if not isinstance(table, dict):
                raise InputError(f"{origin}: {section} = {table!r}: that is a section; write [{section}] and its keys")
            fields = {f.name: f for f in dataclasses.fields(types_[section])}
            for name, value in table.items():
                key = name.replace("-", "_")
                if key not in fields:
                    raise InputError(f"{origin}: {_unknown_key(section, key, types_, origin == COMMAND_LINE)}")
                try:
                    value = convert(f"{section}.{key}", value, types_[section], fields[key])
                except InputError as error:
                    raise InputError(f"{origin}: {error}") from None
                values[section][key] = values[section].get(key, {}) | value if isinstance(value, dict) else value
    return Config(algo, {name: cls(**values[name]) for name, cls in types_.items()}, reasons)


def replaced(config: Config, changes: dict[str, Any]) -> Config:
    """A copy with other values of some "section.key", checked as any other input."""
    tables = config.to_dict()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        tables[section][name] = value
    return dataclasses.replace(build(config.algo, [("override", tables)]), chosen_because=config.chosen_because)


def _unknown_key(section: str, key: str, types_: dict[str, type], typed: bool) -> str:
    """One line that names the keys that may be meant, or else all of the section; as options where they are `typed`."""
    written, kind = (as_option, "option") if typed else (repr, "key")
    own, meant = [f"{section}.{f.name}" for f in dataclasses.fields(types_[section])], meant_keys(key, types_, section)
    hint = f"did you mean {' or '.join(map(written, meant))}?" if meant else f"known: {', '.join(own)}"
    return f"unknown {kind} {written(f'{section}.{key}')}; {hint}"


def meant_keys(name: str, types_: dict[str, type], section: str = "") -> list[str]:
    """Keys that `name` may mean, those of `section` first: of the same name, of a similar one, or abbreviated by it, as
    `lr` abbreviates learning_rate."""
    def fits(key: str) -> bool:
        return key == name or (len(name) > 1 and "".join(word[0] for word in key.split("_")).endswith(name))

    keys = {s: [f.name for f in dataclasses.fields(cls)] for s, cls in types_.items()}
    own = keys.get(section, [])
    found = [(section, key) for key in (*get_close_matches(name, own, n=1, cutoff=0.7), *filter(fits, own))]
    found += [(s, key) for s, names in keys.items() for key in filter(fits, names)]
    return list(dict.fromkeys(f"{s}.{key}" for s, key in found))


def config_folder() -> Path:
    """Where the shipped experiments are (the repository's configs/, installed as puffer_il.configs)."""
    return Path(next(iter(import_module("puffer_il.configs").__path__)))


def experiment_layers(algo: str, env: str, find: Find = get_learner) -> list[Layer]:
    """The shipped files for this algorithm and environment: base.toml and, for an environment of compiled code alone,
    fast.toml, then <algo>.toml, <env>/base.toml and <env>/<algo>.toml if they are there."""
    folder = config_folder()
    short = re.sub(r"-v\d+$", "", env.removeprefix("gymnasium:").rstrip("/").rsplit("/", 1)[-1]).lower()
    files = [folder / "base.toml", *([folder / "fast.toml"] if _is_fast(env, short) else []), folder / f"{algo}.toml",
             folder / short / "base.toml", folder / short / f"{algo}.toml"]
    layers = [(str(f), read_toml(f)) for f in dict.fromkeys(files) if f.is_file()]
    known = section_types(algo, find)  # files without an algorithm's name are for all
    return [(origin, tables if Path(origin).stem == algo else {name: table for name, table in tables.items()
                                                               if name in known}) for origin, tables in layers]


def _is_fast(env: str, short: str) -> bool:
    """Whether stepping costs next to nothing beside learning: compiled code of the environment's own, and no physics
    engine. An environment that has the name of a shipped one is taken for as fast, so that one experiment is for
    both."""
    folder = next((found for name in (env, short) if (found := env_folder(name)).is_dir()), Path(env))
    toml = folder / "env.toml"
    return not read_toml(toml).get("packages") if toml.is_file() else folder.is_dir() and any(folder.glob("*.pyx"))


def make_policy(spec: EnvSpec, config: Config, device: str = "cpu") -> Policy | NumpyPolicy:
    """An untrained policy of the kind that the learner of `config` has; its weights come from a checkpoint."""
    from puffer_il.nn.policy import Policy

    made = getattr(get_learner(config.algo), "make_policy", None)
    return Policy(spec, config.policy).to(device).eval() if made is None else made(spec, config)
