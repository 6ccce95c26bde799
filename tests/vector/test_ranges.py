"""Continuous actions of every range: a locked dimension is held and left out, and bounds may be missing."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.cli import main
from puffer_il.core.actions import ActionSpec
from puffer_il.core.errors import InputError
from puffer_il.demos import collect, load_demos, read_demos
from puffer_il.rollout.actors import RandomActor
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.emulation import action_spec, plain_actions
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec
from tests.support.locked import RANGES, Robot
from tests.support.runs import run, tiny

ROBOT = "tests.support.locked:Robot"


def config(algo, folder, kind="locked", **overrides):
    settings = {"env__name": ROBOT, "env__num_envs": 4, "env__backend": "serial", "env__kwargs": {"kind": kind},
                "train__num_steps": 20, "train__total_steps": 4 * 20 * 4, "eval__final_episodes": 4}
    return tiny(algo, folder, **settings | overrides)


@pytest.fixture(scope="module")
def demos_file(tmp_path_factory):
    """Of the proportional controller, by kind of range."""
    folder = tmp_path_factory.mktemp("demos")
    for kind, (low, high) in RANGES.items():
        with make_vec(ROBOT, num_envs=2, backend="serial", kwargs={"kind": kind}) as vec:
            free = np.array(low) != np.array(high)

            def act(obs, starts, kept=free):
                actions = np.zeros((len(obs), len(kept)), np.float32)
                actions[:, 0] = -3 * obs[:, 0]
                return actions[:, kept]

            collect(vec, act, 8, kind).save(folder / f"{kind}.npz")
    return lambda kind: str(folder / f"{kind}.npz")


def test_a_locked_dimension_has_no_column_in_a_row_and_is_put_back():
    spec = find_creator(ROBOT).facts().spec.action
    assert (spec.dim, spec.width, spec.low.tolist(), spec.high.tolist()) == (2, 3, [-1, -2], [1, 2])
    own = spec.to_env(np.float32([[0.5, 9], [-7, 1]]))
    assert own.tolist() == [[0.5, 0.25, 2], [-1, 0.25, 1]] and own.dtype == np.float32
    assert spec.from_env(own).tolist() == [[0.5, 2], [-1, 1]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [True, False])
def test_the_environment_is_given_the_locked_value_exactly(dtype, clip):
    with make_vec(Robot, num_envs=2, backend="serial", kwargs={"dtype": dtype}, clip_actions=clip) as vec:
        vec.reset(0)
        for _ in range(12):  # the environment refuses any other value
            vec.step(np.zeros((2, 2), np.float32))


def test_what_leaves_nothing_to_decide_is_refused():
    with pytest.raises(InputError, match="leaves nothing to decide: every low is its high"):
        action_spec(spaces.Box(np.ones(2, np.float32), np.ones(2, np.float32)))


def test_a_bound_at_the_largest_number_is_none():
    spec = action_spec(spaces.Box(np.finfo(np.float32).min, np.finfo(np.float32).max, (1,)))
    assert spec == ActionSpec(low=np.float32([-np.inf]), high=np.float32([np.inf]), shape=(1,)) and not spec.bounded


@pytest.mark.parametrize(("algo", "keys"), [
    ("bc", {}), ("bc", {"bc__loss": "mse"}), ("bc", {"policy__head": "mixture"}), ("bc", {"policy__head": "flow"}),
    ("bc", {"policy__chunk": 3}), ("gail", {}), ("gail", {"policy__squash": True}), ("sac", {}), ("sqil", {}),
    ("csil", {}), ("ppo", {}), ("airl", {}), ("pwil", {})])
def test_every_learner_stays_finite_with_a_locked_joint(algo, keys, demos_file, tmp_path):
    given = {} if algo in ("ppo", "sac") else {"demos__source": demos_file("locked")}
    recorder = run(config(algo, tmp_path / "run", **given, **keys))
    assert recorder.summary["status"] == "finished"
    assert all(np.isfinite(value) for metrics in recorder.metrics for value in metrics.values())


@pytest.mark.parametrize("kind", ["half", "open"])
@pytest.mark.parametrize(("algo", "keys"), [("bc", {}), ("bc", {"policy__head": "flow"}), ("gail", {}), ("ppo", {})])
def test_ranges_without_both_bounds(algo, keys, kind, demos_file, tmp_path):
    given = {} if algo == "ppo" else {"demos__source": demos_file(kind)}
    recorder = run(config(algo, tmp_path / "run", kind, **given, **keys))
    assert recorder.summary["status"] == "finished"
    assert all(np.isfinite(value) for metrics in recorder.metrics for value in metrics.values())


def test_a_policy_of_a_half_bounded_action_begins_within_it():
    spec = find_creator(ROBOT, {"kind": "half"}).facts().spec
    actions = RandomActor(spec, 0)(np.zeros((99, 2), np.float32), np.zeros(99, bool))
    assert (actions[:, 2] > 5).mean() > 0.3  # about 5, which is as near to 0 as it may be


def test_predict_gives_the_whole_action(demos_file, tmp_path):
    run(config("bc", tmp_path / "run", demos__source=demos_file("locked")))
    policy, env = load_policy(tmp_path / "run")[0], Robot()
    obs, _ = env.reset(seed=0)
    for _ in range(5):
        obs, *_ = env.step(policy.predict(obs)[0])
    assert policy.spec.action == find_creator(ROBOT).facts().spec.action


def test_recordings_hold_the_whole_action_and_are_fitted_again_and_again(demos_file):
    spec = find_creator(ROBOT).facts().spec
    whole = read_demos(demos_file("locked"))
    assert whole.actions.shape[1] == 3 and (whole.actions[:, 1] == 0.25).all()
    fitted = load_demos(whole, spec)
    assert fitted.actions.shape[1] == 2 and np.array_equal(load_demos(fitted, spec).actions, fitted.actions)


def test_demonstrations_that_move_a_locked_joint_are_refused(demos_file):
    whole = read_demos(demos_file("locked"))
    actions = whole.actions.copy()
    actions[4, 1] = 0.5
    wrong = {name: getattr(whole, name) for name in ("obs", "next_obs", "terminations", "truncations")}
    spec = find_creator(ROBOT).facts().spec
    with pytest.raises(InputError, match=r"actions in column 1 range over \[0\.25, 0\.5\] but .* \[0\.25, 0\.25\]"):
        load_demos({**wrong, "actions": actions}, spec)
    clipped = load_demos({**wrong, "actions": actions}, spec, clip_actions=True)
    assert np.array_equal(clipped.actions, whole.actions[:, [0, 2]])


def test_each_part_of_an_action_has_its_own_dtype_and_stays_within_its_own_bounds():
    """No float32 is 0.9 or 0.1: bounds are rounded to the inside, and what is locked is exact."""
    space = spaces.Tuple([spaces.Box(np.float32([-1]), np.float32([1])),
                          spaces.Box(np.array([0.1, 0.7, 0.3]), np.array([0.1, 0.7000001, 0.9]), dtype=np.float64)])
    spec = action_spec(plain_actions(space)[0], space)
    for rows in (np.full((1, spec.dim), -9), np.full((1, spec.dim), 9)):
        first, second = spec.to_env(rows.astype(np.float32))
        assert first.dtype == np.float32 and (first[0], second[0]) in space


def test_nested_actions_are_given_in_the_environments_own_form():
    space = spaces.Dict({"arm": spaces.Box(-1, 1, (2, 1)), "hand.x": spaces.Tuple([spaces.Box(0, 1, ())])})
    rows = np.float32([[0.5, -9, 0.25], [0, 1, 1]])
    spec = action_spec(plain_actions(space)[0], space)
    own = spec.to_env(rows)
    assert own["arm"].shape == (2, 2, 1) and own["hand.x"][0].tolist() == [0.25, 1]
    assert spec.from_env(own).tolist() == [[0.5, -1, 0.25], [0, 1, 1]]
    choices = spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiBinary(2)])
    spec = action_spec(plain_actions(choices)[0], choices)
    first, bits = spec.to_env(np.int32([[2, 0, 1]]))
    assert (first.tolist(), bits.tolist()) == ([1], [[0, 1]]) and spec.from_env((first, bits)).tolist() == [[2, 0, 1]]


def test_a_learned_reward_of_a_locked_robot_is_measured(demos_file, tmp_path):
    run(config("gail", tmp_path / "run", demos__source=demos_file("locked"), train__checkpoint_steps=80))
    assert main(["reward", "show", str(tmp_path / "run"), "--episodes", "4"]) == 0
