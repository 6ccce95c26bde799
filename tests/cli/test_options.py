"""From the command line to a Config: which source wins, and what is said of options that do not exist."""

from __future__ import annotations

from argparse import Namespace

import pytest

from puffer_il.cli.options import keys_help, override, resolve, unknown_argument
from puffer_il.core.errors import InputError
from puffer_il.learners.experiment import build, experiment_layers


def typed(algo=None, env=None, *, overrides=(), **options) -> Namespace:
    nothing = dict.fromkeys(("demos", "config", "run_dir", "seed", "device", "total_steps", "resume"))
    return Namespace(algo=algo, env=env, overrides=list(overrides), **(nothing | options))


@pytest.mark.parametrize("key, text, tables", [
    ("ppo.learning-rate", "1e-3", {"ppo": {"learning_rate": "1e-3"}}),
    ("env.kwargs", "{a = 1}", {"env": {"kwargs": "{a = 1}"}}),
    ("env.kwargs.gravity", "9.9", {"env": {"kwargs": {"gravity": 9.9}}}),
    ("env.kwargs.force-mag", "10", {"env": {"kwargs": {"force_mag": 10}}}),
    ("env.kwargs.flag", "true", {"env": {"kwargs": {"flag": True}}}),
    ("env.kwargs.names", "[1, 2]", {"env": {"kwargs": {"names": [1, 2]}}}),
    ("env.kwargs.mode", "human", {"env": {"kwargs": {"mode": "human"}}}),
    ("env.kwargs.mode", "'9'", {"env": {"kwargs": {"mode": "9"}}}),
    ("env.kwargs.a.b", "1", {"env": {"kwargs": {"a": {"b": 1}}}}),
])
def test_overrides_become_tables(key, text, tables):
    assert override(key, text) == tables


def test_the_command_line_wins_over_the_file_and_that_over_the_shipped_ones(tmp_path):
    (tmp_path / "own.toml").write_text("[ppo]\ngamma = 0.5\nclip_coef = 0.3\n[train]\nseed = 3\n")
    config = resolve(typed("ppo", "cartpole", config=tmp_path / "own.toml", seed="4", total_steps="2e6",
                           overrides=[("ppo.gamma", "0.25"), ("ppo.gamma", "0.125")]))
    shipped = build("ppo", experiment_layers("ppo", "cartpole"))
    assert (config.ppo.gamma, config.ppo.clip_coef, config.train.seed) == (0.125, 0.3, 4)
    assert config.train.total_steps == 2_000_000 and config.env.name == "cartpole"
    assert config.ppo.learning_rate == shipped.ppo.learning_rate != type(shipped.ppo)().learning_rate


def test_parameters_of_the_environment_are_set_one_by_one(tmp_path):
    (tmp_path / "own.toml").write_text("[env.kwargs]\nlength = 1.0\ngravity = 1.0\n")
    config = resolve(typed("ppo", "cartpole", config=tmp_path / "own.toml",
                           overrides=[("env.kwargs.gravity", "9.9"), ("env.kwargs", "{tau = 0.01}")]))
    assert config.env.kwargs == {"length": 1.0, "gravity": 9.9, "tau": 0.01}


@pytest.mark.parametrize("algo, given, source", [
    ("gail", None, "shipped"), ("bc", None, "shipped"), ("ppo", None, ""), ("gail", "mine.npz", "mine.npz")])
def test_the_shipped_demonstrations_are_the_default_where_any_are_needed(algo, given, source):
    assert resolve(typed(algo, "cartpole", demos=given)).demos.source == source


def test_a_config_file_may_name_algorithm_and_environment(tmp_path):
    (tmp_path / "own.toml").write_text('algo = "ppo"\n[env]\nname = "pendulum"\n')
    config = resolve(typed(config=tmp_path / "own.toml"))
    assert (config.algo, config.env.name) == ("ppo", "pendulum")
    assert resolve(typed("bc", "acrobot", config=tmp_path / "own.toml")).env.name == "acrobot"


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    tables = {"env": {"name": "cartpole"}, "ppo": {"gamma": 0.7}, "train": {"run_dir": "elsewhere"}}
    config = build("ppo", [("test", tables)])
    (folder / "config.toml").write_text(config.to_toml())
    return folder


def test_a_resumed_run_keeps_its_config_but_for_what_is_typed(run_dir):
    config = resolve(typed(resume=run_dir, total_steps="5000", overrides=[("ppo.clip-coef", "0.1")]))
    assert (config.algo, config.env.name, config.ppo.gamma) == ("ppo", "cartpole", 0.7)
    assert (config.train.total_steps, config.ppo.clip_coef) == (5000, 0.1)
    assert config.ppo.learning_rate == type(config.ppo)().learning_rate, "the shipped files are not read again"
    assert config.train.run_dir == str(run_dir), "it may have been moved"
    assert resolve(typed("ppo", "cartpole", resume=run_dir)).ppo.gamma == 0.7


@pytest.mark.parametrize("wrong, words", [
    ({"algo": "bc"}, "that is a run of ppo on cartpole, not of bc on cartpole; leave both out"),
    ({"env": "acrobot"}, "not of ppo on acrobot"),
    ({"run_dir": "new"}, "--run-dir new: a resumed run goes on in its own directory"),
])
def test_what_a_resumed_run_cannot_change(run_dir, wrong, words):
    with pytest.raises(InputError, match=words):
        resolve(typed(resume=run_dir, **wrong))


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"--resume .*: no run directory \(it has no config.toml\)"):
        resolve(typed(resume=tmp_path))


@pytest.mark.parametrize("words", [(), ("gail",)])
def test_algorithm_and_environment_are_asked_for(words):
    with pytest.raises(InputError, match="train needs an algorithm and an environment, such as 'puffer-il train gail"):
        resolve(typed(*words))


@pytest.mark.parametrize("overrides, words", [
    ([("ppo.gama", "1")], "command line: unknown key 'ppo.gama'; did you mean 'ppo.gamma'?"),
    ([("gail.reward", "logit")], "command line: unknown section 'gail'"),
    ([("ppo.gamma.deep", "1")], "command line: ppo.gamma = {'deep': 1}: expected a number"),
    ([("env.kwargs", "3")], "command line: env.kwargs = '3': expected a table"),
    ([("policy.shared", "yes")], "command line: policy.shared = 'yes': expected true or false, such as false"),
])
def test_wrong_overrides_are_refused(overrides, words):
    with pytest.raises(InputError) as refusal:
        resolve(typed("ppo", "cartpole", overrides=overrides))
    assert words in str(refusal.value)


def test_a_broken_run_file_names_the_file(run_dir):
    (run_dir / "config.toml").write_text('algo = "ppo"\nenv = 5\n')
    with pytest.raises(InputError, match="train needs an algorithm and an environment"):
        resolve(typed(resume=run_dir))
    with pytest.raises(InputError, match="that is a run of ppo on None"):
        resolve(typed("ppo", "cartpole", resume=run_dir))


def test_help_lists_every_key_as_it_would_be_typed():
    text = keys_help("gail", "cartpole")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("  --")}
    assert lines["--env.name"][1] == "cartpole" and lines["--policy.hidden"][1] == "64,64"
    assert lines["--ppo.gamma"][1] == "0.995" and lines["--ppo.anneal_lr"][1] == "false", "values of this experiment"
    assert lines["--demos.source"][1] == "''" and "(softplus, logsigmoid, logit, least_squares)" in text
    assert lines["--env.kwargs.gravity"][1:] == ["9.8", "m/s²"]
    assert "--env.kwargs.gravity" not in keys_help("ppo", "gymnasium:CartPole-v1")
    values = [(line[0][2:], line[1]) for line in lines.values() if line[1] != "''" and "kwargs" not in line[0]]
    assert resolve(typed("gail", "cartpole", overrides=values)) == resolve(typed("gail", "cartpole"))


@pytest.mark.parametrize("argument, algo, words", [
    ("--learning-rate", "ppo", "unknown option '--learning-rate'; did you mean --ppo.learning_rate?"),
    ("--gamma=1", "gail", "did you mean --ppo.gamma?"),
    ("--max_grad_norm", "gail", "did you mean --ppo.max_grad_norm or --bc.max_grad_norm or --gail.max_grad_norm?"),
    ("--xyzzy", "ppo", "unknown option '--xyzzy'; see 'puffer-il train ppo <env> --help'"),
    ("--xyzzy", None, "unknown option '--xyzzy'; see 'puffer-il --help'"),
    ("extra", "ppo", "unexpected argument 'extra'; see 'puffer-il --help'"),
])
def test_unknown_options_get_a_hint(argument, algo, words):
    assert words in unknown_argument(argument, typed(algo))
