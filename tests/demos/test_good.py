"""Good rows among mixed demonstrations: which are known to be good, what a classifier finds, and which rows count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import load_demos
from puffer_il.demos.dataset import Demos
from puffer_il.demos.good import WINDOW, join, mark_good, smooth, take_episodes, weigh_by_score
from puffer_il.demos.subset import subsample_rows
from puffer_il.learners.common import row_logits as classifier
from puffer_il.learners.common.row_logits import FOLDS, folds, row_logits
from puffer_il.nn import fused
from tests.support.runs import run, scripted_cartpole_demos, tiny

SPEC = EnvSpec("line", (2,), np.dtype(np.float32), ActionSpec(nvec=(2,)))


@pytest.fixture(autouse=True)
def soon_learned(monkeypatch):
    """What is to be told apart here takes few updates."""
    monkeypatch.setattr(classifier, "UPDATES", 200)


def make(kinds: str, length: int = 40, seed: int = 0, **arrays) -> Demos:
    """An episode for each letter: "g" acts by the sign of the first number seen and returns 1 a step, "b" at random and
    returns 0; "G" acts well and returns 0."""
    rng = np.random.default_rng(seed)
    n = length * len(kinds)
    obs = rng.normal(size=(n, 2)).astype(np.float32)
    kind = np.repeat(list(kinds), length)
    right = (obs[:, 0] > 0).astype(np.int32)
    actions = np.where(kind == "b", rng.integers(2, size=n), right).astype(np.int32)[:, None]
    starts, ends = np.arange(0, n, length), np.zeros(n, bool)
    ends[starts + length - 1] = True
    return Demos(obs, actions, obs, ends, np.zeros(n, bool), starts, (kind == "g").astype(np.float32), **arrays)


def judged(demos: Demos, known) -> Demos:
    return weigh_by_score(demos, known, lambda d, k: row_logits(d, k, SPEC, 1, torch.device("cpu")))


def test_the_best_episodes_are_known_to_be_good():
    demos, known = mark_good(make("bbgbg"), None, 0.4)
    assert known.tolist() == [False, False, True, False, True] and demos.num_episodes == 5
    assert mark_good(make("bbgbg"), None, 0.0)[1].sum() == 1
    with pytest.raises(InputError, match=r"no rewards are stored.*demos\.good"):
        mark_good(replace(make("bg"), rewards=None), None, 0.5)


def test_a_file_of_good_ones_is_learned_from_as_well():
    demos, known = mark_good(replace(make("bG"), rewards=None), make("gg", seed=1), 0.5)
    assert known.tolist() == [True, True, False, False] and demos.rewards is None
    np.testing.assert_array_equal(demos.obs[:80], make("gg", seed=1).obs)


def test_good_rows_that_nobody_marked_are_found(route):
    demos = make("gggggg" + "GGGG" + "b" * 20)
    found = judged(demos, np.arange(30) < 6)
    assert found.weights is None or found.weights.mean() > 0.9
    assert 9 <= found.num_episodes <= 12 and "6 episodes are known to be good" in found.notes[-1]


def test_a_good_stretch_of_an_episode_counts():
    good, bad = make("gggg", 200), make("bbbbbbbb", 200, seed=3)
    half = make("Gb", 200, seed=4)
    joined = replace(half, episode_starts=np.array([0]), terminations=np.r_[np.zeros(399, bool), True])
    demos = join(join(good, bad), joined)
    found = judged(demos, np.arange(demos.num_episodes) < 4)
    last = found.weights[-400:]
    assert last[:200].mean() > 0.8 and last[250:].mean() < 0.2


def test_known_rows_always_count_and_episodes_without_any_are_left_out():
    demos = make("gbb")
    found = weigh_by_score(demos, np.array([True, False, False]), lambda d, k: np.full(len(d), -1.0))
    assert found.num_episodes == 1 and found.weights is None
    np.testing.assert_array_equal(found.obs, demos.obs[:40])
    long = make("gbb", 300)  # the last one begins well
    begins = np.where(np.arange(900) // 100 == 6, 1.0, -1.0)
    found = weigh_by_score(long, np.array([True, False, False]), lambda d, k: begins)
    assert found.num_episodes == 2 and found.weights[:300].all()
    assert found.weights[300:400].all() and not found.weights[410:].any()


def test_where_all_are_good_there_is_nothing_to_tell_apart():
    found = weigh_by_score(make("gg"), np.ones(2, bool), lambda d, k: 1 / 0)
    assert found.weights is None and found.num_episodes == 2


def test_logits_are_averaged_within_episodes():
    values = np.zeros(300)
    values[[100, 250]] = WINDOW
    mean = smooth(values, np.array([0, 200]), np.array([200, 300]))
    assert mean[100] == mean[50] == mean[149] == 1 and mean[49] == mean[151] == 0
    assert mean[200] == WINDOW / (WINDOW // 2 + 1)  # fewer steps at an episode's ends, and none of the one before
    assert mean[199] == 0 and mean[299] == mean[200]


def test_no_network_judges_what_it_has_learned_from():
    demos = make("gggg" + "bbbbb")
    part = folds(demos, np.arange(9) < 4, np.random.default_rng(0)).reshape(9, 40)
    assert (part == part[:, :1]).all() and set(part[:4, 0]) == set(part[4:, 0]) == set(range(FOLDS))
    alone = folds(demos, np.arange(9) < 1, np.random.default_rng(0)).reshape(9, 40)
    assert set(alone[0]) == set(range(FOLDS)) and (np.diff(alone[0]) >= 0).all() and (alone[1:] == alone[1:, :1]).all()


def test_states_alone_are_judged_by_their_successors():
    demos = make("ggggbbbb")
    still = np.repeat(list("ggggbbbb"), 40) == "g"
    moved = replace(demos, actions=None, next_obs=np.where(still[:, None], demos.obs, demos.obs + 2).astype(np.float32))
    logits = row_logits(moved, np.arange(8) < 3, SPEC, 1, torch.device("cpu"))
    assert logits[still].mean() > 0 > logits[~still].mean()


def test_both_routes_judge_alike():
    demos, known = make("ggggbbbb"), np.arange(8) < 4
    found = []
    for on in (True, False):
        fused.enable(on)
        found.append(row_logits(demos, known, SPEC, 1, torch.device("cpu")))
    np.testing.assert_allclose(*found, atol=0.2)


def test_whole_episodes_are_taken_with_all_that_is_known_of_them():
    demos = subsample_rows(make("gbg"), 10)
    some = take_episodes(demos, np.array([True, False, True]))
    assert some.num_episodes == 2 and some.returns.tolist() == [40, 40] and some.whole_lengths.tolist() == [40, 40]
    both = join(some, make("b"))
    assert both.returns.tolist() == [40, 40, 0] and both.whole_lengths.tolist() == [40, 40, 40]
    with pytest.raises(InputError, match=r"obs are .*; give demonstrations of the same environment"):
        join(make("g"), replace(make("g"), obs=np.zeros((40, 3), np.float32), next_obs=np.zeros((40, 3), np.float32)))


def test_the_keys_decide_what_is_known(tmp_path):
    make("gg" + "GG" + "b" * 16).save(tmp_path / "mixed.npz")
    make("gggg", seed=5).save(tmp_path / "good.npz")
    seen = []

    def score(demos, known):
        seen.append((demos.num_episodes, int(known.sum())))
        return np.full(len(demos), -1.0)

    for options in ({}, {"good_share": 0.2}, {"good": str(tmp_path / "good.npz")}):
        load_demos(tmp_path / "mixed.npz", SPEC, weighting="classifier", score=score, **options)
    assert seen == [(20, 1), (20, 4), (24, 4)]


def test_a_run_learns_from_what_the_classifier_leaves(tmp_path):
    demos, good = scripted_cartpole_demos(tmp_path / "d.npz"), scripted_cartpole_demos(tmp_path / "g.npz", 2, seed=9)
    recorder = run(tiny("bc", tmp_path / "run", demos__source=str(demos), demos__weighting="classifier",
                        demos__good=str(good), train__total_steps=400))
    assert any("weighted by classifier: 2 episodes are known to be good" in note for note in recorder.messages)
