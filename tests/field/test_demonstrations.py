"""Recordings as people have them: what is right is learned from, and what is not is said in one line."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

import puffer_il
from puffer_il.core.errors import InputError
from puffer_il.demos import doubts
from puffer_il.learners.bc import BC
from puffer_il.learners.experiment import build
from puffer_il.vector.make import find_creator
from tests.support import field

PAIRS = np.random.default_rng(0).uniform(-1, 1, (80, 2)).astype(np.float32)


def with_column(values: np.ndarray, **changes: object) -> dict:
    arrays = field.recorded(**changes)
    for name in ("obs", "next_obs"):
        arrays[name] = arrays[name].astype(values.dtype)
        arrays[name][:, 1] = values
    return arrays


def seen(arrays: dict, text: str) -> bool:
    return any(text in line for line in doubts(puffer_il.load_demos(arrays)))


def test_seconds_since_1970_are_said_to_be_lost_in_float32():
    seconds = 1.7e9 + 0.02 * np.arange(80)
    notes = puffer_il.load_demos(with_column(seconds)).notes
    assert "obs column 1 changes by less than float32 can tell near 1.7e+09; subtract its start" in notes
    assert not puffer_il.load_demos(with_column(seconds - 1.7e9)).notes
    assert not puffer_il.load_demos(with_column(1000 * np.arange(80.0))).notes


@pytest.mark.parametrize("turn", [2 * np.pi, 360.0])
def test_an_angle_that_wraps_round_is_noticed(turn):
    angle = np.linspace(0, 2 * turn, 80)
    assert seen(with_column((angle % turn - turn / 2).astype(np.float32)), "jump by a whole turn")
    assert not seen(with_column(np.sin(angle).astype(np.float32)), "jump by a whole turn")


def test_a_quaternion_that_changes_its_sign_is_noticed():
    half = np.linspace(0, 3, 80)
    steady = np.stack((np.cos(half), np.sin(half), 0 * half, 0 * half), 1).astype(np.float32)
    flipped = steady * np.where(steady[:, :1] < 0, -1, 1)
    for obs, found in ((steady, False), (flipped, True)):
        assert seen(field.recorded(obs=obs, next_obs=np.roll(obs, -1, 0)), "changes its sign 1 times") is found


def test_actions_in_other_units_are_noticed():
    class Wide(field.Pair):
        action_space = spaces.Box(0, 255, (2,), np.float32)

    spec = find_creator(Wide).facts().spec
    assert any("use less than 1% of their range (0, 1)" in line for line in
               doubts(puffer_il.load_demos(field.recorded(actions=np.abs(PAIRS))), spec))
    assert not any("of their range" in line for line in
                   doubts(puffer_il.load_demos(field.recorded(actions=200 * np.abs(PAIRS))), spec))


def test_pictures_of_bytes_are_not_taken_for_shares_of_one():
    pictures = np.random.default_rng(0).integers(0, 256, (80, 3, 8, 8), np.uint8)
    with pytest.raises(InputError, match=r"pictures are bytes up to 255 but .* float32 ones; bring them to its scale"):
        field.trained("bc", field.Pictures, demos=field.recorded(obs=pictures, next_obs=pictures))


@pytest.mark.parametrize(("change", "message"), [
    ({"actions": np.full(80, 0.9999)}, r"takes whole numbers 0\.\.1"),
    ({"actions": np.full(80, 2)}, "action 2 in row 0"),
    ({"actions": np.full(80, -1)}, "action -1 in row 0"),
    ({"obs": np.full((80, 3), np.nan)}, "obs is NaN or infinite in row 0"),
    ({"rewards": np.full(80, np.inf)}, "rewards is NaN or infinite in row 0"),
    ({"episode_starts": np.array([0, 20, 20])}, "episode_starts must rise"),
])
def test_what_cannot_be_learned_from_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        field.trained("bc", field.Steps, demos=field.recorded(**change))


def test_copies_of_an_episode_are_held_out_together_and_statistics_are_of_the_rows_learned_from():
    one, others = field.recorded((20,)), field.recorded((20,) * 8, seed=1)
    arrays = {name: np.concatenate((one[name], one[name], others[name])) for name in one}
    demos = puffer_il.load_demos({**arrays, "episode_starts": np.arange(0, 200, 20)})
    spec = find_creator(field.Steps).facts().spec
    config = build("bc", [("a test", {"env": {"name": spec.name}})])
    sizes = set()
    for seed in range(30):
        learner = BC(spec, demos, config, torch.device("cpu"), seed)
        held_out, learned = ({row.tobytes() for row in rows.chosen_obs().numpy()}
                             for rows in (learner.held_out, learner.train))
        assert not held_out & learned
        sizes.add(len(learner.held_out))
        np.testing.assert_allclose(learner.policy.encoder.norm.mean, learner.train.chosen_obs().mean(0), atol=1e-5)
    assert sizes == {20, 40}


@pytest.mark.parametrize("policy", [{"squash": True}, {"head": "mixture"}, {"head": "flow"}, {"chunk": 8}])
def test_constant_columns_and_actions_at_their_bounds_are_learned_without_infinities(policy):
    arrays = with_column(np.full(80, 0.37, np.float32), actions=np.stack((np.sign(PAIRS[:, 0]), np.full(80, 1.0)), 1))
    run = field.trained("bc", field.Pair, 4_000, demos=arrays, policy=policy)
    assert run.summary["status"] == "finished"
    action = run.policy.predict(np.array([[0, 0.37, 0], [0, 0.5, 0]], np.float32), deterministic=True)[0]
    assert np.isfinite(action).all()


@pytest.mark.parametrize(("lengths", "policy"), [
    ((1,) * 20, {}), ((1, 20, 1, 1, 30), {"lstm": 8}), ((1, 20, 1, 1, 30), {"chunk": 8}),
    ((5, 40, 2), {"lstm": 8, "chunk": 4}), ((40,), {})])
def test_episodes_of_any_lengths_are_learned_from(lengths, policy):
    n = sum(lengths)
    run = field.trained("bc", field.Pair, 200, demos=field.recorded(lengths, actions=np.resize(PAIRS, (n, 2))),
                        policy=policy)
    assert run.summary["status"] == "finished"


def test_an_exact_demonstrator_gives_a_negative_loss_and_not_an_end():
    losses = []
    run = field.trained("bc", field.Pair, 20_000, demos=field.recorded(actions=np.full((80, 2), 0.3, np.float32)),
                        bc={"learning_rate": 1e-2}, callback=lambda metrics: losses.append(metrics["bc/train_nll"]))
    assert run.summary["status"] == "finished" and min(losses) < 0
    np.testing.assert_allclose(run.policy.predict(np.zeros(3, np.float32), deterministic=True)[0], 0.3, atol=0.05)
