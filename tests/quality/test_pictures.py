"""Random observation spaces with pictures, random options, random episodes: rows, `predict`'s packing, files and
recordings against a slow reference that prepares every picture by loops."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core.checkpoint import spec_from_state, spec_to_state
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures, pictures_of
from puffer_il.core.rows import ObsField, leaf_of
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.demos import load_demos
from puffer_il.demos.dataset import Demos
from tests.support.pictures import slow_grey, slow_resize

DRAWS = 300
OTHERS = (spaces.Box(-1, 1, (3,)), spaces.Discrete(4), spaces.Box(0, 9, (2, 2), np.int16), spaces.MultiBinary(3),
          spaces.Box(0, 255, (4,), np.uint8))


@pytest.mark.slow
def test_random_pictures_are_prepared_as_by_hand():
    for number, spec, space in itertools.islice(_specs(np.random.default_rng(1)), DRAWS):
        _hold(spec, space, np.random.default_rng(number))


def _specs(rng: np.random.Generator) -> Iterator[tuple[int, EnvSpec, spaces.Space]]:
    """Those with pictures that the options drawn for them change."""
    for number in itertools.count():
        space = _space(rng)
        raw = lay_out(space)
        options = Pictures(tuple(int(x) for x in rng.integers(2, 12, 2)) if rng.random() < 0.5 else (),
                           bool(rng.random() < 0.5), int(rng.integers(1, 4)))
        if not pictures_of(raw):
            continue
        try:
            spec = EnvSpec("it", raw.shape, raw.dtype, ActionSpec(nvec=(2,)), raw.fields).prepared(options)
        except InputError:  # colours that are none, or pictures that nobody could tell apart
            continue
        if spec.frames is not None:
            yield number, spec, space


def _space(rng: np.random.Generator, depth: int = 0) -> spaces.Space:
    kind = rng.integers(4) if depth < 2 else 0
    if kind == 0:
        return _picture(rng) if rng.random() < 0.7 else OTHERS[rng.integers(len(OTHERS))]
    parts = [_space(rng, depth + 1) for _ in range(rng.integers(1, 4))]
    return spaces.Tuple(parts) if kind == 3 else spaces.Dict({f"k{k}.": part for k, part in enumerate(parts)})


def _picture(rng: np.random.Generator) -> spaces.Space:
    height, width, channels = (int(x) for x in (*rng.integers(5, 13, 2), rng.choice([1, 3])))
    shapes = (height, width, channels), (channels, height, width), (height + 16, width + 16)
    return spaces.Box(0, 255, shapes[rng.integers(3)], np.uint8)


def _hold(spec: EnvSpec, space: spaces.Space, rng: np.random.Generator) -> None:
    """An episode step by step, then the same as demonstrations."""
    frames, steps = spec.frames, int(rng.integers(3, 9))
    assert frames is not None and spec_from_state(spec_to_state(spec)) == spec
    space.seed(int(rng.integers(2**31)))
    seen = [space.sample() for _ in range(steps)]
    rows, state, made = np.zeros((1, *spec.obs_shape), spec.obs_dtype), None, []
    for t, observation in enumerate(seen):
        frames.write(rows, spec.raw.pack(observation)[0], np.array([t == 0]))
        packed, _, again = spec.pack_next(observation, state, np.array([t == 0]))
        state = packed if again else None
        assert np.array_equal(packed, rows) and np.array_equal(spec.pack(spec.unpack(rows))[0], rows)
        for raw, own in zip(frames.raw.fields, frames.made.fields, strict=True):
            leaf = leaf_of(spec.unpack(rows), own.path or ())[0]
            if raw in frames.pictures:
                past = [_by_hand(raw, leaf_of(seen[max(0, t - age)], raw.path or ()), frames.options)
                        for age in reversed(range(frames.options.stack))]
                leaf = leaf if own.channels_last else np.moveaxis(leaf, 0, 2)
                assert np.array_equal(leaf, np.concatenate(past, 2)), (raw, frames.options)
            else:
                assert np.array_equal(leaf, leaf_of(observation, raw.path or ()))
        made.append(rows[0].copy())
    raws = np.concatenate([spec.raw.pack(observation)[0] for observation in seen])
    ends = np.arange(1, steps) == steps - 1
    layout = spec.raw.layout if spec.raw.layout.nested else None
    demos = load_demos(Demos(raws[:-1], np.zeros((steps - 1, 1), np.int32), raws[1:], np.zeros(steps - 1, bool), ends,
                             np.array([0]), layout=layout), spec)
    assert np.array_equal(demos.obs, made[:-1]) and np.array_equal(demos.next_obs, made[1:])


def _by_hand(field: ObsField, picture: Any, options: Pictures) -> Array:
    picture = np.asarray(picture)
    if picture.ndim == 2:
        picture = picture[..., None]
    elif not field.channels_last:
        picture = np.moveaxis(picture, 0, 2)
    if options.grey and picture.shape[2] == 3:
        picture = slow_grey(picture)
    return slow_resize(picture, *options.resize) if options.resize else picture
