"""Demos → other packages' formats: the `imitation` package's flat npz, a Minari dataset."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos.build import follows_on
from puffer_il.demos.dataset import Demos
from puffer_il.demos.formats.npz import one_line, save_npz


def write_imitation(path: Path | str, demos: Demos) -> None:
    """The npz that `imitation.data.serialize.load` reads, trajectories end to end.

    `terminal` is set where an episode terminated and not where it was truncated. That reader insists on `infos`, an
    object array, so one of empty dicts is written. Raises InputError for demonstrations that are subsampled or have no
    actions.
    """
    obs, actions = _with_finals(demos), _recorded(demos)
    infos = np.empty(len(demos), object)
    infos[:] = [{} for _ in range(len(demos))]
    one_choice = actions.dtype == np.int32 and actions.shape[1] == 1
    arrays = {"obs": obs, "acts": actions[:, 0].astype(np.int64) if one_choice else actions, "infos": infos,
              "terminal": demos.terminated, "indices": demos.episode_starts[1:]}
    save_npz(path, arrays if demos.rewards is None else arrays | {"rews": demos.rewards})


def write_minari(dataset_id: str, demos: Demos, spec: EnvSpec) -> None:
    """A local Minari dataset, such as "own/cartpole-v0", with the spaces of `spec` (bounds of observations unknown).

    Needs the extra 'minari'. Raises InputError without it, for a name that is taken or malformed, for demonstrations
    that are subsampled or have no actions or rewards.
    """
    minari = import_minari()
    if demos.rewards is None:
        raise InputError(f"demos {demos.source}: no rewards are stored, which Minari requires; write an .npz")
    obs, gaps = _with_finals(demos), np.arange(demos.num_episodes)
    actions = _recorded(demos).reshape(len(demos), *spec.action.shape)
    episodes = [
        minari.data_collector.EpisodeBuffer(
            observations=obs[start + gap:end + gap + 1], actions=actions[start:end], rewards=demos.rewards[start:end],
            terminations=demos.terminations[start:end], truncations=demos.truncations[start:end])
        for start, end, gap in zip(demos.episode_starts, demos.episode_ends, gaps, strict=True)]
    try:
        with warnings.catch_warnings():  # it asks for authors and links
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(dataset_id, episodes, observation_space=_observation_space(spec),
                                               action_space=_action_space(spec.action), description=demos.source,
                                               jpeg_encoding=False)
    except (ValueError, OSError, ImportError) as error:
        raise InputError(f"minari {dataset_id}: cannot be written ({one_line(error)}); choose another name") from None


def import_minari() -> Any:
    """The package `minari`, or InputError with the way to install it."""
    try:
        import minari
        import minari.data_collector
    except ImportError as error:
        raise InputError(f"minari cannot be imported ({one_line(error)}); pip install 'puffer-il[minari]'") from None
    return minari


def _recorded(demos: Demos) -> Array:
    if demos.actions is None:
        raise InputError(f"demos {demos.source}: no actions are stored, which this format requires; write ours")
    return demos.actions


def _with_finals(demos: Demos) -> Array:
    """(n + episodes, *obs_shape): the observations with each episode's final one after it."""
    if not follows_on(demos):
        raise InputError(f"demos {demos.source}: rows do not follow on one another (they are subsampled), "
                         "which this format cannot hold; write ours")
    return np.insert(demos.obs, demos.episode_ends, demos.next_obs[demos.episode_ends - 1], axis=0)


def _observation_space(spec: EnvSpec) -> Any:
    from gymnasium.spaces import Box

    if spec.obs_dtype.kind == "f":
        return Box(-np.inf, np.inf, spec.obs_shape, spec.obs_dtype.type)
    limits = np.iinfo(spec.obs_dtype)
    return Box(limits.min, limits.max, spec.obs_shape, spec.obs_dtype.type)


def _action_space(action: ActionSpec) -> Any:
    from gymnasium.spaces import Box, Discrete, MultiDiscrete

    if action.low is not None and action.high is not None:
        return Box(action.low.reshape(action.shape), action.high.reshape(action.shape), dtype=np.float32)
    return MultiDiscrete(np.reshape(action.nvec, action.shape)) if action.shape else Discrete(action.nvec[0])
