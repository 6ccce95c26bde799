"""`train --autotune`: measure some iterations of the user's own experiment, and take the settings that are fastest.

    how environments are stepped (Python alone) → environments × threads → minibatches

Each stage starts from what the one before has chosen; at the end that is measured against the settings as they were.
Keys that the user gave are not touched.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import psutil

from puffer_il.core.config import Config
from puffer_il.kernels.threads import cores
from puffer_il.learners.registry import get_learner
from puffer_il.training.tune.probe import Probe
from puffer_il.training.tune.report import report
from puffer_il.training.tune.search import Machine, Tuner
from puffer_il.vector.make import find_creator

BUDGET_S, NATIVE_BUDGET_S = 10.0, 8.0


def tune(config: Config, given: Collection[str]) -> Config:
    """Measure, print what was measured and chosen, and return the config to train with."""
    facts = find_creator(config.env.name, config.env.kwargs, config.env.pictures).facts()
    python = get_learner(config.algo).needs_rollouts and not (facts.native and facts.batched)
    machine = Machine(cores(), python, facts.num_agents, psutil.virtual_memory().available)
    probe = Probe()
    tuner = Tuner(config, given, machine, probe, BUDGET_S if python else NATIVE_BUDGET_S)
    with _waiting():
        chosen = tuner.run()
    report(tuner, chosen, tuner.clock() - tuner.begin, probe.notices).show()
    return chosen


@contextmanager
def _waiting() -> Iterator[None]:
    """A sign of life on a terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        yield
        return
    with console.status("autotune: measuring for some seconds", refresh_per_second=4):
        yield
