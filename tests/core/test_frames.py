"""Pictures prepared: grey, resized, stacked; where their channels are; and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core import frames as prepare
from puffer_il.core import pixels
from puffer_il.core.checkpoint import spec_from_state, spec_to_state
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Frames, Pictures, arranged
from puffer_il.core.rows import channels_last, field_from_list, field_to_list
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import ActionSpec, EnvSpec
from tests.support.pictures import slow_grey, slow_resize


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture_spec(shape: tuple[int, ...], **options: object) -> EnvSpec:
    layout = lay_out(spaces.Box(0, 255, shape, np.uint8))
    made, frames = arranged("it", layout, Pictures(**options))  # type: ignore[arg-type]
    return EnvSpec("it", made.shape, made.dtype, ActionSpec(nvec=(2,)), made.fields, frames=frames)


@pytest.mark.parametrize("own, size", [((10, 15), (5, 5)), ((9, 7), (4, 3)), ((5, 6), (5, 4)), ((4, 3), (8, 9)),
                                       ((7, 5), (3, 8))])
def test_a_resized_pixel_is_the_mean_of_the_area_that_it_covers(own, size):
    pictures = noise(2, *own, 3)
    made = pixels.resized(pictures, *size)
    assert all(np.array_equal(one, slow_resize(picture, *size)) for one, picture in zip(made, pictures, strict=True))


def test_grey_is_that_of_its_definition_and_within_one_of_gymnasiums():
    pictures = noise(3, 6, 5, 3)
    made = pixels.grey(pictures)
    assert all(np.array_equal(one, slow_grey(picture)) for one, picture in zip(made, pictures, strict=True))
    theirs = np.sum(pictures * np.array([0.2125, 0.7154, 0.0721]), -1).astype(np.uint8)  # rounds down
    assert set(np.unique(made[..., 0].astype(int) - theirs)) <= {0, 1}
    assert (pixels.grey(np.full((1, 2, 2, 3), 255, np.uint8)) == 255).all()


def test_a_stack_holds_the_last_pictures_and_never_those_of_another_episode():
    frames = picture_spec((5, 6, 3), stack=3).frames
    seen = noise(6, 2, 5, 6, 3)  # time, row
    begins = np.array([[1, 1], [0, 0], [0, 1], [0, 0], [0, 0], [1, 0]], bool)
    rows, first = np.zeros((2, *frames.made.shape), np.uint8), [0, 0]
    for t, (pictures, new) in enumerate(zip(seen, begins, strict=True)):
        frames.write(rows, pictures, new)
        for row in range(2):
            first[row] = t if new[row] else first[row]
            wanted = [seen[max(first[row], t - age), row] for age in (2, 1, 0)]
            assert np.array_equal(rows[row], np.concatenate(wanted, -1)), (t, row)


@pytest.mark.parametrize("shape", [(6, 8, 3), (3, 6, 8), (20, 24)])
def test_the_order_of_channels_stays(shape):
    frames = picture_spec(shape, resize=(4, 5), grey=True, stack=2).frames
    picture = noise(1, *shape)
    row = frames.begin(picture)
    first = shape[0] == 3
    assert row.shape == ((1, 2, 4, 5) if first else (1, 4, 5, 2))
    assert frames.made.fields[0].channels_last is not first and frames.made.fields[0].image
    hwc = np.moveaxis(picture[0], 0, 2) if first else picture[0].reshape(*shape[:2], -1)
    wanted = slow_resize(slow_grey(hwc) if hwc.shape[2] == 3 else hwc, 4, 5)
    got = np.moveaxis(row[0], 0, 2) if first else row[0]
    assert np.array_equal(got[..., :1], wanted) and np.array_equal(got[..., 1:], wanted)


@pytest.mark.parametrize("shape, last", [
    ((84, 84, 3), True), ((3, 84, 84), False), ((210, 160, 3), True), ((3, 210, 160), False), ((84, 84, 4), True),
    ((8, 8, 119), True), ((4, 4, 16), True), ((20, 3, 3), False), ((5, 5, 5), True), ((12, 30, 40), False),
    ((30, 40, 12), True), ((2, 9, 9), False)])
def test_channels_are_found_by_the_shape(shape, last):
    """Two equal sides are height and width; otherwise the smaller of the outer axes has the channels."""
    assert channels_last(shape) is last


def test_the_order_of_channels_can_be_overruled_and_travels():
    own = picture_spec((6, 6, 20))
    turned = picture_spec((6, 6, 20), channels="first")
    assert own.obs_fields[0].channels_last and not turned.obs_fields[0].channels_last
    assert turned.frames is None and own.same_spaces(picture_spec((6, 6, 20), channels="last"))
    assert not own.same_spaces(turned) and turned.pictures == Pictures(channels="first")
    for spec in (own, turned):
        assert spec_from_state(spec_to_state(spec)) == spec
        assert field_from_list(field_to_list(spec.obs_fields[0])) == spec.obs_fields[0]
    # A file from before there was a word for it means the smaller of the outer axes, as its policy did.
    assert not field_from_list(field_to_list(own.obs_fields[0])[:10]).channels_last


def test_a_crafted_state_whose_pictures_do_not_make_its_rows_is_no_spec():
    state = spec_to_state(picture_spec((8, 8, 3), stack=2))
    with pytest.raises(ValueError, match="its pictures become rows of"):
        spec_from_state(state | {"frames": state["frames"] | {"stack": 3}})


def test_what_is_not_a_picture_stays_and_only_pictures_of_three_axes_count_where_there_are_any():
    space = spaces.Dict(b=spaces.Box(-1, 1, (3,)), a=spaces.Box(0, 255, (8, 6, 3), np.uint8),
                        c=spaces.Discrete(4), d=spaces.Box(0, 255, (16, 16), np.uint8))
    raw = lay_out(space)
    made, frames = arranged("it", raw, Pictures(resize=(4, 3), grey=True, stack=2))
    obs = space.sample()
    rows = frames.begin(raw.pack(obs)[0])
    got = made.unpack(rows)
    assert np.array_equal(got["a"][0][..., :1], slow_resize(slow_grey(obs["a"]), 4, 3))
    assert all(np.array_equal(got[key][0], obs[key]) for key in "bcd")
    assert [field.name for field in frames.pictures] == ["a"]
    spec = EnvSpec("it", made.shape, made.dtype, ActionSpec(nvec=(2,)), made.fields, frames=frames)
    assert spec_from_state(spec_to_state(spec)) == spec
    assert spec.raw.layout == raw
    assert any("'a' (8, 6, 3)" in line and "(4, 3, 2)" in line for line in prepare.picture_notices(spec))


def test_pictures_that_are_so_already_are_left_alone():
    layout = lay_out(spaces.Box(0, 255, (9, 19, 1), np.uint8))
    assert arranged("it", layout, Pictures(resize=(9, 19), grey=True)) == (layout, None)


def test_the_first_picture_that_changes_tells_raw_ones_from_prepared_ones():
    """Of two in a Dict one is grey already, and a batch of both is taken for what it is."""
    space = spaces.Dict(a=spaces.Box(0, 255, (9, 8, 1), np.uint8), b=spaces.Box(0, 255, (9, 8, 3), np.uint8))
    made, frames = arranged("it", lay_out(space), Pictures(grey=True))
    spec = EnvSpec("it", made.shape, made.dtype, ActionSpec(nvec=(2,)), made.fields, frames=frames)
    seen = {"a": noise(4, 9, 8, 1), "b": noise(4, 9, 8, 3)}
    rows = spec.pack(seen)[0]
    assert np.array_equal(rows, spec.pack(spec.unpack(rows))[0])
    assert np.array_equal(spec.unpack(rows)["b"], pixels.grey(seen["b"]))


def test_stacks_gathered_from_an_episode_are_those_made_step_by_step():
    frames: Frames = picture_spec((3, 6, 8), stack=3).frames
    pictures = noise(5, 3, 6, 8)
    rows = np.zeros((1, *frames.made.shape), np.uint8)
    made = []
    for t, picture in enumerate(pictures):
        frames.write(rows, picture[None], np.array([t == 0]))
        made.append(rows[0].copy())
    index = np.maximum(np.arange(5)[:, None] - np.array([2, 1, 0]), 0)
    assert np.array_equal(frames.gathered(frames.begin(pictures), index), np.array(made))


@pytest.mark.parametrize("options, space, words", [
    ({"resize": (84,)}, spaces.Box(0, 255, (8, 8, 3), np.uint8), "env.resize = 84: give two whole numbers"),
    ({"resize": 84}, spaces.Box(0, 255, (8, 8, 3), np.uint8), "env.resize = 84: give two whole numbers"),
    ({"resize": (8.5, 8)}, spaces.Box(0, 255, (8, 8, 3), np.uint8), "env.resize = 8.5,8: give two whole numbers"),
    ({"resize": (10**5, 8)}, spaces.Box(0, 255, (8, 8, 3), np.uint8), "100000,8: give two whole .* from 1 to 8192"),
    ({"stack": "x"}, spaces.Box(0, 255, (8, 8, 3), np.uint8), "env.stack = x: must be a whole number from 1 to 256"),
    ({"stack": 10**8}, spaces.Box(0, 255, (8, 8, 3), np.uint8), "env.stack = 100000000: must be a whole number from 1"),
    ({"grey": "yes"}, spaces.Box(0, 255, (8, 8, 3), np.uint8), "env.grey = 'yes': must be true or false"),
    ({"stack": 2}, spaces.Box(-1, 1, (4,)), "env.stack = 2: it has no pictures"),
    ({"grey": True}, spaces.Box(0, 1, (8, 8, 3)), r"env.grey = true: it has no pictures.*'obs' is float32 \(8, 8, 3\)"),
    ({"grey": True}, spaces.Box(0, 255, (8, 8, 4), np.uint8), "has 4 channels where 3 are colours"),
    ({"grey": True, "stack": 3}, spaces.Box(0, 255, (9, 19, 3), np.uint8),
     r"\(9, 19, 3\) of it become others of the same"),
    ({"channels": "first"}, spaces.Discrete(3), "env.channels = first: it has no pictures"),
    ({"resize": (4, 4)}, spaces.Box(0, 255, (8, 12), np.uint8), "env.resize = 4,4: it has no pictures"),
])
def test_what_cannot_be_prepared_is_refused_in_one_line(options, space, words):
    with pytest.raises(InputError, match=words) as error:
        frames = arranged("it", lay_out(space), Pictures(**options))[1]
        _ = frames and frames.made
    assert "\n" not in str(error.value)


def test_single_pictures_are_stacked_by_what_came_before():
    spec = picture_spec((6, 8, 3), stack=2)
    seen = noise(4, 6, 8, 3)
    first, batched, again = spec.pack_next(seen[0], None, True)
    assert again and not batched and np.array_equal(first[0], np.tile(seen[0], 2))
    second, *_ = spec.pack_next(seen[1], first, None)
    assert np.array_equal(second[0], np.concatenate(seen[:2], -1))
    anew, *_ = spec.pack_next(seen[2], second, [True])
    assert np.array_equal(anew[0], np.tile(seen[2], 2))
    with pytest.raises(InputError, match=r"has \(6, 8, 6\); .* or pictures that are not prepared, \(6, 8, 3\)"):
        spec.pack_next(seen[0][:5], None, True)
    given, _, again = spec.pack_next(second[0], None)  # prepared by somebody else
    assert np.array_equal(given, second) and not again
    for obs, before, starts, words in ((seen[0], None, None, "sees 2 pictures at once"),
                                       (seen, first, None, "the state is of 1 observations, but 4"),
                                       (seen, None, [True], "episode_start has shape")):
        with pytest.raises(InputError, match=words):
            spec.pack_next(obs, before, starts)
    with pytest.raises(InputError, match="a single picture is given where 2"):
        spec.pack(seen[0])


def test_few_levels_are_told_of():
    layout = lay_out(spaces.Box(0, 1, (8, 8, 3), np.uint8))
    made, frames = arranged("it", layout, Pictures(resize=(4, 4)))
    spec = EnvSpec("it", made.shape, made.dtype, ActionSpec(nvec=(2,)), made.fields, frames=frames)
    assert "rounded to its few whole numbers" in prepare.picture_notices(spec)[0]
    assert dataclasses.replace(spec, frames=None) != spec
