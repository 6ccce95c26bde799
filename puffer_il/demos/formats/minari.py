"""Minari's data sets on this machine, "minari:D4RL/door/human-v2", with observations and actions of any spaces that
have a fixed size; needs the extra 'minari'. What Minari has no place for, we write into `infos`, as `puffer_il_…`."""

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from puffer_il.core.actions import Parts
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.rows import Path, leaf_of, nested
from puffer_il.core.spaces import choices_of, kind_of, lay_out, leaves_of, parts_of
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos.actions import pack_actions
from puffer_il.demos.build import build_demos, trajectories
from puffer_il.demos.dataset import Demos
from puffer_il.demos.kept import check_written, columns_beside, fields_of, known
from puffer_il.demos.spaces import space_of, space_of_parts
from puffer_il.demos.tried import check_hdf5

MARKS = ()
PREFIX = "minari:"


def read(source: str, time_limit: int | None) -> Demos:
    minari, dataset_id = _minari(), source.removeprefix(PREFIX)
    stored = minari.storage.get_dataset_path(dataset_id) / "data" / "main_data.hdf5"
    if stored.is_file():
        check_hdf5(stored, f"demos {source}")
    try:
        dataset = minari.load_dataset(dataset_id)
        episodes = [e for e in dataset.iterate_episodes() if len(e.rewards)]
        told = [dict(one) for one in dataset.storage.get_episode_metadata([e.id for e in episodes])]
    except FileNotFoundError:
        raise InputError(f"demos {source}: not on this machine; fetch it with `minari download {dataset_id}`") from None
    except ImportError as error:
        extra = "arrow" if "pyarrow" in str(error) else "hdf5"
        raise InputError(f"demos {source}: cannot be read ({one_line(error)}); pip install 'minari[{extra}]'") from None
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"demos {source}: cannot be read ({one_line(error)}); delete it and fetch it again") from None
    if not episodes:
        raise InputError(f"demos {source}: holds no episodes; choose another dataset")
    return from_episodes(source, episodes, dataset.observation_space, dataset.action_space,
                         [one.get("seed") for one in told])


def from_episodes(source: str, episodes: Sequence[Any], observation_space: Any, action_space: Any,
                  seeds: Sequence[Any]) -> Demos:
    """Demonstrations of Minari's episodes: objects with `id`, `observations`, `actions`, `rewards`, `terminations`,
    `truncations` and perhaps `infos`, in the form of these spaces; and what each was reset with. InputError for what
    does not fit them."""
    observations, layout = [e.observations for e in episodes], None
    actions, parts, first = _actions(source, [e.actions for e in episodes], action_space)
    if not all(isinstance(part, np.ndarray) and part.dtype.kind in "biuf" for part in observations):
        try:
            layout = lay_out(observation_space, exact=True)
            observations = [layout.pack(part)[0] for part in observations]
        except InputError as error:
            raise InputError(f"demos {source}: {error}") from None
    notes = []
    for e, part, done in zip(episodes, observations, actions, strict=True):
        if len(part) < 2 or len(part) - len(done) not in (0, 1):
            raise InputError(f"demos {source}: episode {e.id} has {len(part)} observations for {len(done)} "
                             "actions, but needs one more; record it again")
        if len(part) == len(done):
            notes.append(f"episode {e.id} lacks its final observation: its last action is left out")
    lengths = np.array([len(part) - 1 for part in observations])
    whole = lengths == [len(done) for done in actions]
    last = np.cumsum(lengths) - 1
    terminations, truncations = np.zeros((2, lengths.sum()), bool)
    terminations[last] = whole & [bool(e.terminations[-1]) for e in episodes]
    truncations[last] = whole & [bool(e.truncations[-1] and not e.terminations[-1]) for e in episodes]
    starts = np.append(0, last[:-1] + 1)
    return build_demos(source, obs=np.concatenate([part[:-1] for part in observations]),
                       actions=_cut(actions, lengths), action_parts=parts, action_first=first,
                       next_obs=np.concatenate([part[1:] for part in observations]), terminations=terminations,
                       truncations=truncations, episode_starts=starts,
                       rewards=_cut([e.rewards for e in episodes], lengths), layout=layout, notes=notes,
                       episode_seeds=_seeds(seeds),
                       **fields_of(source, _beside(episodes, lengths), starts, int(lengths.sum())))


def _seeds(given: Sequence[Any]) -> Array | None:
    """(episodes,) uint64, None where one has none, or none that could be one."""
    if not all(isinstance(seed, int | np.integer) and 0 <= seed < 2**64 for seed in given):
        return None
    return np.array([int(seed) for seed in given], np.uint64)


def _beside(episodes: Sequence[Any], lengths: Array) -> dict[str, Array]:
    """The infos that we have written, and that all episodes have."""
    infos = [getattr(e, "infos", None) or {} for e in episodes]
    return {name: _cut([np.asarray(one[name]) for one in infos], lengths) for name in known(infos[0])
            if all(name in one for one in infos)}


def _actions(source: str, given: list[Any], space: Any) -> tuple[list[Array], Parts, tuple[int | None, ...]]:
    """Each episode's actions as rows, their choices counted from 0; and what the columns are (see `Demos`)."""
    leaves = list(leaves_of(space))
    if not leaves:
        raise InputError(f"demos {source}: its actions have no parts; there is nothing to learn")
    first = {path: found[1] for path, leaf in leaves if (found := choices_of(leaf)) is not None}
    try:
        ordered = [nested([(path, leaf_of(actions, path)) for path, _ in leaves]) for actions in given]
        packed = [pack_actions(actions, first) for actions in ordered]
    except InputError as error:
        raise InputError(f"demos {source}: {error}") from None
    except (KeyError, IndexError, TypeError):
        raise InputError(f"demos {source}: its actions have not the parts of its action space; record it "
                         "again") from None
    numbers = [int(k) if kind_of(leaf) == "Box" else None for path, leaf in leaves for k in first.get(path, ())]
    return ([rows for rows, _ in packed], packed[0][1] if parts_of(space) is not None else (),
            tuple(numbers) if any(k is not None for k in numbers) else ())


def _cut(parts: list[Array], lengths: Array) -> Array:
    """The first rows of each episode, end to end."""
    return np.concatenate([part[:length] for part, length in zip(parts, lengths, strict=True)])


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
