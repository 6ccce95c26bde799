"""Observations with parts: their names decide, and a place in a row never does."""

import json
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import load_demos, read_demos
from puffer_il.demos.fields import fields_of
from puffer_il.demos.formats import imitation

N = 8
RNG = np.random.default_rng(0)
POSITION, GOAL = RNG.random((2, N + 1, 2)).astype(np.float32)
ENDS = {"actions": np.arange(N) % 2, "terminations": np.arange(N) == N - 1, "truncations": np.zeros(N, bool)}


class Reach(gymnasium.Env):
    """Declared as position, goal; Gymnasium sorts the keys."""

    observation_space = spaces.Dict({"position": spaces.Box(-9, 9, (2,), np.float32),
                                     "goal": spaces.Box(-9, 9, (2,), np.float32)})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return {"position": np.zeros(2, np.float32), "goal": np.ones(2, np.float32)}, {}

    def step(self, action):
        self.t += 1
        return {"position": np.zeros(2, np.float32), "goal": np.ones(2, np.float32)}, 1.0, False, self.t == 3, {}


def spec_of(space=Reach.observation_space):
    layout = lay_out(space)
    return EnvSpec("reach", layout.shape, layout.dtype, ActionSpec(nvec=(2,)), layout.fields)


def beside(*parts):
    """Parts side by side, as recorders lay them."""
    rows = np.concatenate(parts, 1)
    return {"obs": rows[:-1], "next_obs": rows[1:], **ENDS}


def assert_right(demos):
    rows = spec_of().unpack(demos.obs)
    np.testing.assert_array_equal(rows["position"], POSITION[:-1])
    np.testing.assert_array_equal(rows["goal"], GOAL[:-1])


@pytest.mark.parametrize("saved", [False, True])
def test_columns_without_names_are_refused_where_the_environment_has_parts(tmp_path, saved):
    source = beside(POSITION, GOAL)
    if saved:
        np.savez(tmp_path / "d.npz", **source)
        source = tmp_path / "d.npz"
    with pytest.raises(InputError, match=r"rows \(4,\) without names, but those of reach have the parts goal \(2,\), "
                                         r"position \(2,\); store each under its own name \(obs/goal …\), or tell the "
                                         r"order of the columns with --demos.fields goal,position$"):
        load_demos(source, spec_of())


@pytest.mark.parametrize(("parts", "fields"), [((POSITION, GOAL), ("position", "goal")),
                                               ((GOAL, POSITION), ("goal", "position"))])
def test_columns_take_the_names_that_they_are_given(parts, fields):
    assert_right(load_demos(beside(*parts), spec_of(), fields=fields))


@pytest.mark.parametrize(("fields", "said"), [
    (("position",), "reach has the parts goal, position; name each of them once"),
    (("position", "gaol"), "reach has the parts goal, position; name each of them once"),
    (("goal", "goal", "position"), "reach has the parts goal, position; name each of them once")])
def test_names_that_the_environment_does_not_have_are_refused(fields, said):
    with pytest.raises(InputError, match=rf"demos.fields = {','.join(fields)}: {said}"):
        load_demos(beside(POSITION, GOAL), spec_of(), fields=fields)


def test_rows_of_another_width_are_refused():
    with pytest.raises(InputError, match=r"rows have 6 columns, but these parts have 4 \(goal \(2,\), position"):
        load_demos(beside(POSITION, GOAL, GOAL), spec_of(), fields=("goal", "position"))


def test_parts_are_stored_under_their_own_names(tmp_path):
    np.savez(tmp_path / "d.npz", **{"obs/position": POSITION[:-1], "obs/goal": GOAL[:-1],
                                    "next_obs/goal": GOAL[1:], "next_obs/position": POSITION[1:], **ENDS})
    assert_right(load_demos(tmp_path / "d.npz", spec_of()))
    with pytest.raises(InputError, match="its observations have names already"):
        load_demos(tmp_path / "d.npz", spec_of(), fields=("goal", "position"))
    np.savez(tmp_path / "e.npz", **{"obs": GOAL[:-1], "obs/goal": GOAL[:-1], **ENDS})
    with pytest.raises(InputError, match=r"e\.npz: has both 'obs' and obs/'goal'; keep one of them"):
        read_demos(tmp_path / "e.npz")


def test_a_part_that_is_missing_renamed_or_of_another_shape_is_refused_by_its_name():
    for obs, said in (({"position": POSITION[:-1]}, "no part 'goal'"),
                      ({"position": POSITION[:-1], "target": GOAL[:-1]}, "no part 'goal'"),
                      ({"position": POSITION[:-1], "goal": GOAL[:-1, :1]}, r"'goal' has shape \(1,\)")):
        with pytest.raises(InputError, match=said):
            load_demos({"obs": obs, "next_obs": obs, **ENDS}, spec_of())


def test_parts_that_the_environment_does_not_have_are_left_out_with_a_note():
    obs, following = ({"goal": GOAL[rows], "speed": GOAL[rows], "position": POSITION[rows]}
                      for rows in (slice(N), slice(1, N + 1)))
    demos = load_demos({"obs": obs, "next_obs": following, **ENDS}, spec_of())
    assert_right(demos)
    assert demos.notes == ("observations have parts that reach does not have, which are left out: speed (2,)",)


def test_parts_are_refused_where_the_environment_has_an_array():
    obs = {"position": POSITION[:-1], "goal": GOAL[:-1]}
    with pytest.raises(InputError, match=r"have the parts goal \(2,\), position \(2,\), but those of reach"):
        load_demos({"obs": obs, "next_obs": obs, **ENDS}, spec_of(spaces.Box(-9, 9, (4,), np.float32)))


def test_an_observation_without_names_is_refused_by_a_policy():
    with pytest.raises(InputError, match=r"reach: rows of shape \(4,\) are given, whose columns have no names, "
                                         "where an observation has the parts goal, position"):
        spec_of().pack(np.zeros(4, np.float32))


def test_the_places_of_a_tuple_need_no_names():
    space = spaces.Tuple([spaces.Box(-9, 9, (2,), np.float32), spaces.Box(-9, 9, (2,), np.float32)])
    assert len(load_demos(beside(POSITION, GOAL), spec_of(space))) == N


def test_pictures_of_eight_and_sixteen_bits_keep_their_numbers_and_dtypes(tmp_path):
    depth = RNG.integers(0, 2**16, (N + 1, 4, 5), np.uint16)
    view = RNG.integers(0, 256, (N + 1, 4, 5, 3), np.uint8)
    obs, following = ({"view": view[rows], "depth": depth[rows], "position": POSITION[rows]}
                      for rows in (slice(N), slice(1, N + 1)))
    read_demos({"obs": obs, "next_obs": following, **ENDS}).save(tmp_path / "d.npz")
    demos = read_demos(tmp_path / "d.npz")
    assert [(field["name"], field["dtype"], field["shape"]) for field in fields_of(demos)] == [
        ("obs depth", "uint16", [4, 5]), ("obs position", "float32", [2]), ("obs view", "uint8", [4, 5, 3]),
        ("actions", "int32", [1])]
    spec = spec_of(spaces.Dict({"depth": spaces.Box(0, 65535, (4, 5), np.uint16),
                                "view": spaces.Box(0, 255, (4, 5, 3), np.uint8),
                                "position": spaces.Box(-9, 9, (2,), np.float32)}))
    for stored, rows in ((demos.layout.unpack(demos.obs), slice(N)),
                         (demos.layout.unpack(demos.next_obs), slice(1, N + 1)),
                         (spec.unpack(load_demos(demos, spec).obs), slice(N))):
        np.testing.assert_array_equal(stored["depth"], depth[rows])
        np.testing.assert_array_equal(stored["view"], view[rows])
        np.testing.assert_array_equal(stored["position"], POSITION[rows])


def test_info_shows_each_part(tmp_path, capsys):
    obs, following = ({"position": POSITION[rows], "goal": GOAL[rows]} for rows in (slice(N), slice(1, N + 1)))
    read_demos({"obs": obs, "next_obs": following, **ENDS}).save(tmp_path / "d.npz")
    assert main(["demos", "info", str(tmp_path / "d.npz")]) == 0
    out = capsys.readouterr().out
    assert f"obs goal     float32 (2,), from {GOAL[:-1].min():.4g} to {GOAL[:-1].max():.4g}" in out
    assert "obs          rows of float32 (4,), in 2 parts" in out
    assert main(["demos", "info", "--json", str(tmp_path / "d.npz")]) == 0
    assert [field["name"] for field in json.loads(capsys.readouterr().out)["fields"]] == [
        "obs goal", "obs position", "actions"]


def test_the_command_line_takes_the_names(tmp_path, capsys):
    np.savez(tmp_path / "d.npz", **beside(POSITION, GOAL))
    command = ["demos", "import", str(tmp_path / "d.npz"), str(tmp_path / "out.npz"), "--env",
               "tests.demos.test_fields:Reach"]
    assert main(command) == 2
    assert "--demos.fields goal,position" in capsys.readouterr().err
    assert main([*command, "--demos.fields", "position,goal"]) == 0
    assert_right(read_demos(tmp_path / "out.npz"))


def test_formats_without_names_are_not_written():
    obs, following = ({"position": POSITION[rows], "goal": GOAL[rows]} for rows in (slice(N), slice(1, N + 1)))
    demos = read_demos({"obs": obs, "next_obs": following, **ENDS})
    with pytest.raises(InputError, match="have parts with names, which imitation's files do not hold"):
        imitation.write("d.npz", replace(demos))


def parted():
    """A recording with three parts, one of them a picture."""
    shown = np.zeros((len(GOAL), 3, 4, 2), np.uint8) + np.arange(len(GOAL), dtype=np.uint8)[:, None, None, None]
    parts = {"goal": GOAL, "image": shown, "position": POSITION}
    return {"obs": {name: part[:-1] for name, part in parts.items()},
            "next_obs": {name: part[1:] for name, part in parts.items()}, **ENDS}


def array_spec():
    return spec_of(spaces.Box(-9, 9, (4,), np.float32))


def test_an_array_is_made_of_the_parts_that_are_named_in_their_order():
    demos = load_demos(parted(), array_spec(), fields=("position", "goal"))
    np.testing.assert_array_equal(demos.obs, np.hstack([POSITION, GOAL])[:-1].astype(np.float32))
    np.testing.assert_array_equal(demos.next_obs, np.hstack([POSITION, GOAL])[1:].astype(np.float32))
    assert demos.layout is None and "the parts position, goal, side by side" in demos.notes[-1]


def test_a_picture_alone_stays_a_picture():
    demos = load_demos(parted(), None, fields=("image",))
    assert demos.obs.shape == (len(GOAL) - 1, 3, 4, 2) and demos.obs.dtype == np.uint8


@pytest.mark.parametrize(("fields", "said"), [
    (("position", "gaol"), r"have the parts goal \(2,\), image \(3, 4, 2\), position \(2,\); name some of those"),
    (("position",), r"these parts have 2 numbers \(position \(2,\)\), but the observations of reach 4"),
    ((), r"or name the parts that it lays side by side, in its order: --demos.fields goal,image")])
def test_parts_that_make_no_such_array_are_refused(fields, said):
    with pytest.raises(InputError, match=said):
        load_demos(parted(), array_spec(), fields=fields)
