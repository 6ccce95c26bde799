"""Environments as they really behave: what is right stays right, and what cannot be is said in one line."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import puffer_il
from puffer_il.cli import main
from puffer_il.core.errors import EnvFailure, InputError
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec
from tests.support import field

BACKENDS = ("serial", "multiprocessing")


def test_short_episodes_are_neither_favoured_in_scores_nor_in_recordings():
    assert abs(puffer_il.evaluate("random", field.Mixed, episodes=200)["length_mean"] - 20.5) < 4
    assert abs(puffer_il.collect("random", field.Mixed, episodes=200).lengths.mean() - 20.5) < 4


def test_an_end_of_both_kinds_is_a_termination():
    demos = puffer_il.collect("random", field.BothEnds, episodes=2)
    assert demos.terminations[9] and not demos.truncations.any()


def test_an_array_that_the_environment_writes_again_is_copied():
    demos = puffer_il.collect("random", field.OneBuffer, episodes=1)
    assert demos.obs[:, 0].tolist() == list(range(10))
    assert demos.next_obs[:, 0].tolist() == list(range(1, 11))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_action_that_the_environment_keeps_does_not_change_under_it(backend):
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 2, 2)).astype(np.float32)
    with make_vec(find_creator("tests.support.field:KeepsActions"), num_envs=2, backend=backend) as vec:
        vec.reset(0)
        for t in range(3):
            obs = vec.step(actions[t].copy()).obs
            np.testing.assert_array_equal(obs[:, 2:], actions[t])
            np.testing.assert_array_equal(obs[:, :2], actions[t - 1] if t else 0)


def test_an_action_that_the_environment_changes_is_recorded_as_it_was_taken():
    demos = puffer_il.collect(lambda obs: np.full((len(obs), 2), 0.5), field.ScalesInPlace, episodes=1)
    assert (demos.actions == 0.5).all()


@pytest.mark.parametrize("env", [field.Steps, field.GlobalNumbers])
def test_every_episode_of_every_copy_is_another_and_all_come_again_with_the_seed(env):
    first, again = (puffer_il.collect("random", env, episodes=30, seed=1) for _ in range(2))
    assert len(set(first.obs[first.episode_starts, 1].tolist())) == 30
    np.testing.assert_array_equal(first.obs, again.obs)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Discrete(3, start=-1), spaces.MultiDiscrete([2, 3]),
                                   spaces.MultiBinary(3), spaces.Box(-1, 1, (2,), np.float64),
                                   spaces.Box(-1, 1, (), np.float32)])
def test_actions_arrive_as_the_spaces_sample_gives_them(space):
    class Checks(field.Steps):
        action_space = space

        def step(self, action):
            sampled = space.sample()
            assert space.contains(action) and np.asarray(action).dtype == np.asarray(sampled).dtype
            assert np.shape(action) == np.shape(sampled)
            return super().step(action)

    assert puffer_il.collect("random", Checks, episodes=1).lengths.tolist() == [10]


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3])])
def test_so_do_those_of_agents(space):
    class Two:
        metadata, possible_agents, agents = {"name": "two"}, ["a", "b"], []
        render_mode = None

        def observation_space(self, agent):
            return field.Steps.observation_space

        def action_space(self, agent):
            return space

        def reset(self, seed=None, options=None):
            self.agents, self.t = ["a", "b"], 0
            return self._all(np.zeros(3, np.float32)), self._all({})

        def _all(self, value):
            return dict.fromkeys(self.possible_agents, value)

        def step(self, actions):
            assert all(space.contains(x) and x.dtype == np.int64 for x in actions.values())
            self.t += 1
            over = self.t == 5
            self.agents = [] if over else self.agents
            return tuple(map(self._all, (np.zeros(3, np.float32), 1.0, False, over, {})))

        def close(self):
            pass

    assert set(puffer_il.collect("random", Two, episodes=2).lengths.tolist()) == {5}


def test_infos_of_any_kind_disturb_nothing():
    assert field.trained("ppo", field.InfosOfEveryKind).summary["eval"]["return_mean"] == 10


def test_what_an_environment_prints_stays_out_of_the_json(tmp_path, capfd):
    run = field.trained("ppo", "tests.support.field:Chatty", run_dir=tmp_path / "run")
    capfd.readouterr()
    assert main(["eval", str(run.dir), "--episodes", "2", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["return_mean"] == 10
    assert "the simulator says hello" in err


def test_a_reward_that_is_no_number_is_refused_and_one_in_an_array_is_taken():
    with pytest.raises(InputError, match=r"in step: its reward is None; return a number"):
        field.trained("ppo", field.NoReward)
    assert field.trained("ppo", field.RewardOfOne).summary["eval"]["return_mean"] == 5


@pytest.mark.parametrize(("where", "cause"), [("reward", "the reward of row 0 in step 4 of the rollout is nan"),
                                              ("observation", "an observation is nan in column 1, after step 4")])
def test_a_run_that_diverges_names_what_the_environment_gave(tmp_path, capsys, where, cause):
    folder = tmp_path / "run"
    assert main(["train", "ppo", "tests.support.field:NotANumber", "--env.kwargs.where", where, "--total-steps", "64",
                 "--env.num-envs", "2", "--env.backend", "serial", "--train.num-steps", "16", "--run-dir", str(folder),
                 "--eval.final-episodes", "2"]) == 1
    assert cause in json.loads((folder / "summary.json").read_text())["cause"]
    out = capsys.readouterr().out
    assert cause in out and "learning rates" not in out


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_part_without_numbers_is_read(algo):
    assert field.trained(algo, field.EmptyPart).summary["eval"]["return_mean"] == 10


def test_an_observation_without_a_fixed_size_is_refused():
    class Tail(field.Steps):
        observation_space = spaces.Dict({"tail": spaces.Sequence(spaces.Box(0, 11, (2,), np.int8))})

    with pytest.raises(InputError, match=r"tail.*Sequence|Sequence.*tail") as error:
        field.trained("ppo", Tail)
    assert "\n" not in str(error.value)


def test_a_rollout_in_which_nothing_was_done_teaches_nothing():
    one = {"env": {"num_envs": 1}, "train": {"num_steps": 1}, "ppo": {"num_minibatches": 1, "update_epochs": 1}}
    assert field.trained("ppo", field.Steps, 24, **one).summary["status"] == "finished"


@pytest.mark.parametrize("wrapper", ["NormalizeObservation", "NormalizeReward"])
def test_statistics_that_no_other_copy_shares_are_refused_unless_they_are_frozen(wrapper):
    make, kept = getattr(gymnasium.wrappers, wrapper), []

    def wrapped(frozen):
        env = make(field.Steps())
        env.update_running_mean = not frozen
        kept.append(env)
        return env

    with pytest.raises(InputError, match=rf"its wrapper {wrapper} averages in each copy .* leave it out"):
        field.trained("ppo", wrapped, env={"kwargs": {"frozen": False}})
    assert field.trained("ppo", wrapped, env={"kwargs": {"frozen": True}}).summary["status"] == "finished"


def test_a_vector_that_averages_is_refused_too():
    def vector(num_envs):
        return gymnasium.wrappers.vector.NormalizeObservation(gymnasium.vector.SyncVectorEnv([field.Steps] * num_envs))

    with pytest.raises(InputError, match="its wrapper NormalizeObservation averages"):
        field.trained("ppo", vector)


def test_an_environment_that_begins_anew_by_itself_is_not_begun_twice():
    demos = puffer_il.collect("random", lambda: gymnasium.wrappers.Autoreset(field.Steps()), episodes=3)
    assert demos.lengths.tolist() == [10, 10, 10]
    assert demos.next_obs[9::10, 0].tolist() == [10, 10, 10]


def test_a_failure_in_a_step_ends_the_run_with_its_own_words():
    class Breaks(field.Steps):
        def reward(self):
            raise ValueError("motor 3 is hot")

    with pytest.raises(EnvFailure, match="motor 3 is hot"):
        field.trained("ppo", Breaks)


def test_other_precisions_of_torch_are_refused():
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(InputError, match=r"default dtype is torch\.float64 .*set_default_dtype\(torch\.float32\)"):
            field.trained("ppo", field.Steps)
    finally:
        torch.set_default_dtype(torch.float32)
