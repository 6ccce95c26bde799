"""Minari's data sets on this machine, "minari:D4RL/door/human-v2", their observations of any space that has a fixed
size; needs the extra 'minari'."""

import warnings
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos.build import build_demos, trajectories
from puffer_il.demos.dataset import Demos
from puffer_il.demos.spaces import space_of

MARKS = ()
PREFIX = "minari:"


def read(source: str, time_limit: int | None) -> Demos:
    minari, dataset_id = _minari(), source.removeprefix(PREFIX)
    try:
        dataset = minari.load_dataset(dataset_id)
        episodes = [e for e in dataset.iterate_episodes() if len(e.actions)]
    except FileNotFoundError:
        raise InputError(f"demos {source}: not on this machine; fetch it with `minari download {dataset_id}`") from None
    except ImportError as error:
        extra = "arrow" if "pyarrow" in str(error) else "hdf5"
        raise InputError(f"demos {source}: cannot be read ({one_line(error)}); pip install 'minari[{extra}]'") from None
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"demos {source}: cannot be read ({one_line(error)}); delete it and fetch it again") from None
    if not episodes:
        raise InputError(f"demos {source}: holds no episodes; choose another dataset")
    if not all(isinstance(e.actions, np.ndarray) and e.actions.dtype.kind in "biuf" for e in episodes):
        raise InputError(f"demos {source}: has Dict, Tuple or Text actions; only arrays can be read")
    observations, layout = [e.observations for e in episodes], None
    if not all(isinstance(part, np.ndarray) and part.dtype.kind in "biuf" for part in observations):
        try:
            layout = lay_out(dataset.observation_space)
            observations = [layout.pack(part)[0] for part in observations]
        except InputError as error:
            raise InputError(f"demos {source}: {error}") from None
    notes = []
    for e, part in zip(episodes, observations, strict=True):
        if len(part) < 2 or len(part) - len(e.actions) not in (0, 1):
            raise InputError(f"demos {source}: episode {e.id} has {len(part)} observations for {len(e.actions)} "
                             "actions, but needs one more; record it again")
        if len(part) == len(e.actions):
            notes.append(f"episode {e.id} lacks its final observation: its last action is left out")
    lengths = np.array([len(part) - 1 for part in observations])
    whole = lengths == [len(e.actions) for e in episodes]
    last = np.cumsum(lengths) - 1
    first_action = getattr(dataset.action_space, "start", 0)  # ours count from 0
    terminations, truncations = np.zeros((2, lengths.sum()), bool)
    terminations[last] = whole & [bool(e.terminations[-1]) for e in episodes]
    truncations[last] = whole & [bool(e.truncations[-1] and not e.terminations[-1]) for e in episodes]
    return build_demos(source, obs=np.concatenate([part[:-1] for part in observations]),
                       actions=_cut([e.actions for e in episodes], lengths) - first_action,
                       next_obs=np.concatenate([part[1:] for part in observations]), terminations=terminations,
                       truncations=truncations, episode_starts=np.append(0, last[:-1] + 1),
                       rewards=_cut([e.rewards for e in episodes], lengths), layout=layout, notes=notes)


def _cut(parts: list[Array], lengths: Array) -> Array:
    """The first rows of each episode, end to end."""
    return np.concatenate([part[:length] for part, length in zip(parts, lengths, strict=True)])


def write(target: str, demos: Demos, spec: EnvSpec) -> None:
    """A local data set, such as "minari:own/cartpole-v0", with the spaces of `spec` (bounds of observations unknown).

    Raises InputError without the extra, for a name that is taken or malformed, for demonstrations that are subsampled
    or have no actions or rewards.
    """
    minari, dataset_id = _minari(), target.removeprefix(PREFIX)
    if demos.rewards is None:
        raise InputError(f"demos {demos.source}: no rewards are stored, which Minari requires; write an .npz")
    for key in (key for field in spec.obs_fields for key in field.path or () if isinstance(key, str)):
        if not key.strip(".") or "/" in key:
            raise InputError(f"minari {dataset_id}: the observation's key {key!r} cannot be a name in its HDF5 file; "
                             "write an .npz, or rename it in the environment")
    obs, rows = trajectories(demos)
    actions, gaps = spec.action.whole(rows).reshape(len(demos), *spec.action.shape), np.arange(demos.num_episodes)
    episodes = [
        minari.data_collector.EpisodeBuffer(
            observations=spec.unpack(obs[start + gap:end + gap + 1]), actions=actions[start:end],
            rewards=demos.rewards[start:end], terminations=demos.terminations[start:end],
            truncations=demos.truncations[start:end])
        for start, end, gap in zip(demos.episode_starts, demos.episode_ends, gaps, strict=True)]
    try:
        with warnings.catch_warnings():  # it asks for authors and links
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(dataset_id, episodes, observation_space=space_of(spec.unpack(obs[:1])),
                                               action_space=_action_space(spec.action), description=demos.source,
                                               jpeg_encoding=False)
    except (ValueError, OSError, ImportError) as error:
        raise InputError(f"minari {dataset_id}: cannot be written ({one_line(error)}); choose another name") from None


def _minari() -> Any:
    """The package, or InputError with the way to install it."""
    try:
        import minari
        import minari.data_collector
    except ImportError as error:
        raise InputError(f"minari cannot be imported ({one_line(error)}); pip install 'puffer-il[minari]'") from None
    return minari


def _action_space(action: ActionSpec) -> Any:
    from gymnasium.spaces import Box, Discrete, MultiDiscrete

    if action.low is not None and action.high is not None:
        low, high = (action.whole(bound[None]).reshape(action.shape) for bound in (action.low, action.high))
        return Box(low, high, dtype=np.float32)
    return MultiDiscrete(np.reshape(action.nvec, action.shape)) if action.shape else Discrete(action.nvec[0])
