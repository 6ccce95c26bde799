"""Experts to ask: the environment's own script, a policy in a file or of a run, chance, or a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.nn.numpy_policy import NumpyPolicy
from puffer_il.nn.policy import Policy
from puffer_il.rollout.actors import random_actor
from puffer_il.rollout.asking import Expert
from puffer_il.rollout.policy_files import load_expert
from puffer_il.training.saved_run import load_policy
from puffer_il.vector.vec import Vec

PERSON, CHANCE = "person", "random"
MakePerson = Callable[[Vec], Expert]


def make_expert(key: str, source: str, vec: Vec, seed: int, person: MakePerson | None = None) -> Expert:
    """The expert that `source`, the value of the config key `key`, names, for the environments of `vec`.

    script   the environment's function c_expert
    person   somebody at the terminal, whom `person` makes
    random   uniform actions: a control, from whom nothing can be learned
    a path   a run directory, a Stable-Baselines3 zip, or an npz of the GAIL paper's experts; it acts by its mode

    InputError where it cannot be asked or does not fit the environment.
    """
    if source == "script":
        if vec.backend == "multiprocessing":
            raise InputError(f"{key} = 'script': no script can be asked in worker processes; give a policy's run "
                             "directory or file, or set env.backend = 'serial' and env.num_workers = 0")
        if vec.expert_actions() is None:
            raise InputError(f"{key} = 'script': {vec.spec.name} has no scripted expert (a function c_expert in its "
                             "header); give a policy's run directory or file")
        return Script(vec)
    if source == PERSON:
        if person is None:
            raise InputError(f"{key} = 'person': there is no terminal to ask somebody at; give 'script', or a policy's "
                             "run directory or file")
        return person(vec)
    if source == CHANCE:
        return Chance(vec.spec, seed)
    path = Path(source)
    if not path.exists():
        raise InputError(f"{key} = {source!r}: no such file or run directory; give one, or 'script' or 'person'")
    if not path.is_dir():
        return File(path, vec.spec)
    policy, _, state = load_policy(path)
    spec: EnvSpec = state["spec"]
    if replace(spec, name="") != replace(vec.spec, name=""):
        raise InputError(f"{key} = {source!r}: a policy for {spec.name}, whose observations {spec.obs_shape} or "
                         f"actions are not those of {vec.spec.name}; give a run on it")
    return RunPolicy(policy, spec, vec.num_envs)


class Memoryless:
    """What an expert has to say about its state where there is none."""

    stepwise = False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Script(Memoryless):
    """The environments' own c_expert, which sees all of their state."""

    stepwise = True

    def __init__(self, vec: Vec) -> None:
        self.vec = vec

    def act(self, obs: Array, starts: Array, rows: slice) -> Array:
        actions = self.vec.expert_actions()
        assert actions is not None
        return actions[rows]


class File(Memoryless):
    """Other people's policy."""

    def __init__(self, path: Path, spec: EnvSpec) -> None:
        self.policy, self.action = load_expert(path, spec), spec.action

    def act(self, obs: Array, starts: Array, rows: slice) -> Array:
        actions = self.policy(obs, starts)
        return actions if self.action.discrete else np.clip(actions, self.action.low, self.action.high)


class RunPolicy:
    """A run's policy; with an LSTM it remembers, and follows whatever is done."""

    def __init__(self, policy: Policy | NumpyPolicy, spec: EnvSpec, num_envs: int) -> None:
        self.policy, self.action = policy, spec.action
        self.state: Tensor | None = policy.initial_state(num_envs) if isinstance(policy, Policy) else None
        self.stepwise = self.state is not None

    def act(self, obs: Array, starts: Array, rows: slice) -> Array:
        action = self.action
        if not isinstance(self.policy, Policy):
            actions, _ = self.policy.predict(obs, None, starts, True)
            return np.asarray(actions, action.dtype).reshape(len(obs), action.dim)
        state = None
        if self.state is not None:
            state = self.state[rows] * torch.from_numpy(1 - starts.astype(np.float32)).unsqueeze(1)
        tensor, _, _, state = self.policy.act(torch.from_numpy(obs), state, deterministic=True)
        if self.state is not None and state is not None:
            self.state[rows] = state
        actions = tensor.numpy()
        return actions if action.discrete else np.clip(actions, action.low, action.high)

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = None if state["state"] is None else state["state"].clone()


class Chance:
    """Uniform actions."""

    stepwise = True  # the order in which it is asked decides what it says

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self.spec, self.seed, self.asked = spec, seed, 0

    def act(self, obs: Array, starts: Array, rows: slice) -> Array:
        self.asked += 1
        seed = np.random.SeedSequence([self.seed, self.asked]).generate_state(1)[0]
        return random_actor(self.spec, int(seed))(obs, starts)

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.asked = state["asked"]
