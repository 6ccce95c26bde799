"""`train --profile`: where the time of a run went, stage by stage, and which flag would save the most of it."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from puffer_il.core.config import Config
from puffer_il.core.spec import Metrics
from puffer_il.core.text import Table, number, quantity
from puffer_il.kernels.threads import cores
from puffer_il.nn.fused import IN_TORCH, MAX_HIDDEN, MAX_UNITS
from puffer_il.training.loggers import Clock, Logger, RunInfo

FEW_ROWS = 8192  # of an iteration, below which its fixed costs show
MOST_ADVICE = 4
PARTS = {"env": "  environments", "act": "  policy"}  # of collect, where the general path tells them apart
STAGES = {"collect": "collect", **PARTS, "reward": "reward", "advantages": "advantages", "update": "update",
          "eval": "eval", "final eval": "final eval", "checkpoint": "checkpoint", "other": "other"}


@dataclass(frozen=True)
class Timings:
    """What advice is given upon: the run, its seconds per stage, those of the whole, and what machine it ran on."""

    config: Config
    run: RunInfo
    seconds: dict[str, float]
    wall: float
    iterations: int
    rows: int  # of an iteration
    cores: int
    in_torch: bool = False  # the kernels said that they do not cover some network
    tuned: bool = False  # environments, workers and threads are what --autotune found fastest

    def share(self, *stages: str) -> float:
        return sum(self.seconds.get(stage, 0.0) for stage in stages) / self.wall if self.wall else 0.0

    def get(self, key: str) -> Any:
        return self.config.get(key)

    @property
    def workers(self) -> int:
        """The most workers, no more than cores, that the environments can be dealt out to."""
        count = self.run.num_envs // self.run.num_agents
        return max((w for w in range(1, self.cores + 1) if count % w == 0), default=1)


class Profile(Logger):
    """A logger that adds up the seconds of the stages. `show` prints them once the run is over, however it ended."""

    def __init__(self, config: Config, tuned: bool = False, clock: Clock = time.monotonic) -> None:
        self._config, self._tuned, self._clock = config, tuned, clock
        self._seconds: dict[str, float] = defaultdict(float)
        self._iterations = self._rows = 0
        self._in_torch = False

    def start(self, run: RunInfo) -> None:
        self._run, self._begin = run, self._clock()
        self._end = self._begin

    def log(self, step: int, metrics: Metrics) -> None:
        final = "updates" not in metrics  # the last evaluation is no iteration
        for key, value in metrics.items():
            if key.startswith("time/"):
                self._seconds["final eval" if final and key == "time/eval" else key[5:]] += value
        if not final:
            self._iterations += 1
            self._rows = round(metrics["env_steps"] / metrics["updates"])

    def message(self, text: str) -> None:
        self._in_torch |= IN_TORCH in text and "hidden layers" in text

    def finish(self, summary: dict[str, Any]) -> None:
        self._end = self._clock()

    def timings(self, usable_cores: int | None = None) -> Timings:
        seconds, wall = dict(self._seconds), self._end - self._begin
        seconds["other"] = max(0.0, wall - sum(s for stage, s in seconds.items() if stage not in PARTS))
        return Timings(self._config, self._run, seconds, wall, self._iterations, self._rows, usable_cores or cores(),
                     self._in_torch, self._tuned)

    def show(self) -> None:
        if self._iterations:
            times = self.timings()
            Table(title(times), ("stage", "ms/iteration", "share"), rows(times), advice(times)).show()


def title(times: Timings) -> str:
    rate = quantity(times.iterations * times.rows / times.wall) if times.wall else "–"
    plural = "" if times.iterations == 1 else "s"
    return (f"profile: {times.iterations:,} iteration{plural} of {times.rows:,} {times.run.unit} in {times.wall:.1f} "
            f"s, {rate} {times.run.unit}/s overall")


def rows(times: Timings) -> list[tuple[str, str, str]]:
    """The stages that took time, in the loop's order; those that the trainer does not know come before the rest."""
    own = [name for name in times.seconds if name not in STAGES]
    order = [*(name for name in STAGES if name != "other"), *own, "other"]
    names = [(STAGES.get(name, name), times.seconds[name]) for name in order if times.share(name) >= 5e-4]
    return [(label, number(1000 * seconds / times.iterations), f"{seconds / times.wall:.0%}")
            for label, seconds in [*names, ("all", times.wall)]]


def advice(times: Timings) -> list[str]:
    """At most MOST_ADVICE sentences, what would save the most first; each names the flag to try."""
    found = sorted((tip for rule in RULES for tip in rule(times)), key=lambda tip: -tip[0])
    measured = "" if times.tuned else (
        "; --autotune measures which environments, workers, threads and minibatches are fastest")
    return [text for _, text in found[:MOST_ADVICE]] or [f"no stage stands out{measured}"]


Tip = tuple[float, str]  # the share of the time that it may save, and what to do


def _environments(times: Timings) -> Iterator[Tip]:
    run, share, act, workers = times.run, times.share("env"), times.share("act"), times.workers
    if share < 0.35 or run.backend == "native":
        return
    takes, open_ = f"the environments take {share:.0%}", not times.tuned
    if open_ and run.backend == "serial" and workers > 1:
        yield share * (1 - 1 / workers), f"{takes}, in one process: --env.num-workers {workers} steps them in parallel"
    elif open_ and run.num_workers and run.num_workers % 2 == 0 and run.num_groups == 1 and act > 0.1:
        yield min(share, act), (f"{takes} and wait while the policy acts: --env.num-groups 2 lets one half of the "
                                "workers step meanwhile")
    elif open_ and 0 < run.num_workers < workers:
        yield share * (1 - run.num_workers / workers), (
            f"{takes} in {run.num_workers} workers: --env.num-workers {workers} uses more cores")
    else:
        yield share / 2, (f"{takes}, and another number of processes will not help much: an environment in C "
                          "(csrc/env.h, for example envs/cartpole) steps as one batch")


def _fixed_costs(times: Timings) -> Iterator[Tip]:
    """Few rows: what an iteration, or a vector step, costs whatever its size is spread over more of them."""
    envs, steps = times.run.num_envs, times.config.train.num_steps
    if not envs or times.tuned or times.share("env") >= 0.35:
        return
    caution = "fewer, larger updates need more samples, so compare returns by the clock"
    share = times.share("collect", "reward", "update", "other")
    if times.rows < FEW_ROWS:
        factor = 2
        while times.rows * factor < FEW_ROWS:
            factor *= 2
        yield 0.6 * share * (1 - times.rows / FEW_ROWS), (
            f"iterations of {times.rows:,} steps are mostly fixed costs: --env.num-envs {factor * envs} or "
            f"--train.num-steps {factor * steps} spreads them ({caution})")
    elif times.share("act") >= 0.35 and envs < 1024:
        yield times.share("act") / 2, (
            f"the policy acts for {times.share('act'):.0%}, on {envs} rows at a time: --env.num-envs {2 * envs} with "
            f"--train.num-steps {max(1, steps // 2)} has it called half as often for as many samples")


def _update(times: Timings) -> Iterator[Tip]:
    share = times.share("update")
    epochs, count, hidden = (times.get(key) for key in ("ppo.update_epochs", "ppo.num_minibatches", "policy.hidden"))
    if share < 0.4 or not times.run.num_envs:
        return
    ways = []
    if epochs > 1:
        ways.append(f"--ppo.update-epochs {epochs // 2} saves {1 - epochs // 2 / epochs:.0%} of it")
    if count > 1 and times.rows / count < 1024:
        ways.append(f"--ppo.num-minibatches {count // 2} makes fewer, larger steps")
    if not times.get("policy.shared"):
        ways.append("--policy.shared true computes the hidden layers once for actor and critic")
    if max(hidden) > 64:
        smaller = ",".join(str(max(32, units // 2)) for units in hidden)
        ways.append(f"--policy.hidden {smaller} makes the network smaller")
    if ways:
        yield share / 2, f"the update takes {share:.0%}: {', or '.join(ways[:3])} (check that returns hold)"


def _cloning(times: Timings) -> Iterator[Tip]:
    size, share = times.get("bc.batch_size"), times.share("update")
    if not times.run.num_envs and size and size < 1024 and share >= 0.4:
        yield share / 2, (f"the update takes {share:.0%}: --bc.batch-size {4 * size} makes fewer, larger steps (with "
                          f"--bc.learning-rate {2 * times.get('bc.learning_rate'):g})")


def _evaluation(times: Timings) -> Iterator[Tip]:
    share, final, cfg = times.share("eval"), times.share("final eval"), times.config.eval
    if share > 0.2:
        fewer = f", --eval.episodes {cfg.episodes // 2} shorter" if cfg.episodes > 1 else ""
        yield share / 2, (f"evaluations take {share:.0%}: --eval.interval-steps {2 * cfg.interval_steps} makes them "
                          f"half as frequent{fewer}")
    if final > 0.2 and cfg.final_episodes > 20:
        yield final / 2, (f"the last evaluation takes {final:.0%}: --eval.final-episodes {cfg.final_episodes // 2} "
                          "halves it and widens its interval")


def _discriminator(times: Timings) -> Iterator[Tip]:
    updates, share = times.get("gail.disc_updates"), times.share("reward")
    if not updates or share < 0.35:
        return
    ways = [f"--gail.disc-updates {updates // 2} halves that"] if updates > 1 else []
    if times.get("gail.gp_coef"):
        ways.append("--gail.gp-coef 0 drops the gradient penalty, its most expensive part, which also keeps it stable")
    if ways:
        yield share / 2, f"the discriminator takes {share:.0%}: {'; '.join(ways)}"


def _kernels(times: Timings) -> Iterator[Tip]:
    """On the CPU, keys that leave the work to torch."""
    if times.run.device != "cpu":
        return
    reasons = {"train.fused = false": ("--train.fused true", times.get("train.fused") is False),
               "train.precision = bfloat16": ("--train.precision float32", times.get("train.precision") == "bfloat16"),
               "train.compile = true": ("--train.compile false", bool(times.get("train.compile"))),
               "gail.spectral_norm = true": ("--gail.spectral-norm false", bool(times.get("gail.spectral_norm"))),
               "a network deeper or wider than the C kernels cover": (_within_kernels(times), times.in_torch)}
    share = times.share("collect", "reward", "update") - times.share("env")
    for reason, (flag, holds) in reasons.items():
        if holds:
            yield 0.7 * share, f"{reason} leaves {share:.0%} of the time to torch: {flag} lets the C kernels do it"
            if times.get("train.torch_threads") < times.cores:
                yield share / 4, (f"torch has {times.get('train.torch_threads')} of {times.cores} cores: "
                                  f"--train.torch-threads {times.cores} uses all, and rounds otherwise")
            return


def _within_kernels(times: Timings) -> str:
    """The key of the network that they do not cover, with the next value that they do."""
    hidden, key = times.get("policy.hidden"), "policy.hidden"
    if len(hidden) <= MAX_HIDDEN and max(hidden, default=0) <= MAX_UNITS and times.get("gail.disc_hidden"):
        hidden, key = times.get("gail.disc_hidden"), "gail.disc-hidden"
    return f"--{key} {','.join(str(min(units, MAX_UNITS)) for units in hidden[:MAX_HIDDEN])}"


def _threads(times: Timings) -> Iterator[Tip]:
    threads, share = times.get("train.threads"), times.share("collect", "reward", "update") - times.share("env")
    if times.run.device == "cpu" and not times.tuned and 0 < threads < times.cores and times.rows >= FEW_ROWS:
        yield share * (1 - threads / times.cores), (
            f"train.threads = {threads} of {times.cores} cores: --train.threads 0 takes all")


def _checkpoints(times: Timings) -> Iterator[Tip]:
    share, cfg = times.share("checkpoint"), times.config.train
    if share > 0.1 and cfg.checkpoint_steps:
        yield share / 2, (f"checkpoints take {share:.0%}: --train.checkpoint-steps {2 * cfg.checkpoint_steps} makes "
                          "them half as frequent")
    elif share > 0.1 and cfg.checkpoint_minutes:
        yield share / 2, (f"checkpoints take {share:.0%}: --train.checkpoint-minutes {2 * cfg.checkpoint_minutes:g} "
                          "makes them half as frequent")


RULES: tuple[Callable[[Timings], Iterator[Tip]], ...] = (
    _environments, _fixed_costs, _update, _cloning, _evaluation, _discriminator, _kernels, _threads, _checkpoints)
