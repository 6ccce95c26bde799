"""The dashboard's panels: what they say of a state, to the character."""

from __future__ import annotations

import math

import pytest

from puffer_il.training.panels import (
    History,
    State,
    applicable,
    bar,
    cell,
    discriminator,
    gauge,
    losses,
    phases,
    returns,
    verdict,
)
from tests.support.loggers import info

DISC = {"disc/accuracy_expert": 0.7, "disc/accuracy_policy": 0.7, "disc/logit_expert": 0.9, "disc/logit_policy": -0.7}
SCORES = {"rollout/return_mean": 261.15, "rollout/length_mean": 261.15, "eval/return_mean": 452.0,
          "eval/return_std": 8.0, "eval/normalized": 0.9, "eval/ci_low": 0.8, "eval/ci_high": 0.95}


def state(metrics: dict[str, float], **changes) -> State:
    result = State(info(**changes))
    result.add(400_000, metrics)
    return result


def test_history_keeps_the_shape_of_a_long_run():
    history = History(size=16)
    for i in range(10_000):
        history.add(float(i))
    history.add(math.nan)
    assert history.spark(8) == "▁▂▃▄▅▆▇█"
    assert len(history._means) < 16


def test_history_of_little_and_of_nothing():
    history = History()
    assert history.spark(8) == ""
    history.add(3.0)
    assert history.spark(8) == ""
    history.add(3.0)
    assert history.spark(8) == "▁▁"
    history.add(4.0)
    assert history.spark(8) == "▁▁█"
    assert history.spark(0) == history.spark(1) == ""


@pytest.mark.parametrize("changes, word", [
    ({}, "healthy"),
    ({"disc/accuracy_expert": 0.99, "disc/accuracy_policy": 0.98}, "healthy"),  # sure, but not steep
    ({"disc/accuracy_expert": 0.99, "disc/accuracy_policy": 0.98, "disc/logit_expert": 5.0, "disc/logit_policy": -5.0},
     "too strong for the policy"),
    ({"disc/accuracy_expert": 0.52, "disc/accuracy_policy": 0.5}, "cannot tell expert from policy"),
    ({"disc/accuracy_expert": 0.2, "disc/accuracy_policy": 0.99}, "calls nearly everything policy"),
    ({"disc/accuracy_expert": 0.99, "disc/accuracy_policy": 0.2}, "calls nearly everything expert"),
    ({"disc/accuracy_expert": math.nan}, "not finite: it has diverged"),
    ({"disc/logit_policy": -math.inf}, "not finite: it has diverged"),
    ({"disc/reward_std": math.nan}, "not finite: it has diverged"),
])
def test_verdict(changes, word):
    assert verdict(DISC | changes)[0] == word


def test_gauge_places_random_expert_training_and_evaluation():
    text = gauge(state(SCORES), 80).plain
    assert text.startswith("random 22.3 ─") and text.endswith("─ 500.0 expert") and len(text) == 80
    line = text.removeprefix("random 22.3 ").removesuffix(" 500.0 expert")
    place = {share: round((share + 0.05) / 1.15 * (len(line) - 1)) for share in (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)}
    assert line.index("├") == place[0.0] and line.index("┤") == place[1.0]
    assert line.index("●") == place[0.5] and line.index("◆") == place[0.9]
    assert line[place[0.8]] == "━" == line[place[0.95]] and line[place[0.95] + 1] == "─" == line[place[0.8] - 1]


def test_gauge_marks_stay_on_the_line():
    text = gauge(state({"rollout/return_mean": -1e9, "eval/normalized": 7.0}), 60).plain
    line = text.removeprefix("random 22.3 ").removesuffix(" 500.0 expert")
    assert line.index("●") == 0 and line.index("◆") == len(line) - 1


def test_returns_tell_score_interval_and_where_from():
    text = [line.plain.rstrip() for line in returns(state(SCORES), 76).lines]
    assert text[1].split() == ["●", "training", "261.1", "0.50"]
    assert text[2].split() == ["◆", "evaluation", "452.0", "±", "8.00", "0.90", "95%", "CI", "0.80", "to", "0.95"]
    assert text[3] == "  episode length 261.1 · evaluated at 400k"


def test_returns_without_expert_have_no_gauge_and_an_interval_of_returns():
    metrics = {key: value for key, value in SCORES.items() if key != "eval/normalized"}
    text = [line.plain for line in returns(state(metrics | {"eval/ci_low": 440.0}, expert_return=None), 76).lines]
    assert len(text) == 3 and "95% CI 440.0 to 0.95" in text[1].replace("0.950", "0.95")


def test_returns_of_behaviour_cloning_before_its_first_evaluation():
    text = [line.plain for line in returns(state({"bc/accuracy": 0.9}, num_envs=0), 76).lines]
    assert len(text) == 2 and "none yet" in text[1] and not any("training" in line for line in text)


def test_an_iteration_without_finished_episodes_leaves_the_last_ones_standing():
    current = state(SCORES)
    current.add(500_000, {"rollout/return_mean": math.nan, "losses/policy": math.nan})
    assert current.get("rollout/return_mean") == 261.15 and math.isnan(current.get("losses/policy"))


def test_discriminator_panel():
    metrics = DISC | {"disc/loss": 0.61, "disc/gradient_penalty": 0.02, "disc/grad_norm_input": 0.93,
                      "disc/reward_mean": -0.12, "disc/reward_std": 0.84, "disc/absorbing_reward": -0.4}
    panel = discriminator(state(metrics), 56)
    assert panel.title.plain == "discriminator · healthy"
    assert "70% right  logit   +0.90" in panel.lines[0].plain and "logit   -0.70" in panel.lines[1].plain
    assert panel.lines[2].plain == "loss 0.610   gradient penalty 0.020   slope 0.930"
    assert panel.lines[3].plain == "reward -0.12 ± 0.840   absorbing -0.40"


def test_discriminator_panel_of_an_algorithm_without_classes():
    panel = discriminator(state({"disc/loss": 0.61, "disc/reward_mean": 0.5, "disc/reward_std": 1.0}), 56)
    assert panel.title.plain == "discriminator"
    assert [line.plain for line in panel.lines] == ["loss 0.610", "reward +0.50 ± 1.00"]


def test_losses_show_whatever_a_learner_reports():
    panel = losses(state({"losses/approx_kl": 0.0123, "sqil/soft_q": -3.5, "bc/val_nll": 0.25, "SPS": 1.0} | DISC), 76)
    text = "\n".join(line.plain for line in panel.lines)
    assert [word in text for word in ("KL", "soft q", "val nll", "accuracy", "SPS")] == [True, True, True, False, False]


def test_phases_add_up_and_leave_out_what_never_ran():
    current = state({"time/update": 3.0, "time/collect": 1.0, "time/reward": 0.0})
    current.add(2, {"time/update": 3.0, "time/collect": 1.0, "time/own": 2.0})
    text = [line.plain.split() for line in phases(current, 60).lines]
    assert [(line[0], line[2], line[3]) for line in text] == [("collect", "20%", "2.0"), ("update", "60%", "6.0"),
                                                               ("own", "20%", "2.0")]


def test_panels_appear_with_their_metrics():
    assert applicable(state({})) == [returns]
    assert applicable(state({"losses/policy": 0.0, "time/update": 0.1})) == [returns, losses, phases]
    assert applicable(state(DISC | {"time/update": 0.0})) == [returns, discriminator]


@pytest.mark.parametrize("panel", [returns, discriminator, losses, phases])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_frames_are_exactly_as_wide_and_as_high_as_asked(panel, width):
    metrics = SCORES | DISC | {"losses/policy": -1e-9, "losses/value": 1e12, "time/update": 12345.6,
                               "rollout/return_mean": -1_234_567.8, "eval/return_std": 123_456.7}
    framed = panel(state(metrics), width - 4).framed(width, 9)
    assert len(framed) == 9 and {line.cell_len for line in framed} == {width}


def test_bar_and_cell():
    assert bar(0.5, 10, "").plain == "━━━━━─────" and bar(7.0, 4, "").plain == "━━━━"
    assert bar(math.nan, 3, "").plain == "───"
    assert cell("abc", 5).plain == "abc  " and cell("abc", 5, "right").plain == "  abc"
    assert cell("abcdef", 4).plain == "abc…"
