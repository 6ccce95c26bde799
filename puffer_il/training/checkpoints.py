"""The checkpoints of a run in progress: when one is due, what it holds, and how a run goes on from it."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import torch

from puffer_il.core import checkpoint
from puffer_il.core.errors import EnvFailure, InputError, WorkerKilled
from puffer_il.learners.common.learned_reward import FILE as REWARD_FILE
from puffer_il.training.divergence import slow_down
from puffer_il.training.machine import changed_sets, instruction_sets
from puffer_il.training.run_dir import is_finished

SHARE = 0.01  # of a run's time that its regular checkpoints may take
REPEATED_S = 60.0  # seconds of work that are rather repeated than gone on from with new episodes
COUNTED = ("env_steps", "updates", "train_s", "time_to_expert", "last_eval")
MEASURED = ("expert_return", "random_return")  # of the environment


def _write_summary(run: Any, summary: dict[str, Any]) -> None:
    checkpoint.write_json(run.run_dir / "summary.json", summary)


class Checkpoints:
    """Written by and for `run`, a Trainer, into its run directory.

    seconds  that they have taken since the last report
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self.seconds = 0.0
        self.wanted = False  # at once
        self._last, self._cost = time.monotonic(), 0.0  # when the last one was written, and the seconds that it took

    def late(self) -> bool:
        """Whether the time for one has come; regular ones take no more than SHARE of a run's time."""
        minutes = self.run.config.train.checkpoint_minutes
        wanted = max(60 * minutes, self._cost / SHARE)
        return self.wanted or (bool(minutes) and time.monotonic() - self._last > wanted)

    def attempt(self, environments: bool = True) -> bool:
        """Write one; if that fails, say so, and whether it worked. The run goes on, and the next one is tried."""
        self.wanted, self._last = False, time.monotonic()
        return self.run.folder.attempt("the checkpoint", partial(self.write, environments))

    def write_after(self, error: EnvFailure) -> None:
        """Write one without the environments' state, after they have failed. Not if a worker was only killed: then the
        last one, if it is not old, lets a resumed run repeat exactly what has come since."""
        vec = self.run.collector and self.run.collector.vec
        exact = vec is not None and vec.exact_state and checkpoint.has_any(self.run.run_dir)
        if isinstance(error, WorkerKilled) and exact and time.monotonic() - self._last < REPEATED_S:
            self.run.message("a resumed run repeats exactly what came since the last checkpoint")
        else:
            self.attempt(environments=False)

    def write_end(self, summary: dict[str, Any]) -> str:
        """Write the last checkpoint, unless what was learned has diverged, and the summary: elsewhere if the run
        directory does not take them. One line that says what is not where it should be; "" if all is."""
        run, own = self.run, self.run.run_dir
        keep = not run.sound  # the last good one
        write_summary = partial(_write_summary, run, summary)
        if (keep or self.attempt(run.status != "diverged")) and run.folder.attempt("summary.json", write_summary):
            lacking = run.folder.lacking()
            return f"{' and '.join(lacking)} of {own} could not be written to the end" if lacking else ""
        try:
            run.folder.elsewhere()
            if not keep:
                self.write(run.status != "diverged")
            write_summary()
        except OSError as error:
            return f"the results could not be written to {own}, nor to {run.run_dir} ({error.strerror}): they are lost"
        return f"the results could not be written to {own}; they are in {run.run_dir}, so move that to a place of yours"

    def write(self, environments: bool = True) -> None:
        """Write everything that `restore` needs; without the environments' state if they have just failed."""
        begin = time.perf_counter()
        run = self.run
        chosen = run.result or run.kept.best or run.judge.snapshot()
        state = {
            "learner": run.learner.state_dict(), "policy": chosen.policy, "policy_steps": chosen.env_steps,
            "kept": run.kept.state_dict(), "shown": run.shown.state_dict(),
            "collector": run.collector.state_dict() if run.collector and environments else None,
            "spec": checkpoint.spec_to_state(run.spec), "torch_rng": torch.get_rng_state(),
            "wall_s": run.wall_s, **{name: getattr(run, name) for name in (*COUNTED, *MEASURED)},
            "status": run.status, "rollbacks": run.rollbacks, "total_steps": run.config.train.total_steps,
            "instruction_sets": instruction_sets(), "parameters": _parameters(run),
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
            seen = checkpoint.spec_from_state(state["spec"]).pictures
            if seen != run.spec.pictures:  # which may well fit the weights
                raise InputError(f"{run.run_dir}: its policy saw pictures with {seen}, and is to go on with "
                                 f"{run.spec.pictures}; leave these keys as they are")
            anew = self.take_up(state)
        notices += changed_sets(state.get("instruction_sets"))
        for newer in sorted(path.parent.glob("step_*.pt"), reverse=True):  # must not pass for the newest again
            if newer.name > path.name:
                newer.replace(newer.with_suffix(".damaged"))
        total = run.config.train.total_steps
        if run.progress >= 1 and is_finished(run.run_dir):
            raise InputError(f"{run.run_dir} has finished, with {run.env_steps:,} of {total:,} steps; raise "
                             "--total-steps to continue")
        ended = state.get("status") == "finished" and state.get("total_steps") == total
        if run.progress >= 1 or (ended and not is_finished(run.run_dir)):
            run.status = "finished"
        if anew:
            notices.append(f"the environments begin new episodes, as their state cannot be put back ({anew})")
        return notices

    def take_up(self, state: dict[str, Any]) -> str:
        """Go on from what `write` wrote; why the environments begin new episodes although their state is exact, "" if
        they do not. If env.kwargs have changed, the run keeps its own measured returns."""
        run, anew = self.run, ""
        check_counts(state)
        changed = state.get("parameters", _parameters(run)) != _parameters(run)
        run.learner.load_state_dict(state["learner"])
        if run.collector is not None and (collector := state["collector"]) is not None:
            if changed:  # which the environments' state would undo
                collector = collector | {"vec": {"seed": collector["vec"]["seed"]}}
            run.collector.load_state_dict(collector)
            vec = run.collector.vec
            anew = "env.kwargs have changed" if changed and vec.exact_state else vec.began_anew
        torch.set_rng_state(state["torch_rng"])
        run.kept.load_state_dict(state["kept"])
        for one in run.kept.snapshots:
            checkpoint.check_alike(run.learner.policy.state_dict(), one.policy)
        run.shown.load_state_dict(state["shown"])
        run.wall_before, run.rollbacks = state["wall_s"], state.get("rollbacks", 0)
        slow_down(run.learner, run.rollbacks, run.rollbacks)
        for name in COUNTED if changed else (*COUNTED, *MEASURED):
            setattr(run, name, state[name])
        return anew


def _parameters(run: Any) -> str:
    """env.kwargs, to be compared."""
    return json.dumps(run.config.env.kwargs, sort_keys=True, default=repr)


def check_counts(state: dict[str, Any]) -> None:
    """ValueError for counters that no run has: they decide how long it goes on."""
    if not all(type(state[name]) is int and state[name] >= 0 for name in ("env_steps", "updates")) or (
            type(rollbacks := state.get("rollbacks", 0)) is not int or not 0 <= rollbacks < 1000):
        raise ValueError("its counts of steps are none")
    seconds = [state[name] for name in ("train_s", "wall_s")]
    known = [state[name] for name in ("time_to_expert", "expert_return", "random_return") if state[name] is not None]
    if not all(isinstance(number, int | float) for number in (*seconds, *known)):
        raise ValueError("its seconds or returns are no numbers")
    if not isinstance(state["last_eval"], dict | None):
        raise ValueError("its last evaluation is none")
