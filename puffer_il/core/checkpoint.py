"""Checkpoints: everything needed to go on exactly, written to a temporary file, synced and renamed; each of its parts
has a checksum, which is compared when it is read.

`torch.load(weights_only=True)` reads them: they hold only tensors, numbers, strings, lists and dicts. An array, of a
learner in another framework, is stored as `{ARRAY: tensor}` and comes back as an array.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.frames import Frames, Pictures
from puffer_il.core.rows import Layout, field_from_list, field_to_list
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.core.text import shown

if TYPE_CHECKING:
    import torch

FORMAT = 5
LARGEST_ROW = 2**31  # bytes of an observation
ARRAY = "numpy array"


class Stateful:
    """Has a state for checkpoints: the attributes that `saved` names in its class and in those that it derives from.

    saved   "a", or "a.b" for an attribute of an attribute. Modules, generators of torch and NumPy, and what is Stateful
            itself are asked for their state and given it back; tensors are written where they are; anything else is
            put in its place: arrays, numbers, strings, tuples, lists and dicts of all these
    """

    saved: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to continue exactly; not a copy."""
        return {path: _state_of(getattr(owner, name)) for path, owner, name in self._places()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for path, owner, name in self._places():
            setattr(owner, name, _restored(getattr(owner, name), state[path]))

    def _places(self) -> Iterator[tuple[str, Any, str]]:
        """The path of everything that is saved, the object that holds it, and its attribute's name there."""
        for path in (path for cls in type(self).__mro__ for path in vars(cls).get("saved", ())):
            *way, name = path.split(".")
            yield path, reduce(getattr, way, self), name


def _state_of(value: Any) -> Any:
    # By what they can do: torch is not imported in this room.
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if hasattr(value, "get_state"):  # torch.Generator
        return value.get_state()
    if hasattr(value, "bit_generator"):
        return value.bit_generator.state
    return value.detach() if hasattr(value, "detach") else value


def _restored(present: Any, stored: Any) -> Any:
    """`present` in the state that `_state_of` gave, or what is to take its place. ValueError for a tensor of another
    shape or dtype, and for an array of another dtype."""
    if hasattr(present, "load_state_dict"):
        present.load_state_dict(stored)
    elif hasattr(present, "set_state"):
        present.set_state(stored.cpu())
    elif hasattr(present, "bit_generator"):
        present.bit_generator.state = stored
    elif hasattr(present, "copy_"):
        _check_like(present, stored, present.shape)
        present.detach().copy_(stored)
    else:
        if isinstance(present, np.ndarray):
            _check_like(present, stored, np.shape(stored))
        elif present is not None and stored is not None:
            _check_kind(present, stored)
        return stored.copy() if isinstance(stored, np.ndarray) else stored
    return present


def _check_like(present: Any, stored: Any, shape: tuple[int, ...]) -> None:
    given = getattr(stored, "dtype", type(stored).__name__), tuple(getattr(stored, "shape", ()))
    if given != (present.dtype, tuple(shape)):
        raise ValueError(f"an array is {given[0]} {given[1]} instead of {present.dtype} {tuple(shape)}")


def _check_kind(present: Any, stored: Any) -> None:
    kinds = [float if isinstance(x, int | float) else type(x) for x in (present, stored)]  # counts may become shares
    if kinds[0] is not kinds[1]:
        raise ValueError(f"a value is {type(stored).__name__} instead of {type(present).__name__}")


def check_alike(present: Any, stored: Any) -> None:
    """ValueError unless `stored` has the keys, shapes and dtypes of `present`: dicts of dicts, arrays and values."""
    if isinstance(present, dict) and isinstance(stored, dict):
        if wrong := sorted(map(str, present.keys() ^ stored.keys())):
            raise ValueError(f"{wrong[0]!r} is there in one of both only")
        for key, value in present.items():
            check_alike(value, stored[key])
    elif hasattr(present, "shape"):
        _check_like(present, stored, present.shape)
    else:
        _check_kind(present, stored)


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `state` as the checkpoint of `step` and drop all but the newest `keep`. A full disk leaves the old ones."""
    folder.mkdir(exist_ok=True)  # without parents: no half of a run directory in the place of one that was moved
    path = folder / f"step_{step:012d}.pt"
    write_tensors(path, {"format": FORMAT, **_without_arrays(state)})
    for old in sorted(folder.glob("step_*.pt"))[:-keep]:
        old.unlink()
    if step > 0:  # the untrained policy of the start stands for nothing else
        (folder / f"step_{0:012d}.pt").unlink(missing_ok=True)
    return path


def has_any(run_dir: Path) -> bool:
    """Whether a run has a checkpoint."""
    return any((run_dir / "checkpoints").glob("step_*.pt"))


def latest(run_dir: Path) -> Path:
    """The newest checkpoint of a run; InputError if there is none."""
    found = sorted((run_dir / "checkpoints").glob("step_*.pt"))
    if not found:
        raise InputError(f"{run_dir} has no checkpoint; give a run directory that 'puffer-il train' wrote")
    return found[-1]


def load_newest(run_dir: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], Path, list[str]]:
    """The state of a run's newest checkpoint that is whole, its path, and what is wrong with newer ones, a line each;
    InputError if there is no whole one."""
    latest(run_dir)
    wrong: list[InputError] = []
    for path in sorted((run_dir / "checkpoints").glob("step_*.pt"), reverse=True):
        try:
            return load(path, device), path, [f"{error}; {path.name} is used" for error in wrong]
        except InputError as error:
            wrong.append(error)
    raise wrong[0]


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's state; InputError if the file is damaged or of another format."""
    what, remedy = f"checkpoint {path}", "delete it to use the one before"
    state = read_tensors(what, path, FORMAT, remedy, device)
    with fitting(what, remedy):
        return _with_arrays(state)


@contextmanager
def fitting(what: str, remedy: str) -> Iterator[None]:
    """What a file of the right format with another content raises where it is used becomes an InputError of one line,
    which begins with `what`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RuntimeError,
            MemoryError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{what} does not hold what it should ({reason}); {remedy}") from None


def read_tensors(what: str, path: Path, version: int, remedy: str, device: torch.device | str) -> dict[str, Any]:
    """What `write_tensors` wrote; InputError, which begins with `what`, if it is damaged or of another version."""
    import torch

    try:
        _check_archive(path)
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # what damage makes of a pickle can raise anything at all
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{what} cannot be read ({reason}); {remedy}") from None
    found = state.get("format") if isinstance(state, dict) else None
    if type(found) is not int or found != version:
        raise InputError(f"{what} is not of format {version}; it was written by another version of puffer_il")
    return state


def _check_archive(path: Path) -> None:
    """ValueError unless every part of the file is what was written, by its checksum (CRC-32), and none unpacks to more
    than lies in the file."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or (
                sum(part.file_size for part in parts) > path.stat().st_size):
            raise ValueError("it says that it holds more than its size")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"its part {damaged!r} is damaged")


def _without_arrays(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        import torch

        return {ARRAY: torch.from_numpy(np.require(value, requirements=["C", "W"]))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _without_arrays(x) for key, x in value.items()}
    return [_without_arrays(x) for x in value] if isinstance(value, list) else value


def _with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return value[ARRAY].cpu().numpy() if value.keys() == {ARRAY} else {k: _with_arrays(x) for k, x in value.items()}
    return [_with_arrays(x) for x in value] if isinstance(value, list) else value


def spec_to_state(spec: EnvSpec) -> dict[str, Any]:
    """An EnvSpec as plain lists and strings, so that a policy can be loaded without its environment."""
    action = spec.action
    return {
        "name": spec.name, "obs_shape": list(spec.obs_shape), "obs_dtype": spec.obs_dtype.str,
        "num_agents": spec.num_agents,
        "obs_fields": [field_to_list(field) for field in spec.obs_fields],
        "nvec": list(action.nvec), "action_shape": list(action.shape), "action_start": list(action.start),
        "low": None if action.low is None else action.low.tolist(),
        "high": None if action.high is None else action.high.tolist(),
        "held": None if action.held is None else action.held.tolist(),
        "action_parts": [[list(path), list(shape), dtype] for path, shape, dtype in action.parts],
        "frames": None if spec.frames is None else {
            **spec.frames.options.table(), "shape": list(spec.frames.raw.shape), "dtype": spec.frames.raw.dtype.str,
            "fields": [field_to_list(field) for field in spec.frames.raw.fields]},
    }


def spec_from_state(state: dict[str, Any]) -> EnvSpec:
    bounds = {k: None if state[k] is None else np.array(state[k], np.float32) for k in ("low", "high")}
    held, parts = state.get("held"), state.get("action_parts", ())
    action = ActionSpec(tuple(state["nvec"]), bounds["low"], bounds["high"], tuple(state["action_shape"]),
                        tuple(state["action_start"]), None if held is None else np.array(held, np.float64),
                        tuple((tuple(path), tuple(shape), dtype) for path, shape, dtype in parts))
    fields = tuple(field_from_list(entry) for entry in state["obs_fields"])
    spec = EnvSpec(shown(state["name"]), tuple(state["obs_shape"]), np.dtype(state["obs_dtype"]), action, fields,
                   state["num_agents"], _frames_from(state.get("frames")))
    _check_spec(spec)
    if spec.frames is not None and spec.frames.made != spec.layout:
        raise ValueError(f"its pictures become rows of {spec.frames.made.shape}, and its rows are {spec.obs_shape}")
    return spec


def _check_spec(spec: EnvSpec) -> None:
    """ValueError for spaces of which one number is no number, or whose parts lie outside their row."""
    action, fields = spec.action, spec.obs_fields
    wholes = [*spec.obs_shape, *action.nvec, *action.shape, *action.start, spec.num_agents]
    wholes += [n for field in fields for n in (*field.shape, field.offset, field.categories, field.first)]
    wholes += [n for _, shape, _ in action.parts for n in shape]
    bounds = [x for field in fields for x in (field.low, field.high)]
    if not all(type(n) is int for n in wholes) or not all(isinstance(x, int | float) for x in bounds):
        raise ValueError("its spaces hold what are no numbers")
    texts = [spec.name, *(field.name for field in fields), *(dtype for _, _, dtype in action.parts)]
    paths = [*(field.path or () for field in fields), *(path for path, _, _ in action.parts)]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(key, str | int) for path in paths
                                                                   for key in path):
        raise ValueError("its spaces hold what are no names")
    size = math.prod(spec.obs_shape) * spec.obs_dtype.itemsize
    if size > LARGEST_ROW:
        raise ValueError(f"its observations take {size:.2g} bytes each")
    if spec.obs_dtype.kind not in "biuf" or min(spec.obs_shape, default=1) < 0 or spec.num_agents < 1 or not all(
            0 <= f.offset <= f.end <= size and f.dtype.kind in "biuf" and min(f.shape, default=1) >= 0 for f in fields):
        raise ValueError("its observation has parts outside its rows")
    flat = [bound for bound in (action.low, action.high, action.held) if bound is not None]
    if any(n < 1 for n in action.nvec) or any(bound.ndim != 1 for bound in flat) or (
            action.low is None) != (action.high is None) or bool(action.nvec) == (action.low is not None):
        raise ValueError("its actions are neither choices nor numbers")
    if action.low is not None and action.high is not None and len(action.low) != len(action.high):
        raise ValueError("its actions have bounds of different sizes")
    if action.start and len(action.start) != len(action.nvec):
        raise ValueError("its actions begin at other numbers than there are")


def _frames_from(state: dict[str, Any] | None) -> Frames | None:
    if state is None:
        return None
    raw = Layout(tuple(map(field_from_list, state["fields"])), tuple(state["shape"]), np.dtype(state["dtype"]))
    return Frames(Pictures(tuple(state["resize"]), state["grey"], state["stack"]), raw)


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a file of tensors whole or not at all, on the disk and checked before it takes its name."""
    import torch

    with whole(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's own for a file that takes no more
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        file.flush()
        os.fsync(file.fileno())
        _check_archive(temporary)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # and so is the name
    finally:
        os.close(folder)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to: it takes that name if all goes well, and is removed if not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(_finite(content), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
