"""Minari's data sets on this machine, "minari:D4RL/door/human-v2", with observations and actions of any spaces that
have a fixed size; needs the extra 'minari'. What Minari has no place for, we write into `infos`, as `puffer_il_…`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.rows import Layout, Path, leaf_of, nested
from puffer_il.core.spaces import choices_of, kind_of, lay_out, leaves_of, parts_of
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos.actions import pack_actions
from puffer_il.demos.build import trajectories
from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import Episode, parts_of_episodes
from puffer_il.demos.kept import check_written, columns_beside, known
from puffer_il.demos.spaces import space_of, space_of_parts
from puffer_il.demos.tried import check_hdf5

MARKS = ()
PREFIX = "minari:"


def read(source: str, time_limit: int | None) -> Demos:
    minari, dataset_id = _minari(), source.removeprefix(PREFIX)
    stored = minari.storage.get_dataset_path(dataset_id) / "data" / "main_data.hdf5"
    if stored.is_file():
        check_hdf5(stored, f"demos {source}")
    with _reading(source):
        dataset = minari.load_dataset(dataset_id)
        return next(parts_from(source, dataset.iterate_episodes(), dataset.observation_space, dataset.action_space,
                               seed_of=lambda e: dict(next(iter(dataset.storage.get_episode_metadata([e.id])))).get(
                                   "seed")))


@contextmanager
def _reading(source: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"demos {source}: not on this machine; fetch it with `minari download "
                         f"{source.removeprefix(PREFIX)}`") from None
    except ImportError as error:
        extra = "arrow" if "pyarrow" in str(error) else "hdf5"
        raise InputError(f"demos {source}: cannot be read ({one_line(error)}); pip install 'minari[{extra}]'") from None
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"demos {source}: cannot be read ({one_line(error)}); delete it and fetch it again") from None

def parts_from(source: str, episodes: Iterable[Any], observation_space: Any, action_space: Any, most: float = math.inf,
               seed_of: Callable[[Any], Any] = lambda e: getattr(e, "seed", None)) -> Iterator[Demos]:
    """Demonstrations of Minari's episodes: objects with `id`, `observations`, `actions`, `rewards`, `terminations`,
    `truncations` and perhaps `infos`, in the form of these spaces, and what `seed_of` says each was reset with; see
    `parts_of_episodes`. InputError for what does not fit them."""
    given = (e for e in episodes if len(e.rewards))
    first = next(given, None)
    if first is None:
        raise InputError(f"demos {source}: holds no episodes; choose another dataset")
    layout, notes, actions = None, list[str](), _Actions(source, action_space)
    if not (isinstance(first.observations, np.ndarray) and first.observations.dtype.kind in "biuf"):
        with _told(source):
            layout = lay_out(observation_space, exact=True)
    actions.rows(first.actions)  # which tells what the parts are
    made = (_episode(source, e, layout, actions, notes, seed_of(e)) for e in chain((first,), given))
    return parts_of_episodes(source, made, notes, layout, actions.parts, most=most, action_first=actions.numbers)


def _episode(source: str, e: Any, layout: Layout | None, actions: _Actions, notes: list[str], seed: Any) -> Episode:
    with _told(source):
        obs = e.observations if layout is None else layout.pack(e.observations)[0]
    done = actions.rows(e.actions)
    if not isinstance(obs, np.ndarray) or len(obs) < 2 or len(obs) - len(done) not in (0, 1):
        raise InputError(f"demos {source}: episode {e.id} has {len(obs)} observations for {len(done)} actions, but "
                         "needs one more; record it again")
    whole = len(obs) > len(done)
    if not whole:
        notes.append(f"episode {e.id} lacks its final observation: its last action is left out")
    count, infos = len(obs) - 1, getattr(e, "infos", None) or {}
    usable = isinstance(seed, int | np.integer) and 0 <= seed < 2**64
    return Episode(f"episode {e.id}", obs, done[:count], rewards=e.rewards[:count], seed=int(seed) if usable else None,
                   beside={name: np.asarray(infos[name])[:count] for name in known(infos)},
                   terminated=whole and bool(e.terminations[-1]),
                   truncated=whole and bool(e.truncations[-1] and not e.terminations[-1]))


class _Actions:
    """Actions of a space as rows, their choices counted from 0; and what the columns are (see `Demos`)."""

    def __init__(self, source: str, space: Any) -> None:
        self.source, leaves = source, list(leaves_of(space))
        if not leaves:
            raise InputError(f"demos {source}: its actions have no parts; there is nothing to learn")
        self._paths = [path for path, _ in leaves]
        self._first = {path: found[1] for path, leaf in leaves if (found := choices_of(leaf)) is not None}
        numbers = tuple(int(k) if kind_of(leaf) == "Box" else None for path, leaf in leaves
                        for k in self._first.get(path, ()))
        self.numbers = numbers if any(k is not None for k in numbers) else ()
        self._nested = parts_of(space) is not None
        self.parts: Parts = ()

    def rows(self, given: Any) -> Array:
        """(n, dim) of one episode."""
        with _told(self.source):
            try:
                ordered = nested([(path, leaf_of(given, path)) for path in self._paths])
                rows, parts = pack_actions(ordered, self._first)
            except (KeyError, IndexError, TypeError):
                raise InputError("its actions have not the parts of its action space; record it again") from None
        self.parts = parts if self._nested else ()
        return rows


@contextmanager
def _told(source: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"demos {source}: {error}") from None


def write(target: str, demos: Demos, spec: EnvSpec, masks: bool = True) -> None:
    """A local data set, such as "minari:own/cartpole-v0", with the spaces of `spec` (bounds of observations unknown).
    Without `masks`, which actions may be taken is left out where it lies beside observations, and refused otherwise.

    Raises InputError without the extra, for a name that is taken or malformed, for demonstrations that are subsampled
    or have no actions or rewards.
    """
    minari, dataset_id = _minari(), target.removeprefix(PREFIX)
    check_written(demos, "Minari", masks, counts=False)
    if demos.rewards is None:
        raise InputError(f"demos {demos.source}: no rewards are stored, which Minari requires; write an .npz")
    for key in _keys(spec):
        if not key.strip(".") or "/" in key:
            raise InputError(f"minari {dataset_id}: the environment's key {key!r} cannot be a name in its HDF5 file; "
                             "write an .npz, or rename it in the environment")
    obs, rows = trajectories(demos)
    gaps, beside = np.arange(demos.num_episodes), columns_beside(demos)
    seeds = [None] * len(gaps) if demos.episode_seeds is None else demos.episode_seeds.tolist()
    episodes = [
        minari.data_collector.EpisodeBuffer(
            observations=spec.unpack(obs[start + gap:end + gap + 1]), actions=spec.action.to_env(rows[start:end]),
            rewards=demos.rewards[start:end], terminations=demos.terminations[start:end],
            truncations=demos.truncations[start:end], infos=_infos(beside, start, end), seed=seed)
        for start, end, gap, seed in zip(demos.episode_starts, demos.episode_ends, gaps, seeds, strict=True)]
    try:
        with warnings.catch_warnings():  # it asks for authors and links
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(dataset_id, episodes, observation_space=space_of(spec.unpack(obs[:1])),
                                               action_space=_action_space(spec.action), description=demos.source,
                                               jpeg_encoding=False)
    except (ValueError, OSError, ImportError) as error:
        raise InputError(f"minari {dataset_id}: cannot be written ({one_line(error)}); choose another name") from None


def _infos(beside: dict[str, Array], start: int, end: int) -> dict[str, Array] | None:
    """Of an episode's rows, and zeros for its final observation, which has an info too."""
    return {name: np.append(rows[start:end], np.zeros_like(rows[:1]), 0) for name, rows in beside.items()} or None


def _minari() -> Any:
    """The package, or InputError with the way to install it."""
    try:
        import minari
        import minari.data_collector
    except ImportError as error:
        raise InputError(f"minari cannot be imported ({one_line(error)}); pip install 'puffer-il[minari]'") from None
    return minari


def _keys(spec: EnvSpec) -> Iterator[str]:
    """The names of the parts of its spaces."""
    paths = [field.path or () for field in spec.obs_fields] + [path for path, *_ in spec.action.parts]
    return (key for path in paths for key in path if isinstance(key, str))


def _action_space(action: ActionSpec) -> Any:
    """The space of what `action.to_env` gives."""
    from gymnasium.spaces import Box, Discrete, MultiDiscrete

    parts = action.parts or (((), action.shape, "int64" if action.discrete else str(action.to_env(
        np.zeros((1, action.dim), action.dtype)).dtype)),)
    if action.low is not None and action.high is not None:
        bounds = [action.whole(bound.astype(np.float64)[None])[0] for bound in (action.low, action.high)]
    else:
        bounds = [np.array(action.nvec), np.array(action.start or np.zeros(action.dim, int))]
    ends = np.cumsum([math.prod(shape) for _, shape, _ in parts])[:-1]
    leaves: list[tuple[Path, Any]] = []
    for (path, shape, dtype), low, high in zip(parts, *(np.split(bound, ends) for bound in bounds), strict=True):
        a, b = low.reshape(shape), high.reshape(shape)
        if not action.discrete:
            leaves.append((path, Box(a.astype(dtype), b.astype(dtype), dtype=np.dtype(dtype).type)))
        elif dtype != "int64":
            leaves.append((path, Box(b.astype(dtype), (b + a - 1).astype(dtype), dtype=np.dtype(dtype).type)))
        else:
            leaves.append((path, MultiDiscrete(a, start=b) if shape else Discrete(int(a), start=int(b))))
    return space_of_parts(nested(leaves))
