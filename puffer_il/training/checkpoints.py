"""The checkpoints of a run in progress: when one is due, what it holds, and how a run goes on from it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from puffer_il.core import checkpoint
from puffer_il.core.errors import InputError
from puffer_il.learners.common.learned_reward import FILE as REWARD_FILE
from puffer_il.training.run_dir import is_finished

if TYPE_CHECKING:
    from puffer_il.training.trainer import Trainer

SHARE = 0.01  # of a run's time that its regular checkpoints may take
COUNTED = ("env_steps", "updates", "train_s", "time_to_expert", "last_eval", "expert_return", "random_return")


class Checkpoints:
    """Written by and for one Trainer, into its run directory.

    seconds  that they have taken since the last report
    """

    def __init__(self, run: Trainer) -> None:
        self.run = run
        self.seconds = 0.0
        self._last, self._cost = time.monotonic(), 0.0  # when the last one was written, and the seconds that it took

    def late(self) -> bool:
        """Whether the time for one has come; regular ones take no more than SHARE of a run's time."""
        minutes = self.run.config.train.checkpoint_minutes
        wanted = max(60 * minutes, self._cost / SHARE)
        return bool(minutes) and time.monotonic() - self._last > wanted

    def write(self, environments: bool = True) -> None:
        """Write everything that `restore` needs; without the environments' state if they have just failed."""
        begin = time.perf_counter()
        run = self.run
        chosen = run.result or run.kept.best or run.snapshot()
        state = {
            "learner": run.learner.state_dict(), "policy": chosen.policy, "policy_steps": chosen.env_steps,
            "kept": run.kept.state_dict(), "shown": run.shown.state_dict(),
            "collector": run.collector.state_dict() if run.collector and environments else None,
            "spec": checkpoint.spec_to_state(run.spec), "torch_rng": torch.get_rng_state(),
            "wall_s": run.wall_s, **{name: getattr(run, name) for name in COUNTED},
            "status": run.status, "total_steps": run.config.train.total_steps,
        }
        checkpoint.save(run.run_dir / "checkpoints", run.env_steps, state, run.config.train.keep_checkpoints)
        if chosen.reward is not None:
            checkpoint.write_tensors(run.run_dir / REWARD_FILE, chosen.reward)
        self._cost = time.perf_counter() - begin
        self.seconds += self._cost
        self._last = time.monotonic()

    def restore(self) -> list[str]:
        """Take up the newest checkpoint that is whole; what is wrong with newer ones, a line each. A run that had come
        to its end, but not to its summary, is "finished" at once."""
        run = self.run
        state, path, notices = checkpoint.load_newest(run.run_dir, "cpu")
        with checkpoint.fitting(f"checkpoint {path}", f"it is of another run than that of {run.run_dir}"):
            self._take_up(state)
        for newer in sorted(path.parent.glob("step_*.pt"), reverse=True):  # must not pass for the newest again
            if newer.name > path.name:
                newer.replace(newer.with_suffix(".damaged"))
        total = run.config.train.total_steps
        if run.progress >= 1 and is_finished(run.run_dir):
            raise InputError(f"{run.run_dir} has finished its {total:,} steps; raise --total-steps to continue")
        ended = state.get("status") == "finished" and state.get("total_steps") == total
        if run.progress >= 1 or (ended and not is_finished(run.run_dir)):
            run.status = "finished"
        return notices

    def _take_up(self, state: dict[str, Any]) -> None:
        """Go on from what `write` wrote."""
        run = self.run
        run.learner.load_state_dict(state["learner"])
        if run.collector is not None and state["collector"] is not None:
            run.collector.load_state_dict(state["collector"])
        torch.set_rng_state(state["torch_rng"])
        run.kept.load_state_dict(state["kept"])
        run.shown.load_state_dict(state["shown"])
        run.wall_before = state["wall_s"]
        for name in COUNTED:
            setattr(run, name, state[name])
