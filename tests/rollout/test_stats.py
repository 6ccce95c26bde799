"""Statistics: numbers worked by hand, and intervals that cover what they claim to."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.rollout import stats
from puffer_il.rollout.stats import bootstrap_ci, iqm, mean_ci, normalized, stratified_bootstrap_ci, unscored


@pytest.mark.parametrize(("scores", "expected"), [
    ([3.0], 3.0), ([1.0, 2.0, 6.0], 3.0), ([1.0, 2.0, 4.0, 100.0], 3.0), ([9.0, 0.0, 5.0, 1.0, 6.0], 4.0),
    (list(range(10)), 4.5), ([-1e9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e9], 3.5)])
def test_interquartile_mean_by_hand(scores: list[float], expected: float) -> None:
    assert iqm(np.array(scores)) == expected
    assert iqm(np.random.default_rng(0).permutation(scores)) == expected


def test_interquartile_mean_along_an_axis() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 8, 5))
    expected = [[iqm(scores[i, :, j]) for j in range(5)] for i in range(3)]
    np.testing.assert_allclose(iqm(scores, axis=1), expected)
    assert iqm(scores) == iqm(scores.ravel())


def test_interval_of_equal_values_is_that_value() -> None:
    assert bootstrap_ci(np.full(10, 3.0)) == (3, 3)
    assert bootstrap_ci(np.array([500])) == (500, 500)


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = np.array([bootstrap_ci(rng.normal(7, 2, size=40), confidence=0.9, samples=300) for _ in range(400)])
    covered = ((intervals[:, 0] <= 7) & (intervals[:, 1] >= 7)).mean()
    assert 0.85 <= covered <= 0.94  # the percentile interval is a little short at 40 values


def test_interval_of_a_mean_is_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    np.testing.assert_allclose(bootstrap_ci(values), (values.mean() - half, values.mean() + half), atol=0.1 * half)


def test_interval_takes_a_statistic_a_confidence_and_a_generator() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    low, high = bootstrap_ci(values, np.median)
    assert low < np.median(values) < high < values.mean() + 1
    wide, narrow = bootstrap_ci(values, confidence=0.99), bootstrap_ci(values, confidence=0.5)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]
    assert bootstrap_ci(values) == bootstrap_ci(values) != bootstrap_ci(values, rng=np.random.default_rng(1))


def test_strata_keep_the_difference_between_tasks_out_of_the_interval() -> None:
    scores = np.array([0.0, 100.0]) + np.zeros((5, 2))
    assert stratified_bootstrap_ci(scores, np.mean) == (50, 50)
    low, high = bootstrap_ci(scores.ravel())
    assert high - low > 20


def test_stratified_interval_around_the_interquartile_mean() -> None:
    scores = np.random.default_rng(0).normal(0.9, 0.1, size=(10, 6))
    low, high = stratified_bootstrap_ci(scores)
    assert low < iqm(scores) < high
    assert high - low < 0.1


def test_interval_does_not_depend_on_how_much_is_drawn_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=20)
    whole = bootstrap_ci(values, samples=101)
    monkeypatch.setattr(stats, "MAX_DRAWN", 7 * 20)
    assert bootstrap_ci(values, samples=101) == whole


def test_normalized_score() -> None:
    assert normalized(0.0, 0.0, 500.0) == 0
    assert normalized(500.0, 0.0, 500.0) == 1
    assert normalized(-98.0, -200.0, -98.0) == 1
    assert normalized(475.0, 22.0, 500.0) == pytest.approx(453 / 478)
    assert normalized(600.0, 0.0, 500.0) == 1.2


@pytest.mark.parametrize(("random", "expert"), [(None, 500.0), (20.0, None), (20.0, 20.0)])
def test_no_score_where_it_would_say_nothing(random: float | None, expert: float | None) -> None:
    assert normalized(30.0, random, expert) is None


def test_without_a_better_expert_there_is_no_score_and_a_line_says_why() -> None:
    for expert, told in ((22.0, "the same as"), (9.2, "less than")):
        assert normalized(15.0, 22.0, expert) is None
        assert told in (line := unscored(22.0, expert)) and "\n" not in line and "22" in line
    assert unscored(22.0, 500.0) == unscored(None, 9.2) == unscored(22.0, None) == ""
    assert normalized(15.0, None, 9.2) is normalized(15.0, 22.0, None) is None


# Agents of one episode depend on each other

def test_identical_agents_tell_no_more_than_one() -> None:
    """Taken for independent, n equal values a cluster make the interval √n times too narrow."""
    values = np.random.default_rng(0).normal(size=100)
    for agents in (2, 4):
        told = mean_ci(np.repeat(values, agents), np.repeat(np.arange(100), agents))
        assert told == bootstrap_ci(values)
        narrow = bootstrap_ci(np.repeat(values, agents))
        assert (told[1] - told[0]) / (narrow[1] - narrow[0]) == pytest.approx(np.sqrt(agents), rel=0.1)


@pytest.mark.parametrize("uneven", [False, True])
def test_interval_over_clusters_covers_the_true_mean_as_often_as_it_says(uneven: bool) -> None:
    """Returns of 40 episodes of up to 4 agents, half of whose spread is their episode's."""
    rng = np.random.default_rng(0)
    covered = np.zeros((120, 2), bool)
    for trial in range(120):
        sizes = rng.integers(1, 5, 40) if uneven else np.full(40, 4)
        clusters = np.repeat(np.arange(40), sizes)
        values = 7 + rng.normal(size=40)[clusters] + rng.normal(size=len(clusters))
        for k, (low, high) in enumerate((mean_ci(values, clusters), mean_ci(values))):
            covered[trial, k] = low <= 7 <= high
    assert 0.90 <= covered[:, 0].mean() <= 0.99 and covered[:, 1].mean() < 0.86


def test_the_interval_is_around_the_mean_of_all_values_however_large_their_clusters_are() -> None:
    clusters = np.repeat(np.arange(30), np.arange(30) % 3 + 1)
    values = clusters % 3 * 10.0 + np.random.default_rng(0).normal(size=len(clusters))
    low, high = mean_ci(values, clusters)
    assert low < values.mean() < high
    assert mean_ci(values, np.arange(len(values))) == mean_ci(values) == bootstrap_ci(values)


def test_a_single_episode_has_no_interval() -> None:
    assert mean_ci(np.array([3.0])) is None
    assert mean_ci(np.array([3.0, 4.0]), np.zeros(2, int)) is None
