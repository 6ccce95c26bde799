"""The loop: collect → relabel → advantages → update → report."""

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from puffer_il.core.errors import Diverged, EnvFailure, NotFinite, Quit
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.nn import fused
from puffer_il.rollout.actors import RandomActor
from puffer_il.rollout.finite import all_finite
from puffer_il.rollout.stats import unscored
from puffer_il.training import last_word
from puffer_il.training.assemble import Parts, assemble
from puffer_il.training.averaged import ShownPolicy
from puffer_il.training.checkpoints import Checkpoints
from puffer_il.training.divergence import diverged, go_back
from puffer_il.training.folder import Folder
from puffer_il.training.health import Health
from puffer_il.training.hung import end_process, watched
from puffer_il.training.judge import Judge
from puffer_il.training.kept import Kept, Snapshot, is_kept, sign_of
from puffer_il.training.loggers import Logger, RunInfo
from puffer_il.training.machine import machine
from puffer_il.training.process import Interrupts, interruptible

Callback = Callable[[Metrics], bool | None]
PHASES = ("collect", "reward", "advantages", "update", "eval")
SCORES = ("eval", "eval_last", "eval_greedy", "eval_sampled")  # of the end, in summary.json


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: its policy (a `Policy` or a `NumpyPolicy`), which acts on `spec` and is the best evaluated one
    or the last, as `train.result` says; and the content of summary.json. `unwritten` says so if `run_dir` is another
    directory than the run's own, which could not be written."""

    policy: Any
    spec: EnvSpec
    summary: dict[str, Any]
    config: Config
    run_dir: Path
    unwritten: str = ""


def train(config: Config, loggers: list[Logger], run_dir: Path, *, resume: bool = False,
          callback: Callback | None = None, began: float | None = None, **given: Any) -> Outcome:
    """Run an experiment to its end, and close the loggers. `resume` goes on from run_dir's last checkpoint; `given` are
    objects in place of names, see `assemble`. The run's clock counts from `began`, of time.monotonic(), by default now.

    `callback` is called with the metrics after every iteration. If it returns False, the run ends as if that had been
    its last step: it is evaluated, and "finished".
    An interrupt (SIGINT, SIGTERM, SIGHUP) ends the run after the current iteration, but at once in an evaluation, and
    in the middle of a rollout that goes on for long (STOP_S), with a checkpoint and the status "interrupted"; a second
    one at once (KeyboardInterrupt), with a checkpoint unless the learner is learning. EnvFailure, and OSError of a
    logger (a closed pipe, a full disk), are raised after a checkpoint was written.
    """
    began = time.monotonic() if began is None else began
    with ExitStack() as stack:
        for logger in loggers:
            stack.callback(logger.close)
        trainer = Trainer(assemble(config, stack, **given), loggers, run_dir, callback, began)
        if resume and checkpoint.has_any(run_dir):  # a run may have been killed before its first
            for notice in trainer.checkpoints.restore():
                trainer.message(notice)
        if trainer.config != config:  # the demonstrations have decided something
            trainer.folder.attempt("config.toml", trainer.folder.write_config)
        trainer.hear(stop := stack.enter_context(interruptible()))
        stack.enter_context(watched(trainer.vecs, stop, trainer.last_words))
        try:
            trainer.run()
            summary = trainer.finish()
        except KeyboardInterrupt:  # the second one
            if trainer.whole:
                trainer.checkpoints.attempt()
            raise
        return Outcome(trainer.learner.policy, trainer.spec, summary, trainer.config, trainer.run_dir,
                       trainer.unwritten)


class Trainer:
    """One run in progress: its parts, its counters and its clock."""

    def __init__(self, parts: Parts, loggers: list[Logger], run_dir: Path, callback: Callback | None = None,
                 began: float | None = None) -> None:
        self.parts, self.loggers, self.callback = parts, loggers, callback
        self.began = time.monotonic() if began is None else began
        self.config, self.spec, self.demos, self.learner = parts.config, parts.spec, parts.demos, parts.learner
        self.collector, self.steps_per_update = parts.collector, parts.steps_per_update
        self.env_steps = self.updates = 0
        self.wall_before = 0.0  # seconds of the run before it was resumed
        self.train_s, self.phases = 0.0, dict.fromkeys(PHASES, 0.0)
        self.time_to_expert: float | None = None
        self.last_eval: dict[str, Any] | None = None
        self.keeps, self.kept = is_kept(self.config, self.learner), Kept()
        self.shown = ShownPolicy(self.learner, self.config.train.policy_memory)
        self.result: Snapshot | None = None  # chosen at the end
        self.scores: dict[str, dict[str, Any] | None] = dict.fromkeys(SCORES)
        self.status = "running"
        self.cause: str | None = None  # why it diverged
        self.rollbacks = 0  # how often it has gone back because of that
        self.sound = True  # nothing that is not finite has been learned
        self.health = Health()
        self.folder = Folder(run_dir, parts.config.to_toml(), self.message, self._moved)
        self.checkpoints, self.judge = Checkpoints(self), Judge(self)
        self.unwritten = ""
        self.expert_return = self.demos.return_mean if self.demos else None
        self.random_return: float | None = None
        self.introduced = False
        self.stopped: Callable[[], bool] = lambda: False
        self.rolling = False  # the environments step, and the learner does nothing
        self.whole = True  # the learner is as an iteration has left it
        self.vecs = [parts.eval_vec, *([self.collector.vec] if self.collector else [])]

    def hear(self, interrupts: Interrupts) -> None:
        """Let evaluations and waits for environments end when a signal says so, and hear of those that take long."""
        self.stopped = lambda: bool(interrupts)
        for vec in self.vecs:
            vec.watch.asked_s, vec.watch.say = interrupts.asked_s, self.message

    def last_words(self, error: BaseException) -> None:
        """End the process for an environment that can no longer be interrupted; with a checkpoint, where that can be
        had from another thread: in a rollout, when the learner does nothing."""
        if self.rolling:
            self.checkpoints.attempt(environments=False)
        for logger in self.loggers:
            with suppress(Exception):
                logger.close()
        last_word.told()
        end_process(error)

    def run(self) -> None:
        """Iterate until the status is another than "running"."""
        try:
            self.start()
            while self.status == "running":
                self.iterate()
                if self.stopped() and self.status == "running":
                    self.status = "interrupted"
        except NotFinite as error:
            self.stop_for(error)
        except EnvFailure as error:
            self.checkpoints.write_after(error)
            raise
        except OSError:  # of a logger, after an iteration
            self.checkpoints.attempt()
            raise
        except Quit:  # in the middle of a rollout, of which nothing is learned, or of an evaluation
            self.status = "interrupted"

    def start(self) -> None:
        """Measure the random policy once, write the first checkpoint, and introduce the run to the loggers."""
        with suppress(Quit):
            if self.random_return is None:
                chance = RandomActor(self.spec, self.config.train.seed)
                self.random_return = self.judge.measure(chance, "a random policy")
            if self.expert_return is None and (expert := self.parts.scale()):
                self.expert_return = self.judge.measure(expert, "the expert")
        if self.stopped() and self.status == "running":
            self.status = "interrupted"
        self.kept.sign = sign_of(self.learner, self.random_return, self.expert_return)
        if not checkpoint.has_any(self.run_dir):
            self.checkpoints.write(environments=False)  # they begin by their seed
            self.checkpoints.seconds = 0.0  # before the loggers' time begins
        cfg, vec = self.config, self.collector.vec if self.collector else None
        info = RunInfo(algo=cfg.algo, env=cfg.env.name, seed=cfg.train.seed, run_dir=str(self.run_dir),
                       total_steps=cfg.train.total_steps, num_envs=vec.num_envs if vec else 0,
                       backend=vec.backend if vec else "none", num_workers=vec.num_workers if vec else 0,
                       num_groups=len(vec.groups) if vec else 1, num_agents=self.spec.num_agents,
                       device=str(self.parts.device), expert_return=self.expert_return,
                       random_return=self.random_return, demos=self._describe_demos(), wall_s=self.wall_s,
                       parameters=self.learner.policy.num_parameters)
        for logger in self.loggers:
            logger.start(info)
        if (reason := unscored(self.random_return, self.expert_return)) and cfg.train.stop_at_expert:
            reason += "; train.stop_at_expert has no effect"
        for note in (*(self.demos.notes if self.demos else ()), *(vec or self.parts.eval_vec).notices,
                     *self.judge.notices, *([reason] if reason else ())):
            self.message(note)
        self.introduced = True

    def iterate(self) -> None:
        """One pass of the loop."""
        self.phases = dict.fromkeys(PHASES, 0.0)
        begin = time.monotonic()
        metrics: Metrics = {}
        try:
            metrics = self.learn()
            cause = diverged(metrics, self.learner)
        except Diverged as error:
            cause = str(error)
        if cause and go_back(self, cause):
            self.whole = True
            return
        self.cause = f"{cause}; lower the learning rates" if cause else None
        self.env_steps += self.steps_per_update
        self.updates += 1
        self.whole = self.sound = not cause
        if not cause:
            self.shown.follow(self.time_to_expert is not None, self.progress)
        elapsed = time.monotonic() - begin
        self.train_s += elapsed
        self.report(metrics, elapsed)

    def learn(self) -> Metrics:
        """Collect, relabel, advantages, update."""
        learner, buffer = self.learner, None
        metrics: Metrics = {}
        if self.collector is not None:
            with self.phase("collect"), self._rolling():
                self.collector.progress = self.progress
                buffer = self.collector.collect()
            self.whole = False
            with self.phase("reward"):
                metrics |= learner.relabel(buffer)
            if not all_finite(buffer.rewards):
                raise Diverged(f"the reward that {self.config.algo} has learned is NaN or infinite")
            with self.phase("advantages"):
                learner.advantages(buffer)
        self.whole = False
        with self.phase("update"):
            return metrics | learner.update(buffer, self.progress)

    def stop_for(self, error: NotFinite) -> None:
        """The environment gave something that is not finite, of which nothing was learned."""
        self.status, self.cause = "diverged", str(error)

    def report(self, metrics: Metrics, elapsed: float) -> None:
        """Evaluate and checkpoint when due, decide whether to continue, and call the loggers."""
        cfg = self.config
        if self.cause:
            self.status = "diverged"
        elif self.progress >= 1 or self.learner.done:
            self.status = "finished"
        if self.status == "running" and self._due(cfg.eval.interval_steps):
            metrics |= self.judge.evaluate()
            if self.judge.reaches(cfg.train.stop_at_expert):
                self.status = "finished"
        metrics |= self._times() | (self.collector.metrics() if self.collector else {})
        metrics |= {"SPS": self.steps_per_update / elapsed, "SPS_mean": self.env_steps / self.train_s,
                    "updates": self.updates, **self._counts()}
        self._log(metrics)
        score = self.last_eval["normalized"] if self.last_eval else None
        guard = self.collector.guard.notices if self.collector else []
        for notice in (*self.learner.notices, *guard, *fused.take_notices(), *self.health.notices(metrics, score)):
            self.message(notice)
        self.learner.notices.clear()
        guard.clear()
        if self.status == "running" and (self.checkpoints.late() or self._due(cfg.train.checkpoint_steps)):
            self.checkpoints.attempt()
        if self.callback and self.callback(metrics) is False and self.status == "running":
            self.status = "finished"

    def finish(self) -> dict[str, Any]:
        """Last evaluations, checkpoint and summary; the learner is left with the policy that is the result. A diverged
        run keeps its last good checkpoint, and its policy; an interrupted one writes its own and does not keep the user
        waiting. What ends the process from here on costs no training: --resume comes back here."""
        if self.status == "finished":
            self.checkpoints.attempt()
            self.whole = False
            try:
                self.learner.finish()
                self.phases = {"eval": 0.0}
                self._log(self.judge.choose() | self._times() | self._counts())
            except Quit:
                self.status = "interrupted"
            except NotFinite as error:
                self.stop_for(error)
        if self.status != "finished":
            self.result = self.kept.best
            self.scores |= {"eval": self.result.score if self.result else self.last_eval, "eval_last": self.last_eval}
        summary = self.summary()
        self.unwritten = self.checkpoints.write_end(summary)
        if self.result is not None:
            self.learner.policy.load_state_dict(self.result.policy)
        elif not self.sound and checkpoint.has_any(self.run_dir):
            self.learner.policy.load_state_dict(checkpoint.load_newest(self.run_dir)[0]["policy"])
        for logger in self.loggers:
            logger.finish(summary)
        return summary

    def summary(self) -> dict[str, Any]:
        cfg, demos = self.config, self.demos
        reasons = {"chosen_because": list(cfg.chosen_because)} if cfg.chosen_because else {}
        return {
            "status": self.status, "cause": self.cause, "rollbacks": self.rollbacks, "algo": cfg.algo, **reasons,
            "env": cfg.env.name, "seed": cfg.train.seed, "env_steps": self.env_steps, "wall_s": self.wall_s,
            "train_s": self.train_s, "sps": self.env_steps / self.train_s if self.train_s else None,
            "demos": demos and {"source": demos.source, "episodes": demos.num_episodes,
                                "return_mean": self.expert_return},
            "expert_return": self.expert_return, "random_return": self.random_return, **self.scores,
            "best": self.result and self.result.told(), "time_to_expert_s": self.time_to_expert,
            "device": str(self.parts.device),
            "versions": {"puffer_il": version("puffer-il"), "torch": torch.__version__, "numpy": np.__version__,
                         "python": platform.python_version()},
            "machine": machine(self.collector.vec if self.collector else None, self.parts.device),
        }

    @property
    def run_dir(self) -> Path:
        """Where the run's directory is now."""
        return self.folder.path

    @property
    def progress(self) -> float:
        """Share of the run that is over, in [0, 1]."""
        return min(1.0, self.env_steps / self.config.train.total_steps)

    @property
    def wall_s(self) -> float:
        """Seconds since the run began, plus those of the run before it was resumed."""
        return self.wall_before + time.monotonic() - self.began

    def _due(self, interval: int) -> bool:
        """True if the iteration that has just ended passed a multiple of `interval` steps."""
        return interval > 0 and self.env_steps // interval > (self.env_steps - self.steps_per_update) // interval

    @contextmanager
    def _rolling(self) -> Iterator[None]:
        """A rollout, of which nothing is learned if it is given up."""
        self.rolling = True
        try:
            yield
        except Quit:
            self.message("the rollout under way was given up; a resumed run begins new episodes")
            raise
        finally:
            self.rolling = False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.phases[name] += time.perf_counter() - begin

    def _counts(self) -> Metrics:
        """How far the run is."""
        return {"env_steps": self.env_steps, "wall_s": self.wall_s, "progress": self.progress}

    def _times(self) -> Metrics:
        """Seconds per phase, and of the checkpoints since the last report."""
        times = {f"time/{name}": seconds for name, seconds in self.phases.items()}
        if self.checkpoints.seconds:
            times["time/checkpoint"], self.checkpoints.seconds = self.checkpoints.seconds, 0.0
        return times

    def _describe_demos(self) -> str:
        if self.demos is None:
            return "none"
        mean = "unknown return" if self.expert_return is None else f"mean return {self.expert_return:.1f}"
        return f"{self.demos.num_episodes} episodes, {len(self.demos):,} transitions, {mean}"

    def _log(self, metrics: Metrics) -> None:
        """Hand metrics to the loggers. What the run directory does not take, they keep."""
        for logger in self.loggers:
            if not logger.file:
                logger.log(self.env_steps, metrics)
            else:
                self.folder.attempt(logger.file, partial(logger.log, self.env_steps, metrics))

    def _moved(self) -> None:
        """The run directory is elsewhere, or empty."""
        self.checkpoints.wanted = True
        for logger in self.loggers:
            logger.moved(self.run_dir)

    def message(self, text: str) -> None:
        for logger in self.loggers:
            logger.message(text)

