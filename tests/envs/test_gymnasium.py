"""The C environments that name a `gymnasium_id` against Gymnasium's own, step for step."""

from collections import defaultdict
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from puffer_il.native.envfile import read_env
from puffer_il.native.gymnasium_env import GymnasiumEnv
from puffer_il.native.native_env import NativeEnv
from tests.support.environments import FOLDERS, random_actions, wild_actions

PI = np.pi
CORNERS = {  # lowest and highest states to start from, wider than a random policy goes
    "cartpole": [(-2.4, -3, -0.209, -3), (2.4, 3, 0.209, 3)],
    "mountaincar": [(-1.2, -0.07), (0.6, 0.07)],
    "mountaincarcontinuous": [(-1.2, -0.07), (0.6, 0.07)],
    "pendulum": [(-50, -8), (50, 8)],
    "acrobot": [(-PI, -PI, -4 * PI, -9 * PI), (PI, PI, 4 * PI, 9 * PI)],
}
EQUAL = {name: FOLDERS[name] for name in CORNERS}
STATE_TYPES = {"mountaincarcontinuous": np.float32}  # of Gymnasium's after a step; float64 elsewhere
TABLES = [  # environments with a table of transitions: our parameters and Gymnasium's
    ("frozenlake", {}, {}),
    ("frozenlake", {"map_name": "8x8"}, {"map_name": "8x8"}),
    ("frozenlake", {"is_slippery": False}, {"is_slippery": False}),
    ("frozenlake", {"map_name": "8x8", "is_slippery": False}, {"map_name": "8x8", "is_slippery": False}),
    ("frozenlake", {"success_rate": 0.8, "reward_goal": 5.0, "reward_hole": -2.0, "reward_frozen": -0.1},
     {"success_rate": 0.8, "reward_schedule": (5.0, -2.0, -0.1)}),
    ("cliffwalking", {}, {}),
    ("cliffwalking", {"is_slippery": True}, {"is_slippery": True}),
    ("taxi", {}, {}),
    ("taxi", {"is_rainy": True}, {"is_rainy": True}),
    ("taxi", {"is_rainy": True, "rainy_probability": 0.3}, {"is_rainy": True, "rainy_probability": 0.3}),
]
CERTAIN = [row for row in TABLES if row[1] in ({}, {"is_slippery": False}) and row != TABLES[0]]
OTHER_PARAMETERS = [
    ("cartpole", {"gravity": 5.0, "masscart": 2.0, "masspole": 0.3, "length": 0.7, "force_mag": 7.0, "tau": 0.01}),
    ("cartpole", {"sutton_barto_reward": True}),
    ("mountaincar", {"force": 0.002, "gravity": 0.003, "goal_velocity": 0.03}),
    ("mountaincarcontinuous", {"goal_velocity": 0.03}),
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
    starts = env.env_states().astype(STATE_TYPES.get(env.spec_name))
    obs, rewards, terminals, truncations = our_step(env, actions)
    their_obs, their_rewards, their_terminations, their_states = their_steps(theirs, starts, actions)
    np.testing.assert_allclose(obs, their_obs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(rewards, their_rewards, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(terminals, their_terminations)
    going = ~(terminals | truncations)
    np.testing.assert_allclose(env.env_states()[going], their_states[going], rtol=1e-10, atol=1e-10)  # doubles
    return terminals.sum(), truncations.sum()


def test_every_claim_is_tested():
    """Here, or in another file that names the environment and makes Gymnasium's."""
    others = [path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)]
    compared = {*EQUAL} | {name for name, _, _ in TABLES}
    compared |= {name for name in FOLDERS for text in others if f'"{name}"' in text and "gymnasium.make" in text}
    assert compared >= {name for name, folder in FOLDERS.items() if read_env(folder).gymnasium_id}


@pytest.mark.parametrize("name", [*EQUAL, "frozenlake", "cliffwalking", "taxi"])
def test_spaces_and_limit(name: str):
    ours, theirs = GymnasiumEnv(FOLDERS[name]), gymnasium.make(read_env(FOLDERS[name]).gymnasium_id)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert read_env(FOLDERS[name]).values({})["max_episode_steps"] == (theirs.spec.max_episode_steps or 0)


@pytest.mark.parametrize("name", EQUAL)
def test_same_state_and_action_give_the_same_step(name: str):
    """10,000 random steps, Gymnasium's state set from ours before each, so that no error can hide or build up."""
    env, theirs = NativeEnv(EQUAL[name], 20, max_episode_steps=200), their_env(name)
    env.reset(0)
    ends = [check_step(env, theirs, actions) for actions in random_actions(env, 500)]
    assert np.sum(ends) >= 20


@pytest.mark.parametrize("name", ["pendulum", "mountaincarcontinuous"])
def test_actions_beyond_the_range_are_taken_as_theirs(name: str):
    """Pendulum-v1 charges for the clipped torque, MountainCarContinuous-v0 for all of the push; 200 from N(0, 3²)."""
    env, theirs = NativeEnv(EQUAL[name], 20, max_episode_steps=0), their_env(name)
    env.reset(0)
    for actions in wild_actions(env, 10):
        check_step(env, theirs, actions)


def test_every_claim_about_actions_beyond_the_range_is_tested():
    """Here, or in test_mujoco.py."""
    from tests.envs.test_mujoco import ENVS

    claims = {name for name, folder in FOLDERS.items() if read_env(folder).gymnasium_id}
    assert {name for name in claims if not read_env(FOLDERS[name]).action.nvec} == {
        "pendulum", "mountaincarcontinuous", *ENVS}


@pytest.mark.parametrize("name", EQUAL)
def test_from_anywhere(name: str):
    """States that a random policy does not reach."""
    env = NativeEnv(EQUAL[name], 1000)
    env.reset(0)
    env.set_env_states(np.random.default_rng(0).uniform(*CORNERS[name], size=env.env_states().shape))
    terminated, _ = check_step(env, their_env(name), *random_actions(env, 1))
    assert terminated > 0 or name == "pendulum"  # the one that never terminates


@pytest.mark.parametrize("name", EQUAL)
def test_whole_episodes_agree(name: str):
    """Both run freely from the same starts, Gymnasium's with the time limit that it comes with; errors may build up."""
    env, theirs = NativeEnv(EQUAL[name]), gymnasium.make(read_env(EQUAL[name]).gymnasium_id)
    env.reset(1)
    for episode in range(3):
        theirs.reset(seed=1)
        theirs.unwrapped.state = env.env_states()[0].astype(STATE_TYPES.get(name))
        for actions in random_actions(env, 1000, seed=episode):
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
    starts = np.random.default_rng(0).uniform(*CORNERS[name], size=env.env_states().shape)
    env.set_env_states(starts)
    check_step(env, their_env(name, **params), actions)
    env.set_env_states(starts)
    outcome = our_step(env, actions)
    for left_out in params:  # each of them does something
        other = NativeEnv(EQUAL[name], 500, **{key: value for key, value in params.items() if key != left_out})
        other.reset(0)
        other.set_env_states(starts)
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
    start = env.env_states()
    correlation = np.corrcoef(start[:, np.ptp(start, axis=0) > 0].T)
    assert np.abs(correlation - np.eye(*correlation.shape) if correlation.ndim else [0]).max() < 5 / np.sqrt(count)


def code_of(env: NativeEnv) -> np.ndarray:
    """The category numbers seen now."""
    return env.observations[:, 0].copy()


def states_of(name: str, codes: np.ndarray, fickle: bool = False) -> np.ndarray:
    """Our states that are seen as these category numbers."""
    if name != "taxi":
        return codes[:, None].astype(float)
    return np.stack([codes // 20, codes // 4 % 5, codes % 4, np.full(len(codes), fickle)], axis=1).astype(float)


def chi_square_fits(counts: np.ndarray, expected: np.ndarray, restrictions: int) -> bool:
    """Pearson's statistic within 4 standard deviations of its mean."""
    assert not counts[expected == 0].any()
    counts, expected = counts[expected > 0], expected[expected > 0]
    freedom = len(counts) - restrictions
    return ((counts - expected)**2 / expected).sum() <= freedom + 4 * np.sqrt(2 * freedom)


def outcomes(table: list[tuple]) -> dict[tuple, float]:
    """(next code, reward, terminated) → probability, of one state and action of Gymnasium's table `P`."""
    merged: dict[tuple, float] = defaultdict(float)
    for probability, code, reward, terminated in table:
        merged[int(code), round(float(reward), 4), bool(terminated)] += probability
    return {outcome: probability for outcome, probability in merged.items() if probability > 0}


@pytest.mark.parametrize(("name", "params", "theirs"), TABLES)
def test_transitions_have_the_probabilities_of_their_table(name: str, params: dict, theirs: dict):
    """From every state with every action, many times: what follows is in the table, and as often as it says."""
    table = gymnasium.make(read_env(FOLDERS[name]).gymnasium_id, **theirs).unwrapped.P
    ends = {s for s in table if all(row == [(1.0, s, 0, True)] for row in table[s].values())}
    pairs = [(s, a) for s in table if s not in ends for a in table[s]]
    wanted = [outcomes(table[s][a]) for s, a in pairs]
    repeats = 1 if all(len(rows) == 1 for rows in wanted) else 100_000 // len(pairs)
    codes, actions = (np.repeat(np.array(column), repeats) for column in zip(*pairs, strict=True))
    env = NativeEnv(FOLDERS[name], len(codes), seed=3, max_episode_steps=0, **params)
    env.reset()
    env.set_env_states(states_of(name, codes))
    assert (code_of(env) == codes).all()
    obs, rewards, terminals, _ = our_step(env, actions.astype(np.int32))
    seen: list[dict] = [dict.fromkeys(rows, 0) for rows in wanted]
    for i, outcome in enumerate(zip(obs[:, 0].tolist(), rewards.tolist(), terminals.tolist(), strict=True)):
        seen[i // repeats][outcome[0], round(outcome[1], 4), outcome[2]] += 1  # KeyError: not in the table
    counts = np.array([n for rows in seen for n in rows.values()])
    expected = repeats * np.array([p for rows in wanted for p in rows.values()])
    if repeats == 1:
        assert (counts == 1).all()
        return
    assert chi_square_fits(counts, expected, len(pairs))
    places = np.array([place for rows in wanted for place in range(len(rows))])  # straight on, to one side, …
    for place, mean in set(zip(places.tolist(), expected.tolist(), strict=True)):  # a small bias shows in the sums
        alike = (places == place) & (expected == mean)
        assert abs((counts - expected)[alike].sum()) < 4 * np.sqrt(mean * alike.sum())


@pytest.mark.parametrize(("name", "params", "theirs"), TABLES[:2] + TABLES[5:6] + TABLES[7:8])
def test_episodes_start_with_the_probabilities_of_their_table(name: str, params: dict, theirs: dict):
    start = gymnasium.make(read_env(FOLDERS[name]).gymnasium_id, **theirs).unwrapped.initial_state_distrib
    env = NativeEnv(FOLDERS[name], 30_000, seed=4, **params)
    env.reset()
    assert chi_square_fits(np.bincount(code_of(env), minlength=len(start)), start * env.num_envs, 1)


@pytest.mark.parametrize(("name", "params", "theirs"), CERTAIN)
def test_whole_episodes_of_certain_tables_agree(name: str, params: dict, theirs: dict):
    """Where nothing is left to chance: half of the actions random, half the expert's, to see every kind of end."""
    env = NativeEnv(FOLDERS[name], seed=1, **params)
    env.reset()
    other = gymnasium.make(read_env(FOLDERS[name]).gymnasium_id, **theirs)
    choices, rng, ends = read_env(FOLDERS[name]).action.nvec[0], np.random.default_rng(0), []
    for share in [0.5] * 20 + [1.0] * (name != "cliffwalking"):  # which random actions alone do not leave
        other.reset(seed=0)
        other.unwrapped.s = int(code_of(env)[0])
        ended = False
        while not ended:
            actions = rng.integers(choices, size=1, dtype=np.int32) if rng.random() < share else env.expert_actions()
            (obs,), (reward,), (terminated,), (truncated,) = our_step(env, actions)
            their_obs, their_reward, their_terminated, their_truncated, _ = other.step(int(actions[0]))
            assert (obs[0], reward, terminated) == (their_obs, their_reward, their_terminated)
            assert truncated == (their_truncated and not their_terminated)
            ended = terminated or truncated
        ends.append((terminated, truncated))
    assert (True, False) in ends
    assert (False, True) in ends or name != "taxi"


def fickle_outcomes(theirs: gymnasium.Env, code: int, action: int) -> dict[tuple, float]:
    """(next code, whether the change of mind is still to come) → probability, for a passenger that will change it."""
    wanted: dict[tuple, float] = defaultdict(float)
    for probability, after, _, _ in theirs.P[code][action]:
        if code // 4 % 5 == 4 and after // 20 != code // 20:  # aboard, and the taxi has moved
            for turn in (1, 2, 3):
                wanted[after - after % 4 + (after + turn) % 4, False] += probability / 3
        else:
            wanted[int(after), True] += probability
    return wanted


def test_fickle_passengers_change_their_mind_as_theirs_do():
    """Ours and Gymnasium's, which is not in its table, against the rule, and how many passengers are fickle."""
    env = NativeEnv(FOLDERS["taxi"], 20_000, seed=2, is_rainy=True, fickle_passenger=True, fickle_probability=0.6)
    env.reset()
    assert abs(env.env_states()[:, 3].mean() - 0.6) < 0.015
    theirs = gymnasium.make("Taxi-v4", is_rainy=True, fickle_passenger=True, fickle_probability=0.6).unwrapped
    theirs.reset(seed=0)
    for code, action in ((176, 0), (256, 2), (176, 4), (258, 3), (101, 3)):
        env.set_env_states(states_of("taxi", np.full(env.num_envs, code), fickle=True))
        env.step(np.full(env.num_envs, action, np.int32))
        ours = list(zip(code_of(env).tolist(), (env.env_states()[:, 3] == 1).tolist(), strict=True))
        other = []
        for _ in range(3000):
            theirs.s, theirs.fickle_step = code, True
            other.append((theirs.step(action)[0], theirs.fickle_step))
        wanted = fickle_outcomes(theirs, code, action)
        for seen in (ours, other):
            assert set(seen) <= set(wanted)
            counts = np.array([seen.count(outcome) for outcome in wanted])
            assert len(wanted) == 1 or chi_square_fits(counts, len(seen) * np.array(list(wanted.values())), 1)
