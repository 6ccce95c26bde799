"""Vector environments + policy → one rollout in the buffer."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.checkpoint import check_alike
from puffer_il.core.errors import InputError, NotFinite
from puffer_il.core.spec import Batch, Metrics
from puffer_il.nn import FusedPolicy, Noise, NumpyActorCritic, Policy
from puffer_il.nn.page_locked import lock
from puffer_il.rollout.actors import TensorActorCritic
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.finite import Guard, check_answers, not_finite, seen
from puffer_il.rollout.labeller import Labeller
from puffer_il.rollout.native_rollout import native_rollout
from puffer_il.rollout.slices import ExpertSlice
from puffer_il.rollout.tensors import rollout_on
from puffer_il.vector.vec import Vec


class Collector:
    """Fills the buffer with `num_steps` steps of every environment, group by group.

    A group's environments step while the next group's actions are inferred: workers by themselves, and those of this
    process while a GPU infers, each group on a stream of its own. `obs`, the recurrent state and
    `episode_starts` carry over from one rollout to the next, so episodes run across rollouts. `allocate` makes
    page-locked arrays where the policy is on another device. With a `labeller` an expert is asked as well, and may act;
    with a `share` an expert drives some of the environments. `progress` of the run is told before each rollout.
    """

    def __init__(self, vec: Vec, policy: Policy | NumpyActorCritic, buffer: RolloutBuffer, device: torch.device,
                 seed: int, allocate: Callable[..., np.ndarray] = np.zeros, labeller: Labeller | None = None,
                 share: ExpertSlice | None = None) -> None:
        self.policy: Any = policy
        if not isinstance(policy, Policy):
            self.policy, device = TensorActorCritic(policy, vec.spec.action), torch.device("cpu")
        self.vec, self.buffer, self.device, self.labeller, self.share = vec, buffer, device, labeller, share
        self.progress = 0.0
        self.noise = Noise.on(device, seed)
        self.on_device = device.type != "cpu"
        self._allocate = allocate
        self._staging: dict[int, Tensor] = {}
        cuda = device.type == "cuda"
        self._streams = [torch.cuda.Stream(device) for _ in vec.groups] if cuda and len(vec.groups) > 1 else []
        self._locked = cuda and lock(vec.obs, vec)  # whether copies can begin where environments write
        self.state: Tensor | None = self.policy.initial_state(vec.num_envs)
        self.episode_starts = np.ones(vec.num_envs, bool)
        self.episode_returns: list[np.ndarray] = []
        self.episode_lengths: list[np.ndarray] = []
        self.env_seconds = self.act_seconds = 0.0
        self.guard, self._seed = Guard(vec), seed
        self.begin()

    def begin(self) -> None:
        """New episodes everywhere."""
        self._forget()
        self.vec.reset(self._seed)

    def _forget(self) -> None:
        """What is known of the episodes that were under way: new ones begin."""
        self.steps = 0  # since then
        self.state = self.policy.initial_state(self.vec.num_envs)
        self.episode_starts[:] = True

    def collect(self) -> RolloutBuffer:
        """One rollout; true returns and lengths of the episodes that ended in it are in `episode_returns`, …

        Quit if somebody wants the end of the run and the rollout takes long to come to its own.

        `env_seconds` were spent waiting for environments and `act_seconds` on actions; both are 0 for a rollout in C.
        What is not finite in it is left out, or named in a NotFinite (the environment's) or a Diverged (the policy's).
        """
        self.episode_returns, self.episode_lengths = [], []
        self.env_seconds = self.act_seconds = 0.0
        buffer = self.buffer
        buffer.start()
        if self.share is not None:
            self.share.start(self.progress)
        if not self._collect_natively():
            self._collect_stepwise()
        self.episode_starts |= self.guard.look(buffer, self.steps, self.state is not None)
        if self.guard.left_out and self.state is not None:
            self.state = torch.where(self.state.isfinite().all(1, keepdim=True), self.state, 0.0)
        self.steps += buffer.num_steps
        self._mark(buffer)
        check_answers(buffer, self.vec.spec)
        return buffer

    def _collect_stepwise(self) -> None:
        buffer, groups = self.buffer, self.vec.groups
        if self.state is not None:
            buffer.initial_state[:] = self.state.cpu().numpy()
        # Workers step by themselves, and are to begin at once. Environments of this process step while it sends, which
        # it does for one group when the other's actions are on their way.
        overlaps = self.on_device and not self.driven and len(groups) > 1 and self.vec.num_workers == 0
        streams = self._streams if overlaps else []
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream(self.device))
        unsent: list[Callable[[], None]] = []
        for t in range(buffer.num_steps):
            self.vec.watch.check_end()
            for group, rows in enumerate(groups):
                if t > 0:
                    self._receive(t - 1, group)
                with torch.cuda.stream(streams[group]) if streams else nullcontext():
                    unsent.append(self._act(t, group, rows))
                if len(unsent) > overlaps:
                    unsent.pop(0)()
        for send in unsent:
            send()
        for group in range(len(groups)):
            self._receive(buffer.num_steps - 1, group)
        self._bootstrap()
        self.noise.step += buffer.num_steps
        if self.on_device and not self.driven:
            rollout_on(buffer, self.device).resident |= {"obs", "actions", "logprobs", "values"}

    @property
    def driven(self) -> bool:
        """True if an expert labels this rollout or drives part of it."""
        return self.labeller is not None or (self.share is not None and self.share.count > 0)

    def _mark(self, buffer: RolloutBuffer) -> None:
        """What an expert adds to a rollout that is over."""
        if self.labeller is not None:
            self.labeller.finish(buffer)
        if self.share is not None:
            self.share.finish(buffer)

    def metrics(self) -> Metrics:
        """Metrics of the last rollout: the episodes that ended in it, if any, and how long environments and actions
        took, where that is measured apart."""
        found: Metrics = {}
        if self.episode_returns:
            returns, lengths = np.concatenate(self.episode_returns), np.concatenate(self.episode_lengths)
            if self.vec.masks_nan:
                kept = np.isfinite(returns)
                returns, lengths = returns[kept], lengths[kept]
        if self.episode_returns and len(returns):
            found = {"rollout/return_mean": float(returns.mean()), "rollout/episodes": float(len(returns)),
                     "rollout/length_mean": float(lengths.mean())}
            found |= {f"rollout/{name}": mean for name, mean in self.vec.pop_log_means().items()}
        if self.vec.masks_nan:
            found["rollout/left_out"] = float(self.guard.left_out)
        if self.share is not None:
            found["rollout/expert_envs"] = self.share.count / self.vec.num_envs
        if self.act_seconds:
            found |= {"time/env": self.env_seconds, "time/act": self.act_seconds}
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"noise_step": self.noise.step, "steps": self.steps, "generator": self.noise.generator.get_state(),
                "state": self.state, "episode_starts": torch.from_numpy(self.episode_starts),
                "vec": {k: torch.from_numpy(np.ascontiguousarray(v).copy()) for k, v in self.vec.get_state().items()},
                **({} if self.labeller is None else {"expert": self.labeller.expert.state_dict()}),
                **({} if self.share is None else {"share": self.share.expert.state_dict()})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_alike({"step": self.noise.step}, {"step": state["noise_step"]})
        self.noise.step = state["noise_step"]
        self.noise.generator.set_state(state["generator"].cpu())
        self._forget()
        if self.vec.set_state({k: v.numpy() for k, v in state["vec"].items()}):  # otherwise new episodes have begun
            starts = state["episode_starts"].numpy()
            check_alike({"starts": self.episode_starts, "memory": self.state},
                        {"starts": starts, "memory": state["state"]})
            self.steps = state.get("steps", 0)
            self.episode_starts[:] = starts
            self.state = None if state["state"] is None else state["state"].to(self.device)
            if self.labeller is not None:
                self.labeller.expert.load_state_dict(state["expert"])
            if self.share is not None:
                self.share.expert.load_state_dict(state["share"])

    def _collect_natively(self) -> bool:
        """The same rollout as one call without Python, for a C batch and a policy that the kernels cover."""
        batch, stepwise = self.vec.native_batch(), self.driven and not (self.labeller and self.labeller.afterwards)
        policy = FusedPolicy.of(self.policy, recurrent=True) if isinstance(self.policy, Policy) else None
        if batch is None or policy is None or stepwise:
            return False
        if self.state is not None:
            self.buffer.initial_state[:] = self.state.numpy()
        with self.vec.rollout(self.buffer.num_steps):
            ended = native_rollout(policy, batch, self.buffer, self.episode_starts, self.noise, self.greedy, self.state)
        if len(ended.returns):
            self.episode_returns.append(ended.returns)
            self.episode_lengths.append(ended.lengths)
        self._bootstrap(None if self.state is None else torch.from_numpy(ended.states))
        self.noise.step += self.buffer.num_steps
        return True

    def _act(self, t: int, group: int, rows: slice) -> Callable[[], None]:
        """Begin step t of a group: ask for its actions. What is returned waits for them, and sends them."""
        starts, obs = self.episode_starts[rows], self.vec.obs[rows]
        self.buffer.episode_starts[t, rows] = starts
        noise = replace(self.noise, step=self.noise.step + t)
        act = (self._act_labelled if self.labeller else self._act_shared if self.driven else
               self._act_on_device if self.on_device else self._act_on_host)
        begin = time.perf_counter()
        state = None
        if self.state is not None:
            state = self.state[rows] * (1 - self._tensor(starts).float()).unsqueeze(1)
        try:
            actions, state = act(t, group, rows, obs, state, noise)
        except InputError:  # of an expert that refuses what it sees
            if not_finite(obs, self.vec.spec) is not None:
                raise NotFinite(f"environment {self.vec.spec.name!r}: an observation is {seen(obs, self.vec.spec)}, "
                                f"in step {t} of the rollout; let it give finite numbers") from None
            raise
        if self.state is not None and state is not None:
            self.state[rows] = state
        self.act_seconds += time.perf_counter() - begin
        return partial(self._send, actions, group)

    def _send(self, actions: np.ndarray | Callable[[], np.ndarray], group: int) -> None:
        begin = time.perf_counter()
        done = actions() if callable(actions) else actions
        acted = time.perf_counter()
        self.act_seconds += acted - begin
        self.vec.send(done, group)
        self.env_seconds += time.perf_counter() - acted

    def _act_on_host(self, t: int, group: int, rows: slice, obs: np.ndarray, state: Tensor | None,
                     noise: Noise) -> tuple[np.ndarray, Tensor | None]:
        actions, logprobs, values, state = self.policy.act(torch.from_numpy(obs), state, noise, rows.start)
        host_actions = actions.numpy()
        self.buffer.write_actions(t, rows, obs, host_actions, logprobs.numpy(), values.numpy())
        return host_actions, state

    def _act_labelled(self, t: int, group: int, rows: slice, obs: np.ndarray, state: Tensor | None,
                      noise: Noise) -> tuple[np.ndarray, Tensor | None]:
        """What the learner makes of its policy's and the expert's actions; how likely the policy finds it, and its
        value, are written as 0."""
        labeller, own = self.labeller, None
        assert labeller is not None
        if labeller.mixer.policy_acts or state is not None:  # a recurrent state follows whoever acts
            more = {"deterministic": True} if self.greedy else {}
            actions, _, _, state = self.policy.act(self._tensor(obs), state, noise, rows.start, **more)
            own = actions.cpu().numpy()
        starts, none = self.buffer.episode_starts[t, rows], np.zeros(len(obs), np.float32)
        done = labeller.act(self.buffer, t, rows, obs, starts, own)
        self.buffer.write_actions(t, rows, obs, done, none, none)
        return done, state

    def _act_shared(self, t: int, group: int, rows: slice, obs: np.ndarray, state: Tensor | None,
                    noise: Noise) -> tuple[np.ndarray, Tensor | None]:
        """The policy's actions, and the expert's in the environments that it drives."""
        assert self.share is not None
        actions, logprobs, values, state = self.policy.act(self._tensor(obs), state, noise, rows.start)
        done = self.share.act(rows, obs, self.buffer.episode_starts[t, rows], actions.cpu().numpy())
        self.buffer.write_actions(t, rows, obs, done, logprobs.cpu().numpy(), values.cpu().numpy())
        return done, state

    @property
    def greedy(self) -> bool:
        """True if the policy acts by its mode: only where what it does is not learned from."""
        return self.labeller is not None and self.labeller.mixer.greedy

    def _act_on_device(self, t: int, group: int, rows: slice, obs: np.ndarray, state: Tensor | None,
                       noise: Noise) -> tuple[Callable[[], np.ndarray], Tensor | None]:
        """The same with one synchronisation, which comes when the actions are asked for: observations go up from where
        the environments have written them, or from the page-locked buffer, what the policy says comes down in one
        piece, and all of it stays on the device for the update."""
        buffer, rollout = self.buffer, rollout_on(self.buffer, self.device)
        if not self._locked:
            buffer.obs[t, rows] = obs
            obs = buffer.obs[t, rows]
        seen = rollout.place("obs")[t, rows]
        seen.copy_(torch.from_numpy(obs), non_blocking=True)
        actions, logprobs, values, state = self.policy.act(seen, state, noise, rows.start)
        for name, tensor in (("actions", actions), ("logprobs", logprobs), ("values", values)):
            rollout.place(name)[t, rows].copy_(tensor)
        packed = torch.cat((actions.contiguous().view(torch.float32), logprobs[:, None], values[:, None]), 1)
        if group not in self._staging:
            self._staging[group] = torch.from_numpy(self._allocate(tuple(packed.shape), np.float32))
        staging = self._staging[group]
        staging.copy_(packed, non_blocking=True)
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None

        def wait() -> np.ndarray:
            if stream is not None:
                stream.synchronize()
            host = staging.numpy()
            host_actions = np.ascontiguousarray(host[:, :-2]).view(buffer.actions.dtype)
            buffer.write_actions(t, rows, obs, host_actions, np.ascontiguousarray(host[:, -2]),
                                 np.ascontiguousarray(host[:, -1]))
            return host_actions

        return wait, state

    def _receive(self, t: int, group: int) -> None:
        begin = time.perf_counter()
        batch = self.vec.recv(group)
        self.env_seconds += time.perf_counter() - begin
        self.buffer.write_outcome(t, batch.rows, batch.rewards, batch.terminations, batch.truncations, batch.valid,
                                  batch.final_obs)
        if len(batch.episode_returns):
            self.episode_returns.append(batch.episode_returns.copy())
            self.episode_lengths.append(batch.episode_lengths.copy())
        ended = batch.terminations | batch.truncations
        # A row that was ignored belongs to the reset between two episodes: what follows it is a start as well.
        self.episode_starts[batch.rows] = ended | ~batch.valid
        if self.state is not None and batch.truncations.any():
            self._bootstrap_recurrent(t, batch)

    def _bootstrap(self, states: Tensor | None = None) -> None:
        """Values of the observations at which truncated episodes and the rollout itself were cut. `states`
        (k, state_dim) are what a memory held at the ends of episodes, None if those values are there already."""
        buffer = self.buffer
        buffer.last_obs[:] = self.vec.obs
        buffer.last_values[:] = self.policy.value(self._tensor(buffer.last_obs), self.state).cpu().numpy()
        if (self.state is None or states is not None) and len(buffer.final_index):
            truncated = buffer.truncations.reshape(-1)[buffer.final_index]
            if truncated.any():
                memory = None if states is None else states[torch.from_numpy(truncated)]
                values = self.policy.value(self._tensor(buffer.final_obs[truncated]), memory).cpu().numpy()
                buffer.final_values.reshape(-1)[buffer.final_index[truncated]] = values

    def _bootstrap_recurrent(self, t: int, batch: Batch) -> None:
        # The recurrent state at the cut is gone after the next step, so these few values cannot wait for the end.
        assert self.state is not None
        rows = np.flatnonzero(batch.truncations)
        columns = np.arange(batch.rows.start, batch.rows.stop)[rows]
        values = self.policy.value(self._tensor(batch.final_obs[rows]), self.state[torch.from_numpy(columns)])
        self.buffer.final_values[t, columns] = values.cpu().numpy()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)
