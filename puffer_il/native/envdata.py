"""What a C environment reads besides numbers: the arrays of [data], given by the caller, by its own `load`, or files.

`load(**kwargs)` in `<name>.py` beside the header gets every parameter's value (the time limit only if it names
`max_episode_steps`) and every array that was given. It returns a dict: arrays by name, and parameters that it decides
itself, such as sizes that follow from the arrays.
"""

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.native.envfile import DataFile, EnvFile, Value, read_env
from puffer_il.native.glue import package_folder

_loaded: dict[tuple, dict[str, Any]] = {}  # what `load` returned, for those that were given no array and no text


def open_env(folder: Path | str, given: Mapping[str, Any]) -> tuple[EnvFile, dict[str, Value], dict[str, Array]]:
    """The environment's description, its parameters' values and its arrays, contiguous, in the order of [data].

    `given` are keyword arguments: parameters and arrays. InputError for those that do not fit, and missing ones.
    """
    env = read_env(folder)
    arrays = {name: given[name] for name in env.data if name in given}
    values = env.values({name: value for name, value in given.items() if name not in arrays})
    if (env.folder / f"{env.name}.py").is_file():
        for name, value in _load(env, values, arrays).items():
            if name not in env.data and name not in values:
                raise InputError(f"environment {env.name}: load() returned {name!r}, which is neither in [data] nor in "
                                 "[parameters] of env.toml")
            (arrays if name in env.data else values)[name] = value
    values = env.values(values)
    for name, file in env.files.items():
        if name not in arrays:
            arrays[name] = _path(env, name, file, values)
    return read_env(folder, values), values, {name: _array(env, name, arrays.get(name)) for name in env.data}


def _load(env: EnvFile, values: dict[str, Value], arrays: dict[str, Any]) -> dict[str, Any]:
    path = env.folder / f"{env.name}.py"
    load = _function(path)
    if "max_episode_steps" not in inspect.signature(load).parameters:
        values = {name: value for name, value in values.items() if name != "max_episode_steps"}
    texts = any(values[p.name] for p in env.parameters if not p.in_c)  # may be the names of files, which change
    key = (path, path.stat().st_mtime_ns, *values.items())
    if arrays or texts:
        return dict(load(**values, **arrays))
    if key not in _loaded:
        _loaded[key] = dict(load(**values))
    return dict(_loaded[key])


def _function(path: Path) -> Callable[..., Mapping[str, Any]]:
    spec = importlib.util.spec_from_file_location(f"puffer_il_env_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    if not callable(getattr(module, "load", None)):
        raise InputError(f"{path}: there is no function load(**parameters)")
    return module.load


def _path(env: EnvFile, name: str, file: DataFile, values: dict[str, Value]) -> Array:
    """uint8, the path as C reads it."""
    given = values.get(file.parameter, "")
    if given:
        key, path, remedy = file.parameter, Path(str(given)).expanduser(), f"give the path of a {name}"
    else:
        root = package_folder(file.package) if file.package else env.folder
        own = file.file if isinstance(file.file, str) else next(
            file.file[str(values[p.name])] for p in env.parameters if {*p.choices} == {*file.file})
        key, path = name, (root or Path(file.package)) / own
        remedy = f"pip install {file.package}" if file.package else "put it there"
    if not path.is_file():
        raise InputError(f"environment {env.name}: {key} = {str(path)!r}: there is no such file; {remedy}")
    return np.frombuffer(os.fsencode(path.resolve()) + b"\0", np.uint8)


def _array(env: EnvFile, name: str, value: Any) -> Array:
    dtype = np.dtype(env.data[name])
    if value is None:
        raise InputError(f"environment {env.name}: the array {name} is missing; give it as the keyword argument "
                         f"{name}, {dtype}")
    array = np.asarray(value)
    if not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise InputError(f"environment {env.name}: {name} is an array of {array.dtype}; it must be one of {dtype}")
    return np.ascontiguousarray(array, dtype)
