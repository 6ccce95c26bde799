"""Glucose: the model against its equations, what insulin and meals do, the therapy's rules, and learning from them."""

import numpy as np
import pytest
import torch

from puffer_il.demos import collect
from puffer_il.learners import experiment
from puffer_il.learners.bc import BC
from puffer_il.native.native_env import NativeEnv
from puffer_il.vector.vec import make_vec
from tests.support.environments import FOLDERS, random_actions

PATIENTS = {  # CI, tau1, tau2, VG, p2, EGP, GEZI, SI of the paper
    1: (2010, 49, 47, 253, 0.0106, 1.33, 0.0022, 8.11e-4), 2: (1281, 41, 10, 261, 0.0116, 0.6, 0.00438, 9.64e-5),
    3: (909, 71, 70, 199, 0.0233, 1.07, 0.0035, 4.63e-4), 4: (1813, 91, 70, 337, 0.00814, 0.98, 1.64e-5, 3.77e-4),
    5: (1535, 46, 46, 188, 0.00963, 0.6, 0.00433, 2.05e-4), 6: (588, 68, 30, 104, 0.00915, 0.603, 0.00101, 4.12e-4),
    7: (1806, 60, 60, 263, 0.0101, 1.11, 0.0023, 8.16e-4), 8: (540, 95, 37, 137, 0.0103, 1.3, 1e-8, 3.68e-4),
    9: (875, 131, 21, 193, 0.0103, 1.27, 0.00639, 2.56e-4), 10: (1309, 53, 53, 204, 0.0102, 0.611, 0.00104, 6.03e-4)}
GLUCOSE, STOMACH, PATIENT, STEP, READINGS, MEAL_STEP, MEAL_GRAMS = 0, 4, 7, 9, 11, 17, 23  # places in the state
BOARD, GRAMS, SINE, COSINE, BASAL, RATIO, FACTOR = range(6, 13)  # columns of the observation


def make(num_envs: int = 1, seed: int = 1, **params) -> NativeEnv:
    env = NativeEnv(FOLDERS["glucose"], num_envs, seed=seed, **params)
    env.reset(seed)
    return env


def at(glucose: float, **params) -> NativeEnv:
    """One patient, fasting at `glucose` with insulin at its basal level."""
    env = make(meal_scale=0.0, **params)
    state = env.env_states()
    state[:, [GLUCOSE, 6]] = state[:, READINGS:READINGS + 6] = glucose
    env.set_env_states(state)
    return env


def course(env: NativeEnv, steps: int, basal: float | None = None, bolus: float = 0, grams: float = 0) -> np.ndarray:
    """(steps,) glucose at a steady rate (the patient's own by default), after a bolus and a meal at once."""
    state = env.env_states()
    state[:, STOMACH] += 1000 * grams
    env.set_env_states(state)
    seen = []
    for t in range(steps):
        rate = env.observations[0, BASAL] if basal is None else basal
        env.step(np.array([[rate, bolus if t == 0 else 0]], np.float32))
        seen.append(env.env_states()[0, GLUCOSE])
    return np.array(seen)


def first_day(env: NativeEnv, act) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Returns and lengths of each environment's first day, and the mean of what the days have logged."""
    env.pop_log_means()
    returns, lengths, going = np.zeros(env.num_envs), np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    for _ in range(288):
        env.step(act(env))
        returns += env.rewards * going
        lengths += going
        going &= ~(env.terminals | env.truncations)
    assert not going.any()
    return returns, lengths, env.pop_log_means()


@pytest.mark.parametrize("patient", PATIENTS)
def test_the_basal_rate_holds_the_target(patient: int):
    """And is that of the model's fixed point; doses are 32-bit numbers."""
    CI, _, _, VG, _, EGP, GEZI, SI = PATIENTS[patient]
    env = at(110, patient=patient, max_episode_steps=0)
    basal, ratio, factor = env.observations[0, [BASAL, RATIO, FACTOR]]
    assert basal == pytest.approx((EGP / 110 - GEZI) / SI * CI * 60e-6, rel=1e-6)
    assert factor == pytest.approx(110 * SI * 1e6 / CI, rel=1e-6) and ratio == pytest.approx(factor * VG / 1000)
    assert abs(course(env, 600) - 110).max() < 1e-4


@pytest.mark.parametrize("patient", PATIENTS)
def test_insulin_lowers_meals_raise_and_the_therapy_balances_them(patient: int):
    fasting, eaten = (course(at(110, patient=patient, max_episode_steps=0), 400, grams=g) for g in (0, 5))
    dosed, treated = (course(at(110, patient=patient, min_bolus=0.0, max_episode_steps=0), 400, grams=g,
                             bolus=5 / at(110, patient=patient).observations[0, RATIO]) for g in (0, 5))
    assert (eaten > fasting).all() and (dosed[1:] < fasting[1:]).all()
    more = course(at(110, patient=patient), 100, basal=0.0)
    assert (np.diff(more) > 0).all() and more[-1] > 120
    # To first order the bolus takes away over the hours just what the meal has brought.
    assert abs((treated - fasting).sum()) < 0.1 * (eaten - fasting).sum()


@pytest.mark.parametrize(("patient", "variation"), [(1, 0.0), (3, 0.3), (9, 0.0)])
def test_the_model_is_integrated_exactly(patient: int, variation: float):
    """Against the same equations in steps of 0.05 minutes, with meals and random doses."""
    CI, tau1, tau2, VG, p2, EGP, GEZI, SI = PATIENTS[patient]
    env = make(patient=patient, variation=variation, meal_minutes=40.0)
    body, sensitivity = env.env_states()[0, :7].copy(), env.env_states()[0, 8]

    def slope(x: np.ndarray, rate: float) -> np.ndarray:
        G, X, Ip, Isc, D1, D2, Gs = x
        return np.array([-(GEZI + X) * G + EGP + D2 / (40 * VG), -p2 * X + p2 * SI * sensitivity * Ip,
                         (Isc - Ip) / tau2, -Isc / tau1 + rate / (CI * tau1), -D1 / 40, D1 / 40 - D2 / 40,
                         (G - Gs) / 10])

    rng, worst = np.random.default_rng(0), 0.0
    for t in range(150):
        state = env.env_states()[0]
        basal, bolus = np.float32(rng.uniform(0, 2)), np.float32(rng.uniform(0.5, 2) * (rng.random() < 0.02))
        body[STOMACH] += 1000 * state[MEAL_GRAMS:][state[MEAL_STEP:MEAL_GRAMS] == t].sum()
        body[3] += bolus * 1e6 / (CI * tau1)
        for _ in range(100):
            middle = body + 0.025 * slope(body, basal * 1e6 / 60)
            body = body + 0.05 * slope(middle, basal * 1e6 / 60)
        env.step(np.array([[basal, bolus]], np.float32))
        assert not env.terminals[0]
        worst = max(worst, (abs(env.env_states()[0, :7] - body) / np.maximum(abs(body), 1e-3)).max())
    assert worst < 1e-5 and body[STOMACH] > 1


def test_rewards_ends_and_logs_follow_the_glucose():
    env = make(300, patient=0)
    seen, rewards = [], []
    for actions in random_actions(env, 12):
        env.step(np.where(np.arange(600).reshape(300, 2) % 4 == 0, 0, actions).astype(np.float32))
        if not env.terminals.any():
            seen.append(env.env_states()[:, GLUCOSE])
            rewards.append(env.rewards.copy())
    glucose = np.array(seen)
    risk = 10 * (1.509 * (np.log(glucose) ** 1.084 - 5.381)) ** 2
    assert np.allclose(rewards, np.maximum(1 - risk / 20, 0), atol=1e-5)
    for value in (30, 41, 599, 640):
        env = at(value, max_episode_steps=0)
        env.step(np.zeros((1, 2), np.float32))
        assert env.terminals[0] == (value in (30, 640)) and env.rewards[0] < 0.1
    glucose = course(at(200, max_episode_steps=288), 287)
    env = at(200)
    course(env, 288)
    logs = env.pop_log_means()
    assert 0.5 < logs["time_in_range"] < 1 and logs["time_below"] == 0
    assert logs["time_in_range"] == pytest.approx(((glucose <= 180).sum() + 1) / 288, abs=1e-5)
    assert logs["mean_glucose"] == pytest.approx((glucose.sum() + 110) / 288, abs=0.1)


def test_meals_come_as_the_menu_says_and_are_announced_before():
    env = make(4000, lead_minutes=20, patient=1)
    state = env.env_states()
    steps, grams = state[:, MEAL_STEP:MEAL_GRAMS], state[:, MEAL_GRAMS:]
    low, high = np.array([5, 9, 10, 14, 16, 20]) * 12, np.array([9, 10, 14, 16, 20, 23]) * 12
    assert (steps >= low).all() and (steps <= high).all()
    assert abs((grams > 0).mean(0) - [0.95, 0.3, 0.95, 0.3, 0.95, 0.3]).max() < 0.04
    assert abs(grams.sum(0) / (grams > 0).sum(0) - [45, 10, 70, 10, 80, 10]).max() < 1
    assert abs(steps.mean(0) / 12 - [7, 9.5, 12, 15, 18, 21.5]).max() < 0.1
    env = make(50, lead_minutes=20, patient=1)
    state, announced = env.env_states(), []
    for t in range(287):
        announced.append(env.observations[:, GRAMS].copy())
        sine, cosine = env.observations[:, [SINE, COSINE]].T
        assert np.allclose(np.arctan2(sine, cosine) % (2 * np.pi), 2 * np.pi * t / 288, atol=1e-5)
        env.step(env.expert_actions())
    for i, day in enumerate(state):
        expected = np.zeros(287)
        np.add.at(expected, day[MEAL_STEP:MEAL_GRAMS].astype(int) - 4, day[MEAL_GRAMS:])
        assert (np.array(announced)[:, i] == expected).all()
    silent = make(50, announced=False)
    for _ in range(287):
        assert not silent.observations[:, GRAMS].any()
        silent.step(silent.expert_actions())


def test_insulin_on_board_is_what_was_given_and_wanes():
    env = at(110, max_episode_steps=0)
    assert env.observations[0, BOARD] == pytest.approx(0, abs=1e-5)
    board = []
    for t in range(288):
        env.step(np.array([[env.observations[0, BASAL], 3 if t == 0 else 0]], np.float32))
        board.append(env.observations[0, BOARD])
    assert 2.9 < board[0] < 3 and (np.diff(board) <= 1e-5).all() and abs(board[-1]) < 0.01
    env.step(np.array([[env.observations[0, BASAL], 0.4]], np.float32))
    assert abs(env.observations[0, BOARD]) < 0.01  # too small to be given


def test_sensor_noise_is_of_its_size_and_lasts():
    env = make(500, cgm_noise=6.0, meal_scale=0.0)
    errors = []
    for _ in range(40):
        env.step(env.expert_actions())
        state = env.env_states()
        errors.append(state[:, READINGS] - state[:, 6])
    errors = np.array(errors)
    assert abs(errors.mean()) < 0.3 and errors.std() == pytest.approx(6, rel=0.05)
    assert np.corrcoef(errors[:-1].ravel(), errors[1:].ravel())[0, 1] == pytest.approx(0.7, abs=0.03)
    assert (env.observations[:, 1] == np.float32(env.env_states()[:, READINGS + 1])).all()


def test_patients_and_their_sensitivity_vary():
    env = make(2000, patient=0, variation=0.2)
    state = env.env_states()
    assert (np.bincount(state[:, PATIENT].astype(int), minlength=10) > 140).all()
    sensitivity = state[:, 8]
    assert 0.8 < sensitivity.min() < 0.81 and 1.19 < sensitivity.max() < 1.2 and abs(sensitivity.mean() - 1) < 0.02
    assert len(np.unique(env.observations[:, BASAL])) == 10


def do_nothing(env: NativeEnv) -> np.ndarray:
    return np.zeros_like(env.actions)


def basal_only(env: NativeEnv) -> np.ndarray:
    return np.stack([env.observations[:, BASAL], np.zeros(env.num_envs, np.float32)], 1)


def test_the_expert_keeps_patients_in_range():
    returns, lengths, logs = first_day(make(200), NativeEnv.expert_actions)
    assert logs["time_in_range"] > 0.99 and logs["time_below"] < 0.002 and returns.mean() > 274
    returns, lengths, logs = first_day(make(400, patient=0), NativeEnv.expert_actions)
    assert logs["time_in_range"] > 0.95 and logs["time_below"] < 0.03 and (lengths == 288).all()
    for params, least in (({"announced": False}, 0.8), ({"cgm_noise": 8.0}, 0.98), ({"variation": 0.3}, 0.97)):
        assert first_day(make(200, **params), NativeEnv.expert_actions)[2]["time_in_range"] > least
    basal = first_day(make(400, patient=0), basal_only)[0].mean()
    nothing, short, _ = first_day(make(400, patient=0), do_nothing)
    assert returns.mean() > 255 > 180 > basal > 100 > nothing.mean() and short.mean() < 240


def test_cloning_ten_days_is_as_good_as_the_expert():
    with make_vec("glucose", num_envs=10) as vec:
        demos, spec = collect(vec, lambda *_: vec.expert_actions(), 10, "expert", seed=1), vec.spec
    torch.manual_seed(1)
    settings = experiment.build("bc", [("test", {"bc": {"learning_rate": 3e-3}})])
    learner = BC(spec, demos, settings, torch.device("cpu"), 1)
    for _ in range(250):
        learner.update(None, 0.0)
    learner.finish()
    returns, _, logs = first_day(make(100, seed=7),
                                 lambda env: learner.policy.predict(env.observations, deterministic=True)[0])
    assert returns.mean() > 0.97 * demos.returns.mean()
    assert logs["time_in_range"] > 0.97
