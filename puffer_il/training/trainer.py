"""The loop: collect → relabel → advantages → update → report."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import puffer_il
from puffer_il.core import checkpoint
from puffer_il.core.config import Config
from puffer_il.core.errors import EnvFailure, InputError, Quit
from puffer_il.core.spec import Metrics, Starts
from puffer_il.demos import load_demos
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import Learner
from puffer_il.learners.common import mixins
from puffer_il.learners.common.learned_reward import FILE as REWARD_FILE
from puffer_il.learners.common.learned_reward import save_reward
from puffer_il.learners.registry import get_learner, usable_learners
from puffer_il.nn import fused
from puffer_il.rollout.actors import num_parameters, random_actor
from puffer_il.rollout.asking import Guide
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.rollout.evaluate import EVAL_SEED, FINAL_SEED, evaluate, evaluate_policy, make_eval_vec
from puffer_il.training.experts import CHANCE, PERSON, MakePerson, make_expert
from puffer_il.training.loggers import RunInfo, Sink
from puffer_il.training.process import allocator, choose_device, interruptible, process_seconds, set_threads
from puffer_il.vector.model import model_of
from puffer_il.vector.vec import Vec, make_vec

PHASES = ("collect", "reward", "advantages", "update", "eval")
EXPERT_LEVEL = 0.95  # the normalised score from which `time_to_expert_s` counts


def train(config: Config, sinks: list[Sink], run_dir: Path, resume: bool = False,
          person: MakePerson | None = None) -> dict[str, Any]:
    """Run an experiment to its end and return summary.json's content. `resume` goes on from run_dir's last checkpoint;
    `person` makes the expert of a learner that asks somebody at the terminal.

    An interrupt (SIGINT, SIGTERM) ends the run after the current iteration, with a checkpoint; a second one at once.
    EnvFailure is raised after a checkpoint was written.
    """
    with ExitStack() as stack:
        run = Run(config, sinks, run_dir, stack, person)
        if resume:
            run.restore()
        stop = stack.enter_context(interruptible())
        run.start()
        try:
            while run.status == "running":
                run.iterate()
                if stop and run.status == "running":
                    run.status = "interrupted"
        except EnvFailure:
            run.checkpoint(environments=False)
            raise
        except Quit:  # in the middle of a rollout, of which nothing is learned
            run.status = "interrupted"
        return run.finish()


class Run:
    """One experiment in progress: its parts, its counters and its clock."""

    def __init__(self, config: Config, sinks: list[Sink], run_dir: Path, stack: ExitStack,
                 person: MakePerson | None = None) -> None:
        cfg, self.config, self.sinks, self.run_dir = config.train, config, sinks, run_dir
        self.device = choose_device(cfg.device)
        set_threads(cfg, cfg.num_steps * config.env.num_envs)
        torch.manual_seed(cfg.seed)
        # Casts are not kept: parameters change while the context lasts.
        stack.enter_context(torch.autocast(self.device.type, torch.bfloat16, enabled=cfg.precision == "bfloat16",
                                           cache_enabled=False))
        self.env_steps = self.updates = 0
        self.wall_before = 0.0  # seconds of the run before it was resumed
        self.train_s, self.phases = 0.0, dict.fromkeys(PHASES, 0.0)
        self.time_to_expert: float | None = None
        self.last_eval: dict[str, Any] | None = None
        self.status = "running"
        self.last_checkpoint = time.monotonic()
        self.checkpoint_s = 0.0  # seconds since the last report

        cls = get_learner(config.algo)
        env = config.env
        # The evaluation's environments tell the spec, so demonstrations are checked before workers start.
        self.eval_vec = stack.enter_context(make_eval_vec(env, max(config.eval.episodes, config.eval.final_episodes)))
        self.spec = self.eval_vec.spec
        if self.spec.action.kind not in cls.about.spaces:
            raise InputError(f"{config.algo} is for {' and '.join(cls.about.spaces)} actions but {env.name} has "
                             f"{self.spec.action.kind} ones; choose another, see 'puffer-il algos'")
        self.expert = getattr(config, config.algo).expert if cls.needs_expert else ""  # whom the learner asks
        self.demos = self._load_demos(cls)
        model = {"model": model_of(env)} if cls.needs_model else {}
        self.learner = cls(self.spec, self.demos, config, self.device, cfg.seed, **model)
        self.collector: Collector | None = None
        if cls.needs_rollouts:
            vec = stack.enter_context(make_vec(env.name, num_envs=env.num_envs, backend=env.backend,
                                               num_workers=env.num_workers, num_groups=env.num_groups,
                                               kwargs=env.kwargs, seed=cfg.seed, starts=self._starts()))
            policy = self.learner.policy
            buffer = RolloutBuffer(self.spec, cfg.num_steps, vec.num_envs, state_dim=getattr(policy, "state_dim", 0),
                                   allocate=allocator(self.device), expert=bool(self.expert))
            self.collector = Collector(vec, policy, buffer, self.device, cfg.seed, allocator(self.device),
                                       self._guide(vec, person))
            self.steps_per_update = cfg.num_steps * vec.num_envs
        else:
            self.steps_per_update = self.learner.steps_per_update
        self.expert_return = None if self.demos is None else self.demos.return_mean
        self.random_return: float | None = None

    def start(self) -> None:
        """Measure the random policy once, and introduce the run to the sinks."""
        if self.random_return is None:
            scores = evaluate(self.eval_vec, random_actor(self.spec, self.config.train.seed),
                              self.config.eval.final_episodes, EVAL_SEED)
            self.random_return = float(scores.returns.mean())
        if self.expert_return is None:
            self.expert_return = self._expert_return()
        cfg, vec = self.config, self.collector.vec if self.collector else None
        info = RunInfo(algo=cfg.algo, env=cfg.env.name, seed=cfg.train.seed, run_dir=str(self.run_dir),
                       total_steps=cfg.train.total_steps, num_envs=vec.num_envs if vec else 0,
                       backend=vec.backend if vec else "none", num_workers=vec.num_workers if vec else 0,
                       num_groups=len(vec.groups) if vec else 1, num_agents=self.spec.num_agents,
                       device=str(self.device), expert_return=self.expert_return, random_return=self.random_return,
                       demos=self._describe_demos(),
                       parameters=num_parameters(self.learner.policy))
        for sink in self.sinks:
            sink.start(info)
        for note in (*(self.demos.notes if self.demos else ()), *(vec.notices if vec else ())):
            self._message(note)

    def iterate(self) -> None:
        """One pass of the loop."""
        self.phases = dict.fromkeys(PHASES, 0.0)
        begin = time.monotonic()
        learner, buffer = self.learner, None
        metrics: Metrics = {}
        if self.collector is not None:
            with self._phase("collect"):
                buffer = self.collector.collect()
            with self._phase("reward"):
                metrics |= learner.relabel(buffer)
            with self._phase("advantages"):
                learner.advantages(buffer)
        with self._phase("update"):
            metrics |= learner.update(buffer, self.progress)
        self.env_steps += self.steps_per_update
        self.updates += 1
        elapsed = time.monotonic() - begin
        self.train_s += elapsed
        self.report(metrics, elapsed)

    def report(self, metrics: Metrics, elapsed: float) -> None:
        """Evaluate and checkpoint when due, decide whether to go on, and tell the sinks."""
        cfg = self.config
        if not all(map(math.isfinite, metrics.values())):
            self.status = "diverged"
        elif self.progress >= 1 or self.learner.done:
            self.status = "finished"
        if self.status == "running" and self._due(cfg.eval.interval_steps):
            metrics |= self.evaluate(cfg.eval.episodes)
            target = cfg.train.stop_at_expert
            if target and self.last_eval and (self.last_eval["normalized"] or 0) >= target:
                self.status = "finished"
        metrics |= self._times()
        metrics |= {"SPS": self.steps_per_update / elapsed, "SPS_mean": self.env_steps / self.train_s,
                    "env_steps": self.env_steps, "updates": self.updates, "wall_s": self.wall_s,
                    "progress": self.progress} | self._rollout_metrics()
        for sink in self.sinks:
            sink.log(self.env_steps, metrics)
        for notice in (*self.learner.notices, *fused.take_notices()):
            self._message(notice)
        self.learner.notices.clear()
        minutes = cfg.train.checkpoint_minutes
        late = minutes and time.monotonic() - self.last_checkpoint > 60 * minutes
        if self.status == "running" and (late or self._due(cfg.train.checkpoint_steps)):
            self.checkpoint()

    def evaluate(self, episodes: int, seed: int = EVAL_SEED) -> Metrics:
        """Play the present policy on the true reward; the same starting states for the same seed."""
        cfg = self.config
        with self._phase("eval"):
            scores = evaluate_policy(self.eval_vec, self.learner.policy, episodes, seed + cfg.train.seed,
                                     cfg.eval.deterministic, cfg.train.seed)
        self.last_eval = scores.summary(self.random_return, self.expert_return)
        normalized = self.last_eval["normalized"]
        if self.time_to_expert is None and normalized is not None and normalized >= EXPERT_LEVEL:
            self.time_to_expert = self.wall_s
        low, high = self.last_eval["ci95"]
        values = {k: v for k, v in self.last_eval.items() if isinstance(v, float)} | scores.log
        values |= {"ci_low": low, "ci_high": high}
        return {f"eval/{k}": v for k, v in values.items()}

    def finish(self) -> dict[str, Any]:
        """Last evaluation, checkpoint and summary. A diverged run keeps its last good checkpoint; an interrupted one
        writes its own and does not keep the user waiting."""
        if self.status == "finished":
            self.learner.finish()
            self.phases = {"eval": 0.0}
            metrics = self.evaluate(self.config.eval.final_episodes, FINAL_SEED) | self._times()
            for sink in self.sinks:
                sink.log(self.env_steps, metrics | {"env_steps": self.env_steps, "wall_s": self.wall_s,
                                                    "progress": self.progress})
        if self.status != "diverged":
            self.checkpoint()
        summary = self.summary()
        checkpoint.write_json(self.run_dir / "summary.json", summary)
        for sink in self.sinks:
            sink.finish(summary)
        return summary

    def summary(self) -> dict[str, Any]:
        cfg, demos = self.config, self.demos
        reasons = {"chosen_because": list(cfg.chosen_because)} if cfg.chosen_because else {}
        return {
            "status": self.status, "algo": cfg.algo, **reasons, "env": cfg.env.name, "seed": cfg.train.seed,
            "env_steps": self.env_steps, "wall_s": self.wall_s, "train_s": self.train_s,
            "sps": self.env_steps / self.train_s if self.train_s else None,
            "demos": demos and {"source": demos.source, "episodes": demos.num_episodes,
                                "return_mean": self.expert_return},
            "expert_return": self.expert_return, "random_return": self.random_return, "eval": self.last_eval,
            "time_to_expert_s": self.time_to_expert, "device": str(self.device),
            "versions": {"puffer_il": puffer_il.__version__, "torch": torch.__version__, "numpy": np.__version__,
                         "python": platform.python_version()},
        }

    def checkpoint(self, environments: bool = True) -> None:
        """Write everything that `restore` needs; without the environments' state if they have just failed."""
        begin = time.perf_counter()
        state = {
            "learner": self.learner.state_dict(), "policy": self.learner.policy.state_dict(),
            "collector": self.collector.state_dict() if self.collector and environments else None,
            "spec": checkpoint.spec_to_state(self.spec), "torch_rng": torch.get_rng_state(),
            "env_steps": self.env_steps, "updates": self.updates, "wall_s": self.wall_s, "train_s": self.train_s,
            "time_to_expert": self.time_to_expert, "last_eval": self.last_eval,
            "expert_return": self.expert_return, "random_return": self.random_return,
        }
        checkpoint.save(self.run_dir / "checkpoints", self.env_steps, state, self.config.train.keep_checkpoints)
        if hasattr(self.learner, "learned_reward"):
            save_reward(self.learner.learned_reward(), self.run_dir / REWARD_FILE)
        self.checkpoint_s += time.perf_counter() - begin
        self.last_checkpoint = time.monotonic()

    def restore(self) -> None:
        """Take up the newest checkpoint of run_dir."""
        state = checkpoint.load(checkpoint.latest(self.run_dir), "cpu")
        self.learner.load_state_dict(state["learner"])
        if self.collector is not None and state["collector"] is not None:
            self.collector.load_state_dict(state["collector"])
        torch.set_rng_state(state["torch_rng"])
        self.env_steps, self.updates, self.train_s = state["env_steps"], state["updates"], state["train_s"]
        self.wall_before, self.time_to_expert = state["wall_s"], state["time_to_expert"]
        self.last_eval, self.random_return = state["last_eval"], state["random_return"]
        self.expert_return = state["expert_return"]
        if self.progress >= 1:
            raise InputError(f"{self.run_dir} has done its {self.config.train.total_steps:,} steps; "
                             "raise --total-steps to go on")

    @property
    def progress(self) -> float:
        """Share of the run that is over, in [0, 1]."""
        return min(1.0, self.env_steps / self.config.train.total_steps)

    @property
    def wall_s(self) -> float:
        """Seconds since the process started, plus those of the run before it was resumed."""
        return self.wall_before + process_seconds()

    def _due(self, interval: int) -> bool:
        """True if the iteration that has just ended passed a multiple of `interval` steps."""
        return interval > 0 and self.env_steps // interval > (self.env_steps - self.steps_per_update) // interval

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.phases[name] += time.perf_counter() - begin

    def _times(self) -> Metrics:
        """Seconds per phase, of the checkpoints since the last report, and of what collecting is made of, if known."""
        times = {f"time/{name}": seconds for name, seconds in self.phases.items()}
        if self.checkpoint_s:
            times["time/checkpoint"], self.checkpoint_s = self.checkpoint_s, 0.0
        if "collect" in self.phases and self.collector is not None and self.collector.act_seconds:
            times |= {"time/env": self.collector.env_seconds, "time/act": self.collector.act_seconds}
        return times

    def _rollout_metrics(self) -> Metrics:
        if self.collector is None or not self.collector.episode_returns:
            return {}
        returns = np.concatenate(self.collector.episode_returns)
        logged = {f"rollout/{name}": mean for name, mean in self.collector.vec.pop_log_means().items()}
        return {"rollout/return_mean": float(returns.mean()), "rollout/episodes": float(len(returns)),
                "rollout/length_mean": float(np.concatenate(self.collector.episode_lengths).mean()), **logged}

    def _load_demos(self, cls: type[Learner]) -> Demos | None:
        """Those that the learner or a mix-in needs; others that are given tell the expert's return."""
        cfg, mix = self.config.demos, self.config.sections.get("mix")
        mixed_in = mixins.wants(mix) if mix else ""
        if not cfg.source and (cls.needs_demos or mixed_in):
            who = f"{self.config.algo} learns" if cls.needs_demos else f"{mixed_in} takes"
            raise InputError(f"demos.source is empty and {who} from demonstrations; give a file with --demos")
        if not cfg.source:
            return None
        demos = load_demos(cfg.source, self.spec, episodes=cfg.episodes, clip_actions=cfg.clip_actions,
                           subsample=cfg.subsample, seed=self.config.train.seed, weighting=cfg.weighting,
                           temperature=cfg.temperature)
        if demos.actions is None and get_learner(self.config.algo).needs_actions:
            able = [name for name, other in usable_learners()[0].items() if other.needs_demos
                    and not other.needs_actions]
            raise InputError(f"demos {demos.source}: no actions are stored and {self.config.algo} learns from them; "
                             f"record them, or train {' or '.join(able) or 'an algorithm that needs none'}")
        return demos

    def _guide(self, vec: Vec, person: MakePerson | None) -> Guide | None:
        """The expert beside the rollouts of a learner that asks one."""
        if not self.expert:
            return None
        vec.reset()  # so that a script can be asked whether it is there
        expert = make_expert(f"{self.config.algo}.expert", self.expert, vec, self.config.train.seed, person)
        mixer: Any = self.learner
        return Guide(expert, mixer)

    def _expert_return(self) -> float | None:
        """What the expert that is asked collects itself; None without one, for a person, and for chance, which sets no
        scale."""
        vec = self.eval_vec
        if self.expert in ("", PERSON, CHANCE) or vec.backend == "multiprocessing":
            return None
        vec.reset()
        expert, rows = make_expert("expert", self.expert, vec, self.config.train.seed), slice(0, vec.num_envs)
        scores = evaluate(vec, lambda obs, starts: expert.act(obs, starts, rows), self.config.eval.final_episodes,
                          EVAL_SEED)
        return float(scores.returns.mean())

    def _starts(self) -> Starts | None:
        mix = self.config.sections.get("mix")
        return mixins.starts_of(mix, self.demos, self.config.env.name) if mix else None

    def _describe_demos(self) -> str:
        if self.demos is None:
            return "none"
        mean = "unknown return" if self.expert_return is None else f"mean return {self.expert_return:.1f}"
        return f"{self.demos.num_episodes} episodes, {len(self.demos):,} transitions, {mean}"

    def _message(self, text: str) -> None:
        for sink in self.sinks:
            sink.message(text)
