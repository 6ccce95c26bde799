"""What will hurt when something is learned from demonstrations: one line each, with the place and the remedy.

A detector is a function from a Subject to Findings, with its thresholds and their reasons at the top of its file. It
says nothing of what is sound, and nothing that is not true: thresholds lie where good recordings do not come.
"""

from collections.abc import Callable, Iterator

import numpy as np

from puffer_il.core.spec import EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.demos.judge import (
    actions,
    angles,
    columns,
    coverage,
    ends,
    episodes,
    modes,
    motion,
    numb,
    replay,
    rows,
    seeds,
    sessions,
    timing,
    ways,
)
from puffer_il.demos.judge.finding import Finding
from puffer_il.demos.judge.subject import Subject, looked_at
from puffer_il.demos.judge.world import World

DETECTORS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    columns.constant, actions.stored, actions.constant, actions.unused, actions.small, actions.normalised,
    actions.twins, episodes.copies, episodes.short, ends.rewards, ends.weights, ends.flags, ends.totals,
    ends.successors, ends.finals, timing.carried, replay.reproduced, seeds.repeated, timing.odd_timing, coverage.starts,
    coverage.gaps, columns.clocks, columns.copycat, columns.frozen, columns.dead, sessions.sessions, angles.odd_angles,
    rows.spikes, rows.zeros, rows.jumps, rows.disorder, rows.idle, numb.numb, motion.trembling, motion.unsteady,
    motion.hesitating, episodes.unlike, modes.conflicting, ways.two_ways, actions.unrelated)
# What follows from what is said already.
ALSO = {"late-frames": ("elsewhere", "unrelated"), "early-frames": ("unrelated",),
        "padding": ("idle", "jump", "zeros"), "time-gap": ("jump",), "spike": ("jump", "unreproduced"),
        "zeros": ("jump", "unreproduced", "spike"), "disorder": ("jump", "successors", "unreproduced", "unrelated"),
        "reset-leak": ("carried", "unreproduced"), "modes": ("ways",), "trembling": ("unsteady",)}


def judge(demos: Demos, spec: EnvSpec | None = None, world: World | None = None) -> list[Finding]:
    """Everything that looks wrong; [] if all is well. With `spec` also what does not suit the environment, and with
    `world` what the environment itself says to it."""
    subject, found = Subject(looked_at(demos), spec, world), list[Finding]()
    with np.errstate(all="ignore"):  # numbers of any size come from files
        for detector in DETECTORS:
            found += detector(subject)
    kinds = {finding.kind for finding in found}
    implied = {kind for cause in kinds for kind in ALSO.get(cause, ())}
    unique: dict[str, Finding] = {}
    for finding in found:
        if finding.kind not in implied:
            unique.setdefault(finding.kind if finding.kind.endswith("frames") else finding.line, finding)
    return list(unique.values())


def doubts(demos: Demos, spec: EnvSpec | None = None) -> list[str]:
    """The lines of what `judge` finds."""
    return [finding.line for finding in judge(demos, spec)]
