"""The search: which settings are measured, in which order, and which of them is taken. It measures nothing itself."""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from puffer_il.core.config import Config, as_option
from puffer_il.learners.experiment import replaced
from puffer_il.learners.registry import get_learner
from puffer_il.training.loggers import Clock

CONTENDER = 1.4  # what is no more than so much slower than the best is measured again: a machine has slow moments
GROWTH, ENOUGH, TIE, SLACK = 1.1, 0.9, 1.1, 1.15  # see the functions that use them
STEPPING_BY, SIZES_BY, MINIBATCHES_BY, DONE_BY = 0.4, 0.65, 0.8, 1.1  # shares of the budget, after which no more begin
MOST_TIMES, MOST_ENVS = 64, 16_384
LEAST_ITERATIONS = 20  # of a run; with fewer updates little is learned, however fast
SHORT_ROLLOUT = 8  # steps, for settings that differ in how environments are stepped
STEPPING = ("env.backend", "env.num_workers", "env.num_groups")
NO_TIME = "no time left"
KEYS = (*STEPPING, "env.num_envs", "train.threads", "ppo.num_minibatches")


class TimeUp(BaseException):
    """A measurement has used up its time. No Exception, so that nothing takes it for an environment's."""


@dataclass(frozen=True)
class Cost:
    """One iteration: its steps, its seconds, those of its collecting; and the bytes that the run takes."""

    steps: int
    seconds: float
    collect: float = 0.0
    memory: float = 0.0


Measure = Callable[[Config, float], Cost]  # a setting, the seconds that it may take; TimeUp, or the run's own errors


@dataclass(frozen=True)
class Trial:
    """A setting and its cost, or why there is none."""

    config: Config
    cost: Cost | None = None
    error: str = ""
    collecting: bool = False  # compared by its collecting alone

    @property
    def rate(self) -> float:
        if self.cost is None:
            return 0.0
        return self.cost.steps / (self.cost.collect if self.collecting else self.cost.seconds)

    @property
    def seconds(self) -> float:
        """Of an iteration, endless where it failed."""
        return self.cost.seconds if self.cost else math.inf


@dataclass(frozen=True)
class Machine:
    """What the search needs to know about the machine."""

    cores: int
    python: bool  # the environments are stepped one by one, in Python or by PufferLib
    agents: int = 1
    memory: float = math.inf  # bytes that are free


@dataclass
class Tuner:
    """The search: which settings are measured, in which order, and which of them is taken."""

    config: Config
    given: Collection[str]
    machine: Machine
    measure: Measure
    budget: float
    clock: Clock = time.monotonic
    trials: list[Trial] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failure: Exception | None = None
    gain: float | None = None

    def run(self) -> Config:
        """The settings to train with. The first error, if nothing works."""
        self.begin = self.clock()
        chosen = self.config
        if self.machine.python:
            chosen = self.stepping(chosen)
        best = self.sizes(chosen)
        if best is not None:
            chosen = self.minibatches(best).config
        if self.failure is not None and not any(trial.cost for trial in self.trials):
            raise self.failure
        return self.confirmed(chosen)

    def stepping(self, config: Config) -> Config:
        """In this process, or in how many workers and groups. More workers are tried as long as they gain, or until two
        in a row have not."""
        short = replaced(config, {"train.num_steps": min(SHORT_ROLLOUT, config.train.num_steps)})
        tried: list[Trial] = []
        best, idle = 0.0, 0
        for several in self._stepping_choices(config):
            if idle < 2:
                some = [self._try(replaced(short, choice), STEPPING_BY, collecting=True) for choice in several]
                idle = 0 if max(trial.rate for trial in some) > TIE * best else idle + 1
                best = max(best, *(trial.rate for trial in some))
                tried += some
        if not best:
            return config
        # Once more, and in turn, what might be best.
        near = [trial.config for trial in tried if CONTENDER * trial.rate > best]
        tried = self._compare(near, STEPPING_BY, collecting=True)
        fastest = max(tried, key=lambda trial: trial.rate).config
        return replaced(config, {key: fastest.get(key) for key in STEPPING})

    def sizes(self, config: Config) -> Trial | None:
        """Environments are doubled as long as that gains GROWTH, each time with the threads that may suit their number.
        The fewest that reach ENOUGH of the best are taken, because fewer environments learn from fewer samples."""
        first = self._threads(config, self._thread_choices(config))
        found = [first] if first else []
        while found and (bigger := self._doubled(found)) is not None:
            threads = self._threads(bigger, self._more_threads(found[-1].config))
            if threads is None:
                break
            found.append(threads)
            if threads.rate <= GROWTH * found[-2].rate:
                break
        enough = ENOUGH * max((trial.rate for trial in found), default=0.0)
        return next((trial for trial in found if trial.rate >= enough), None)

    def minibatches(self, best: Trial) -> Trial:
        """The most whose iteration is within SLACK of the fastest: more updates for about the same time."""
        ppo = best.config.sections.get("ppo")
        if ppo is None or "ppo.num_minibatches" in self.given or not get_learner(best.config.algo).needs_rollouts:
            return best
        count, rows = ppo.num_minibatches, best.config.env.num_envs * best.config.train.num_steps
        counts = [n for n in (count, count // 2, 2 * count) if 1 <= n <= rows]
        tried = self._compare([replaced(best.config, {"ppo.num_minibatches": n}) for n in counts], MINIBATCHES_BY)
        fast = [trial for trial in tried if trial.rate * SLACK >= max(t.rate for t in tried)]
        return max(fast, key=lambda trial: trial.config.ppo.num_minibatches)

    def confirmed(self, chosen: Config) -> Config:
        """The chosen settings against those as they are, afresh and in turn: luck may have been taken for speed."""
        rates = {k: 0.0 for k in range(2)}
        for k in (0, 1, 0, 1) if chosen != self.config else ():
            rates[k] = max(rates[k], self._measure((self.config, chosen)[k], DONE_BY, False).rate)
        before, after = rates.values()
        if before > SLACK * after > 0:
            self.remarks.append(f"{flags(changes(self.config, chosen))} looked best, but not when measured again")
            return self.config
        self.gain = after / before if before and after else None
        return chosen

    def _stepping_choices(self, config: Config) -> list[list[dict[str, Any]]]:
        """One process, then ever more workers, each with one group and with two; what the user gave is in all."""
        count, most = config.env.num_envs // self.machine.agents, self.machine.cores
        fits = [n for n in range(2, most + 1) if count % n == 0]
        workers = sorted({n for n in fits if n & (n - 1) == 0} | set(fits[-1:]))
        if "env.num_workers" in self.given:
            workers = [config.env.num_workers] if config.env.num_workers else []
        choices = [[("serial", 0, 0)]]
        choices += [[("multiprocessing", n, groups) for groups in (1, 2) if n % groups == 0] for n in workers]
        fixed = {key: config.get(key) for key in STEPPING if key in self.given}
        named = [[dict(zip(STEPPING, choice, strict=True)) for choice in several] for several in choices]
        kept = [[choice for choice in several if fixed.items() <= choice.items()] for several in named]
        return [several for several in kept if several] if sum(map(len, kept)) > 1 else []

    def _thread_choices(self, config: Config) -> list[int]:
        """The configured number (0 chooses by the work), one, half of the cores and all of them."""
        if "train.threads" in self.given:
            return [config.train.threads]
        most = self.machine.cores
        return list(dict.fromkeys([config.train.threads, 1, max(1, most // 2), most]))

    def _more_threads(self, config: Config) -> list[int]:
        """Those that larger work may want: no fewer than smaller work did."""
        def effective(threads: int) -> int:
            return threads or self.machine.cores

        return [n for n in self._thread_choices(self.config) if effective(n) >= effective(config.train.threads)]

    def _threads(self, config: Config, choices: list[int]) -> Trial | None:
        """The best of these numbers of threads; the configured one unless another is clearly better."""
        tried = self._compare([replaced(config, {"train.threads": n}) for n in choices], SIZES_BY)
        good = [trial for trial in tried if trial.rate]
        if not good:
            return None
        enough = max(trial.rate for trial in good) / TIE
        return next((trial for trial in good if trial.rate >= enough
                     and trial.config.train.threads == self.config.train.threads), max(good, key=lambda t: t.rate))

    def _doubled(self, found: list[Trial]) -> Config | None:
        """Twice the environments, with minibatches of the same size; None, and a remark, if that cannot be."""
        config, cost, n = found[-1].config, found[-1].cost, 2 * found[-1].config.env.num_envs
        assert cost is not None
        if "env.num_envs" in self.given or not get_learner(config.algo).needs_rollouts:
            return None
        obstacle = self._obstacle(n, config, cost)
        if obstacle:
            self.remarks.append(f"not tried: {n:,} environments {obstacle}")
            return None
        changes = {"env.num_envs": n}
        if "ppo" in config.sections and "ppo.num_minibatches" not in self.given:
            changes["ppo.num_minibatches"] = 2 * config.ppo.num_minibatches
        return replaced(config, changes)

    def _obstacle(self, n: int, config: Config, half: Cost) -> str:
        """Why `n` environments are out of the question, empty if they are not."""
        train, most = config.train, min(MOST_ENVS, MOST_TIMES * self.config.env.num_envs)
        if n > most:
            return "are more than autotune considers"
        if n * train.num_steps * LEAST_ITERATIONS > train.total_steps:
            return f"would leave fewer than {LEAST_ITERATIONS} iterations in --total-steps {train.total_steps}"
        if 2 * half.memory > self.machine.memory / 2:
            return "would take more than half of the free memory"
        if self._left(SIZES_BY) < 2 * 2 * half.seconds:  # a warm-up and a measured iteration
            return "would take longer to measure than there is time"
        return ""

    def _compare(self, configs: list[Config], share: float, collecting: bool = False) -> list[Trial]:
        """Measure them one after the other, and those near the best once more, in turn; the faster time counts."""
        trials = [self._try(config, share, collecting) for config in configs]
        best = max((trial.rate for trial in trials), default=0.0)
        near = [k for k, trial in enumerate(trials) if trial.rate * CONTENDER >= best > 0]
        for k in near if len(near) > 1 else []:
            if self._left(share) > 3 * trials[k].seconds:
                trials[k] = self._try(configs[k], share, collecting, again=True)
        return trials

    def _left(self, share: float) -> float:
        """Seconds until that share of the budget is over."""
        return self.begin + share * self.budget - self.clock()

    def _try(self, config: Config, share: float, collecting: bool = False, again: bool = False) -> Trial:
        """Measure a setting before that share of the budget is over; a known one only `again`."""
        known = ((trial.config, trial.collecting) == (config, collecting) for trial in self.trials)
        k = next((k for k, same in enumerate(known) if same), None)
        if k is not None and not again:
            return self.trials[k]
        trial = self._measure(config, share, collecting)
        if k is None:
            if trial.error != NO_TIME:
                self.trials.append(trial)
        else:
            self.trials[k] = trial = max(self.trials[k], trial, key=lambda trial: trial.rate)
        return trial

    def _measure(self, config: Config, share: float, collecting: bool) -> Trial:
        limit = self._left(share) if self.trials else self.budget
        if limit <= 0:
            return Trial(config, error=NO_TIME)
        try:
            return Trial(config, self.measure(config, limit), collecting=collecting)
        except TimeUp:
            return Trial(config, error=f"not done after {limit:.1f} s", collecting=collecting)
        except Exception as error:
            self.failure = self.failure or error
            reason = str(error).strip().splitlines() or [type(error).__name__]
            return Trial(config, error=reason[-1], collecting=collecting)


def changes(before: Config, after: Config) -> dict[str, Any]:
    """Key → value, for the keys that differ."""
    return {key: after.get(key) for key in KEYS if after.get(key) != before.get(key)}


def flags(changed: dict[str, Any]) -> str:
    return " ".join(f"{as_option(key)} {value}" for key, value in changed.items())
