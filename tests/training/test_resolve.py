"""What the user asked for becomes a Config: layers in their order, and which environment a Gymnasium id is."""

from __future__ import annotations

import pytest

from puffer_il.core.errors import InputError
from puffer_il.native.catalogue import twin_of
from puffer_il.training.resolve import given_keys, resolve
from puffer_il.vector import make


def test_values_of_python_and_text_are_the_same():
    python = resolve("ppo", "cartpole", [("python", {"ppo": {"learning_rate": 1e-3}, "policy": {"hidden": [32, 32]}})])
    text = resolve("ppo", "cartpole", [("text", {"ppo": {"learning-rate": "1e-3"}, "policy": {"hidden": "32,32"}})])
    assert python == text and python.ppo.learning_rate == 1e-3 and python.policy.hidden == (32, 32)


def test_a_wrong_key_names_the_layer():
    with pytest.raises(InputError, match=r"my script: unknown key 'ppo\.gama'; did you mean 'ppo\.gamma'"):
        resolve("ppo", "cartpole", [("my script", {"ppo": {"gama": 1.0}})])


def test_given_keys_are_those_of_the_layers():
    assert given_keys([("a", {"algo": "ppo", "ppo": {"learning-rate": 1}}), ("b", {"env": {"num_envs": 8}})]) == {
        "ppo.learning_rate", "env.num_envs"}


@pytest.mark.parametrize("name, twin", [("CartPole-v1", "cartpole"), ("Ant-v5", "ant"), ("Ant-v4", None),
                                        ("puffer_il/CartPole-v0", "cartpole"), ("puffer_il/Breakout-v0", "breakout"),
                                        ("cartpole", None), ("gymnasium:CartPole-v1", None), ("", None)])
def test_only_the_very_id_of_a_c_environment_names_it(name, twin):
    assert twin_of(name) == twin


def test_a_gymnasium_id_is_its_c_environment_and_that_is_said():
    said: list[str] = []
    config = resolve("gail", "CartPole-v1", say=said.append)
    assert config == resolve("gail", "cartpole") and config.env.name == "cartpole"
    assert said == ["CartPole-v1 is the C environment 'cartpole', its equal step for step; 'gymnasium:CartPole-v1' is "
                    "Gymnasium's own"]


def test_gymnasiums_own_environment_can_be_asked_for():
    said: list[str] = []
    config = resolve("ppo", "gymnasium:CartPole-v1", say=said.append)
    assert config.env.name == "gymnasium:CartPole-v1" and said == []
    assert make.find_creator(config.env.name).facts().native is False
    assert config.ppo == resolve("ppo", "cartpole").ppo, "the shipped experiment is the same"


def test_gymnasiums_own_is_taken_where_the_c_environment_cannot_be_built(monkeypatch):
    def broken(self):
        raise InputError("no C compiler was found")

    monkeypatch.setattr(make.Creator, "facts", broken)
    said: list[str] = []
    assert make.fastest_name("CartPole-v1", said.append) == "CartPole-v1"
    assert said == ["CartPole-v1 is Gymnasium's own, because the C environment 'cartpole' cannot be used: no C "
                    "compiler was found"]
