"""Episodes weighted by what they returned: golden numbers, ties, and what becomes of the weights on their way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import load_demos, read_demos, spread
from puffer_il.demos.dataset import Demos
from puffer_il.demos.subset import first_episodes, subsample_rows
from puffer_il.demos.weights import LEAST_EPISODES, LEAST_SHARE, WARMTH, adapted, episode_weights, weigh, worth

SPEC = EnvSpec("line", (2,), np.dtype(np.float32), ActionSpec(nvec=(3,)))


def make(returns=(1.0, 5.0, 3.0), length: int = 4, **arrays) -> Demos:
    """Episodes of `length` rows whose first reward is all that they return."""
    n = length * len(returns)
    starts = np.arange(0, n, length)
    rewards, ends = np.zeros(n, np.float32), np.zeros(n, bool)
    rewards[starts], ends[starts + length - 1] = returns, True
    obs = np.arange(2.0 * n, dtype=np.float32).reshape(n, 2)
    following = np.roll(obs, -1, 0)
    return Demos(obs, np.zeros((n, 1), np.int32), following, ends, np.zeros(n, bool), starts, rewards, **arrays)


def test_weights_match_golden_numbers():
    # sd of (1, 5, 3) is sqrt(8 / 3)
    by_return = episode_weights(np.array([1.0, 5.0, 3.0]), "return", 0.5)
    np.testing.assert_allclose(by_return, np.exp([-4 / (0.5 * 1.6329932), 0, -2 / (0.5 * 1.6329932)]), rtol=1e-6)
    by_rank = episode_weights(np.array([1.0, 5.0, 3.0]), "rank", 0.5)
    np.testing.assert_allclose(by_rank, np.exp([-2, 0, -1]), rtol=1e-12)


def test_ranks_of_equal_returns_are_the_mean_of_their_places():
    # places 0, 1.5, 1.5, 3 → 0, ½, ½, 1
    weights = episode_weights(np.array([7.0, 8.0, 8.0, 100.0]), "rank", 1.0)
    np.testing.assert_allclose(weights, np.exp([-1, -0.5, -0.5, 0]), rtol=1e-12)


@pytest.mark.parametrize("kind", ["return", "rank"])
def test_equal_episodes_weigh_the_same(kind):
    assert (episode_weights(np.full(3, 2.0), kind, 0.1) == 1).all()
    weights = weigh(make((2.0, 2.0, 9.0)), kind, 0.3).weights.reshape(3, 4)
    assert (weights == weights[:, :1]).all() and weights[0, 0] == weights[1, 0] < weights[2, 0] == 1


def test_the_coldest_weights_are_still_weights():
    weights = weigh(make((-1e9, 0.0, 1e9)), "return", 1e-3).weights
    assert weights.dtype == np.float32 and (weights > 0).all() and np.isfinite(weights).all()


def test_units_and_shifts_of_the_reward_do_not_matter():
    returns = np.array([1.0, 4.0, 2.0, 8.0])
    for kind in ("return", "rank"):
        np.testing.assert_allclose(episode_weights(returns, kind, 0.2), episode_weights(30 * returns - 7, kind, 0.2),
                                   rtol=1e-9)


def test_the_expert_is_the_weighted_one():
    demos = make((0.0, 100.0))
    assert demos.return_mean == 50
    assert weigh(demos, "rank", 0.2).return_mean == pytest.approx(100 / (1 + np.exp(-5)))
    assert replace(demos, rewards=None).return_mean is None
    short = make((0.0, 100.0), weights=np.repeat(np.float32([1, 3]), 4))
    assert short.return_mean == 75


def test_weights_and_states_travel_with_their_rows(tmp_path):
    n = 12
    demos = make(weights=np.arange(1, n + 1, dtype=np.float32), states=np.arange(3.0 * n).reshape(n, 3))
    demos.save(tmp_path / "d.npz")
    back = read_demos(tmp_path / "d.npz")
    np.testing.assert_array_equal(back.weights, demos.weights)
    np.testing.assert_array_equal(back.states, demos.states)
    assert back.weights.dtype == np.float32 and back.states.dtype == np.float64
    for part in (first_episodes(back, 2), subsample_rows(back, 3, seed=1), load_demos(tmp_path / "d.npz", SPEC)):
        np.testing.assert_array_equal(part.states[:, 0], 3 * (part.weights - 1))
        np.testing.assert_array_equal(part.obs[:, 0], 2 * (part.weights - 1))


def test_the_files_weights_are_taken_unless_others_are_asked_for(tmp_path):
    path = tmp_path / "d.npz"
    make(weights=np.ones(12, np.float32) * 2).save(path)
    assert (load_demos(path, SPEC).weights == 2).all()
    assert load_demos(path, SPEC, weighting="none").weights is None
    hot, cold = (load_demos(path, SPEC, weighting="return", temperature=t) for t in (10.0, 0.1))
    assert hot.weights.min() > 0.7 and cold.weights.min() < 1e-8
    assert any("weighted by return: worth 1.0 of 3 equally weighted episodes" in note for note in cold.notes)


@pytest.mark.parametrize("kind", ["return", "rank"])
def test_a_temperature_of_0_leaves_enough_episodes(kind):
    rng = np.random.default_rng(0)
    for returns in (np.exp(3 * rng.normal(size=100)), np.exp(3 * rng.normal(size=8)), rng.normal(size=1000)):
        n, least = len(returns), max(min(LEAST_EPISODES, len(returns) / 2), LEAST_SHARE * len(returns))
        temperature = adapted(returns, kind)
        found = worth(episode_weights(returns, kind, temperature))
        assert found >= least and (temperature == WARMTH or found == pytest.approx(least, rel=1e-3)), n
    heavy = weigh(make(tuple(np.exp(3 * rng.normal(size=100)))), "return", 0)
    assert "worth 5.0 of 100 equally weighted episodes" in heavy.notes[-1]
    assert worth(episode_weights(heavy.returns, "return", WARMTH)) < 2  # what it was without


def test_a_temperature_of_0_is_0_2_where_that_leaves_enough():
    returns = np.arange(100.0)
    np.testing.assert_array_equal(weigh(make(tuple(returns)), "rank", 0).episode_weights,
                                  np.float32(episode_weights(returns, "rank", WARMTH)))


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(InputError, match=r"no rewards are stored, so demos\.weighting = 'rank' .*; set it to 'none'"):
        weigh(replace(make(), rewards=None), "rank", 1.0)
    wrong = {"a negative one": np.r_[np.ones(11), -1], "all zero": np.zeros(12), "two columns": np.ones((12, 2))}
    for weights in wrong.values():
        with pytest.raises(InputError, match=r"weights have shape \(12.*; give one number per transition, none"):
            make(weights=weights.astype(np.float32))
    with pytest.raises(InputError, match="weights has 5 rows but obs has 12"):
        make(weights=np.ones(5, np.float32))
    with pytest.raises(InputError, match="weights is NaN or infinite in row 3"):
        make(weights=np.where(np.arange(12) == 3, np.nan, 1).astype(np.float32))
    with pytest.raises(InputError, match="states has 1 axes instead of 2"):
        make(states=np.zeros(12))


def test_spread_takes_each_row_as_often_as_its_share():
    assert spread(np.array([1.0, 0.0, 3.0]), 8).tolist() == [0] * 2 + [2] * 6
    assert spread(np.ones(5), 5).tolist() == spread(np.ones(5), 5, 0.99).tolist() == [0, 1, 2, 3, 4]
    counts = np.bincount(spread(np.array([0.31, 0.69]), 10, 0.2), minlength=2)
    assert counts.tolist() in ([3, 7], [4, 6])
