"""`train auto`: every branch of the choice, that what it chooses can be assembled, what it measures, and the ordinary
run that comes of it."""

from __future__ import annotations

import json
import tomllib
from contextlib import ExitStack
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import load_demos, read_demos
from puffer_il.demos.dataset import Demos
from puffer_il.learners import experiment
from puffer_il.learners.base import About
from puffer_il.learners.registry import usable_learners
from puffer_il.training.assemble import assemble
from puffer_il.training.auto import Choice, choose
from puffer_il.training.likeness import acts_by_chance, agreement_of, is_mixed
from puffer_il.training.resolve import resolve
from tests.support.runs import scripted_cartpole_demos

BOUND = np.ones(1, np.float32)
FLOAT = np.dtype(np.float32)
DISCRETE = EnvSpec("toy", (2,), FLOAT, ActionSpec(nvec=(2,)))
MULTI = EnvSpec("toy", (2,), FLOAT, ActionSpec(nvec=(2, 2)))
CONTINUOUS = EnvSpec("toy", (2,), FLOAT, ActionSpec(low=-BOUND, high=BOUND, shape=(1,)))
UNBOUNDED = EnvSpec("toy", (2,), FLOAT, ActionSpec(low=-BOUND * np.inf, high=BOUND * np.inf, shape=(1,)))
SPECS = {"discrete": DISCRETE, "multi-discrete": MULTI, "continuous": CONTINUOUS, "unbounded": UNBOUNDED}
PICTURE = (1, 24, 24)
LEARNERS = usable_learners()[0]


def demos_of(spec: EnvSpec, episodes: int = 4, length: int = 50, noise: float = 0.0, terminated: bool = False) -> Demos:
    """States drawn at random, acted in by their sign; `noise` is the share of rows that are acted in at random."""
    rng, n = np.random.default_rng(0), episodes * length
    obs = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    random = rng.random(n) < noise
    sign = np.where(random, rng.integers(0, 2, n), obs[:, 0] > 0)
    actions = np.repeat(sign[:, None], spec.action.dim, 1)
    last = np.arange(n) % length == length - 1
    return Demos(obs, actions.astype(spec.action.dtype), obs + 1, last & terminated, last & (not terminated),
                 np.arange(0, n, length), np.ones(n, np.float32))


def chosen(demos: Demos | None, spec: EnvSpec = DISCRETE, learners=LEARNERS, *, cheap=True, expert=False,
           model=False) -> Choice:
    choice = choose(spec, demos, learners, cheap=cheap, expert=expert, model=model)
    assert choice.algo in learners and 1 <= len(choice.reasons) <= 5
    assert all(len(reason) <= 200 and "\n" not in reason for reason in choice.reasons)
    return choice


def test_an_expert_is_asked_where_there_are_no_demonstrations():
    assert chosen(None, expert=True).algo == "dagger"
    with pytest.raises(InputError, match="toy comes with no demonstrations and no scripted expert; give a file"):
        chosen(None)


def test_states_alone_are_compared_by_states():
    bare = replace(demos_of(DISCRETE), actions=None)
    choice = chosen(bare, cheap=False, expert=True, model=True)
    assert choice.algo == "gaifo" and "only states" in choice.reasons[0]


def test_a_known_table_is_solved():
    assert chosen(demos_of(DISCRETE), model=True).algo == "maxent_irl"
    assert chosen(demos_of(MULTI), MULTI, model=True).algo != "maxent_irl"  # which knows one action per state


def test_few_demonstrations_are_practised_against_a_discriminator_where_steps_are_cheap():
    choice = chosen(demos_of(DISCRETE))
    assert choice.algo == "gail" and "4 episodes, 200 transitions, discrete actions" in choice.reasons[0]


@pytest.mark.parametrize(("noise", "algo"), [(0.0, "csil"), (1.0, "sqil")])
@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS])
def test_dear_steps_are_spared_by_learning_off_policy(spec, noise, algo):
    choice = chosen(demos_of(spec, length=200, noise=noise), spec, cheap=False)
    assert choice.algo == algo and "Python" in choice.reasons[1]


def test_what_no_off_policy_learner_covers_is_left_to_another():
    assert chosen(demos_of(MULTI), MULTI, cheap=False).algo == "gail"


@pytest.mark.parametrize("cheap", [True, False])
@pytest.mark.parametrize("spec", [DISCRETE, MULTI, CONTINUOUS, UNBOUNDED])
def test_two_whole_episodes_of_a_consistent_demonstrator_are_cloned(spec, cheap):
    two = demos_of(spec, episodes=2, length=1500)
    assert chosen(two, spec, cheap=cheap).algo == "bc"
    opposed = np.where(np.arange(3000)[:, None] < 1500, two.actions, 1 - two.actions)
    assert chosen(replace(two, actions=opposed), spec, cheap=cheap).algo != "bc"


def test_gaps_and_noise_ask_for_more_of_them():
    assert chosen(demos_of(DISCRETE, episodes=4, length=1500, noise=0.5)).algo == "gail"
    assert chosen(demos_of(DISCRETE, episodes=40, length=15)).algo == "gail"


def test_what_is_known_of_imitation_is_what_is_chosen(test_data):
    """Two whole episodes of HalfCheetah are cloned to 1.01 of the expert; every 20th pair of four is not enough."""
    path = test_data / "cs285_mujoco_v4" / "HalfCheetah-v4.npz"
    if not path.is_file():
        pytest.skip(f"no recording at {path}")
    low = -np.ones(6, np.float32)
    spec = EnvSpec("halfcheetah", (17,), FLOAT, ActionSpec(low=low, high=-low, shape=(6,)))
    whole = load_demos(path, spec, clip_actions=True)
    assert chosen(whole, spec).algo == chosen(whole, spec, cheap=False).algo == "bc"
    few = load_demos(path, spec, clip_actions=True, subsample=20)
    assert chosen(few, spec).algo == "gail"


def pictures_of(demos: Demos) -> Demos:
    """The same, seen as images."""
    noise = np.random.default_rng(0).integers(0, 255, (len(demos), *PICTURE), np.uint8)
    return replace(demos, obs=noise, next_obs=noise.copy())


def seen_as_pictures(spec: EnvSpec) -> EnvSpec:
    return EnvSpec("toy", PICTURE, np.dtype(np.uint8), spec.action)


@pytest.mark.parametrize("cheap", [True, False])
def test_images_are_not_compared_by_their_distance(cheap, monkeypatch):
    few, spec = pictures_of(demos_of(DISCRETE)), seen_as_pictures(DISCRETE)
    choice = chosen(few, spec, cheap=cheap)
    assert choice.algo == "gail" and "images" in choice.reasons[0] and agreement_of(few, spec) is None
    monkeypatch.setattr("puffer_il.training.auto.IMAGES", 100)
    assert chosen(few, spec, cheap=cheap).algo == "bc"


def toy(spec: EnvSpec) -> type[gymnasium.Env]:
    """An environment of these spaces, whose episodes have five steps."""
    low, high = (0, 255) if spec.obs_dtype == np.uint8 else (-1, 1)

    class Toy(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(low, high, spec.obs_shape, spec.obs_dtype.type)
        action_space = (gymnasium.spaces.Discrete(spec.action.nvec[0]) if spec.action.kind == "discrete" else
                        gymnasium.spaces.MultiDiscrete(spec.action.nvec) if spec.action.discrete else
                        gymnasium.spaces.Box(spec.action.low, spec.action.high))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return np.zeros(spec.obs_shape, spec.obs_dtype), {}

        def step(self, action):
            self.steps += 1
            return np.zeros(spec.obs_shape, spec.obs_dtype), 1.0, False, self.steps == 5, {}

    return Toy


TINY = {"env": {"num_envs": 4, "backend": "serial"}, "policy": {"hidden": [8]}, "train": {"num_steps": 8},
        "eval": {"episodes": 2, "final_episodes": 2}}


@pytest.mark.parametrize("images", [False, True], ids=["numbers", "images"])
@pytest.mark.parametrize("acted", [True, False], ids=["actions", "states"])
@pytest.mark.parametrize("kind", SPECS)
def test_what_is_chosen_can_be_assembled_and_acts(kind, acted, images, monkeypatch):
    """For cheap and dear steps, many and few demonstrations, consistent and noisy ones."""
    plain = SPECS[kind]
    spec = seen_as_pictures(plain) if images else plain
    monkeypatch.setattr("puffer_il.training.auto.IMAGES", 1000)
    assembled = set()
    for cheap in (True, False):
        for length, noise in ((20, 0.0), (200, 0.0), (200, 1.0), (1000, 0.0)):
            demos = demos_of(plain, episodes=2, length=length, noise=noise)
            demos = pictures_of(demos) if images else demos
            demos = demos if acted else replace(demos, actions=None)
            algo = chosen(demos, spec, cheap=cheap).algo
            if algo in assembled:
                continue
            assembled.add(algo)
            config = experiment.build(algo, [("test", TINY | {"env": TINY["env"] | {"name": "toy"}})])
            with ExitStack() as stack:
                parts = assemble(config, stack, demos=demos, make_env=toy(spec))
                assert parts.collector is None or len(parts.collector.collect().flat().obs) == 32
    assert len(assembled) >= 1 + acted


@pytest.mark.parametrize("keys", [{}, {"lstm": 8}, {"squash": "false"}])
@pytest.mark.parametrize("kind", SPECS)
def test_it_passes_over_what_the_policy_does_not_fit(kind, keys):
    """An off-policy learner would be the first choice for dear steps, where it can be made."""
    demos = demos_of(SPECS[kind], noise=1.0)
    config = resolve("auto", "toy", [("test", TINY | {"policy": {"hidden": [8]} | keys})],
                     given={"make_env": toy(SPECS[kind]), "demos": demos})
    fits = (kind == "discrete" and "lstm" not in keys) or (kind == "continuous" and not keys)
    assert config.algo == ("sqil" if fits else "gail")
    assert config.policy.squash == (fits and "squash" not in keys)


def test_the_last_reason_is_what_else_matters():
    assert "4 episodes terminate" in chosen(demos_of(DISCRETE, terminated=True)).reasons[-1]
    assert "no rewards" in chosen(replace(demos_of(DISCRETE), rewards=None)).reasons[-1]
    assert "2 agents share one policy" in chosen(demos_of(DISCRETE), replace(DISCRETE, num_agents=2)).reasons[-1]


@pytest.mark.parametrize("spec", [DISCRETE, MULTI, CONTINUOUS])
def test_weights_are_proposed_where_worse_episodes_act_otherwise(spec):
    good, bad = demos_of(spec, episodes=8, length=100), demos_of(spec, episodes=8, length=100, noise=1.0)
    worse = np.arange(800) < 400
    mixed = replace(good, actions=np.where(worse[:, None], bad.actions, good.actions),
                    rewards=np.where(worse, 0, 1).astype(np.float32))
    assert is_mixed(mixed, spec) and "returns run from 0 to 100" in " ".join(chosen(mixed, spec).reasons)
    assert not is_mixed(replace(mixed, rewards=good.rewards), spec), "returns are alike"
    assert not is_mixed(replace(good, rewards=mixed.rewards), spec), "only luck differs"
    weighted = replace(mixed, weights=np.ones(800, np.float32))
    assert "weighting" not in " ".join(chosen(weighted, spec).reasons)


def test_sampling_is_proposed_where_like_states_are_acted_in_differently():
    by_chance = demos_of(DISCRETE, length=500, noise=0.6)
    assert acts_by_chance(by_chance, DISCRETE) and not acts_by_chance(demos_of(DISCRETE, length=500), DISCRETE)
    assert "--eval.deterministic false" in " ".join(chosen(by_chance).reasons)
    assert not acts_by_chance(demos_of(CONTINUOUS, length=500, noise=0.6), CONTINUOUS), "its mean is as good"


def test_third_parties_come_in_where_nothing_else_fits():
    theirs = type("Theirs", (), {"needs_demos": True, "needs_actions": False, "needs_expert": False,
                                 "section": About, "about": About("x", "y")})
    assert chosen(replace(demos_of(DISCRETE), actions=None), learners={"ppo": LEARNERS["ppo"], "theirs": theirs}
                  ).algo == "theirs"
    with pytest.raises(InputError, match="no algorithm here can learn discrete actions"):
        chosen(demos_of(DISCRETE), learners={"ppo": LEARNERS["ppo"]})


@pytest.mark.parametrize(("spec", "noise", "low", "high"), [
    (DISCRETE, 0.0, 0.95, 1.0), (DISCRETE, 1.0, 0.4, 0.6), (MULTI, 0.0, 0.95, 1.0),
    (CONTINUOUS, 0.0, 0.85, 1.0), (CONTINUOUS, 1.0, -0.2, 0.2)])
def test_agreement_tells_a_rule_from_chance(spec, noise, low, high):
    assert low <= agreement_of(demos_of(spec, length=500, noise=noise), spec) <= high


def test_agreement_is_between_episodes():
    one = demos_of(DISCRETE, episodes=1)
    assert agreement_of(one, DISCRETE) is None and chosen(one).algo == "gail"
    half = demos_of(DISCRETE, episodes=2, length=100)
    opposed = replace(half, actions=np.where(np.arange(200)[:, None] < 100, half.actions, 1 - half.actions))
    assert agreement_of(opposed, DISCRETE) < 0.1  # although each episode by itself keeps to a rule


def test_many_rows_are_drawn_from(monkeypatch):
    demos = demos_of(DISCRETE, length=500)
    monkeypatch.setattr("puffer_il.training.likeness.NUMBERS", 0)
    monkeypatch.setattr("puffer_il.training.likeness.PROBES", 300)
    assert 0.9 < agreement_of(demos, DISCRETE) < 1


SMALL = ["--env.num-envs", "8", "--train.num-steps", "32", "--train.threads", "1", "--policy.hidden", "16,16",
         "--eval.interval-steps", "0", "--eval.final-episodes", "2"]


def test_the_run_is_an_ordinary_one_that_knows_why(tmp_path, capsys):
    demos, bare, run = scripted_cartpole_demos(tmp_path / "d.npz"), tmp_path / "bare.npz", tmp_path / "run"
    replace(read_demos(demos), actions=None).save(bare)
    arguments = ["train", "auto", "cartpole", "--demos", str(bare), "--run-dir", str(run), "--total-steps", "256"]
    assert main([*arguments, *SMALL, "--gaifo.disc-batch-size", "64"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("auto: gaifo\n  6 episodes, ")
    config = tomllib.loads((run / "config.toml").read_text())
    summary = json.loads((run / "summary.json").read_text())
    assert config["algo"] == summary["algo"] == "gaifo"
    assert config["chosen_because"] == summary["chosen_because"] and "only states" in config["chosen_because"][0]
    assert main(["train", "--resume", str(run), "--total-steps", "512"]) == 0
    assert not capsys.readouterr().out.startswith("auto")
    assert json.loads((run / "summary.json").read_text())["chosen_because"] == summary["chosen_because"]
    again = ["train", "bc", "cartpole", "--demos", str(demos), "--run-dir", str(tmp_path / "bc")]
    assert main([*again, *SMALL, "--total-steps", "300"]) == 0
    assert "chosen_because" not in json.loads((tmp_path / "bc" / "summary.json").read_text())


def test_help_shows_the_keys_of_what_it_would_choose(capsys):
    assert main(["train", "auto", "cartpole", "--help"]) == 0
    assert "--bc.learning-rate" in capsys.readouterr().out


def would_choose(capsys, *arguments: str) -> str:
    assert main(["train", "auto", *arguments, "--help"]) == 0
    return capsys.readouterr().out.partition("keys, with their values in 'puffer-il train ")[2].split()[0]


def test_it_sees_experts_tables_and_python(tmp_path, capsys):
    lake, pole = str(tmp_path / "lake.npz"), str(scripted_cartpole_demos(tmp_path / "pole.npz"))
    assert would_choose(capsys, "frozenlake") == "dagger"
    assert main(["demos", "collect", "frozenlake", "--expert", "--episodes", "3", "--out", lake]) == 0
    assert would_choose(capsys, "frozenlake", "--demos", lake) == "maxent_irl"
    assert would_choose(capsys, "cartpole", "--demos", pole) == "gail"
    assert would_choose(capsys, "gymnasium:CartPole-v1", "--demos", pole) in ("sqil", "csil")
    assert would_choose(capsys, "cartpole", "--demos.episodes", "1", "--env.kwargs.gravity", "5") == "gail"


def test_nothing_to_learn_from_is_one_line(tmp_path, capsys):
    assert main(["train", "auto", "gymnasium:CartPole-v1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
