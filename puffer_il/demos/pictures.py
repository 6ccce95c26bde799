"""Pictures of demonstrations as those of the environment: prepared as its options say (core.frames), their channels
where its own are."""

from dataclasses import replace

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.frames import Frames, Pictures
from puffer_il.core.rows import Array, channels_last
from puffer_il.core.spec import EnvSpec
from puffer_il.demos.build import follows_on
from puffer_il.demos.check import inexact
from puffer_il.demos.dataset import Demos
from puffer_il.demos.rows import Successors

BLOCK = 256  # rows that are prepared together, so that their whole numbers fit the caches


def prepared(demos: Demos, spec: EnvSpec) -> Demos:
    """The demonstrations with their pictures as `spec` has them. Its own are prepared; those of a file that says that
    they are, or whose shape does, stay. InputError where they are prepared in another way, and where rows are missing
    that are to be stacked."""
    if demos.pictures is not None:
        own = spec.pictures
        if not demos.pictures.same(own):
            raise InputError(f"demos {demos.source}: recorded with {demos.pictures}, but the environment has "
                             f"{_without_order(own)}; give it the same, or demonstrations of the environment's own "
                             "pictures")
        return demos
    frames = spec.frames
    if frames is None:
        return demos
    if looks_prepared(demos, spec):
        return replace(demos, pictures=frames.options, notes=(
            *demos.notes, f"observations have the shape {spec.obs_shape} of prepared pictures, and are taken for such"))
    if demos.obs.shape[1:] != frames.raw.shape:
        raise InputError(f"demos {demos.source}: observations have shape {demos.obs.shape[1:]} but {spec.name} has "
                         f"{frames.raw.shape}, of which {frames.options} makes {spec.obs_shape}; use demonstrations of "
                         "this environment")
    if (bad := inexact(demos.obs, frames.raw.dtype)) is not None:
        raise InputError(f"demos {demos.source}: obs holds {bad} but {spec.name} has {frames.raw.dtype} observations; "
                         "record them as the environment gives them")
    return _made(demos.with_obs(lambda rows: rows.astype(frames.raw.dtype, copy=False)), frames)


def looks_prepared(demos: Demos, spec: EnvSpec) -> bool:
    """Whether the pictures of demonstrations that say nothing have the shape of prepared ones, and not their own."""
    if spec.frames is None or demos.pictures is not None:
        return False
    if demos.layout is None:
        return demos.obs.shape[1:] == spec.obs_shape != spec.frames.raw.shape
    assert spec.frames.changed is not None
    raw, made = spec.frames.changed
    return made.shape in [own.shape for own in demos.layout.fields if own.path == raw.path]


def _made(demos: Demos, frames: Frames) -> Demos:
    layout = frames.made if frames.made.nested or len(frames.made.fields) > 1 else None
    stack = frames.options.stack
    if stack == 1:
        return demos.with_obs(lambda rows: _begun(frames, rows), layout=layout, pictures=frames.options)
    if demos.episode_lengths is not None or not follows_on(demos):
        raise InputError(f"demos {demos.source}: rows are missing (they are subsampled), so that the pictures before "
                         f"them are not known; give whole episodes, or set env.stack to 1, not {stack}")
    demos.refuse_to_make(frames.made.shape, frames.made.dtype)
    # Every episode with its final picture: row t of the k-th one lies at t + k.
    single = _begun(frames, np.insert(demos.obs, demos.episode_ends, demos.final_obs, axis=0))
    episode = np.repeat(np.arange(demos.num_episodes), demos.lengths)
    place, first = np.arange(len(demos)) + episode, demos.episode_starts[episode] + episode
    ages = np.arange(stack)[::-1]

    def stacked(rows: Array, later: int = 0) -> Array:
        return frames.gathered(single, np.maximum(place[rows, None] + later - ages, first[rows, None]))

    obs = stacked(np.arange(len(demos)))
    following = Successors(obs, stacked(demos.episode_ends - 1, 1), demos.episode_starts)
    return replace(demos, obs=obs, next_obs=following, layout=layout, pictures=frames.options)


def _begun(frames: Frames, rows: Array) -> Array:
    """Rows each by itself, in blocks."""
    return np.concatenate([frames.begin(np.ascontiguousarray(rows[i:i + BLOCK])) for i in range(0, len(rows), BLOCK)])


def turned(demos: Demos, spec: EnvSpec) -> Demos:
    """Pictures with their channels where `spec` has them, if they are at the other end, and a note of that."""
    field = spec.obs_fields[0]
    if demos.layout is not None or spec.layout.nested or len(spec.obs_fields) > 1 or not field.image:
        return demos
    shape = demos.obs.shape[1:]
    back = field.channels_last  # (channels, height, width) → (height, width, channels)
    if shape == field.shape or len(shape) != 3 or (
            (shape[1], shape[2], shape[0]) if back else (shape[2], shape[0], shape[1])) != field.shape:
        return demos
    note = f"pictures are turned from {shape} to {field.shape}, which has the channels where {spec.name} has them"
    return demos.with_obs(lambda rows: np.ascontiguousarray(np.moveaxis(rows, 1, 3) if back else np.moveaxis(
        rows, 3, 1)), notes=(*demos.notes, note))


def picture_lines(demos: Demos, spec: EnvSpec | None) -> list[str]:
    """What `demos check` tells of pictures."""
    if demos.pictures is not None:
        return [f"pictures were recorded with {demos.pictures}; train with the same"]
    if spec is not None or demos.obs.ndim != 4 or demos.obs.dtype != np.uint8:
        return []
    axes = "height x width x channels" if channels_last(demos.obs.shape[1:]) else "channels x height x width"
    return [f"pictures {demos.obs.shape[1:]} are read as {axes}"]


def _without_order(pictures: Pictures) -> Pictures:
    return replace(pictures, channels="auto")
