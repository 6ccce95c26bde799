"""What acts: functions, loaded policies, and the statistics that they see through."""

import numpy as np
import pytest
from gymnasium import spaces

import puffer_il
from puffer_il.core.errors import InputError
from tests.support import field


@pytest.mark.parametrize(("function", "message"), [
    (lambda obs: (np.zeros(len(obs), int), None), r"returned a tuple, as `predict` does"),
    (lambda obs: np.zeros((len(obs), 3)), r"returned an array of shape \(\d, 3\) .* of shape \(\d,\)"),
    (lambda obs: 0, r"returned 0 for \d observation"),
    (lambda obs: np.full(len(obs), 5), r"returned the action 5; return whole numbers 0\.\.1"),
    (lambda obs: np.full(len(obs), -1), r"returned the action -1; return whole numbers 0\.\.1"),
    (lambda obs: np.full(len(obs), 0.5), r"returned the action 0\.5; return whole numbers"),
    (lambda obs: np.full(len(obs), np.nan), r"returned an action that is NaN"),
    (lambda obs: ["left"] * len(obs), r"returned \['left'"),
])
def test_a_function_that_does_not_answer_with_actions_is_refused(function, message):
    with pytest.raises(InputError, match=message):
        puffer_il.collect(function, field.Steps, episodes=2)


def test_functions_may_answer_in_the_environments_numbers_and_in_any_dtype():
    class FromThree(field.Steps):
        action_space = spaces.Discrete(2, start=3)

        def step(self, action):
            assert action in (3, 4)
            return super().step(action)

    for answer in (4, 4.0, np.float64(4)):
        assert (puffer_il.collect(lambda obs, x=answer: [x] * len(obs), FromThree, episodes=1).actions == 1).all()
    with pytest.raises(InputError, match=r"returned the action 2; return whole numbers 3\.\.4"):
        puffer_il.collect(lambda obs: [2] * len(obs), FromThree, episodes=1)


def test_an_observation_that_is_nan_is_refused_and_others_are_taken():
    policy = field.trained("ppo", field.Pair).policy
    with pytest.raises(InputError, match="an observation is NaN in column 1; a policy cannot act on it"):
        policy.predict(np.array([0, np.nan, 0]))
    assert np.isfinite(policy.predict(np.array([np.inf, -np.inf, 0]), deterministic=True)[0]).all()
    assert policy.predict(np.zeros((0, 3)))[0].shape == (0, 2)
    same = [policy.predict(x, deterministic=True)[0] for x in (np.zeros(3), [0, 0, 0], np.zeros(3, int))]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])


def test_statistics_move_with_training_alone_and_come_with_the_policy(tmp_path):
    run = field.trained("ppo", "tests.support.field:Pair", run_dir=tmp_path / "run")
    before = {name: value.clone() for name, value in run.policy.encoder.state_dict().items()}
    obs = np.random.default_rng(0).normal(50, 9, (64, 3)).astype(np.float32)
    actions = run.policy.predict(obs, deterministic=True)[0]
    puffer_il.evaluate(run, episodes=4)
    assert all((value == before[name]).all() for name, value in run.policy.encoder.state_dict().items())
    np.testing.assert_array_equal(puffer_il.load(run.dir).predict(obs, deterministic=True)[0], actions)


@pytest.mark.parametrize("algo", ["ppo", "gail"])
def test_before_its_first_step_the_policy_is_the_one_that_acted(algo):
    moved = []
    field.trained(algo, field.Pair, ppo={"learning_rate": 0.0, "update_epochs": 2},
                  callback=lambda metrics: moved.append(abs(metrics["losses/approx_kl"])),
                  demos=field.recorded(actions=np.zeros((80, 2), np.float32)))
    assert max(moved) < 1e-6


def test_learning_rates_go_on_where_they_were(tmp_path):
    rates = []

    def watch(metrics):
        rates.append((metrics["env_steps"], metrics["losses/learning_rate"]))

    kind = {"ppo": {"anneal_lr": True, "learning_rate": 1.0e-3}}
    run = field.trained("ppo", "tests.support.field:Pair", 128, run_dir=tmp_path / "run", callback=watch, **kind)
    puffer_il.train(resume=run, total_steps=256, callback=watch, progress=False)
    steps, values = zip(*rates, strict=True)
    assert list(steps) == list(range(32, 257, 32))
    np.testing.assert_allclose(values[4:], [5e-4, 3.75e-4, 2.5e-4, 1.25e-4])
