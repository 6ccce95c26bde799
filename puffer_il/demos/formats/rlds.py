"""RLDS: a folder of TensorFlow Datasets whose examples are episodes of `steps`, such as those of Open X-Embodiment. It
is read by tensorflow_datasets, where that is installed; we only read it.

    steps   observation, action, reward, discount, is_first, is_last, is_terminal

The last step of an episode holds its final observation; what it says of action and reward is not valid. is_last without
is_terminal is a truncation. The feature classes that features.json names are imported by that package, so only its own
ones are let through.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import Episode, join_episodes

KIND, MARKS, LOOKS = "folder", (), ("features.json", "dataset_info.json")
OWN = "tensorflow_datasets."
BATCH = 4096  # steps that are taken at once; TensorFlow makes room for as many
INSTALL = ("pip install tensorflow tensorflow-datasets, or convert it with `puffer-il demos import` where they are "
           "installed")


def fits(path: Path) -> bool:
    return all((path / name).is_file() for name in LOOKS)


def read(path: Path, time_limit: int | None = None) -> Demos:
    source = str(path)
    check_features(path)
    try:
        import tensorflow_datasets
    except ImportError:
        raise InputError(f"demos {path}: is a TensorFlow data set (RLDS), which needs tensorflow_datasets; {INSTALL}"
                         ) from None
    notes = list[str]()
    try:
        builder = tensorflow_datasets.builder_from_directory(source)
        if len(splits := list(builder.info.splits)) > 1:
            notes.append(f"the splits {', '.join(splits)} are read as one")
        episodes = list(_episodes(tensorflow_datasets, builder, notes))
    except InputError:
        raise
    except Exception as error:  # what a damaged record makes of TensorFlow can raise anything
        raise InputError(f"demos {path}: cannot be read ({one_line(error)}); fetch it again") from None
    return join_episodes(source, episodes, notes)


def check_features(path: Path) -> None:
    """InputError where features.json has no steps, or names classes of other packages."""
    try:
        features = json.loads((path / "features.json").read_text())
        steps = features["featuresDict"]["features"]["steps"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"demos {path}: features.json names no steps, as those of RLDS do; give a data set of episodes"
                         ) from None
    for name in {*_classes(features), *_classes(steps)}:
        if not name.startswith(OWN):
            raise InputError(f"demos {path}: features.json names the class {name!r}, which would be imported; convert "
                             "the data set where you trust it")


def _classes(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "pythonClassName" in part:
            yield str(part["pythonClassName"])
        for inner in part.values():
            yield from _classes(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _classes(inner)


def _episodes(package: Any, builder: Any, notes: list[str]) -> Iterator[Episode]:
    told = False
    for number, example in enumerate(builder.as_dataset(split="all", shuffle_files=False)):
        parts = list(package.as_numpy(example["steps"].batch(BATCH)))
        if not parts:
            continue
        steps = _end_to_end(parts)
        left_out: list[str] = []
        obs = _numbers(steps["observation"], "observation", left_out)
        actions = _numbers(steps["action"], "action", left_out)
        if not told and left_out:
            notes.append(f"texts are left out: {', '.join(left_out)}")
            told = True
        terminated = bool(np.asarray(steps["is_terminal"])[-1]) if "is_terminal" in steps else None
        rewards = steps.get("reward")
        yield Episode(f"episode {number}", obs, _but_last(actions), rewards=None if rewards is None else rewards[:-1],
                      terminated=terminated, truncated=None if terminated is None else not terminated)


def _end_to_end(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {key: _end_to_end([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)


def _numbers(part: Any, name: str, left_out: list[str]) -> Any:
    """The same without texts."""
    if not isinstance(part, dict):
        if np.asarray(part).dtype.kind in "biuf":
            return np.asarray(part)
        left_out.append(name)
        return None
    kept = {key: made for key, inner in part.items()
            if (made := _numbers(inner, f"{name}.{key}", left_out)) is not None}
    return kept or None


def _but_last(part: Any) -> Any:
    return {key: _but_last(inner) for key, inner in part.items()} if isinstance(part, dict) else part[:-1]
