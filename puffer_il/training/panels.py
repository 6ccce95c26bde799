"""The panels of the dashboard: pure functions from a run's state and a width to lines of text.

Lines are composed by hand rather than by rich's tables, which take ten times as long: the drawing thread shares the
interpreter with the training.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from rich.text import Text

from puffer_il.core.spec import Metrics
from puffer_il.core.text import number, quantity
from puffer_il.rollout.stats import normalized
from puffer_il.training.loggers import RunInfo, interval

LABEL, ACCENT, GOOD, WARN, BAD = "dim", "cyan", "green", "yellow", "red"  # the terminal's own palette, light or dark
SPARKS = "▁▂▃▄▅▆▇█"
PHASES = ("collect", "reward", "advantages", "update", "eval", "checkpoint")
PARTS = ("time/env", "time/act")  # of collect
SHORT = {"approx_kl": "KL", "clip_fraction": "clipped", "explained_variance": "explained", "learning_rate": "step size",
         "grad_norm": "gradient"}


class History:
    """The shape of a whole run in bounded memory: neighbours are averaged whenever `size` points are full."""

    def __init__(self, size: int = 64) -> None:
        self._size, self._stride = size, 1
        self._means: list[float] = []
        self._pending: list[float] = []

    def add(self, value: float) -> None:
        if not math.isfinite(value):
            return
        self._pending.append(value)
        if len(self._pending) == self._stride:
            self._means.append(sum(self._pending) / self._stride)
            self._pending.clear()
        if len(self._means) == self._size:
            self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
            self._stride *= 2

    def spark(self, width: int) -> str:
        """At most `width` block characters, the start of the run on the left; empty before there are two points."""
        points = self._means
        if min(len(points), width) < 2:
            return ""
        if len(points) > width:
            cuts = [round(i * len(points) / width) for i in range(width + 1)]
            points = [sum(points[a:b]) / (b - a) for a, b in pairwise(cuts)]
        low, high = min(points), max(points)
        scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
        return "".join(SPARKS[round((p - low) * scale)] for p in points)


@dataclass
class State:
    """What the panels are drawn from."""

    run: RunInfo
    step: int = 0
    evaluated_at: int = 0
    latest: Metrics = field(default_factory=dict)
    history: dict[str, History] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # per phase, since the start

    def add(self, step: int, metrics: Metrics) -> None:
        self.step = step
        if "eval/return_mean" in metrics:
            self.evaluated_at = step
        for key, value in metrics.items():
            if key in PARTS:
                continue
            if key.startswith("time/"):
                self.seconds[key[5:]] = self.seconds.get(key[5:], 0.0) + value
            elif math.isfinite(value) or not key.startswith("rollout/"):  # if no episode ended, the last ones stand
                self.latest[key] = value
                self.history.setdefault(key, History()).add(value)

    def get(self, key: str) -> float:
        return self.latest.get(key, math.nan)

    def spark(self, key: str, width: int) -> Text:
        return Text(self.history[key].spark(width) if key in self.history else "", f"{LABEL} {ACCENT}")

    def share(self, value: float) -> float:
        """`value` on the scale from random (0) to expert (1); NaN where that is not known."""
        score = normalized(value, self.run.random_return, self.run.expert_return)
        return math.nan if score is None else score


@dataclass
class Panel:
    title: Text
    lines: list[Text]

    def framed(self, width: int, height: int = 0) -> list[Text]:
        """`width` characters wide and at least `height` lines high, the frame included."""
        blank = [Text("")] * (height - 2 - len(self.lines))
        rule = "─" * (width - 5 - self.title.cell_len)
        return [Text.assemble(("╭─ ", LABEL), self.title, (f" {rule}╮", LABEL)),
                *(Text.assemble(("│ ", LABEL), cell(line, width - 4), (" │", LABEL)) for line in self.lines + blank),
                Text(f"╰{'─' * (width - 2)}╯", LABEL)]


def applicable(state: State) -> list[Callable[[State, int], Panel]]:
    """The panels that this run has something for, the most important first; each is called with the width inside."""
    shown: list[Callable[[State, int], Panel]] = [returns]
    if any(key.startswith("disc/") for key in state.latest):
        shown.append(discriminator)
    if loss_keys(state):
        shown.append(losses)
    if any(state.seconds.values()):
        shown.append(phases)
    return shown


def returns(state: State, width: int) -> Panel:
    """Training and evaluated return, on a scale from random to expert where both are known."""
    lines = [gauge(state, width)] if math.isfinite(state.share(0.0)) else []
    notes = []
    if state.run.num_envs:
        training = state.get("rollout/return_mean")
        lines.append(_return_line(("● ", "training", ACCENT), Text(number(training)), state.share(training),
                                  state.spark("rollout/return_mean", 12)))
        notes.append(fact("episode length ", number(state.get("rollout/length_mean"))))
    if "eval/return_mean" in state.latest:
        spread = fact(" ± ", number(state.get("eval/return_std")), before=number(state.get("eval/return_mean")))
        sure = Text(f"95% CI {interval(state.latest)}" if "eval/ci_low" in state.latest else "", LABEL)
        lines.append(_return_line(("◆ ", "evaluation", GOOD), spread, state.get("eval/normalized"), sure))
        if math.isfinite(success := state.get("eval/success_rate")):
            notes.append(fact("succeeded ", f"{success:.0%}"))
        notes.append(fact("evaluated at ", quantity(state.evaluated_at)))
    else:
        lines.append(_return_line(("◇ ", "evaluation", LABEL), Text("none yet", LABEL), math.nan, Text()))
    if notes:
        lines.append(Text("  ") + Text(" · ", LABEL).join(notes))
    return Panel(_title("return"), lines)


def gauge(state: State, width: int) -> Text:
    """From random to expert: a bar up to the training return, the evaluation and its interval upon it."""
    run = state.run
    assert run.random_return is not None and run.expert_return is not None
    left, right = f"random {number(run.random_return)} ", f" {number(run.expert_return)} expert"
    room = max(8, width - len(left) - len(right))
    cells = [("─", LABEL)] * room

    def place(share: float) -> int:  # the line goes from -0.05 to 1.1; beyond that a mark stays at its end
        return round(min(max((share + 0.05) / 1.15, 0.0), 1.0) * (room - 1))

    def mark(start: float, end: float, character: str, style: str) -> None:
        if math.isfinite(start + end):
            for i in range(place(start), place(end) + 1):
                cells[i] = (character, style)

    training, score = state.share(state.get("rollout/return_mean")), state.get("eval/normalized")
    mark(0, training, "━", ACCENT)
    mark(state.get("eval/ci_low"), state.get("eval/ci_high"), "━", GOOD)
    mark(0, 0, "├", LABEL)
    mark(1, 1, "┤", LABEL)
    mark(training, training, "●", ACCENT)
    mark(score, score, "◆", GOOD)
    return Text.assemble((left, LABEL), *cells, (right, LABEL))


def discriminator(state: State, width: int) -> Panel:
    """How well it tells expert from policy, how steep it is, and what reward the policy gets from it."""
    word, style = verdict(state.latest)
    lines = []
    for side in ("expert", "policy"):
        if f"disc/accuracy_{side}" not in state.latest:
            continue
        accuracy = state.get(f"disc/accuracy_{side}")
        logit = fact("logit ", cell(_signed(state.get(f"disc/logit_{side}")), 7, "right"))
        lines.append(Text.assemble(cell(Text(side, LABEL), 8), bar(accuracy, width - 35, style),
                                   cell(_percent(accuracy), 6, "right"), (" right  ", LABEL), logit))
    named = {"loss ": "disc/loss", "gradient penalty ": "disc/gradient_penalty", "slope ": "disc/grad_norm_input"}
    lines.append(_facts(*(fact(label, number(state.get(key))) for label, key in named.items() if key in state.latest)))
    reward = fact(" ± ", number(state.get("disc/reward_std")), before=_signed(state.get("disc/reward_mean")))
    absorbing = fact("absorbing ", _signed(state.get("disc/absorbing_reward")))
    lines.append(_facts(fact("reward ", reward), *[absorbing] * ("disc/absorbing_reward" in state.latest)))
    return Panel(_title("discriminator", word, style), lines)


def verdict(metrics: Metrics) -> tuple[str, str]:
    """The discriminator's state in plain words and a style, from its accuracy and how far apart its logits are.

    Accuracy alone does not tell a saturated discriminator from a smooth one that still shows the way (as under a
    gradient penalty), so that "too strong" needs a gap as well: 6 is D = 0.95 on the expert against 0.05.
    """
    if not all(math.isfinite(value) for key, value in metrics.items() if key.startswith("disc/")):
        return "not finite: it has diverged", BAD
    if not metrics.keys() >= {"disc/accuracy_expert", "disc/accuracy_policy"}:
        return "", LABEL
    expert, policy = metrics["disc/accuracy_expert"], metrics["disc/accuracy_policy"]
    gap = metrics.get("disc/logit_expert", math.inf) - metrics.get("disc/logit_policy", 0.0)
    accuracy = (expert + policy) / 2
    if accuracy > 0.95 and gap > 6:
        return "too strong for the policy", WARN
    if accuracy < 0.55:
        return "cannot tell expert from policy", ACCENT
    if min(expert, policy) < 0.35:
        return f"calls nearly everything {'policy' if expert < policy else 'expert'}", WARN
    return "healthy", GOOD


def loss_keys(state: State) -> list[str]:
    """What the learner reports beyond the named groups, so that a new algorithm's metrics show without changes here."""
    elsewhere = ("rollout/", "eval/", "disc/")
    return [key for key in state.latest if "/" in key and not key.startswith(elsewhere)][:10]


def losses(state: State, width: int) -> Panel:
    """Two columns of name, latest value and its shape over the run."""
    keys = loss_keys(state)
    height = (len(keys) + 1) // 2
    entries = []
    for key in keys:
        label = key.rsplit("/", 1)[-1]
        label = SHORT.get(label, label.replace("_", " "))
        shape = state.spark(key, max(0, min(12, width // 2 - 22)))
        entries.append(cell(Text.assemble(cell(Text(label, LABEL), 10), cell(number(state.get(key)), 8, "right"), "  ",
                                          shape), width // 2))
    columns = entries[:height], [*entries[height:], Text("")]
    return Panel(_title("losses"), [left + right for left, right in zip(*columns, strict=False)])


def phases(state: State, width: int) -> Panel:
    """Where the time went since the start, per phase."""
    total = sum(state.seconds.values())
    names = sorted(state.seconds, key=lambda name: PHASES.index(name) if name in PHASES else len(PHASES))
    shares = {name: state.seconds[name] / total for name in names if state.seconds[name] > 0}
    lines = [Text.assemble(cell(Text(name, LABEL), 12), bar(share, width - 28, ACCENT),
                           cell(_percent(share), 6, "right"),
                           cell(Text(f"{state.seconds[name]:.1f} s", LABEL), 10, "right"))
             for name, share in shares.items()]
    return Panel(_title("time"), lines)


def bar(share: float, width: int, style: str) -> Text:
    """A heavy line up to `share` in [0, 1] and a light one behind it: readable without colours too."""
    width = max(width, 1)
    full = round(min(max(share, 0.0), 1.0) * width) if math.isfinite(share) else 0
    return Text.assemble(("━" * full, style), ("─" * (width - full), LABEL))


def cell(value: str | Text, width: int, align: Literal["left", "center", "right"] = "left") -> Text:
    """Exactly `width` characters: padded, or cut with an ellipsis."""
    text = Text(value) if isinstance(value, str) else value.copy()
    text.truncate(width, overflow="ellipsis")
    text.align(align, width)
    return text


def fact(label: str, value: str | Text, before: str = "") -> Text:
    """A quiet label and its value."""
    return Text.assemble(before, (label, LABEL), value)


def _facts(*facts: Text) -> Text:
    return Text("   ").join(facts)


def _return_line(mark: tuple[str, str, str], value: Text, share: float, rest: Text) -> Text:
    sign, label, style = mark
    score = Text(f"{round(share, 2) + 0.0:.2f}" if math.isfinite(share) else "", "bold")  # + 0.0: never "-0.00"
    return Text.assemble((sign, style), cell(Text(label, LABEL), 12), cell(value, 15), cell(score, 6), rest)


def _title(name: str, word: str = "", style: str = "") -> Text:
    return Text.assemble((name, "bold"), (" · " if word else "", LABEL), (word, style))


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "–"


def _signed(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else "–"
