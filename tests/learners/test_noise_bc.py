"""DART: the disturbance is what it says, the labels are not disturbed, and the noise is fitted to the errors."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.core.spec import ActionSpec
from puffer_il.learners import noise_bc
from puffer_il.learners.noise_bc import NoiseBC, disturb, first_noise, fitted_noise, noise_level
from tests.support.runs import final_state, run, tiny

CHOICES = ActionSpec(nvec=(4, 2))
BOX = ActionSpec(low=np.float32([-2, 0]), high=np.float32([2, 1]), shape=(2,))
SIGMA = np.array([[0.5, 0.2], [0.2, 0.1]])


def test_a_discrete_action_is_another_one_as_often_as_epsilon_says():
    rng = np.random.default_rng(0)
    actions = np.tile(np.int32([[3, 1]]), (40_000, 1))
    done = disturb(actions, np.array([0.2, 0.5]), CHOICES, rng)
    assert done.dtype == np.int32 and done.min() == 0 and (done.max(0) == [3, 1]).all()
    # ε random choices of which one in K is the same
    np.testing.assert_allclose((done != actions).mean(0), [0.2 * 3 / 4, 0.5 / 2], atol=0.01)
    np.testing.assert_array_equal(disturb(actions, np.zeros(2), CHOICES, rng), actions)


@pytest.mark.parametrize("sigma", [SIGMA, np.outer([1, 2], [1, 2]) * 0.1, np.zeros((2, 2))])
def test_a_continuous_action_has_the_covariance_asked_for(sigma):
    actions = np.float32([[1, 0.5]]).repeat(100_000, 0)
    noise = disturb(actions, sigma, BOX, np.random.default_rng(0)) - actions
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise.T @ noise / len(noise), sigma, atol=0.01)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.01)


def test_fitted_noise_by_hand():
    modes, labels = np.array([[0, 1], [1, 1], [2, 0], [3, 0]]), np.array([[0, 1], [0, 1], [2, 1], [3, 0]])
    np.testing.assert_allclose(fitted_noise(modes, labels, CHOICES), [0.25 * 4 / 3, 0.25 * 2])
    np.testing.assert_allclose(fitted_noise(modes, 1 - labels, CHOICES), [1, 1])  # a probability at most
    np.testing.assert_allclose(fitted_noise(modes, labels, CHOICES, alpha=0.07), [0.07, 0.07])
    errors = np.float32([[1, 0.25], [-1, 0], [0, 0.25], [0, 0]])
    sigma = fitted_noise(errors + np.float32([0, 0.5]), np.tile(np.float32([0, 0.5]), (4, 1)), BOX)
    np.testing.assert_allclose(sigma, [[0.5, 0.0625], [0.0625, 0.03125]])
    # trace in half ranges squared: 0.5 / 2² + 0.03125 / 0.5² = 0.25
    scaled = fitted_noise(errors + np.float32([0, 0.5]), np.tile(np.float32([0, 0.5]), (4, 1)), BOX, alpha=0.5)
    np.testing.assert_allclose(scaled, 2 * sigma)
    assert noise_level(scaled, BOX) == pytest.approx(np.sqrt(0.25))
    np.testing.assert_allclose(first_noise(BOX, 0.5), np.diag([1, 0.0625]))  # (0.5 · 2)², (0.5 · 0.5)²
    assert noise_level(first_noise(BOX, 0.5), BOX) == pytest.approx(0.5)


def test_fitted_noise_is_the_likeliest():
    """Of the errors it was fitted to, no other covariance or rate makes them likelier."""
    rng = np.random.default_rng(1)
    errors = rng.multivariate_normal([0, 0], SIGMA / 9, 200).astype(np.float32) * np.float32([1, 0.1])

    def likelihood(sigma):
        return -0.5 * (np.linalg.slogdet(sigma)[1] + np.einsum("ni,ij,nj->n", errors, np.linalg.inv(sigma), errors)
                       .mean())

    best = fitted_noise(errors, np.zeros_like(errors), ActionSpec(low=np.float32([-9, -9]), high=np.float32([9, 9]),
                                                                  shape=(2,)))
    for factor in (0.9, 1.1):
        for scale in ([factor, factor], [factor, 1], [1, factor]):
            assert likelihood(best * np.outer(scale, scale)) < likelihood(best)
    modes = rng.integers(0, 4, (50, 1))
    labels = np.where(rng.random((50, 1)) < 0.6, modes, (modes + 1) % 4)
    wrong = int((modes != labels).sum())
    best = fitted_noise(modes, labels, ActionSpec(nvec=(4,)))[0]
    rates = np.linspace(0.01, 0.99, 981)
    logs = wrong * np.log(rates / 4) + (50 - wrong) * np.log(1 - rates + rates / 4)
    assert rates[logs.argmax()] == pytest.approx(best, abs=1.1e-3)


def test_labels_are_the_experts_own_and_actions_are_not(tmp_path, monkeypatch):
    """In CartPole, whose script is known: every label of a disturbed rollout is what the script says there."""
    seen = []
    update = NoiseBC.update

    def spy(self, buffer, progress):
        seen.append((buffer.obs.copy(), buffer.actions.copy(), buffer.expert_actions.copy()))
        return update(self, buffer, progress)

    monkeypatch.setattr(NoiseBC, "update", spy)
    recorder = run(tiny("noise_bc", tmp_path / "run", noise_bc__noise=0.4, noise_bc__fit=False))
    for obs, actions, labels in seen:
        x, x_dot, theta, theta_dot = np.moveaxis(obs.astype(np.float64), -1, 0)
        score = theta + 0.4 * theta_dot + 0.1 * x + 0.2 * x_dot
        clear = np.abs(score) > 1e-6  # the script computes in double what is observed in float
        np.testing.assert_array_equal(labels[..., 0][clear], (score > 0)[clear])
        assert (actions != labels).mean() == pytest.approx(0.2, abs=0.07)
    assert len(seen) == 4
    assert {m["noise_bc/noise"] for m in recorder.metrics if "SPS" in m} == {0.4}  # not fitted


def test_noise_follows_the_policys_errors(tmp_path):
    recorder = run(tiny("noise_bc", tmp_path / "run", noise_bc__epochs=30))
    levels = [m["noise_bc/noise"] for m in recorder.metrics if "SPS" in m]
    wrong = [2 * (1 - m["bc/accuracy"]) for m in recorder.metrics if "SPS" in m]  # K/(K − 1) of two choices
    assert levels[0] == 0.1 and levels[1:] != [0.1] * 3
    state = final_state(tmp_path / "run")["learner"]["noise"]
    # Epochs report the last weights and the noise is fitted to the best, which may differ by a few rows.
    np.testing.assert_allclose([*levels[1:], float(state[0])], wrong, atol=0.1)


def test_where_no_better_is_known_the_noise_is_that_of_the_whole_range():
    assert noise_bc.first_noise(CHOICES, 3.0).tolist() == [1, 1]
