"""The best evaluated policies of a run, of which one may become its result instead of the last.

An evaluation during a run plays few episodes, so that the best of many is in part the luckiest. At the end, therefore,
the best few and the last policy play as many other episodes, and these choose; the result is then scored on yet others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from puffer_il.core.config import Config
from puffer_il.core.text import number
from puffer_il.learners.base import Learner
from puffer_il.learners.common.learned_reward import reward_state
from puffer_il.rollout.evaluate import Scores

COUNT = 3  # best evaluated policies that are kept; a lucky one must not stand in the way of the second
MUCH = 0.1  # share of a policy's gain over chance that sampling may cost without a word


@dataclass(frozen=True)
class Snapshot:
    """A policy as it was after `env_steps` steps.

    score        what the evaluation of that moment says, as in summary.json; None where there was none
    return_mean  mean return by which it was chosen
    reward       the learned reward of the same moment (`reward_state`); None of a learner without one
    """

    env_steps: int
    policy: dict[str, Any]
    reward: dict[str, Any] | None
    score: dict[str, Any] | None = None
    return_mean: float | None = None

    @classmethod
    def of(cls, learner: Learner, env_steps: int, score: dict[str, Any] | None = None) -> Snapshot:
        """A copy of the learner's present policy and reward."""
        reward = reward_state(learner.learned_reward()) if hasattr(learner, "learned_reward") else None
        mean = None if score is None else score["return_mean"]
        return cls(env_steps, copy_of(learner.policy.state_dict()), copy_of(reward), score, mean)

    def told(self) -> dict[str, Any] | None:
        """`best` in summary.json; None if no evaluation chose it."""
        return None if self.return_mean is None else {"env_steps": self.env_steps, "return_mean": self.return_mean}


class Kept:
    """The COUNT best evaluated policies so far, best first; of equal ones the later.

    sign  1 where a higher mean return is better, −1 where a lower one is
    """

    def __init__(self, sign: int = 1) -> None:
        self.sign = sign
        self.snapshots: list[Snapshot] = []

    def offer(self, learner: Learner, env_steps: int, score: dict[str, Any]) -> None:
        """Keep the learner's present policy if it is among the best."""
        worst = self.snapshots[-1] if len(self.snapshots) == COUNT else None
        if worst is None or self._height(score["return_mean"]) >= self._height(worst.return_mean):
            self.snapshots.append(Snapshot.of(learner, env_steps, score))
            self.snapshots = self._ordered(self.snapshots)[:COUNT]

    @property
    def best(self) -> Snapshot | None:
        return self.snapshots[0] if self.snapshots else None

    def choose(self, last: Snapshot, play: Callable[[Snapshot], float]) -> Snapshot:
        """The best of those kept and of `last`, by the mean returns that `play` finds."""
        earlier = [one for one in self.snapshots if one.env_steps < last.env_steps]
        if not earlier:
            return last if self.best is None else _with_mean(last, self.best.return_mean)
        return self._ordered([_with_mean(one, play(one)) for one in (last, *earlier)])[0]

    def state_dict(self) -> list[dict[str, Any]]:
        return [dict(vars(one)) for one in self.snapshots]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        self.snapshots = [Snapshot(**one) for one in state]
        if not all(type(one.env_steps) is int and isinstance(one.return_mean, int | float) for one in self.snapshots):
            raise ValueError("a policy that is kept has no steps or no return")

    def _ordered(self, snapshots: list[Snapshot]) -> list[Snapshot]:
        return sorted(snapshots, key=lambda one: (self._height(one.return_mean), one.env_steps), reverse=True)

    def _height(self, mean: float | None) -> float:
        assert mean is not None
        return self.sign * mean


def is_kept(config: Config, learner: Learner) -> bool:
    """Whether the best evaluated policy is the run's result. A learner without rollouts chooses its result itself, by
    its own measure (BC: the held-out demonstrations)."""
    return config.train.result == "best" and learner.needs_rollouts


def sign_of(learner: Learner, random_return: float | None, expert_return: float | None) -> int:
    """−1 for a learner that imitates an expert who does worse than a random policy, otherwise 1."""
    imitates = learner.needs_demos or learner.needs_expert
    known = random_return is not None and expert_return is not None
    return -1 if imitates and known and expert_return < random_return else 1  # type: ignore[operator]


def told_choice(result: Snapshot, last: Snapshot, scores: dict[str, dict[str, Any] | None]) -> str:
    """One line for the user of a run whose result is not its last policy."""
    best, end = (played["return_mean"] for name in ("eval", "eval_last") if (played := scores[name]))
    return (f"the result is the policy of step {result.env_steps:,}, the best evaluated (return {number(best)}), not "
            f"the last one (return {number(end)} at step {last.env_steps:,}); set train.result = 'last' for that")


def differs(greedy: Scores, sampled: Scores, deterministic: bool, sign: int = 1, chance: float | None = None) -> str:
    """One line for the user if the likeliest actions and sampled ones are clearly not worth the same: if the 95%
    intervals of the mean returns lie apart; "" otherwise. That sampling costs something is no news: there it has to be
    more than MUCH of what the policy gains over `chance`, a random policy's return.

    deterministic  which of the two the scores of the run are; `sign` as of `Kept`
    """
    bounds = [sorted(sign * end for end in scores.ci95 or ()) for scores in (greedy, sampled)]
    if not all(bounds):
        return ""
    (greedy_low, greedy_high), (sampled_low, sampled_high) = bounds
    means = [float(scores.returns.mean()) for scores in (sampled, greedy)]
    told = "sampled actions return {}, the likeliest ones {}: ".format(*map(number, means))
    if sampled_low > greedy_high:
        return told + "the greedy policy is stuck or loses what chance gives" + (
            "; evaluate it with eval.deterministic = false" if deterministic else "")
    gain = 0.0 if chance is None else abs(means[1] - chance)
    if greedy_low > sampled_high and abs(means[1] - means[0]) > MUCH * gain:
        return told + ("the score holds for the likeliest alone, so act with deterministic=True" if deterministic else
                       "sampling loses the rest; evaluate it with eval.deterministic = true")
    return ""


def _with_mean(one: Snapshot, mean: float | None) -> Snapshot:
    return Snapshot(one.env_steps, one.policy, one.reward, one.score, mean)


def copy_of(value: Any) -> Any:
    """Of tensors and arrays in dicts and lists, each with memory of its own."""
    if isinstance(value, dict):
        return {key: copy_of(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copy_of(x) for x in value)
    if hasattr(value, "detach"):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value
