"""Every config key in `--help`, as it would be typed."""

from __future__ import annotations

from puffer_il.cli.keys import keys_help
from puffer_il.cli.overrides import override
from puffer_il.learners.experiment import COMMAND_LINE
from puffer_il.training.resolve import resolve


def test_help_lists_every_key_as_it_would_be_typed():
    text = keys_help("gail", "cartpole")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("  --")}
    assert lines["--env.name"][1] == "cartpole" and lines["--policy.hidden"][1] == "64,64"
    assert lines["--ppo.gamma"][1] == "0.995" and lines["--ppo.anneal-lr"][1] == "false", "values of this experiment"
    assert lines["--demos.source"][1] == "''" and "(auto, softplus, logsigmoid, logit, least_squares)" in text
    assert lines["--env.kwargs.gravity"][1:] == ["9.8", "m/s²"]
    assert "--env.kwargs.gravity" not in keys_help("ppo", "gymnasium:CartPole-v1")
    values = [(line[0][2:], line[1]) for line in lines.values() if line[1] != "''" and "kwargs" not in line[0]]
    typed = [(COMMAND_LINE, override(key, value)) for key, value in values]
    assert resolve("gail", "cartpole", typed) == resolve("gail", "cartpole")