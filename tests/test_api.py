"""`import puffer_il`: names and objects in, objects out, nothing written that nobody asked for."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

import puffer_il
from puffer_il import InputError
from puffer_il.cli import main
from tests.support import identified
from tests.support.runs import TINY, final_state, same_state, scripted_cartpole_demos
from tests.support.spaces import STEPS, Clue

QUICK = {section: {key: value for key, value in TINY[section].items() if key != "name"}
         for section in ("env", "train", "eval", "policy")}  # 4 iterations of 256 steps


def train(*args, **given) -> puffer_il.Run:
    """A run of a second at most that shows nothing."""
    return puffer_il.train(*args, **{"progress": False} | QUICK | given)


@pytest.fixture(scope="module")
def run() -> puffer_il.Run:
    return train("ppo", "cartpole", seed=3)


def balance(obs: np.ndarray) -> np.ndarray:
    """(n, 4) → (n,) a hand-written expert of CartPole."""
    return (obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(int)


def test_importing_costs_nothing():
    code = "import sys, puffer_il; sys.exit(any(x in sys.modules for x in ('numpy', 'torch', 'puffer_il.api')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_environments_and_demonstrations_need_no_torch():
    code = "import sys, puffer_il; puffer_il.make('cartpole'); puffer_il.load_demos('shipped', 'cartpole'); " \
           "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", puffer_il.__all__)
def test_every_public_name_is_there_and_documented(name: str):
    assert getattr(puffer_il, name).__doc__ and name in dir(puffer_il)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'puffer_il' has no attribute 'trian'"):
        puffer_il.trian  # noqa: B018


def test_the_module_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "puffer_il", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"puffer-il {puffer_il.__version__}\n"
    wrong = subprocess.run([sys.executable, "-m", "puffer_il", "trian"], capture_output=True, text=True)
    assert wrong.returncode == 2


# Environments

@pytest.mark.filterwarnings("ignore:.*A Box observation space")
@pytest.mark.parametrize("env", ["cartpole", "CartPole-v1", "gymnasium:CartPole-v1", "tests.support.spaces:Mixed",
                                 identified.Gymnasium, lambda: gymnasium.make("CartPole-v1")],
                         ids=["C", "its id", "Gymnasium", "by place", "class", "function"])
def test_make_passes_gymnasiums_check_and_make_vec_agrees_with_it(env):
    single, vec = puffer_il.make(env), puffer_il.make_vec(env, num_envs=3)
    assert isinstance(single, gymnasium.Env) and isinstance(vec, gymnasium.vector.VectorEnv)
    assert vec.single_observation_space == single.observation_space
    assert vec.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    obs, _ = vec.reset(seed=0)
    assert len(obs) == vec.num_envs == 3 and vec.step(vec.action_space.sample())[1].dtype == np.float64
    if env is not identified.Gymnasium:  # whose observations say how often it has been reset
        check_env(single.unwrapped, skip_render_check=True)


def test_parameters_and_pictures_reach_the_environment():
    drawn = puffer_il.make("cartpole", render_mode="rgb_array", gravity=20.0)
    drawn.reset(seed=0)
    assert drawn.render().shape == (400, 600, 3)
    assert puffer_il.make("gymnasium:CartPole-v1", render_mode="rgb_array").render_mode == "rgb_array"
    assert puffer_il.make("gymnasium:Pendulum-v1", g=20.0).unwrapped.g == 20.0
    heavy, plain = (puffer_il.make_vec("cartpole", num_envs=2, **kwargs) for kwargs in ({"gravity": 20.0}, {}))
    assert np.array_equal(heavy.reset(seed=1)[0], plain.reset(seed=1)[0])
    assert not np.array_equal(heavy.step([0, 1])[0], plain.step([0, 1])[0])


@pytest.mark.parametrize("call, message", [
    (lambda: puffer_il.make("cartpol"), "unknown environment 'cartpol'; did you mean 'cartpole'?"),
    (lambda: puffer_il.make("cartpole", gravty=1), "environment cartpole: .*gravty"),
    (lambda: puffer_il.make(gymnasium.make("CartPole-v1")), "give a name, or a function that opens a new environment"),
    (lambda: puffer_il.make("tests.support.identified:Puffer"), "it is a Puffer, no Gymnasium environment"),
    (lambda: puffer_il.make_vec("cartpole", 0), "num_envs = 0: must be at least 1"),
    (lambda: puffer_il.load_demos("shipped"), "demos shipped: no environment is given"),
    (lambda: puffer_il.load_demos("no.npz"), "demos no.npz: no such file"),
])
def test_wrong_input_is_told_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_stable_baselines3_trains_on_make():
    model = PPO("MlpPolicy", puffer_il.make("cartpole"), n_steps=512, batch_size=64, seed=0).learn(2_000)
    assert model.num_timesteps == 2_048


# Demonstrations

def test_demonstrations_are_read_from_files_and_arrays_and_saved(tmp_path):
    path = scripted_cartpole_demos(tmp_path / "d.npz")
    demos = puffer_il.load_demos(path)
    columns = (demos.obs, demos.actions[:, 0], demos.next_obs, demos.terminations, demos.truncations, demos.rewards)
    from_arrays = puffer_il.load_demos(columns, "cartpole")
    assert np.array_equal(from_arrays.actions, demos.actions) and np.array_equal(from_arrays.returns, demos.returns)
    assert puffer_il.load_demos({"obs": demos.obs, "actions": demos.actions, "next_obs": demos.next_obs,
                                 "terminations": demos.terminations, "truncations": demos.truncations,
                                 "episode_starts": demos.episode_starts}).num_episodes == demos.num_episodes
    some = puffer_il.load_demos(str(path), episodes=2, subsample=10)
    assert some.num_episodes == 2 and len(some) < len(demos) / 10
    some.save(tmp_path / "some.npz")
    assert len(puffer_il.load_demos(tmp_path / "some.npz")) == len(some)


def test_shipped_demonstrations_come_with_their_environment():
    assert puffer_il.load_demos("shipped", "cartpole", episodes=3).num_episodes == 3


# Training

def test_train_is_the_command_of_that_name(tmp_path, run):
    typed = [f"--{section}.{key.replace('_', '-')}={','.join(map(str, value)) if isinstance(value, list) else value}"
             for section, table in QUICK.items() for key, value in table.items()]
    assert main(["train", "ppo", "cartpole", "--seed", "3", "--run-dir", str(tmp_path / "run"), *typed]) == 0
    assert same_state(run.policy.state_dict(), final_state(tmp_path / "run")["policy"])
    assert run.summary["eval"]["episodes"] == 3 and run.config.env.num_envs == 8 and run.config.train.seed == 3
    assert repr(run).startswith("Run(ppo on cartpole, seed 3, finished: return ")


def test_short_keywords_and_files_and_sections_are_the_same_keys(tmp_path):
    (tmp_path / "mine.toml").write_text("ppo = { learning_rate = 0.5, gamma = 0.5 }")
    made = train("ppo", "cartpole", config=tmp_path / "mine.toml", ppo={"gamma": 0.7}, total_steps=256.0, device="cpu")
    config = made.config
    assert (config.ppo.learning_rate, config.ppo.gamma) == (0.5, 0.7), "what is given here goes over the file"
    assert (config.train.total_steps, config.train.device) == (256, "cpu")


def test_a_temporary_run_directory_goes_with_the_run_and_one_asked_for_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    made = train("ppo", "cartpole")
    folder = made.dir
    assert folder.parent == tmp_path and (folder / "summary.json").is_file() and list(tmp_path.iterdir()) == [folder]
    on = train(resume=made, total_steps=2048)
    del made
    gc.collect()
    assert on.dir == folder and (folder / "summary.json").is_file(), "the resumed run still needs it"
    del on
    gc.collect()
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError):
        train("gail", "cartpole", demos=tmp_path / "no.npz")
    assert not list(tmp_path.iterdir()), "what fails leaves nothing"
    train("ppo", "cartpole", run_dir=tmp_path / "kept")
    gc.collect()
    assert (tmp_path / "kept" / "summary.json").is_file()


def test_progress_is_shown_unless_it_is_switched_off(capfd):
    train("ppo", "cartpole")
    assert capfd.readouterr() == ("", "")
    train("ppo", "CartPole-v1", progress=True)
    shown = capfd.readouterr().out
    assert "CartPole-v1 is the C environment 'cartpole'" in shown and "ppo on cartpole" in shown
    assert shown.splitlines()[-1].startswith("Run(ppo on cartpole, seed 1, finished: return ")


def test_the_clock_of_a_run_begins_with_the_run():
    time.sleep(0.5)
    begin = time.monotonic()
    assert train("ppo", "cartpole").summary["wall_s"] <= time.monotonic() - begin


def test_a_callback_may_stop_the_run_which_is_evaluated_all_the_same():
    seen = []
    run = train("ppo", "cartpole", callback=lambda metrics: seen.append(metrics["env_steps"]) or len(seen) < 2)
    assert seen == [256, 512] and run.summary["status"] == "finished" and run.summary["eval"]["episodes"] == 3


def test_an_interrupt_returns_the_run_so_far_which_can_be_resumed(tmp_path):
    def interrupt(metrics):
        if metrics["updates"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    run = train("ppo", "cartpole", seed=3, callback=interrupt, run_dir=tmp_path / "run")
    assert run.summary["status"] == "interrupted" and run.summary["env_steps"] == 512
    assert "not evaluated" in repr(run) and run.policy.predict(np.zeros(4))[0] in (0, 1)
    whole = puffer_il.train(resume=tmp_path / "run", progress=False)
    assert whole.summary["env_steps"] == 1024 and whole.dir == tmp_path / "run"
    assert same_state(whole.policy.state_dict(), train("ppo", "cartpole", seed=3).policy.state_dict())


# Objects in place of names

def make_env(**kwargs) -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", **kwargs)


def test_a_function_stands_for_an_environment_everywhere():
    def opened(max_episode_steps=7):
        return make_env(max_episode_steps=max_episode_steps)

    run = train("ppo", opened, env={"num_envs": 2, "backend": "serial"}, eval={"final_episodes": 2,
                                                                              "deterministic": False})
    assert run.summary["env"] == "opened()" and run.summary["eval"]["length_mean"] <= 7
    assert puffer_il.evaluate(run, episodes=2, max_episode_steps=3)["length_mean"] == 3
    assert puffer_il.collect(run, episodes=2, max_episode_steps=3).lengths.tolist() == [3, 3]
    assert train(resume=run, total_steps=2048).summary["env"] == "opened()"


def test_a_function_that_can_be_imported_makes_runs_that_others_can_play(tmp_path, capsys):
    train("ppo", make_env, env={"num_envs": 2, "backend": "serial"}, run_dir=tmp_path / "run")
    assert main(["eval", str(tmp_path / "run"), "--episodes", "2"]) == 0


@pytest.mark.parametrize("form", ["file", "demos", "arrays", "section"])
def test_demonstrations_may_be_a_file_an_object_or_arrays(form, tmp_path):
    path = scripted_cartpole_demos(tmp_path / "d.npz")
    demos = puffer_il.load_demos(path)
    arrays = {name: getattr(demos, name) for name in ("obs", "actions", "next_obs", "terminations", "truncations",
                                                       "episode_starts", "rewards")}
    given = {"file": path, "demos": demos, "arrays": arrays, "section": {"source": demos, "episodes": 2}}[form]
    run = train("bc", "cartpole", demos=given, total_steps=512)
    assert run.summary["demos"]["episodes"] == (2 if form == "section" else demos.num_episodes)


def test_an_algorithm_is_chosen_by_demonstrations_in_memory(tmp_path):
    demos = puffer_il.load_demos(scripted_cartpole_demos(tmp_path / "d.npz"))
    run = train("auto", "gymnasium:CartPole-v1", demos=demos, env={"num_envs": 2, "backend": "serial"},
                total_steps=512)
    assert run.summary["chosen_because"] and run.summary["demos"]["episodes"] == demos.num_episodes


def test_an_expert_to_ask_may_be_a_function_a_model_or_a_run(run):
    model = PPO("MlpPolicy", puffer_il.make("cartpole"), n_steps=64, seed=0)
    for expert in (balance, model, run, run.policy, "random"):
        asked = train("dagger", "cartpole", dagger={"expert": expert, "epochs": 1}, total_steps=256)
        assert asked.summary["status"] == "finished"
    told = train("dagger", "cartpole", dagger={"expert": balance, "epochs": 8}, total_steps=8 * 256,
                 eval={"final_episodes": 10})
    assert told.summary["expert_return"] > 150 and told.summary["eval"]["return_mean"] > 100


def test_a_learned_reward_may_be_that_of_a_run():
    learned = train("gail", "cartpole", gail=TINY["gail"])
    demos = puffer_il.load_demos("shipped", "cartpole", episodes=1)
    reward = puffer_il.load_reward(learned)
    assert reward.predict(demos.obs, demos.actions, demos.next_obs).shape == (len(demos),)
    assert train("transfer", "cartpole", transfer={"reward": learned}).summary["status"] == "finished"


@pytest.mark.parametrize("call, message", [
    (lambda: train("gial", "cartpole"), "unknown algorithm 'gial'; did you mean 'gail'?"),
    (lambda: train("gail", "cartpol"), "unknown environment 'cartpol'; did you mean 'cartpole'?"),
    (lambda: train("ppo", "cartpole", ppo={"learning_rat": 1}), "did you mean 'ppo.learning_rate'?"),
    (lambda: train("ppo", "cartpole", ppo={"learning_rate": "fast"}), "ppo.learning_rate = 'fast': expected a number"),
    (lambda: train("ppo", "cartpole", total_step=5), "unknown section 'total_step'"),
    (lambda: train("ppo"), "train needs an algorithm and an environment"),
    (lambda: train("gail", make_env), "demos"),
    (lambda: train(resume="nowhere"), "resume nowhere: no run directory"),
    (lambda: train(resume="nowhere", run_dir="there"), "leave run_dir out"),
    (lambda: train("ppo", make_env, autotune=True), "only runs by names are measured, but make_env is an object"),
    (lambda: train("dagger", "cartpole", dagger={"expert": 5}), "5 cannot act"),
    (lambda: train("bc", "cartpole", demos={"obs": [[1.0]]}), "demos arrays: holds obs, which matches no known format"),
    (lambda: train("bc", "cartpole", demos={"episode": 3}), "unknown key 'demos.episode'"),
    (lambda: puffer_il.load("nowhere"), "nowhere is not a run directory"),
    (lambda: puffer_il.evaluate("nowhere", "cartpole"), "policy: .*no such file or run directory"),
    (lambda: puffer_il.evaluate(balance), "an environment is missing"),
    (lambda: puffer_il.evaluate(balance, "cartpole", episodes=0), "episodes = 0: must be at least 1"),
    (lambda: puffer_il.evaluate(train("ppo", "cartpole"), "acrobot"), "a policy for cartpole"),
    (lambda: puffer_il.load_reward("nowhere"), "nowhere: holds no learned reward"),
])
def test_wrong_input_of_training_is_told_in_one_line(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


# Policies

def test_load_gives_the_policy_that_was_trained(run, tmp_path):
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    kept, (actions, _) = train("ppo", "cartpole", seed=3, run_dir=tmp_path / "run"), run.policy.predict(
        obs, deterministic=True)
    for policy in (puffer_il.load(tmp_path / "run"), puffer_il.load(str(kept.dir)), puffer_il.load(kept)):
        assert np.array_equal(policy.predict(obs, deterministic=True)[0], actions)
    assert run.policy.predict(obs[0], deterministic=True)[0] == actions[0]


def test_a_run_is_evaluated_as_the_command_does(run, tmp_path):
    scores = puffer_il.evaluate(run, episodes=20, seed=1)
    assert scores == puffer_il.evaluate(run.dir, episodes=20, seed=1) == puffer_il.evaluate(str(run.dir), episodes=20,
                                                                                            seed=1)
    assert scores["random_return"] == run.summary["random_return"] and scores["env_steps"] == 1024


def test_a_policy_is_greedy_or_sampled_as_asked_and_otherwise_as_its_run_says(run):
    greedy, sampled = (puffer_il.evaluate(run, episodes=20, deterministic=mode)["return_mean"]
                       for mode in (True, False))
    assert greedy != sampled and puffer_il.evaluate(run, episodes=20)["return_mean"] == greedy
    same = train("ppo", "cartpole", seed=3, eval={"deterministic": False})
    assert puffer_il.evaluate(same, episodes=20)["return_mean"] == sampled


def test_policies_in_memory_are_scaled_by_the_demonstrations():
    run = train("ppo", "cartpole", env={"num_envs": 16})  # as many as an evaluation without a run has
    scores = puffer_il.evaluate(run.policy, episodes=20)
    assert scores["return_mean"] == puffer_il.evaluate(run, episodes=20)["return_mean"]
    assert scores["expert_return"] == puffer_il.load_demos("shipped", "cartpole").return_mean
    assert abs(puffer_il.evaluate("random", "cartpole", episodes=50)["normalized"]) < 0.1
    assert puffer_il.evaluate("random", "gymnasium:CartPole-v1", episodes=2)["normalized"] is None


@pytest.mark.parametrize("env", ["cartpole", make_env])
def test_models_of_stable_baselines3_are_policies_and_ours_are_theirs(env, run):
    model = PPO("MlpPolicy", puffer_il.make(env), n_steps=64, seed=3)
    ours = puffer_il.evaluate(model, env, episodes=10)["return_mean"]
    theirs, _ = evaluate_policy(model, puffer_il.make(env), n_eval_episodes=10, warn=False)
    assert ours == pytest.approx(theirs, rel=0.3)
    mean, _ = evaluate_policy(run.policy, puffer_il.make(env), n_eval_episodes=5, warn=False)
    assert mean > 5
    assert puffer_il.collect(model, env, episodes=3, deterministic=False).num_episodes == 3


class Gears(Clue):
    """A dict of a vector and a category that names the choice; choices are counted from 1."""

    observation_space = spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "gear": spaces.Discrete(3)})
    action_space = spaces.Discrete(3, start=1)

    def _next(self) -> dict:
        self.right = int(self.np_random.integers(3)) + 1
        return {"speed": self.np_random.uniform(-1, 1, 2).astype(np.float32), "gear": self.right - 1}


class Shifter:
    """Knows what is right in Gears, by Stable-Baselines3's interface."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation["gear"] + 1, state


def test_policies_see_and_do_what_the_environment_shows_and_takes():
    assert puffer_il.evaluate(Shifter(), Gears, episodes=3)["return_mean"] == STEPS
    assert puffer_il.evaluate(lambda obs: obs["gear"] + 1, Gears, episodes=3)["return_mean"] == STEPS
    demos = puffer_il.collect(Shifter(), Gears, episodes=2)
    assert demos.returns.tolist() == [STEPS, STEPS] and set(np.unique(demos.actions)) == {0, 1, 2}
    learned = train("bc", Gears, demos=demos, total_steps=4_000, env={"num_envs": 2, "backend": "serial"})
    assert learned.summary["eval"]["return_mean"] > 0.9 * STEPS
    assert learned.policy.predict({"speed": np.zeros(2), "gear": 2}, deterministic=True)[0] == 3


def test_imitation_rolls_our_policy_out(run):
    rollout = pytest.importorskip("imitation.data.rollout")
    from stable_baselines3.common.vec_env import DummyVecEnv

    venv = DummyVecEnv([lambda: puffer_il.make("cartpole")])
    found = rollout.generate_trajectories(run.policy.predict, venv, rollout.make_min_episodes(2),
                                          np.random.default_rng(0))
    assert len(found) >= 2


@pytest.mark.parametrize("policy", ["script", "random", balance])
def test_demonstrations_are_collected_of_whoever_acts(policy):
    env = "glucose" if policy == "script" else "cartpole"
    demos = puffer_il.collect(policy, env, episodes=3, seed=4)
    assert demos.num_episodes == 3 and (demos.terminated | demos.truncated).all()
    again = puffer_il.collect(policy, env, episodes=3, seed=4)
    assert np.array_equal(demos.obs, again.obs)


# What there is to choose from

def test_algorithms_say_what_they_need():
    known = puffer_il.algorithms()
    assert known["gail"]["needs"] == {"rollouts": True, "demonstrations": True, "actions": True, "expert": False}
    assert known["bc"]["needs"]["rollouts"] is False and "continuous" in known["sac"]["spaces"]
