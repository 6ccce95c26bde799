"""DAgger: schedules, who acts, what is learned from, and that a stopped run goes on to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec
from puffer_il.learners.dagger import DAgger, DAggerConfig, action_gap, expert_share
from puffer_il.learners.experiment import build
from puffer_il.rollout.buffer import RolloutBuffer
from tests.support.rollouts import SPEC, make_buffer, sign_demos
from tests.support.runs import final_state, run, same_state, scripted_cartpole_demos, tiny

CPU = torch.device("cpu")
SHARES = {  # β of the first rollouts, by hand
    "first": ({}, [1, 0, 0, 0, 0]),
    "exponential": ({"decay": 0.5}, [1, 0.5, 0.25, 0.125, 0.0625]),
    "linear": ({"rampdown": 4}, [1, 0.75, 0.5, 0.25, 0]),
    "constant": ({"beta": 0.3}, [0.3] * 5),
    "exponential ": ({"beta": 0.8, "decay": 0.25}, [0.8, 0.2, 0.05, 0.0125, 0.003125]),
    "linear ": ({"beta": 0.4, "rampdown": 2}, [0.4, 0.2, 0, 0, 0]),
}


@pytest.mark.parametrize("name", SHARES)
def test_schedules_by_hand(name):
    options, expected = SHARES[name]
    config = DAggerConfig(schedule=name.strip(), **options)
    assert [expert_share(config, i) for i in range(5)] == pytest.approx(expected, abs=1e-15)


def make(demos=None, **dagger) -> DAgger:
    torch.manual_seed(0)
    tables = {"dagger": {"epochs": 2} | dagger, "policy": {"hidden": [8]}, "env": {"num_envs": 6}}
    return DAgger(SPEC, demos, build("dagger", [("test", tables)]), CPU, 0)


def labelled(labels: np.ndarray | None = None, **shape) -> RolloutBuffer:
    """A made-up rollout beside which an expert says the sign of the first observation."""
    buffer = make_buffer(**shape)
    object.__setattr__(buffer, "expert_actions", (buffer.obs[..., :1] > 0).astype(np.int32))
    return buffer


@pytest.mark.parametrize("mix", ["step", "episode"])
def test_the_expert_acts_as_often_as_beta_says(mix):
    learner = make(schedule="constant", beta=0.3, mix=mix)
    own, expert = np.zeros((6, 1), np.int32), np.ones((6, 1), np.int32)
    starts = np.zeros((4000, 6), bool)
    starts[::10] = True
    done = np.array([learner.mix(own, expert, s, slice(0, 6), None)[:, 0] for s in starts])
    assert done.mean() == pytest.approx(0.3, abs=0.03)
    episodes = done.reshape(400, 10, 6)
    whole = (episodes == episodes[:, :1]).all(1)
    assert whole.all() if mix == "episode" else whole.mean() < 0.1


def test_turns_of_a_group_are_its_own():
    learner = make(schedule="constant", beta=0.5, mix="episode")
    own, expert = np.zeros((3, 1), np.int32), np.ones((3, 1), np.int32)
    first = [learner.mix(own, expert, np.ones(3, bool), rows, None) for rows in (slice(0, 3), slice(3, 6))]
    for _ in range(5):
        for before, rows in zip(first, (slice(0, 3), slice(3, 6)), strict=True):
            np.testing.assert_array_equal(learner.mix(own, expert, np.zeros(3, bool), rows, None), before)
    assert 0 < sum(map(np.sum, first)) < 6


def test_it_learns_every_label_so_far_and_says_how_far_it_was_off():
    learner = make(epochs=60)
    assert (learner.expert_acts, learner.policy_acts) == (True, False)
    for i in range(4):
        buffer = labelled(num_steps=40, invalid=True, seed=i)
        metrics = learner.update(buffer, 0.0)
        assert (learner.expert_acts, learner.policy_acts) == (False, True)
        assert metrics["dagger/beta"] == (i == 0)
        assert metrics["dagger/rows"] == (i + 1) * (40 * 6 - 20) == len(learner.bc.train) + len(learner.bc.held_out)
        wrong = (buffer.actions != buffer.expert_actions)[buffer.valid].mean()
        assert metrics["dagger/gap"] == pytest.approx(wrong)
    assert metrics["bc/accuracy"] > 0.97
    obs, labels, *_ = learner.data.rows()
    np.testing.assert_array_equal(labels, obs[:, :1] > 0)  # rows that are not valid are not among them
    rows = torch.cat((learner.bc.train.chosen_obs(), learner.bc.held_out.chosen_obs()))
    assert {row.numpy().tobytes() for row in rows} == {row.tobytes() for row in obs}


def test_demonstrations_stand_for_the_first_rollout():
    learner = make(sign_demos(40), epochs=100)
    assert learner.iteration == 1 and learner.beta == 0 and len(learner.data) == 40
    obs = torch.tensor(sign_demos(40).obs)
    with torch.no_grad():
        modes = learner.policy.dist.mode(learner.policy.action_params(obs))
    assert (modes == (obs[:, :1] > 0)).float().mean() > 0.9
    learner.update(labelled(), 0.0)
    assert len(learner.data) == 40 + 8 * 6


def test_the_gap_by_hand():
    assert action_gap(np.array([[0, 1], [1, 1], [2, 0]]), np.array([[0, 1], [1, 0], [1, 1]]),
                      ActionSpec(nvec=(3, 2))) == pytest.approx(2 / 3)
    box = ActionSpec(low=np.float32([-2, -np.inf]), high=np.float32([2, np.inf]), shape=(2,))
    gap = action_gap(np.float32([[1, 0], [0, 3]]), np.float32([[-1, 0], [0, 0]]), box)
    assert gap == pytest.approx(np.sqrt((1 + 9) / 2))  # (2 / 2)² and (3 / 1)²


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dagger")
    run(tiny("ppo", folder / "expert", policy__lstm=4, train__total_steps=512))
    return folder / "expert", scripted_cartpole_demos(folder / "demos.npz")


def test_a_stopped_run_goes_on_to_the_bit_with_memory_on_both_sides(files, tmp_path):
    """A recurrent expert and a recurrent learner, both acting, and demonstrations to begin with."""
    expert, demos = files
    options = {"dagger__expert": str(expert), "dagger__schedule": "exponential", "dagger__mix": "episode",
               "dagger__capacity": 700, "dagger__greedy": False, "policy__lstm": 4, "demos__source": str(demos)}
    whole = run(tiny("dagger", tmp_path / "whole", **options))
    run(tiny("dagger", tmp_path / "cut", **options), interrupt_after=2)
    rest = run(tiny("dagger", tmp_path / "cut", **options), resume=True)
    expected, got = final_state(tmp_path / "whole"), final_state(tmp_path / "cut")
    for part in ("learner", "collector", "policy", "last_eval", "expert_return"):
        assert same_state(expected[part], got[part]), part
    assert [m["dagger/beta"] for m in whole.metrics if "SPS" in m] == [0.5, 0.25, 0.125, 0.0625]
    assert [m["dagger/beta"] for m in rest.metrics if "SPS" in m] == [0.125, 0.0625]
    assert expected["learner"]["iteration"] == 5 and len(expected["learner"]["data"]["rollouts"]) == 2
    assert expected["collector"]["expert"]["state"].any()


def test_the_expert_that_is_asked_sets_the_scale(tmp_path):
    recorder = run(tiny("dagger", tmp_path / "run"))
    assert recorder.summary["expert_return"] == 500 and recorder.summary["demos"] is None
    assert recorder.info.expert_return == 500 and recorder.summary["eval"]["normalized"] is not None


def test_a_script_in_worker_processes_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"dagger\.expert = .script.*env\.num_workers = 0"):
        run(tiny("dagger", tmp_path / "run", env__num_workers=2, env__backend="multiprocessing"))


def test_demonstrations_without_actions_are_refused(tmp_path, files):
    from puffer_il.demos import read_demos

    path = tmp_path / "states.npz"
    dataclasses.replace(read_demos(files[1]), actions=None).save(path)
    with pytest.raises(InputError, match="no actions"):
        run(tiny("dagger", tmp_path / "run", demos__source=str(path)))
