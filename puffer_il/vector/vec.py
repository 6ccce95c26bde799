"""Any environment as a vector: PufferLib's Serial, Multiprocessing and native backends behind one contract.

PufferLib hands over the reward of the previous action beside the new observation, may report a row as terminated and
truncated at once, resets emulated environments in the step after an end and native ones in the same. What comes out of
`recv` are rows as `Batch` describes them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from puffer_il.core.checkpoint import check_alike
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.spec import Array, Batch, EnvSpec, Starts
from puffer_il.native.native_env import NativeEnv, pop_log_means
from puffer_il.vector.exact import why_inexact
from puffer_il.vector.groups import Groups
from puffer_il.vector.make import Creator, EnvFacts, env_seed, find_creator
from puffer_il.vector.plan import make_plan, with_own_vector
from puffer_il.vector.processes import apart
from puffer_il.vector.serial import Serial, allocate
from puffer_il.vector.snapshot import Unreadable
from puffer_il.vector.watch import Watch
from puffer_il.vector.workers import START_METHOD, Workers

QUESTION_S = 20.0  # for an environment to show whether its state can be saved
NO_RETURNS, NO_LENGTHS = np.empty(0), np.empty(0, np.int64)


def make_vec(name: str | Callable, *, num_envs: int, backend: str = "auto", num_workers: int = 0, num_groups: int = 0,
             kwargs: dict[str, Any] | None = None, seed: int = 0, starts: Starts | None = None,
             clip_actions: bool = True, pictures: Pictures | None = None, resumable: bool = False,
             on_nan: str = "stop", watch: Watch | None = None, groups_here: bool = False) -> Vec:
    """A vector of `num_envs` rows (environments times agents) of one environment.

    name: a folder under envs/ or the path of one, a Gymnasium id, a function or module:function, where the function
    returns a Gymnasium or a parallel PettingZoo environment, a vector of Gymnasium or a PufferEnv, or is a PufferEnv
    class. `kwargs` are its parameters.
    backend: native for PufferEnvs and vectors that step any number of environments at once, vector for a Gymnasium id's
    vector entry point (another environment than its copies, as it draws otherwise), serial in this process, or
    multiprocessing; auto takes native where it can, vector from plan.VECTOR_FROM copies on, and worker processes where
    they pay. num_workers=0 chooses by the
    cores; num_groups=0 makes two groups of four workers or more, one otherwise. Row contents do not depend on backend,
    workers or groups for environments that draw their random numbers from the seed they are given (a third-party batch
    seeds its environments itself).

    `starts` tells where some episodes begin instead, which only C environments can. `clip_actions` has continuous
    actions clipped to their range here, and nowhere else on their way from a policy to an environment. `pictures` says
    how those of the observations are prepared. `resumable` has it found out whether the state of a Python environment
    can be saved exactly, of which `notices` tell. `on_nan` says what whoever steps the vector does about numbers that
    are not finite (rollout.finite). `watch` says what becomes of environments that do not answer, and whether those
    that could crash step in this process. `groups_here` lets num_groups cut environments of this process too: their
    steps take turns, which only somebody gains from who works elsewhere meanwhile.
    InputError names what cannot be had, EnvFailure tells how an environment broke. `seed` is used until `reset`.
    """
    watch = watch or Watch()
    creator = replace(find_creator(name, kwargs, pictures), starts=starts)
    if backend == "vector" and creator.kind == "gymnasium":
        creator = replace(creator, vector=True)
    creator, facts = with_own_vector(creator, creator.facts(), watch, num_envs, backend, num_workers, num_groups)
    if resumable and not facts.exact:
        why = _why_inexact(creator, facts, watch)
        notice = (f"{creator.name}: a resumed run begins new episodes, as the state of this environment cannot be "
                  f"saved ({why})")
        facts = replace(facts, exact=not why, notices=(*facts.notices, *([notice] if why else [])))
    plan = make_plan(creator, facts, watch, num_envs, backend, num_workers, num_groups, groups_here)
    if watch.guard and plan.backend == "serial" and not facts.native:
        notice = (f"{creator.name} steps in the process of the run (env.backend = 'serial'): if its C code crashes, "
                  "what came since the last checkpoint is lost; with env.backend = 'multiprocessing' nothing is")
        facts = replace(facts, notices=(*facts.notices, notice))
    puffer: Serial | Workers | Groups
    if plan.num_groups > 1 and plan.num_workers == 0:
        puffer = Groups(creator, facts, plan.instances, num_envs, plan.num_groups, seed)
    elif plan.backend == "multiprocessing":
        puffer = Workers(creator, facts, plan.instances, num_envs, plan.num_workers, plan.num_groups, seed, watch)
    else:
        puffer = Serial(creator, facts, plan.instances, allocate(facts, num_envs), seed)
    return Vec(puffer, facts, plan.backend, num_envs, plan.num_workers, plan.num_groups, seed, clip_actions,
               on_nan == "mask", watch)


def _why_inexact(creator: Creator, facts: EnvFacts, watch: Watch) -> str:
    """Why environments cannot go on exactly (exact.py), where it is asked without danger to this process."""
    ask = partial(why_inexact, creator, facts)
    guarded = watch.guard and START_METHOD == "fork"
    return apart(ask, multiprocessing.get_context(START_METHOD), QUESTION_S) if guarded else ask()


@dataclass(frozen=True, slots=True)
class NativeBatch:
    """One C environment batch: addresses of its VecEnv and of its step function (csrc/vec_api.h), agents of one
    environment, and the vector's running returns (num_envs,) float64 and lengths (num_envs,) int64."""

    vec: int
    step: int
    agents: int
    returns: Array
    lengths: Array
    owner: NativeEnv  # keeps the memory alive

    @property
    def log_size(self) -> int:
        """How many numbers an episode logs."""
        return len(self.owner.env_file.log)


class Vec:
    """Rows of environments that step together; see `make_vec` and `Batch`. Arrays are views of shared buffers.

    spec         what a learner may know of the environment
    num_envs     rows of a vector step; `groups` are the slices of them that step independently
    native       False for environments that are stepped one by one, and have no script
    notices      what the user should be told about this environment
    exact_state  True if `get_state` holds everything; otherwise `set_state` begins new episodes
    began_anew   why the last `set_state` began new episodes although the state is exact; "" if it did not
    time_limit   steps after which the environment truncates its episodes, None where it does not tell
    masks_nan    True if rows in which numbers are not finite are to be left out
    watch        what becomes of environments that do not answer
    """

    def __init__(self, puffer: Serial | Workers | Groups, facts: EnvFacts, backend: str, num_envs: int,
                 num_workers: int, num_groups: int, seed: int, clip_actions: bool = True, masks_nan: bool = False,
                 watch: Watch | None = None) -> None:
        self.masks_nan = masks_nan
        self.spec: EnvSpec = facts.spec
        self.watch, self.native = watch or Watch(), facts.native
        self.backend, self.num_envs, self.num_workers, self.exact_state = backend, num_envs, num_workers, facts.exact
        self.began_anew, self._own_state = "", facts.own_state
        self.log_names, self.time_limit = facts.log, facts.time_limit
        self.logs: Array | None = puffer.logs  # (num_envs, 1 + names): episodes ended, sums of what they logged
        size = num_envs // num_groups
        self.groups = [slice(group * size, (group + 1) * size) for group in range(num_groups)]
        self.notices: list[str] = list(facts.notices)
        self._puffer, self._seed, self._resumes, self._begun = puffer, seed, 0, seed
        self._sent: list[bool] | None = None  # per group, None before the first reset
        self._step, self._doing = 0, ""  # of the vector since its reset, and what the environments are at now
        action = self.spec.action
        self._actions = puffer.actions.reshape(num_envs, action.width)
        self._clip = clip_actions
        # Bounds for every row: clip is several times faster on arrays of one shape.
        self._low, self._high = (None if bound is None or not clip_actions else np.tile(bound, (num_envs, 1))
                                 for bound in (action.low, action.high))
        self._terminations, self._truncations, self._ended = np.zeros((3, num_envs), bool)
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        # Emulated environments reset one step later, so that their final observation is still in place.
        final: Array | None = puffer.final_observations
        self._final_obs: Array = puffer.observations if final is None else final
        self._copies_obs = facts.native and not facts.has_final
        if self._copies_obs:
            self._final_obs = np.zeros_like(puffer.observations)
            self.notices.append(f"{self.spec.name} does not report final observations (an array `final_observations`); "
                                "the last observation before an end is used instead")

    @property
    def envs(self) -> list[Any]:
        """The environments themselves, where they are in this process; none of those in workers."""
        return [] if isinstance(self._puffer, Workers) else list(self._puffer.envs)

    @property
    def dropped(self) -> list[slice]:
        """Rows whose episodes were given up in the last step, because their worker was restarted."""
        return self._puffer.restarted

    @property
    def obs(self) -> Array:
        """(num_envs, *obs_shape) what to act on next."""
        return self._puffer.observations

    def reset(self, seed: int | None = None) -> Array:
        """New episodes everywhere, all random numbers from `seed`; (num_envs, *obs_shape)."""
        self._seed, self._resumes = self._seed if seed is None else seed, 0
        return self._begin(self._seed)

    def send(self, actions: Array, group: int = 0) -> None:
        """Begin a step of a group: actions (n, dim) as the spec has them; continuous ones are clipped to its range,
        unless the vector was made to hand them on as they are."""
        if self._sent is None or self._sent[group]:
            raise RuntimeError("reset the vector before the first send" if self._sent is None else
                               f"group {group} has been sent actions already; receive first")
        rows = self.groups[group]
        target, action = self._actions[rows], self.spec.action
        if actions.shape != (len(target), action.dim):
            raise ValueError(f"actions have shape {actions.shape} but group {group} takes {(len(target), action.dim)}")
        if action.held is not None:
            target[:] = action.held
            if self._low is not None and self._high is not None:
                actions = np.clip(actions, self._low[rows], self._high[rows])
            target[:, action.free] = actions
        elif self._low is None or self._high is None:
            np.copyto(target, actions, casting="same_kind")
        else:
            np.clip(actions, self._low[rows], self._high[rows], out=target, casting="same_kind")
        if self._copies_obs:
            self._final_obs[rows] = self._puffer.observations[rows]
        self._sent[group] = True
        self._step += group == 0
        self._doing = "step"
        try:
            self._puffer.send(None, group)
        finally:
            self._doing = ""

    def recv(self, group: int = 0) -> Batch:
        """What became of the actions sent to a group. EnvFailure if an environment or its worker died."""
        if self._sent is None or not self._sent[group]:
            raise RuntimeError(f"group {group} has not been sent actions")
        obs, rewards, terminals, truncations, _, _, valid = self._puffer.recv(group)
        self._sent[group] = False
        rows = self.groups[group]
        terminations = np.logical_and(terminals, valid, out=self._terminations[rows])
        truncations = np.logical_and(truncations, valid, out=self._truncations[rows])
        np.greater(truncations, terminations, out=truncations)  # a termination is stronger
        for lost in self._puffer.restarted:
            self._returns[lost], self._lengths[lost] = 0, 0
        returns, lengths = self._count(rows, rewards, valid)
        return Batch(rows, obs, rewards, terminations, truncations, valid, self._final_obs[rows], returns, lengths)

    def step(self, actions: Array) -> Batch:
        """`send` and `recv` for all rows; several groups are copied into one batch."""
        for group, rows in enumerate(self.groups):
            self.send(actions[rows], group)
        batches = [self.recv(group) for group in range(len(self.groups))]
        if len(batches) == 1:
            return batches[0]
        whole = (np.concatenate([getattr(batch, field.name) for batch in batches]) for field in fields(Batch)[1:])
        return Batch(slice(0, self.num_envs), *whole)

    def get_state(self) -> dict[str, Array]:
        """What `set_state` needs: exact between a `recv` and the next `send` of every group. In the middle of a step it
        is not, and new episodes are begun from it."""
        if self._sent is None:
            raise RuntimeError("the state can be read after a reset")
        state = {"seed": np.array([self._seed, self._resumes])}
        if self.exact_state and not any(self._sent):
            with suppress(Unreadable):  # then there are new episodes after all, which `set_state` tells
                state |= {"environments": self._puffer.get_state(), "returns": self._returns.copy(),
                          "lengths": self._lengths.copy()}
        return state

    def set_state(self, state: dict[str, Array]) -> bool:
        """Go on from a saved state: exactly with `exact_state` (True), otherwise with new episodes unlike the earlier
        ones (False).

        InputError if it was saved by a vector that was split otherwise.
        """
        self._seed, self._resumes = (int(x) for x in state["seed"])
        self.began_anew = ""
        if self.exact_state:
            self._begin(self._seed)
            try:
                self._put_back(state)
                return True
            except Unreadable as error:
                self.began_anew = str(error)
        self._resumes += 1
        self._begin(int(np.random.SeedSequence((self._seed, self._resumes)).generate_state(1)[0]))
        return False

    def _put_back(self, state: dict[str, Array]) -> None:
        if "environments" not in state:
            raise Unreadable("it could not be read when the checkpoint was written")
        if not self._own_state and len(state["returns"]) != self.num_envs:
            raise Unreadable(f"it is of {len(state['returns'])} environments, and there are {self.num_envs} now")
        saved = state["environments"]
        own = self._puffer.get_state().shape if self._own_state else (self.num_workers or 1, saved.shape[-1])
        if saved.shape != own:
            raise InputError(f"environment {self.spec.name!r}: the saved state is {saved.shape} (workers, bytes), not "
                             f"{own}; keep env.num_envs, env.backend, env.num_workers and env.num_groups")
        known = {"returns": self._returns, "lengths": self._lengths}
        check_alike(known, {name: state[name] for name in known})
        self._puffer.set_state(saved)
        self._returns[:], self._lengths[:] = state["returns"], state["lengths"]

    def pop_log_means(self) -> dict[str, float]:
        """What the episodes that ended since the last call have logged (env.toml: `log`), on average; empty if none.

        To be asked for when every group is received.
        """
        return {} if self.logs is None else pop_log_means(self.logs, self.log_names)

    def expert_actions(self) -> Array | None:
        """(num_envs, dim) what the environments' scripted expert does now; None if there is none, or not in here."""
        parts = [actions for env in self.envs
                 if isinstance(env, NativeEnv) and (actions := env.expert_actions()) is not None]
        return self.spec.action.chosen(np.concatenate(parts).reshape(self._actions.shape)) if parts else None

    def env_states(self) -> Array | None:
        """float64 (num_envs, state size) the state of each row's environment (NativeEnv.env_states); None where it is
        not available in this process."""
        states = [np.repeat(env.env_states(), env.num_agents // env.num_envs, 0) for env in self.envs
                  if isinstance(env, NativeEnv) and env.state_size]
        return np.concatenate(states) if states else None

    def native_batch(self) -> NativeBatch | None:
        """What a rollout needs to step the vector directly; None unless it is one C batch in this process.

        Call it after a reset, between a `recv` and the next `send`.
        """
        env = self.envs[0] if self.backend == "native" else None
        if not isinstance(env, NativeEnv) or len(self.groups) > 1 or self._sent is None or any(self._sent):
            return None
        if self.spec.action.held is not None or self.spec.mask is not None or self.spec.frames is not None:
            return None  # a rollout in C knows none of them
        return NativeBatch(*env.addresses(self._clip), env.num_agents // env.num_envs, self._returns, self._lengths,
                           env)

    @contextmanager
    def rollout(self, steps: int) -> Iterator[None]:
        """While somebody steps the `native_batch` so often, by one call."""
        self._step, self._doing = self._step + 1, f"a rollout of {steps} steps"
        try:
            yield
        finally:
            self._doing = ""

    def doing(self) -> tuple[int, str] | None:
        """What the environments of this process are at now, for another thread: a number that is another for everything
        else that they do, and who it is, and in what, for the user. None if they are at nothing, or in workers."""
        puffer, doing = self._puffer, self._doing
        if isinstance(puffer, Workers) or not doing:
            return None
        return self._step, puffer.who(f"step {self._step}" if doing == "step" else doing, self._seed)

    def close(self) -> None:
        """End the environments and their processes; a second time does nothing."""
        puffer, self._sent = self._puffer, None
        puffer.close()

    def __enter__(self) -> Vec:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def origin(self, row: int) -> str:
        """Of which environment a row is, and how to make its episodes again."""
        number = row // self.spec.num_agents
        if self.native:
            return f"environment number {number} of seed {self._begun}"
        return f"environment number {number}, whose first reset had the seed {env_seed(self._begun, number)}"

    def _begin(self, seed: int) -> Array:
        self._begun = seed
        self._step, self._doing = 0, "reset"
        try:
            self._puffer.async_reset(seed)
        finally:
            self._doing = ""
        for group in range(len(self.groups)):
            self._puffer.recv(group)
        self._sent = [False] * len(self.groups)
        self._returns[:], self._lengths[:] = 0, 0
        return self.obs

    def _count(self, rows: slice, rewards: Array, valid: Array) -> tuple[Array, Array]:
        """Add a step to the running episodes; returns and lengths of those that it ended."""
        returns, lengths = self._returns[rows], self._lengths[rows]
        if np.count_nonzero(valid) == len(valid):  # faster than `all`
            returns += rewards
            lengths += 1
        else:
            np.add(returns, rewards, out=returns, where=valid)
            lengths += valid
        ended = np.logical_or(self._terminations[rows], self._truncations[rows], out=self._ended[rows])
        if not np.count_nonzero(ended):
            return NO_RETURNS, NO_LENGTHS
        which = np.flatnonzero(ended)
        finished = returns[which], lengths[which]
        returns[which], lengths[which] = 0, 0
        return finished
