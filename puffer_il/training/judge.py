"""What a run's policies are worth: evaluations on the way, the choice of the result, its scores at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from puffer_il.core.spec import Metrics
from puffer_il.rollout.actors import Actor, policy_actor
from puffer_il.rollout.evaluate import CHOICE_SEED, EVAL_SEED, FINAL_SEED, Scores, evaluate
from puffer_il.training.kept import Snapshot, copy_of, differs, told_choice
from puffer_il.training.slow import Slow

SLOW_EVAL_S = 15.0  # of an evaluation, after which it says how far it is
EXPERT_LEVEL = 0.95  # the normalised score from which `time_to_expert_s` counts


class Judge:
    """Plays the policies of a run (a Trainer), in its evaluation environments, and enters their scores there.

    notices  of the first evaluation whose episodes were not complete
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self.notices: list[str] = []

    def measure(self, actor: Actor, who: str) -> float:
        """Mean return, for scores to be measured against."""
        run, cfg = self.run, self.run.config.eval
        scores = self._told(evaluate(run.parts.eval_vec, actor, cfg.final_episodes, EVAL_SEED, cfg.max_episode_steps,
                                     run.stopped, Slow(run.message, f"measuring {who}", cfg.final_episodes)))
        return float(scores.returns.mean())

    def evaluate(self) -> Metrics:
        """Play the policy that is shown on the true reward, always from the same starting states."""
        run = self.run
        metrics = self._report(self._play(run.config.eval.episodes, EVAL_SEED))
        if run.keeps and run.last_eval:
            with run.shown.in_place():
                run.kept.offer(run.learner, run.env_steps, run.last_eval)
        return metrics

    def reaches(self, target: float) -> bool:
        """Whether the evaluated policy has this normalised score, from other starting states too: one of many
        evaluations is good by luck."""
        run = self.run
        if not target or not run.last_eval or (run.last_eval["normalized"] or 0) < target:
            return False
        again = self._play(run.config.eval.episodes, CHOICE_SEED)
        return (again.summary(run.random_return, run.expert_return)["normalized"] or 0) >= target

    def choose(self) -> Metrics:
        """Score the last policy, and the one that is the result, on episodes that did not choose it; what the last
        one's evaluation reports."""
        run, cfg, last = self.run, self.run.config.eval, self.snapshot()
        scores = self._play(cfg.final_episodes, FINAL_SEED)
        metrics = self._report(scores)
        run.scores |= {"eval": run.last_eval, "eval_last": run.last_eval}
        if run.keeps:
            run.result = run.kept.choose(
                last, lambda one: float(self._play(cfg.episodes, CHOICE_SEED, one).returns.mean()))
            if run.result.env_steps < last.env_steps:
                scores = self._play(cfg.final_episodes, FINAL_SEED, run.result)
                run.scores["eval"] = self._judged(scores)
                run.message(told_choice(run.result, last, run.scores))
        elif run.shown.averaged:
            run.result = last
        self._compare(scores)
        return metrics

    def snapshot(self) -> Snapshot:
        """The policy that is shown, and the reward of the same moment."""
        with self.run.shown.in_place():
            return Snapshot.of(self.run.learner, self.run.env_steps)

    def _compare(self, scores: Scores) -> None:
        """Score the result by its mode and by sampling too; `scores` are what it has by `eval.deterministic`."""
        run, cfg = self.run, self.run.config.eval
        other = self._play(cfg.final_episodes, FINAL_SEED, run.result, not cfg.deterministic)
        greedy, sampled = (scores, other) if cfg.deterministic else (other, scores)
        for name, played in (("eval_greedy", greedy), ("eval_sampled", sampled)):
            run.scores[name] = played.summary(run.random_return, run.expert_return)
        if notice := differs(greedy, sampled, cfg.deterministic, run.kept.sign, run.random_return):
            run.message(notice)

    def _play(self, episodes: int, seed: int, snapshot: Snapshot | None = None, greedy: bool | None = None) -> Scores:
        """Complete episodes of the policy that is shown, or of an earlier one in its place; the same starting states
        for the same seed."""
        run, cfg = self.run, self.run.config
        policy, vec = run.learner.policy, run.parts.eval_vec
        with run.phase("eval"), run.shown.in_place() if snapshot is None else _in_place(policy, snapshot):
            actor = policy_actor(policy, vec, cfg.eval.deterministic if greedy is None else greedy, cfg.train.seed)
            return self._told(evaluate(vec, actor, episodes, seed + cfg.train.seed, cfg.eval.max_episode_steps,
                                       run.stopped, Slow(run.message, "evaluating", episodes, SLOW_EVAL_S)))

    def _report(self, scores: Scores) -> Metrics:
        """Metrics of an evaluation, which is now the latest."""
        self.run.last_eval = latest = self._judged(scores)
        values = {k: v for k, v in latest.items() if isinstance(v, float)} | scores.log
        values |= dict(zip(("ci_low", "ci_high"), latest["ci95"] or (), strict=False))
        return {f"eval/{k}": v for k, v in values.items()}

    def _judged(self, scores: Scores) -> dict[str, Any]:
        """The `eval` part of summary.json, after a look whether it is the expert's level."""
        run = self.run
        found = scores.summary(run.random_return, run.expert_return)
        if run.time_to_expert is None and found["normalized"] is not None and found["normalized"] >= EXPERT_LEVEL:
            run.time_to_expert = run.wall_s
        return found

    def _told(self, scores: Scores) -> Scores:
        """The first scores of a run that are not those of complete episodes are told as such."""
        if scores.notices and not self.notices:
            self.notices = scores.notices
            for notice in self.notices if self.run.introduced else ():
                self.run.message(notice)
        return scores


@contextmanager
def _in_place(policy: Any, snapshot: Snapshot) -> Iterator[None]:
    """`policy` with the weights of the snapshot, and with its own again afterwards."""
    own = copy_of(policy.state_dict())
    policy.load_state_dict(snapshot.policy)
    try:
        yield
    finally:
        policy.load_state_dict(own)
