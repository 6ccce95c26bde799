"""What tests of loggers and of the dashboard share: what a run says of itself, and a clock."""

from __future__ import annotations

from pathlib import Path

from puffer_il.training.loggers import RunInfo


def info(run_dir: Path | str = "runs/x", **changes) -> RunInfo:
    facts = {"algo": "gail", "env": "cartpole", "seed": 1, "run_dir": str(run_dir), "total_steps": 1000,
             "num_envs": 4096, "backend": "native", "device": "cpu", "expert_return": 500.0, "random_return": 22.3,
             "demos": "10 episodes, 5,000 transitions, mean return 500.0", "parameters": 9347}
    return RunInfo(**(facts | changes))


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
