"""The C environments that name a `gymnasium_id` against Gymnasium's own, step for step."""

import gymnasium
import numpy as np
import pytest

from puffer_il.envfile import read_env
from puffer_il.native import NativeEnv
from tests.env_helpers import FOLDERS, random_actions

PI = np.pi
CORNERS = {  # lowest and highest states to start from, wider than a random policy goes
    "cartpole": [(-2.4, -3, -0.209, -3), (2.4, 3, 0.209, 3)],
    "mountaincar": [(-1.2, -0.07), (0.6, 0.07)],
    "pendulum": [(-50, -8), (50, 8)],
    "acrobot": [(-PI, -PI, -4 * PI, -9 * PI), (PI, PI, 4 * PI, 9 * PI)],
}
EQUAL = {name: FOLDERS[name] for name in CORNERS}
OTHER_PARAMETERS = [
    ("cartpole", {"gravity": 5.0, "masscart": 2.0, "masspole": 0.3, "length": 0.7, "force_mag": 7.0, "tau": 0.01}),
    ("cartpole", {"sutton_barto_reward": True}),
    ("mountaincar", {"force": 0.002, "gravity": 0.003, "goal_velocity": 0.03}),
    ("pendulum", {"g": 3.0, "m": 0.5, "l": 1.5}),
    ("acrobot", {"link_length_1": 1.2, "link_mass_1": 0.8, "link_mass_2": 1.1, "link_com_pos_1": 0.6,
                 "link_com_pos_2": 0.4, "link_moi": 0.9, "dt": 0.1, "torque": 1.5}),
]


def their_env(name: str, **params) -> gymnasium.Env:
    """Gymnasium's environment without wrappers, with our parameters set by its own names."""
    env = gymnasium.make(read_env(EQUAL[name]).gymnasium_id).unwrapped
    env.reset(seed=0)
    for key, value in params.items():
        own = {"sutton_barto_reward": "_sutton_barto_reward", "torque": "AVAIL_TORQUE"}.get(
            key, key.upper() if key.startswith("link_") else key)
        assert hasattr(env, own)
        setattr(env, own, [-value, 0.0, value] if own == "AVAIL_TORQUE" else value)
    if name == "cartpole":
        env.total_mass = env.masspole + env.masscart
        env.polemass_length = env.masspole * env.length
    return env


def states(env: NativeEnv) -> np.ndarray:
    """(num_envs, k) our states, whose structs hold doubles in Gymnasium's order."""
    return env.get_state()[:env.num_envs * env._api.env_bytes].view(np.float64).reshape(env.num_envs, -1)


def set_states(env: NativeEnv, wanted: np.ndarray) -> None:
    saved = env.get_state()
    saved[:wanted.nbytes] = np.ascontiguousarray(wanted, np.float64).reshape(-1).view(np.uint8)
    env.set_state(saved)


def our_step(env: NativeEnv, actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """True successors, rewards, terminations, truncations."""
    obs, rewards, terminals, truncations, _ = env.step(actions)
    ended = (terminals | truncations)[:, None]
    return np.where(ended, env.final_observations, obs), rewards.copy(), terminals.copy(), truncations.copy()


def their_steps(env: gymnasium.Env, starts: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same from each state, and the states that follow."""
    rows = []
    for state, action in zip(starts, actions, strict=True):
        env.state, env.steps_beyond_terminated = state.copy(), None
        obs, reward, terminated, _, _ = env.step(action)
        rows.append((obs, reward, terminated, np.array(env.state, dtype=np.float64)))
    obs, rewards, terminations, after = zip(*rows, strict=True)
    return np.array(obs), np.array(rewards), np.array(terminations), np.array(after)


def check_step(env: NativeEnv, theirs: gymnasium.Env, actions: np.ndarray) -> tuple[int, int]:
    """One step of all of ours and of Gymnasium's from the same states; how many terminated and were truncated."""
    starts = states(env)
    obs, rewards, terminals, truncations = our_step(env, actions)
    their_obs, their_rewards, their_terminations, their_states = their_steps(theirs, starts, actions)
    np.testing.assert_allclose(obs, their_obs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(rewards, their_rewards, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(terminals, their_terminations)
    going = ~(terminals | truncations)
    np.testing.assert_allclose(states(env)[going], their_states[going], rtol=1e-10, atol=1e-10)  # doubles
    return terminals.sum(), truncations.sum()


def test_every_claim_is_tested():
    assert set(EQUAL) >= {name for name, folder in FOLDERS.items() if read_env(folder).gymnasium_id}


@pytest.mark.parametrize("name", EQUAL)
def test_spaces_and_limit(name: str):
    ours, theirs = NativeEnv(EQUAL[name]), gymnasium.make(read_env(EQUAL[name]).gymnasium_id)
    assert ours.single_observation_space == theirs.observation_space
    assert ours.single_action_space == theirs.action_space
    assert ours.env_file.values({})["max_episode_steps"] == theirs.spec.max_episode_steps


@pytest.mark.parametrize("name", EQUAL)
def test_same_state_and_action_give_the_same_step(name: str):
    """10,000 random steps, Gymnasium's state set from ours before each, so that no error can hide or build up."""
    env, theirs = NativeEnv(EQUAL[name], 20), their_env(name)
    env.reset(0)
    ends = [check_step(env, theirs, actions) for actions in random_actions(env, 500)]
    assert np.sum(ends) >= 20


@pytest.mark.parametrize("name", EQUAL)
def test_from_anywhere(name: str):
    """States that a random policy does not reach."""
    env = NativeEnv(EQUAL[name], 1000)
    env.reset(0)
    set_states(env, np.random.default_rng(0).uniform(*CORNERS[name], size=states(env).shape))
    terminated, _ = check_step(env, their_env(name), *random_actions(env, 1))
    assert terminated > 0 or name == "pendulum"  # the one that never terminates


@pytest.mark.parametrize("name", EQUAL)
def test_whole_episodes_agree(name: str):
    """Both run freely from the same starts, Gymnasium's with the time limit that it comes with; errors may build up."""
    env, theirs = NativeEnv(EQUAL[name]), gymnasium.make(read_env(EQUAL[name]).gymnasium_id)
    env.reset(1)
    for episode in range(3):
        theirs.reset(seed=1)
        theirs.unwrapped.state = states(env)[0].copy()
        for actions in random_actions(env, 501, seed=episode):
            (obs,), (reward,), (terminated,), (truncated,) = our_step(env, actions)
            their_obs, their_reward, their_terminated, their_truncated, _ = theirs.step(actions[0])
            np.testing.assert_allclose(obs, their_obs, rtol=1e-5, atol=1e-5)
            assert abs(reward - their_reward) < 1e-4
            assert (terminated, truncated) == (their_terminated, their_truncated and not their_terminated)
            if terminated or truncated:
                break
        else:
            pytest.fail("the episode does not end")


@pytest.mark.parametrize(("name", "params"), OTHER_PARAMETERS)
def test_parameters_mean_what_gymnasium_means(name: str, params: dict):
    env = NativeEnv(EQUAL[name], 500, **params)
    env.reset(0)
    actions, = random_actions(env, 1)
    starts = np.random.default_rng(0).uniform(*CORNERS[name], size=states(env).shape)
    set_states(env, starts)
    check_step(env, their_env(name, **params), actions)
    set_states(env, starts)
    outcome = our_step(env, actions)
    for left_out in params:  # each of them does something
        other = NativeEnv(EQUAL[name], 500, **{key: value for key, value in params.items() if key != left_out})
        other.reset(0)
        set_states(other, starts)
        assert not all(map(np.array_equal, outcome, our_step(other, actions)))


@pytest.mark.parametrize("name", EQUAL)
def test_episodes_start_as_theirs(name: str):
    """Kolmogorov-Smirnov distance of each observed coordinate to Gymnasium's, same range, coordinates independent."""
    count = 4000
    env, theirs = NativeEnv(EQUAL[name], count, seed=1), their_env(name)
    our_obs, their_obs = env.reset()[0], np.array([theirs.reset()[0] for _ in range(count)])
    for a, b in zip(our_obs.T, their_obs.T, strict=True):
        points = np.concatenate([a, b])
        distance = np.abs(np.searchsorted(np.sort(a), points, "right") - np.searchsorted(np.sort(b), points, "right"))
        assert distance.max() / count < 2.2 * np.sqrt(2 / count)  # p = 1e-4
        assert np.ptp(np.concatenate([a, b])) <= 1.01 * min(np.ptp(a), np.ptp(b))
    start = states(env)
    correlation = np.corrcoef(start[:, np.ptp(start, axis=0) > 0].T)
    assert np.abs(correlation - np.eye(*correlation.shape) if correlation.ndim else [0]).max() < 5 / np.sqrt(count)
