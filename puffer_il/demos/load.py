"""Demonstrations for a learner: read, limited to the first episodes, made to fit the environment, subsampled."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from puffer_il.core.config import read_toml
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.actions import as_rows
from puffer_il.demos.check import check_fit
from puffer_il.demos.dataset import Demos
from puffer_il.demos.fields import check_named, left_out, with_fields
from puffer_il.demos.good import Score, mark_good, weigh_by_score
from puffer_il.demos.pictures import looks_prepared, prepared, turned
from puffer_il.demos.read import Source, read_demos
from puffer_il.demos.subset import first_episodes, subsample_rows
from puffer_il.demos.weights import weigh
from puffer_il.native.catalogue import env_folder
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import hooks


def load_demos(source: Source, spec: EnvSpec | None, *, episodes: int = 0, clip_actions: bool = False,
               subsample: int = 1, seed: int = 0, time_limit: int | None = None, weighting: str = "file",
               temperature: float = 1.0, good: Source = "", good_share: float = 0.05, score: Score | None = None,
               fields: tuple[str, ...] = (), format: str = "auto", columns: str = "",
               obs_columns: tuple[str, ...] = ()) -> Demos:
    """Demonstrations from `source` ("shipped", or as `read_demos` takes it) that fit `spec`, in its dtypes; without a
    spec as they were recorded.

    episodes      only the first so many; 0 takes all, and a note says so if the file has fewer
    clip_actions  clip continuous actions to the range instead of refusing what lies beyond it
    subsample     keep every n-th transition (see `subsample_rows`); `seed` draws the offsets
    weighting     whether and how rows are weighted, and how sharply: see `weigh`; or "classifier", by `score`, which is
                  told which episodes are known to be good: those of `good`, or a share of the best (demos/good.py).
                  Without `score` nothing is weighted then
    fields        the parts of the observation in the order of the columns, where rows have no names (demos/fields.py)
    time_limit    the recorder's, in steps, see `read_demos`; None takes the default of the environment `spec.name`
    format, columns, obs_columns   see `read_demos`; of a source that may be of several, of a table, of LeRobot's
    Raises InputError for what cannot be read or does not fit.
    """
    demos = read_demos(_located(source, spec), time_limit or (_default_limit(spec.name) if spec else None), format,
                       columns=columns, obs_columns=obs_columns)
    demos = with_fields(demos, fields, spec)
    if episodes:
        demos = first_episodes(demos, episodes)
    if spec is not None:
        demos = fit(demos, spec, clip_actions=clip_actions)
    if weighting == "classifier":
        others = load_demos(good, spec, clip_actions=clip_actions, fields=fields) if good else None
        demos, known = mark_good(replace(demos, weights=None), others, good_share)
        demos = weigh_by_score(demos, known, score) if score is not None else demos
    else:
        demos = weigh(demos, weighting, temperature)
    return subsample_rows(demos, subsample, seed) if subsample > 1 else demos


def fit(demos: Demos, spec: EnvSpec, *, clip_actions: bool = False) -> Demos:
    """The demonstrations in the environment's dtypes, actions within its range; InputError where they don't fit."""
    demos = as_rows(relaid(demos, spec), spec)
    if clip_actions:
        demos = clipped(demos, spec)
    check_fit(demos, spec)
    actions = demos.actions
    if actions is not None:
        actions = spec.action.chosen(actions).astype(spec.action.dtype, copy=False)
        if not spec.action.discrete and ((actions < spec.action.low) | (actions > spec.action.high)).any():
            actions = np.clip(actions, spec.action.low, spec.action.high)  # what check_fit lets pass for rounding
    return demos.with_obs(lambda rows: rows.astype(spec.obs_dtype, copy=False), actions=actions)


def relaid(demos: Demos, spec: EnvSpec) -> Demos:
    """Observations as rows of the environment, whatever order or dtypes the recorder's rows have: leaves are found by
    their names. InputError for one that is missing, or of another shape, and where there are no names. Where a recorder
    has not told which actions might be taken, all might. Pictures become those of the environment (demos.pictures)."""
    if spec.frames is not None and demos.pictures is None and not looks_prepared(demos, spec):
        demos = relaid(demos, spec.raw)
    demos = prepared(turned(demos, spec), spec)
    own = demos.layout
    check_named(demos, spec)
    if own is None and demos.obs.ndim == 1 and spec.obs_shape == (1,):
        return demos.with_obs(lambda rows: rows[:, None])
    unmasked = own is None and not spec.layout.nested and len(spec.obs_fields) > 1 and (
        demos.obs.shape[1:] == spec.obs_fields[0].shape)
    if own == spec.layout or (own is None and not unmasked):
        return demos

    def packed(rows: Array) -> Array:
        try:
            masks = own.mask.of(rows) if own is not None and own.mask is not None else None
            return spec.pack(rows if own is None else own.unpack(rows), masks)[0]
        except InputError as error:
            raise InputError(f"demos {demos.source}: obs: {error}") from None

    return demos.with_obs(packed, layout=spec.layout, notes=demos.notes + left_out(demos, spec))


def clipped(demos: Demos, spec: EnvSpec) -> Demos:
    """The demonstrations with continuous actions clipped to the range, and a note of how many were."""
    action = spec.action
    if demos.actions is None or action.discrete or demos.actions.shape[1] not in (action.dim, action.width):
        return demos
    actions = np.clip(action.chosen(demos.actions), action.low, action.high).astype(np.float32)
    actions = actions if demos.actions.shape[1] == action.dim else action.whole(actions)
    changed = int(np.sum(actions != demos.actions))
    if not changed:
        return demos
    note = f"clipped {changed} of {actions.size} action values, up to {np.abs(demos.actions).max():.4g}, to the range"
    return replace(demos, actions=actions, notes=(*demos.notes, note))


def shipped_path(env: str) -> Path:
    """Where the demonstrations that come with an environment are, if there are any."""
    return env_folder(env) / "demos" / "expert.npz"


def _located(source: Source, spec: EnvSpec | None) -> Source:
    if isinstance(source, str) and not source:
        raise InputError("demos.source is empty; give --demos FILE, or --demos shipped")
    if source != "shipped":
        return Path(source).expanduser() if isinstance(source, str | Path) else source
    if spec is None:
        raise InputError("demos shipped: no environment is given that they could come with; name one, or give a file")
    path = shipped_path(spec.name)
    if not path.is_file():
        raise InputError(f"demos shipped: {spec.name} comes with no demonstrations; give a file with --demos FILE, or "
                         f"record an expert first: {_how_to_record(spec.name)}")
    return path


def _how_to_record(env: str) -> str:
    """The command that records an expert: the environment's script, or a policy that is first trained on its reward."""
    folder = env_folder(env)
    scripted = (folder / "env.toml").is_file() and "EXPERT" in hooks(read_env(folder))
    name = re.sub(r"[^\w.]+", "-", env).strip("-.")
    run, file, env = f"runs/{name}-ppo", f"{name}.npz", shlex.quote(env)
    train = "" if scripted else f"puffer-il train ppo {env} --run-dir {run} && "
    who = "--expert" if scripted else f"--policy {run}"
    return f"{train}puffer-il demos collect {env} {who} --episodes 20 --out {file}"


def _default_limit(name: str) -> int | None:
    """The environment's default time limit in steps, which is likely that of its recordings."""
    spec_file = env_folder(name) / "env.toml"
    if spec_file.is_file():
        return read_toml(spec_file).get("max_episode_steps")
    import gymnasium

    registered = gymnasium.registry.get(name.rpartition(":")[2])
    return None if registered is None else registered.max_episode_steps
