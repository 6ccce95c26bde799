"""Demonstrated actions become the rows of an environment: parts by their names, choices by their numbers."""

import numpy as np
import pytest
from gymnasium import spaces

import puffer_il
from puffer_il.core.actions import ActionSpec
from puffer_il.core.errors import InputError
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import EnvSpec
from puffer_il.demos import load_demos, read_demos
from puffer_il.vector.emulation import action_spec, plain_actions
from puffer_il.vector.make import find_creator
from tests.support.nested_actions import STEPS, Pair, Parts, Reordered, experts_actions

N = 6
ENDS = {"terminations": np.arange(N) == N - 1, "truncations": np.zeros(N, bool)}
FLOATS = spaces.Dict({"grip": spaces.Box(0, 1, (1,)), "arm": spaces.Box(-2, 2, (2,))})


def spec_of(space):
    return EnvSpec("toy", (1,), np.dtype(np.float32), action_spec(plain_actions(space)[0], space))


def recorded(actions, n=N, **more):
    obs = np.zeros((n, 1), np.float32)
    return {"obs": obs, "next_obs": obs, "actions": actions, **(ENDS if n == N else {}), **more}


def choices(*nvec, start=()):
    return EnvSpec("toy", (1,), np.dtype(np.float32), ActionSpec(nvec=nvec, shape=(len(nvec),), start=start))


def test_parts_in_memory_become_rows_in_the_order_of_the_environment_and_back():
    given = {"grip": np.linspace(0, 1, N)[:, None], "arm": np.stack([np.linspace(-2, 2, N)] * 2, 1)}
    for space in (FLOATS, spaces.Dict(list(reversed(list(FLOATS.items()))))):
        spec = spec_of(space)
        demos = load_demos(recorded(given), spec)
        back = spec.action.to_env(demos.actions)
        np.testing.assert_allclose(back["grip"], given["grip"])
        np.testing.assert_allclose(back["arm"], given["arm"])


def test_a_file_says_what_its_columns_are_made_of(tmp_path):
    given = {"grip": np.full((N, 1), 0.25), "arm": np.full((N, 2), -1.5)}
    read_demos(recorded(given)).save(tmp_path / "d.npz")
    spec = spec_of(spaces.Dict([("arm", FLOATS["arm"]), ("grip", FLOATS["grip"])]))
    assert load_demos(tmp_path / "d.npz", spec).actions[0].tolist() == [-1.5, -1.5, 0.25]
    np.savez(tmp_path / "flat.npz", **recorded(np.array([[0.1, 0.2, 0.3]] * N)))
    (note,) = load_demos(tmp_path / "flat.npz", spec).notes
    assert note == "actions are rows without names: their columns are taken for arm, grip, in this order"


def test_parts_that_the_environment_has_not_are_refused_by_name():
    given = {"grip": np.zeros((N, 1)), "leg": np.zeros((N, 2))}
    with pytest.raises(InputError, match=r"have the parts grip \(1,\), leg \(2,\) but toy takes arm \(2,\), grip"):
        load_demos(recorded(given), spec_of(FLOATS))
    with pytest.raises(InputError, match="but toy takes an array; use demonstrations of this environment"):
        load_demos(recorded(given), spec_of(spaces.Box(-1, 1, (3,))))
    with pytest.raises(InputError, match=r"both choices and continuous parts \('grip' float64, 'leg' int64\)"):
        read_demos(recorded(given | {"leg": np.zeros((N, 2), int)}))
    with pytest.raises(InputError, match=r"the part 'leg' of its actions is .* a row per transition"):
        read_demos(recorded(given | {"leg": np.array(["x"] * N)}))


def test_a_tuple_of_rows_is_no_tuple_of_parts():
    rows = tuple(np.array([k, -k], np.float32) for k in range(N))
    assert read_demos(recorded(rows)).actions.shape == (N, 2)
    parts = (np.arange(N), {"x": np.arange(N)[:, None]})
    assert read_demos(recorded(parts)).actions[3].tolist() == [3, 3]


def test_mixed_actions_of_an_environment_are_refused_with_the_remedy():
    with pytest.raises(InputError, match="has either choices or continuous actions; declare the choices as a Box"):
        plain_actions(spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(0, 1)}))
    with pytest.raises(InputError, match="one choice among all its values, at most 4096; narrow its bounds"):
        plain_actions(spaces.Box(0, 70_000, (1,), np.int32))


@pytest.mark.parametrize("space, part", [
    (spaces.Dict(x=spaces.Dict(), y=spaces.Discrete(2)), "x"),
    (spaces.Dict(x=spaces.Box(-1, 1, (0,)), y=spaces.Discrete(2)), "x"),
    (spaces.Dict(x=spaces.Tuple((spaces.Tuple(()), spaces.Box(-1, 1, (2,))))), "x.0")])
def test_spaces_with_a_part_of_nothing_are_refused_where_its_place_would_be_lost(space, part):
    with pytest.raises(InputError, match=f"its part '{part}' is empty; leave it out"):
        plain_actions(space)
    with pytest.raises(InputError, match="has a part 0 that is empty; leave it out"):
        lay_out(spaces.Tuple((spaces.Dict(), spaces.Box(-1, 1, (2,)))))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_one_hot_choices_are_taken_as_their_numbers_with_one_notice(dtype):
    wanted = np.arange(N) % 4
    demos = load_demos(recorded(np.eye(4, dtype=dtype)[wanted]), choices(4))
    assert demos.actions.tolist() == wanted[:, None].tolist() and demos.actions.dtype == np.int32
    assert demos.notes == ("actions are one-hot: each is taken as the number of its 1, counted from 0",)


def test_one_hot_choices_of_a_multi_discrete_action_lie_side_by_side():
    a, b = np.arange(N) % 3, np.arange(N) % 2
    demos = load_demos(recorded(np.concatenate([np.eye(3)[a], np.eye(2)[b]], 1)), choices(3, 2, start=(7, 0)))
    assert demos.actions.tolist() == np.stack([a, b], 1).tolist()


@pytest.mark.parametrize("row", [[0.2, 0.8, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, -1, 1, 0]])
def test_probabilities_and_other_rows_are_no_choices(row):
    actions = np.eye(4)[[0, 1, 2, 3, 0, 1]]
    actions[4] = row
    with pytest.raises(InputError, match=r"a column for each of 4 choices of toy, but row 4 is .*give the number"):
        load_demos(recorded(actions), choices(4))


def test_negative_numbers_are_those_of_the_environment():
    demos = load_demos(recorded(np.array([-2, -1, 0, 1, 0, 1])), choices(5, start=(-2,)))
    assert demos.actions[:, 0].tolist() == [0, 1, 2, 3, 2, 3]


def test_whole_numbers_of_a_box_are_choices_in_the_environments_own_dtype():
    spec = find_creator("tests.support.nested_actions:Pair").facts().spec
    assert spec.action.nvec == (4, 3) and spec.action.start == (-2, 10)
    given = spec.action.to_env(np.array([[3, 2]], np.int32))
    assert Pair.action_space.contains(given[0]) and given.tolist() == [[1, 12]]
    own = find_creator("tests.support.nested_actions:Parts").facts().spec.action
    assert own.to_env(np.array([[2, 1, 0]], np.int32))[1].dtype == np.uint8


@pytest.mark.parametrize("env", [Parts, Reordered])
def test_cloning_learns_every_part_of_a_nested_action(env):
    obs = np.random.default_rng(0).uniform(-1, 1, (400, 3)).astype(np.float32)
    ends = np.arange(400) % STEPS == STEPS - 1
    demos = {"obs": obs, "next_obs": obs, "actions": experts_actions(obs), "terminations": ends & False,
             "truncations": ends}
    name = f"tests.support.nested_actions:{env.__name__}"
    run = puffer_il.train("bc", name, demos=demos, seed=1, total_steps=40_000, eval={"final_episodes": 5},
                          policy={"hidden": [16]}, env={"num_envs": 4})
    assert run.summary["eval"]["return_mean"] > 2.7 * STEPS
    gail = puffer_il.train("gail", name, demos=demos, seed=1, total_steps=256, env={"num_envs": 4})
    assert np.isfinite(gail.summary["eval"]["return_mean"])
    action = run.policy.predict(obs[0], deterministic=True)[0]
    assert env.action_space.contains(action) and puffer_il.collect(run.policy, name, episodes=2).actions.shape[1] == 3
