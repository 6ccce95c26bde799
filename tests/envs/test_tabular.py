"""Environments of tables against exact solutions: random MDPs, the gridworld, ICU-Sepsis and its published values."""

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.demos import collect
from puffer_il.learners import experiment
from puffer_il.learners.bc import BC
from puffer_il.learners.common.policy_tables import log_likelihood, policy_divergence, report, tabulate, total_variation
from puffer_il.native import tabular
from puffer_il.native.envdata import open_env
from puffer_il.native.native_env import NativeEnv
from puffer_il.native.tabular import MDP
from puffer_il.vector.vec import make_vec
from tests.support.environments import FOLDERS, random_actions, record, same_bytes
from tests.support.mdps import greedy, policy_value, uniform


def random_arrays(seed: int, states: int = 7, actions: int = 3) -> dict[str, np.ndarray]:
    """An MDP with rows of one to all successors; the last state is terminal, and the first row never leads there."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(states), (states, actions)) * (rng.random((states, actions, states)) < 0.6)
    transitions[..., 0] += 0.02
    transitions[0, 0] = np.eye(states)[1]
    transitions /= transitions.sum(2, keepdims=True)
    transitions[-1] = np.eye(states)[-1]
    rewards = rng.normal(size=transitions.shape)
    rewards[-1] = 0
    return {"transitions": transitions, "rewards": rewards, "initial": np.append(rng.dirichlet(np.ones(states - 1)), 0)}


def random_policy(seed: int, states: int = 7, actions: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(actions), states)


def made(arrays: dict[str, np.ndarray], num_envs: int = 1, **options) -> NativeEnv:
    env = NativeEnv(FOLDERS["mdp"], num_envs, **arrays, **options)
    env.reset(3)
    return env


def of(env: str, **options) -> tuple[MDP, np.ndarray]:
    """The MDP and the expert of an environment."""
    return tabular.read_tables(open_env(FOLDERS[env], options)[2])


def play(env: NativeEnv, actions, steps: int) -> tuple[np.ndarray, ...]:
    """Columns state, action, next state, reward, terminated of every step of `actions()`, and the returns of each
    environment's first episode, which must end meanwhile: others would be short ones."""
    rows, returns, going = [], np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    for _ in range(steps):
        taken, before = actions(), env.observations[:, 0].copy()
        env.step(taken)
        ended = env.terminals | env.truncations
        after = np.where(ended, env.final_observations[:, 0], env.observations[:, 0])
        rows.append(np.stack([before, taken, after, env.rewards, env.terminals]))
        returns += env.rewards * going
        going &= ~ended
    assert not going.any()
    return (*np.concatenate(rows, 1), returns)


def assert_frequencies(counts: np.ndarray, probabilities: np.ndarray) -> None:
    """What is impossible never happens, the rest within five standard deviations."""
    expected = counts.sum(-1, keepdims=True) * probabilities
    assert not counts[probabilities == 0].any()
    spread = np.sqrt(np.maximum(expected * (1 - probabilities), 1))
    assert (abs(counts - expected) < 5 * spread).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_steps_happen_as_often_as_the_table_says(seed: int):
    arrays = random_arrays(seed)
    mdp = MDP(**arrays)
    env = made(arrays, 2000, max_episode_steps=25)
    rng = np.random.default_rng(seed)
    assert_frequencies(np.bincount(env.observations[:, 0], minlength=7), mdp.initial)
    state, action, after, reward, ended, _ = play(env, lambda: rng.integers(0, 3, 2000, dtype=np.int32), 100)
    s, a, t = (x.astype(int) for x in (state, action, after))
    counts = np.zeros(mdp.transitions.shape)
    np.add.at(counts, (s, a, t), 1)
    assert_frequencies(counts, mdp.transitions)
    assert (counts[:-1].sum(2) > 300).all()
    assert (reward == mdp.rewards[s, a, t].astype(np.float32)).all()
    assert (ended == (t == 6)).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("given", [True, False], ids=["given", "optimal"])
def test_the_expert_earns_what_its_policy_is_worth(seed: int, given: bool):
    arrays, horizon = random_arrays(seed), 20
    mdp = MDP(**arrays)
    policy = random_policy(seed) if given else tabular.optimal_policy(mdp, 0.9)[0]
    env = made(arrays | ({"expert": policy} if given else {}), 2000, gamma=0.9, max_episode_steps=horizon)
    state, action, *_, returns = play(env, env.expert_actions, 60)
    counts = np.zeros(policy.shape)
    np.add.at(counts, (state.astype(int), action.astype(int)), 1)
    assert_frequencies(counts[:-1], policy[:-1])
    exact, error = policy_value(mdp, policy, horizon=horizon), returns.std() / np.sqrt(len(returns))
    assert abs(returns.mean() - exact) < 4 * error < 0.1 * (1 + returns.std())
    assert made(arrays, 500, gamma=0.9).env_file.action.nvec == (3,)


def test_tables_come_back_as_they_were_given():
    for seed in range(5):
        arrays, expert = random_arrays(seed), random_policy(seed)
        mdp, back = tabular.read_tables(open_env(FOLDERS["mdp"], arrays | {"expert": expert})[2])
        for name, value in (arrays | {"terminal": np.arange(7) == 6}).items():
            known = arrays["transitions"] > 0 if name == "rewards" else ...
            assert np.allclose(getattr(mdp, name)[known], value[known], rtol=0, atol=1e-14)
        assert np.allclose(back[:-1], expert[:-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", ["state", "action"])
def test_rewards_of_states_and_actions_are_those_of_the_state_acted_in(shape: str):
    arrays = random_arrays(4)
    short = random_arrays(5)["rewards"][:, 0, 0] if shape == "state" else random_arrays(5)["rewards"][:, :, 0]
    whole = np.broadcast_to(short.reshape(7, -1, 1), arrays["transitions"].shape)
    envs = [made(arrays | {"rewards": rewards}, 8) for rewards in (short, whole)]
    assert same_bytes(*(record(env, random_actions(env, 50)) for env in envs))


def test_values_are_those_of_every_policy_and_the_best_is_the_best():
    """All 3^3 deterministic policies of a small MDP, their values by iteration to the end."""
    for seed in range(4):
        mdp = MDP(**random_arrays(seed, 4))
        best, values = tabular.optimal_policy(mdp, 0.9)
        worth = []
        for actions in itertools.product(range(3), repeat=3):
            policy, v = np.eye(3)[[*actions, 0]], np.zeros(4)
            for _ in range(400):
                v = np.einsum("sa,sat,sat->s", policy, mdp.transitions, mdp.rewards + 0.9 * v) * mdp.going
            assert np.allclose(tabular.state_values(mdp, policy, 0.9), v)
            assert policy_value(mdp, policy, 0.9) == pytest.approx(mdp.initial @ v)
            worth.append(v)
        assert np.allclose(values, np.max(worth, 0)) and np.allclose(tabular.state_values(mdp, best, 0.9), values)


def test_occupancies_with_and_without_an_end():
    mdp, policy = MDP(**random_arrays(1)), random_policy(1)
    assert np.allclose(tabular.occupancy(mdp, policy), tabular.occupancy(mdp, policy, horizon=3000))
    assert np.allclose(tabular.occupancy(mdp, policy, 0.8), tabular.occupancy(mdp, policy, 0.8, 300))
    assert tabular.occupancy(mdp, policy, horizon=1) == pytest.approx(mdp.initial[:, None] * policy)
    assert tabular.mean_length(mdp, policy, 5) < 5 and tabular.occupancy(mdp, policy)[-1].sum() == 0
    endless = MDP(np.ones((1, 1, 1)), np.ones(1), np.ones(1))
    assert policy_value(endless, np.ones((1, 1)), 0.9) == pytest.approx(10)
    assert policy_value(endless, np.ones((1, 1)), horizon=7) == pytest.approx(7)
    with pytest.raises(InputError, match="never end; give a gamma below 1"):
        policy_value(endless, np.ones((1, 1)))
    with pytest.raises(InputError, match="does not converge with gamma = 1"):
        tabular.optimal_policy(endless)


def test_divergence_likelihood_and_distance_by_hand():
    expert, policy = np.array([[0.5, 0.5], [1, 0]]), np.array([[0.25, 0.75], [1, 0]])
    kl = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert policy_divergence(policy, expert, np.array([1, 3])) == pytest.approx(kl / 4)
    assert policy_divergence(expert, expert, np.ones(2)) == 0
    assert policy_divergence(greedy(expert), expert, np.ones(2)) == np.inf
    assert policy_divergence(greedy(expert), expert, np.array([0, 1])) == 0
    assert total_variation(np.array([[2, 0], [0, 2]]), np.array([[1, 1], [0, 0]])) == pytest.approx(0.5)


def test_a_file_is_as_good_as_arrays(tmp_path: Path):
    arrays = random_arrays(2) | {"expert": random_policy(2)}
    np.savez(tmp_path / "mdp.npz", **arrays)
    steps = []
    for kwargs in (arrays, {"file": str(tmp_path / "mdp.npz")}):
        with make_vec("mdp", num_envs=4, kwargs=kwargs) as vec:
            vec.reset(2)
            steps.append([vec.step(vec.expert_actions()).obs.tobytes() for _ in range(30)])
    assert steps[0] == steps[1]


@pytest.mark.parametrize(("changes", "message"), [
    ({"transitions": np.ones((7, 3))}, r"transitions has shape \(7, 3\); it must be \(states, actions, states\)"),
    ({"transitions": random_arrays(0)["transitions"] * 1.1}, r"transitions sums to 1.1 at \[0, 0\]"),
    ({"transitions": np.full((7, 3, 7), np.nan)}, r"transitions holds NaN or infinity at \[0, 0, 0\]"),
    ({"transitions": np.eye(7)[:, None] * 2 - 1 / 7 * np.ones((7, 3, 7))}, "transitions is -0.143 at"),
    ({"rewards": np.ones((3, 7))}, r"rewards has shape \(3, 7\); it must be \(7,\), \(7, 3\) or \(7, 3, 7\)"),
    ({"initial": np.ones(7)}, "initial sums to 7; the probabilities"),
    ({"initial": np.ones(6) / 6}, r"initial has shape \(6,\); it must be \(7,\)"),
    ({"initial": np.eye(7)[6]}, "initial gives 1 to terminal states"),
    ({"terminal": np.zeros(6, bool)}, r"terminal has shape \(6,\)"),
    ({"expert": np.ones((7, 3))}, r"expert sums to 3 at \[0\]"),
    ({"places": np.ones(7)}, "places must be 7 whole numbers"),
    ({"values": np.ones(7)}, "values follows from the other arrays; leave it out"),
    ({"num_states": 8}, "num_states = 8, but the arrays have 7; leave it out"),
    ({"rewards": None}, "the array rewards is missing; an MDP has transitions, rewards, initial"),
    ({"file": "a.npz"}, "a.npz: transitions, rewards, initial are given beside a file"),
])
def test_wrong_arrays_are_named_in_one_line(changes: dict, message: str):
    arrays = {name: value for name, value in (random_arrays(0) | changes).items() if value is not None}
    with pytest.raises(InputError, match=message) as error:
        NativeEnv(FOLDERS["mdp"], **arrays)
    assert "\n" not in str(error.value)


def test_wrong_files_are_named_in_one_line(tmp_path: Path):
    np.savez(tmp_path / "odd.npz", **random_arrays(0), gravity=1)
    (tmp_path / "text.npz").write_text("no archive")
    for file, message in (("odd.npz", "unknown array 'gravity'"), ("text.npz", "cannot be read"),
                          ("none.npz", "cannot be read")):
        with pytest.raises(InputError, match=f"{file}: {message}"):
            NativeEnv(FOLDERS["mdp"], file=str(tmp_path / file))


def test_states_that_keep_one_for_ever_without_a_reward_are_terminal():
    transitions = np.stack([np.eye(3)[[1, 1, 2]], np.eye(3)[[2, 1, 2]]], 1)
    mdp = MDP(transitions, np.array([1.0, 0.0, 1.0]), np.eye(3)[0])
    assert mdp.terminal.tolist() == [False, True, False]
    assert MDP(transitions, np.ones(3), np.eye(3)[0]).terminal.sum() == 0


def test_the_gridworld_can_be_solved():
    mdp, expert = of("mdp")
    best = policy_value(mdp, tabular.optimal_policy(mdp)[0])
    assert policy_value(mdp, expert) == pytest.approx(best, abs=0.01)
    assert best > 0.5 and policy_value(mdp, uniform(mdp)) < -1


# ICU-Sepsis: without the package its data, where they are, stand in for it.

@pytest.fixture(scope="module")
def icu(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("icu_sepsis") is None:
            assets = tmp_path_factory.mktemp("packages") / "icu_sepsis" / "envs" / "assets"
            assets.parent.mkdir(parents=True)
            assets.symlink_to(test_data / "icu_sepsis")
            (assets.parents[1] / "__init__.py").touch()
            patch.syspath_prepend(assets.parents[2])
        yield FOLDERS["icusepsis"]


@pytest.fixture(scope="module")
def sepsis(icu: Path) -> tuple[MDP, np.ndarray]:
    return of("icusepsis")


def test_values_of_icu_sepsis_are_the_published_ones(sepsis: tuple[MDP, np.ndarray]):
    mdp, clinicians = sepsis
    worst = tabular.optimal_policy(MDP(mdp.transitions, -mdp.rewards, mdp.initial, mdp.terminal))[0]
    known = {"random": (uniform(mdp), 0.7801, 9.46), "clinicians": (clinicians, 0.7818, 9.24),
             "greedy": (greedy(clinicians), 0.7868, None), "worst": (worst, 0.6330, None),
             "best": (tabular.optimal_policy(mdp)[0], 0.8751, 10.99)}
    for policy, value, length in known.values():
        assert policy_value(mdp, policy) == pytest.approx(value, abs=1e-4)
        assert length is None or tabular.mean_length(mdp, policy) == pytest.approx(length, abs=0.01)


def test_patients_fare_as_the_table_says(icu: Path, sepsis: tuple[MDP, np.ndarray]):
    mdp, clinicians = sepsis
    env, rng = NativeEnv(icu, 4000, max_episode_steps=60), np.random.default_rng(0)
    for policy, act in ((clinicians, env.expert_actions),
                        (uniform(mdp), lambda: rng.integers(0, 25, 4000, dtype=np.int32))):
        env.reset(1)
        state, action, after, reward, ended, returns = play(env, act, 60)
        s, a, t = (x.astype(int) for x in (state, action, after))
        error = returns.std() / np.sqrt(len(returns))
        assert abs(returns.mean() - policy_value(mdp, policy, horizon=60)) < 4 * error < 0.03
        assert set(np.unique(returns)) == {0, 1}
        assert (reward == (t == 714)).all() and (ended == (t >= 713)).all()
        assert (mdp.transitions[s, a, t] > 0).all() and (policy[s, a] > 0).all()
        counts = np.zeros((716, 716))
        np.add.at(counts, (s, t), 1)
        expected = counts.sum(1)[:, None] * mdp.moves(policy)
        assert counts.max() > 100
        assert (abs(counts - expected)[:, :713] < 6 * np.sqrt(np.maximum(expected, 2)[:, :713])).all()


def test_equal_to_the_package(icu: Path):
    try:
        from icu_sepsis.envs import ICUSepsisEnv
    except ImportError as error:
        pytest.skip(f"pip install icu-sepsis ({error})")
    theirs = ICUSepsisEnv()
    for strategy in ("mean", "terminate"):
        mdp, clinicians = of("icusepsis", inadmissible=strategy)
        expected = theirs.dynamics["tx_mat"].copy()
        if strategy == "terminate":
            for state, actions in enumerate(theirs.dynamics["admissible_actions"]):
                expected[state, np.setdiff1d(np.arange(25), actions)] = np.eye(716)[713]
        assert np.allclose(mdp.transitions, expected, rtol=0, atol=1e-14)
        there = mdp.transitions > 0
        assert (mdp.rewards[there] == theirs.dynamics["r_mat"][there]).all()
        assert np.allclose(mdp.initial, theirs.dynamics["d_0"])
        assert np.allclose(clinicians[:713], theirs.expert_policy[:713], rtol=0, atol=1e-14)
        env = ICUSepsisEnv(inadmissible_action_strategy=strategy, seed=0)
        rng, counts = np.random.default_rng(0), np.zeros((2, 716))
        for _ in range(400):
            state, ended = env.reset()[0], False
            while not ended:
                action = rng.integers(25)
                after, reward, ended, *_ = env.step(np.array(divmod(action, 5)))
                assert mdp.transitions[state, action, after] > 0
                assert reward == mdp.rewards[state, action, after] and ended == mdp.terminal[after]
                counts[0, after] += 1
                counts[1] += mdp.transitions[state, action]
                state = after
        assert (abs(counts[0] - counts[1]) < 6 * np.sqrt(np.maximum(counts[1], 2))).all()


def test_inadmissible_actions_can_be_deadly(icu: Path, sepsis: tuple[MDP, np.ndarray]):
    """The clinicians take some of them too."""
    mdp, clinicians = of("icusepsis", inadmissible="terminate")
    random, own = (policy_value(mdp, policy) for policy in (uniform(mdp), clinicians))
    assert random < 0.2 < own < 0.5 < policy_value(*sepsis)


def test_cloning_comes_close_to_the_clinicians(icu: Path, sepsis: tuple[MDP, np.ndarray]):
    mdp, clinicians = sepsis
    with make_vec("icusepsis", num_envs=100) as vec:
        demos, held_out = (collect(vec, lambda *_: vec.expert_actions(), 1000, "clinicians", seed=s) for s in (1, 2))
        assert log_likelihood(clinicians, demos) == pytest.approx(-1.44, abs=0.04)
        settings = experiment.build("bc", [("test", {"policy": {"hidden": [64]}, "bc": {"learning_rate": 5e-3}})])
        torch.manual_seed(1)
        learner = BC(vec.spec, demos, settings, torch.device("cpu"), 1)
    for _ in range(8):
        learner.update(None, 0.0)
    learner.finish()
    cloned = tabulate(learner.policy)
    assert cloned.shape == (716, 25) and np.allclose(cloned.sum(1), 1)
    scores = report(mdp, {"cloned": cloned, "random": uniform(mdp), "clinicians": clinicians,
                                  "greedy": greedy(clinicians)}, clinicians, held_out)
    cloned_scores = scores["cloned"]
    assert cloned_scores["kl"] < 0.2 < 1.7 < scores["random"]["kl"] and scores["greedy"]["kl"] == np.inf
    assert cloned_scores["occupancy_tv"] < 0.2 < 0.5 < scores["greedy"]["occupancy_tv"]
    assert -1.7 < cloned_scores["log_likelihood"] < scores["clinicians"]["log_likelihood"]
    assert scores["random"]["log_likelihood"] == pytest.approx(-np.log(25))
    assert abs(cloned_scores["return"] - scores["clinicians"]["return"]) < 0.01


def test_only_policies_between_two_categories_have_a_table():
    with make_vec("cartpole", num_envs=1) as vec:
        from puffer_il.nn.policy import Policy

        with pytest.raises(InputError, match="from one category to one discrete action"):
            tabulate(Policy(vec.spec, experiment.build("bc", []).policy))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install icu-sepsis"):
        NativeEnv(FOLDERS["icusepsis"], max_episode_steps=77)
    with pytest.raises(InputError, match="cannot be read"):
        NativeEnv(FOLDERS["icusepsis"], file="nowhere.npz")
