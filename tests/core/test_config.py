"""Config: what TOML and the command line may say, what is refused and in which words, and that nothing is lost."""

from __future__ import annotations

import dataclasses
import pickle
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puffer_il.core.config import Config, convert, read_toml, setting
from puffer_il.core.errors import InputError
from puffer_il.learners.experiment import SHARED, build, config_folder, experiment_layers, replaced, section_types
from puffer_il.learners.registry import learner_names


@dataclass(frozen=True)
class Kinds:
    switch: bool = setting(True, "a bool")
    count: int = setting(3, "an int", low=1, high=2**60)
    share: float = setting(0.5, "a float", low=0, high=1)
    word: str = setting("tanh", "a str", choices=("tanh", "relu"))
    sizes: tuple[int, ...] = setting((64, 64), "a tuple", low=1)
    nothing: tuple[int, ...] = setting((), "a tuple", low=1)
    table: dict = setting({}, "a dict")
    plain: float = 1.0  # a learner of somebody else's may do without `setting`


FIELDS = {field.name: field for field in dataclasses.fields(Kinds)}


@dataclass(frozen=True)
class Odd:
    maybe: int | None = None


def as_kind(name, value):
    return convert(f"k.{name}", value, Kinds, FIELDS[name])


@pytest.mark.parametrize("name, value, result", [
    ("switch", False, False), ("switch", "true", True), ("switch", "False", False),
    ("count", 7, 7), ("count", "7", 7), ("count", "2e6", 2_000_000), ("count", 2e6, 2_000_000),
    ("count", "1_000", 1000), ("count", str(2**53 + 1), 2**53 + 1), ("count", "5.0", 5),
    ("share", 1, 1.0), ("share", "1e-3", 0.001), ("share", ".5", 0.5), ("plain", "-3", -3.0),
    ("word", "relu", "relu"),
    ("sizes", [32], (32,)), ("sizes", "32,16", (32, 16)), ("sizes", "[32, 16]", (32, 16)), ("sizes", "128", (128,)),
    ("sizes", [], ()), ("sizes", "", ()),
    ("table", {"a": 1}, {"a": 1}), ("table", "{a = 1, b = 'x'}", {"a": 1, "b": "x"}),
])
def test_values_that_are_understood(name, value, result):
    converted = as_kind(name, value)
    assert converted == result and type(converted) is type(result)


@pytest.mark.parametrize("name, value, words", [
    ("switch", 1, "expected true or false, such as true"), ("switch", "yes", "expected true or false"),
    ("switch", "", "expected true or false"),
    ("count", "many", "expected a whole number, such as 3"), ("count", 1.5, "a whole number"),
    ("count", "1.5", "a whole number"), ("count", True, "a whole number"), ("count", "", "a whole number"),
    ("count", float("inf"), "a whole number"), ("count", "1e999", "a whole number"), ("count", "nan", "a whole number"),
    ("count", [1], "a whole number"), ("count", {}, "a whole number"), ("count", "0x10", "a whole number"),
    ("share", "half", "expected a number, such as 0.5"), ("share", "nan", "a number"), ("share", [], "a number"),
    ("share", float("nan"), "a number"), ("share", "inf", "a number"), ("share", 10**400, "a number"),
    ("share", False, "a number"),
    ("word", 5, "expected text, such as 'tanh'"), ("word", True, "expected text"),
    ("sizes", 64, "expected a list, each a whole number, such as 64,64"), ("sizes", "64,x", "a list"),
    ("nothing", "x", "expected a list, each a whole number, such as 84,84"),
    ("sizes", [64, "x"], "a list"), ("sizes", [[64]], "a list"), ("sizes", True, "a list"),
    ("table", 5, "expected a table, such as { name = 1.5 }"), ("table", "5", "a table"), ("table", "{", "a table"),
    ("table", [1], "a table"), ("table", False, "a table"),
    ("count", 0, "must be at least 1"), ("count", "1e30", f"must be at most {2**60}"),
    ("share", -0.1, "must be at least 0"), ("share", "1.5", "must be at most 1"),
    ("sizes", "64,0", "must be at least 1"),
    ("word", "gelu", "choose one of tanh, relu"),
])
def test_values_that_are_refused(name, value, words):
    with pytest.raises(InputError) as refusal:
        as_kind(name, value)
    text = str(refusal.value)
    assert text.startswith(f"k.{name} = {value!r}: ") and words in text and "\n" not in text


def test_a_type_that_no_file_can_hold_is_a_programmers_mistake():
    with pytest.raises(NotImplementedError, match="are not supported"):
        convert("odd.maybe", 1, Odd, dataclasses.fields(Odd)[0])


def refused(*layers, algo="ppo") -> str:
    with pytest.raises(InputError) as refusal:
        build(algo, [(f"layer {i}", tables) for i, tables in enumerate(layers)])
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_the_last_layer_wins_and_the_rest_are_defaults():
    config = build("ppo", [("a", {"ppo": {"gamma": 0.9, "clip_coef": 0.1}}), ("b", {"ppo": {"gamma": "0.8"}})])
    assert (config.ppo.gamma, config.ppo.clip_coef) == (0.8, 0.1)
    assert config.ppo.gae_lambda == type(config.ppo)().gae_lambda and config.train == SHARED["train"]()


def test_keys_may_be_written_with_dashes():
    assert build("ppo", [("a", {"ppo": {"learning-rate": 1}})]).ppo.learning_rate == 1.0


def test_tables_are_merged_entry_by_entry():
    layers = [("a", {"env": {"kwargs": {"gravity": 9.8, "length": 1}}}), ("b", {"env": {"kwargs": {"gravity": 5.0}}})]
    assert build("ppo", layers).env.kwargs == {"gravity": 5.0, "length": 1}
    assert SHARED["env"]().kwargs == {}, "the default is not shared between configs"


@pytest.mark.parametrize("tables, words", [
    ({"pop": {"gamma": 1}}, "layer 0: unknown section 'pop'; did you mean 'ppo'?"),
    ({"zzzzzz": {}}, "layer 0: unknown section 'zzzzzz'; known: env, demos, policy, train, eval, mix, ppo"),
    ({"train": 5}, "layer 0: train = 5: that is a section; write [train] and its keys"),
    ({"ppo": {"gama": 1}}, "layer 0: unknown key 'ppo.gama'; did you mean 'ppo.gamma'?"),
    ({"ppo": {"learningrate": 1}}, "unknown key 'ppo.learningrate'; did you mean 'ppo.learning_rate'?"),
    ({"ppo": {"num_steps": 1}}, "unknown key 'ppo.num_steps'; did you mean 'train.num_steps'?"),
    ({"train": {"gamma": 1}}, "unknown key 'train.gamma'; did you mean 'ppo.gamma'?"),
    ({"eval": {"xyzzy": 1}}, "unknown key 'eval.xyzzy'; known: eval.interval_steps, eval.episodes, "),
    ({"ppo": {"gamma": "x"}}, "layer 0: ppo.gamma = 'x': expected a number, such as 0.99"),
    ({"ppo": {"gamma": 1.5}}, "layer 0: ppo.gamma = 1.5: must be at most 1"),
    ({"train": {"device": "gpu"}}, "layer 0: train.device = 'gpu': choose one of auto, cpu, cuda"),
])
def test_what_is_unknown_or_wrong_is_named_with_its_remedy(tables, words):
    assert words in refused(tables)


def test_every_place_that_has_the_key_is_named():
    text = refused({"gail": {"learning_rate": 1}}, algo="gail")
    assert "'gail.disc_learning_rate'" in text and "'ppo.learning_rate'" in text and "'bc.learning_rate'" in text


def test_the_origin_is_that_of_the_layer_that_is_wrong():
    assert refused({"ppo": {"gamma": 1}}, {"ppo": {"gamma": 2}}).startswith("layer 1: ")


def test_unknown_algorithms_are_refused():
    with pytest.raises(InputError, match="unknown algorithm 'gial'; did you mean 'gail'"):
        build("gial", [])
    with pytest.raises(InputError, match=r"unknown algorithm 'xyz'; known: .*bc, .*gail, .*ppo"):
        build("xyz", [])


def test_sections_are_those_of_the_learner_and_of_what_it_uses():
    assert list(section_types("ppo")) == [*SHARED, "mix", "ppo"]
    assert list(section_types("gail")) == [*SHARED, "mix", "ppo", "bc", "gail"]
    assert list(section_types("bc")) == [*SHARED, "bc"]


ODD = {"env": {"name": "a:b\"\\'", "kwargs": {"x": [1, 2], "deep": {"y": True}}}, "policy": {"hidden": (8,), "lstm": 3},
       "train": {"seed": 2**40, "run_dir": "runs/ü\n"}, "ppo": {"gamma": 0.1 + 0.2}}


@pytest.mark.parametrize("algo", learner_names())
def test_the_resolved_file_gives_the_same_config_again(algo):
    tables = {section: table for section, table in ODD.items() if section in section_types(algo)}
    config = build(algo, [("test", tables)])
    written = tomllib.loads(config.to_toml())
    assert written["algo"] == algo
    assert build(algo, [("file", written)]) == config


@settings(deadline=None)  # the first example imports a learner
@given(st.floats(0, 1), st.integers(0, 2**62), st.text(), st.booleans(), st.lists(st.integers(1, 10**6), max_size=4))
def test_any_value_survives_the_file(gamma, seed, run_dir, squash, hidden):
    run_dir = run_dir.encode("utf-8", "ignore").decode()
    config = build("ppo", [("test", {"ppo": {"gamma": gamma}, "train": {"seed": seed, "run_dir": run_dir},
                                     "policy": {"squash": squash, "hidden": hidden}})])
    assert build("ppo", [("file", tomllib.loads(config.to_toml()))]) == config


def test_replace_checks_and_leaves_the_original_alone():
    config = build("ppo", [])
    assert replaced(config, {"train.seed": 9}).train.seed == 9 and config.train.seed == 1
    with pytest.raises(InputError, match=r"train\.seed = -1: must be at least 0"):
        replaced(config, {"train.seed": -1})
    with pytest.raises(InputError, match=r"unknown key 'train\.sed'"):
        replaced(config, {"train.sed": 1})


def test_config_is_frozen_hides_nothing_and_travels():
    config = build("ppo", [])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.ppo.gamma = 0.5
    with pytest.raises(AttributeError, match="gail"):
        _ = config.gail
    assert pickle.loads(pickle.dumps(config)) == config and isinstance(config, Config)


@pytest.mark.parametrize("algo", learner_names())
def test_every_key_has_a_sentence_and_a_default_that_it_accepts(algo):
    for section, cls in section_types(algo).items():
        for field in dataclasses.fields(cls):
            default = getattr(cls(), field.name)
            assert field.metadata["help"], f"{section}.{field.name}"
            assert convert(field.name, default, cls, field) == default


def test_files_that_cannot_be_read(tmp_path):
    broken, binary = tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("[ppo]\ngamma = \n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, words in ((tmp_path / "none.toml", "does not exist"), (tmp_path, "cannot be read"),
                        (broken, "line 2"), (binary, "cannot be read")):
        with pytest.raises(InputError) as refusal:
            read_toml(path)
        assert str(path) in str(refusal.value) and words in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("env", ["cartpole", "CartPole-v1", "envs/cartpole", "envs/cartpole/", "own/CartPole-v1",
                                 "gymnasium:CartPole-v1"])
def test_experiment_files_are_found_by_the_environments_short_name(env):
    origins = [Path(origin).relative_to(config_folder()).as_posix() for origin, _ in experiment_layers("gail", env)]
    assert origins == ["base.toml", "fast.toml", "cartpole/gail.toml"]


@pytest.mark.parametrize("env", ["no_such_env", "module:function", "/", "", "hopper", "Hopper-v5", "envs/walker2d/",
                                 "gymnasium:Hopper-v4", "gymnasium:LunarLander-v3"])
def test_other_environments_and_those_with_a_physics_engine_get_the_base_alone(env):
    assert [Path(origin).name for origin, _ in experiment_layers("gail", env)] == ["base.toml"]


@pytest.mark.parametrize("env", ["swimmer", "Swimmer-v5"])
@pytest.mark.parametrize("algo", ["ppo", "gail", "bc"])
def test_what_a_task_needs_from_every_algorithm_is_written_once(env, algo):
    layers = experiment_layers(algo, env)
    own = [tables for origin, tables in layers if Path(origin).parent.name == "swimmer"]
    assert own == [{} if algo == "bc" else {"ppo": {"gamma": 0.999, "gae_lambda": 0.98}}]


@pytest.mark.parametrize("env", ["mountaincarcontinuous", "gymnasium:MountainCarContinuous-v0", "snake", "taxi"])
def test_compiled_environments_without_an_experiment_of_their_own_are_fast_ones(env):
    assert [Path(origin).name for origin, _ in experiment_layers("gail", env)] == ["base.toml", "fast.toml"]


@pytest.mark.parametrize("files, fast", [({"env.toml": "agents = 1\n"}, True), ({"mine.pyx": ""}, True), ({}, False),
                                         ({"env.toml": 'packages = ["mujoco"]\n'}, False), ({"mine.py": ""}, False)])
def test_a_folder_of_compiled_code_is_a_fast_environment_unless_it_needs_a_physics_engine(files, fast, tmp_path):
    (tmp_path / "mine").mkdir()
    for name, text in files.items():
        (tmp_path / "mine" / name).write_text(text)
    layers = experiment_layers("gail", str(tmp_path / "mine"))
    assert [Path(origin).name for origin, _ in layers] == ["base.toml", "fast.toml"][:1 + fast]


def test_fast_environments_are_many_and_slow_ones_learn_much_from_few_steps():
    fast, slow = (build("ppo", experiment_layers("ppo", env)) for env in ("snake", "hopper"))
    assert (fast.env.num_envs, fast.train.num_steps) == (256, 64)
    assert (fast.ppo.learning_rate, fast.ppo.anneal_lr) == (1e-3, True)
    assert (fast.ppo.update_epochs, fast.ppo.num_minibatches, fast.ppo.target_kl) == (4, 4, 0)
    assert (slow.env.num_envs, slow.train.num_steps) == (16, 128)
    assert (slow.ppo.learning_rate, slow.ppo.anneal_lr) == (3e-4, True)
    assert (slow.ppo.update_epochs, slow.ppo.num_minibatches, slow.ppo.target_kl) == (10, 16, 0.02)
    assert slow.ppo.norm_values and fast.ppo.norm_values and slow.policy.init_log_std == -0.5


@pytest.mark.parametrize("algo", ["sac", "sqil", "csil"])
def test_off_policy_learners_have_wide_networks_and_bounded_critics_where_steps_are_dear(algo):
    fast, slow = (build(algo, experiment_layers(algo, env)) for env in ("mountaincarcontinuous", "hopper"))
    assert (fast.policy.hidden, fast.policy.activation, fast.train.num_steps) == ((64, 64), "tanh", 64)
    assert (slow.policy.hidden, slow.policy.activation, slow.train.num_steps) == ((256, 256), "relu", 32)
    assert (fast.sac.learning_rate, fast.sac.tau, fast.sac.critic_hidden, fast.sac.critic_norm) == (
        1e-3, 0.05, (64, 64), False)
    assert (slow.sac.learning_rate, slow.sac.tau, slow.sac.critic_hidden, slow.sac.critic_norm) == (
        3e-4, 0.005, (128, 128), True)
    assert fast.policy.squash and slow.policy.squash
    if algo == "csil":
        assert fast.csil.trust == 0 < slow.csil.trust


@pytest.mark.parametrize("algo", sorted(learner_names()))
@pytest.mark.parametrize("env", ["snake", "hopper"])
def test_sections_that_an_algorithm_has_not_are_left_out_of_the_files_for_all(algo, env):
    layers = experiment_layers(algo, env)
    assert build(algo, layers).algo == algo
    assert {name for _, tables in layers for name in tables} <= section_types(algo).keys()


SHIPPED = sorted((algo, path.parent.name) for path in config_folder().glob("*/*.toml")
                 for algo in (learner_names() if path.stem == "base" else [path.stem]))


@pytest.mark.parametrize(("algo", "env"), SHIPPED)
def test_every_shipped_experiment_is_valid(algo, env):
    assert build(algo, experiment_layers(algo, env)).algo == algo


@pytest.mark.parametrize("algo", learner_names())
def test_the_base_suits_every_algorithm(algo):
    assert build(algo, experiment_layers(algo, "anything")).algo == algo
