"""What the docs claim of GAIL's kin: the expert's level from ten demonstrations, without actions where none are needed,
and never a balanced pole from demonstrations that drop it. `make quality`.

Figures of seeds 1 to 5, CartPole from the shipped demonstrations and pendulum from the first ten of other people's
(expert 500 and −189), are in docs/algorithms.md.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from puffer_il.demos import collect, read_demos
from puffer_il.demos.subset import first_episodes
from puffer_il.learners.experiment import build, experiment_layers
from puffer_il.learners.registry import get_learner
from puffer_il.native.catalogue import env_folders
from puffer_il.vector.vec import make_vec
from tests.support.quality import SEEDS, train
from tests.support.runs import run

pytestmark = pytest.mark.slow
KIN = ("gaifo", "amp", "mm", "red", "pwil")
STEPS = 500_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kin")


def as_the_learner_needs_them(algo, demos, folder):
    """A file of demonstrations, without actions where the learner claims to need none."""
    path = folder / f"{algo}.npz"
    (demos if get_learner(algo).needs_actions else dataclasses.replace(demos, actions=None)).save(path)
    return path


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("algo", KIN)
def test_cartpole_from_the_shipped_demonstrations(algo, seed, tmp_path):
    demos = as_the_learner_needs_them(algo, read_demos(env_folders()["cartpole"] / "demos" / "expert.npz"), tmp_path)
    summary, _ = train(algo, "cartpole", seed, tmp_path, "--demos", demos)
    assert summary["demos"]["episodes"] == 10 and summary["eval"]["normalized"] >= 0.95


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("algo", KIN)
def test_pendulum_from_ten_of_other_peoples_demonstrations(algo, seed, tmp_path, test_data):
    demos = first_episodes(read_demos(test_data / "imitation_testdata" / "pendulum_0_final.npz"), 10)
    summary, _ = train(algo, "pendulum", seed, tmp_path, "--demos", as_the_learner_needs_them(algo, demos, tmp_path))
    assert summary["demos"]["episodes"] == 10 and summary["eval"]["normalized"] >= 0.95


@pytest.mark.parametrize("seed", SEEDS)
def test_red_on_pendulum_from_the_shipped_demonstrations(seed, tmp_path):
    """They stand still at the top for four rows of five, so that what is near them is a hundred times nearer than from
    other people's."""
    summary, _ = train("red", "pendulum", seed, tmp_path)
    assert summary["demos"]["episodes"] == 10 and summary["eval"]["normalized"] >= 0.95


def test_red_as_published_does_not_find_the_way_up_from_them(tmp_path):
    """A reward that is 0 almost everywhere: the failure that red.form = "log" is for."""
    scores = [train("red", "pendulum", seed, tmp_path, "--red.form", "exp")[0]["eval"]["normalized"]
              for seed in (11, 12, 13)]
    print(f"\nred, form exp, shipped pendulum demonstrations: {np.round(scores, 2)}")
    assert np.mean(scores) < 0.8


@pytest.mark.parametrize(("loss", "reward"), [("least_squares", "least_squares"), ("least_squares", "logit"),
                                              ("wasserstein", "logit")])
@pytest.mark.parametrize("seed", SEEDS)
def test_gail_on_cartpole_with_every_loss(loss, reward, seed, tmp_path):
    # The experiment's strong entropy bonus holds scores near 0, where the squared reward tells little apart.
    entropy = ("--gail.disc_ent_coef", 1e-3) if reward == "least_squares" else ()
    summary, _ = train("gail", "cartpole", seed, tmp_path, "--gail.loss", loss, "--gail.reward", reward, *entropy)
    assert summary["eval"]["normalized"] >= 0.95


@pytest.fixture(scope="module")
def do_nothing(folder):
    with make_vec("cartpole", num_envs=20) as vec:
        return collect(vec, lambda obs, starts: np.zeros((len(obs), 1), np.int32), 200, "left")


def best_return(algo, demos, folder, **keys) -> float:
    """The best evaluation during a run of the default experiment on demonstrations that always push to the left."""
    assert demos.returns.max() < 15
    source = str(as_the_learner_needs_them(algo, demos, folder))
    tables = {"env": {"name": "cartpole"}, "demos": {"source": source}, algo: keys,
              "train": {"total_steps": STEPS, "stop_at_expert": 0, "run_dir": str(folder / "run")}}
    recorder = run(build(algo, [*experiment_layers(algo, "cartpole"), ("control", tables)]))
    best = max(m["eval/return_mean"] for m in recorder.metrics if "eval/return_mean" in m)
    print(f"\n{algo}, do-nothing demonstrations, {keys}: best return {best:.1f}")
    return best


@pytest.mark.parametrize("algo", KIN)
def test_a_policy_that_does_nothing_is_imitated_and_the_pole_falls(algo, do_nothing, tmp_path):
    assert best_return(algo, do_nothing, tmp_path) < 100


@pytest.mark.parametrize(("algo", "keys"), [("amp", {"absorbing": False}), ("red", {"absorbing": False}),
                                            ("pwil", {"horizon": 500})])
def test_a_reward_that_is_never_negative_balances_it_once_death_costs(algo, keys, do_nothing, tmp_path):
    """The failure itself: without it the control above would control nothing."""
    assert best_return(algo, do_nothing, tmp_path, **keys) > 100
