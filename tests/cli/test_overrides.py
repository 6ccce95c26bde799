"""`--section.key VALUE`: told from options, and what tables it becomes."""

from __future__ import annotations

import pytest

from puffer_il.cli.overrides import override, split
from tests.support.command_line import refused


@pytest.mark.parametrize("key, text, tables", [
    ("ppo.learning-rate", "1e-3", {"ppo": {"learning_rate": "1e-3"}}),
    ("env.kwargs", "{a = 1}", {"env": {"kwargs": "{a = 1}"}}),
    ("env.kwargs.gravity", "9.9", {"env": {"kwargs": {"gravity": 9.9}}}),
    ("env.kwargs.force-mag", "10", {"env": {"kwargs": {"force_mag": 10}}}),
    ("env.kwargs.flag", "true", {"env": {"kwargs": {"flag": True}}}),
    ("env.kwargs.names", "[1, 2]", {"env": {"kwargs": {"names": [1, 2]}}}),
    ("env.kwargs.mode", "human", {"env": {"kwargs": {"mode": "human"}}}),
    ("env.kwargs.mode", "[" * 3000, {"env": {"kwargs": {"mode": "[" * 3000}}}),
    ("env.kwargs.mode", "'9'", {"env": {"kwargs": {"mode": "9"}}}),
    ("env.kwargs.a.b", "1", {"env": {"kwargs": {"a": {"b": 1}}}}),
])
def test_overrides_become_tables(key, text, tables):
    assert override(key, text) == tables


def test_overrides_are_told_from_options():
    words = ["gail", "--ppo.gamma", "0.9", "--seed", "1", "--ppo.learning-rate=1e-3", "--policy.init_log_std", "-1",
             "--env.kwargs.a", "b=c", "--x-z.y=", "cartpole", "--demos", "a.b"]
    overrides, rest = split(words)
    assert overrides == [("ppo.gamma", "0.9"), ("ppo.learning-rate", "1e-3"), ("policy.init_log_std", "-1"),
                         ("env.kwargs.a", "b=c"), ("x-z.y", "")]
    assert rest == ["gail", "--seed", "1", "cartpole", "--demos", "a.b"]


@pytest.mark.parametrize("words", [["--policy.shared"], ["--policy.shared", "--seed", "1"]])
def test_an_override_without_a_value_is_refused(capsys, words):
    assert refused(capsys, "train", "ppo", "cartpole", *words) == (
        "--policy.shared needs a value: --policy.shared VALUE, or --policy.shared true for a switch")
