"""Environments whose every cell says where it comes from, and others that break on purpose.

The observation of environment `index` in step `step` of its episode number `episode` is [index, episode, step, echo],
echo being the sum of the last action (0 after a reset). The reward of a step is `code` of where it was taken; episodes
have `length` steps and end as `end` says. Seeds carry the index, so that it is the vector that hands it out.
"""

import ctypes
import faulthandler
import os
import signal
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

from puffer_il.native.pufferlib import pufferlib
from puffer_il.vector.make import env_seed

SEED = 7
FIRST = env_seed(SEED, 0)


def code(index, episode, step):
    return 10_000 * index + 100 * episode + step


def length(index, episode):
    return 2 + (index + episode) % 4


def end(index, episode):
    """(termination, truncation) as the environment reports them; sometimes both."""
    return [(True, False), (False, True), (True, True)][(index + 2 * episode) % 3]


ACTIONS = {
    "discrete": spaces.Discrete(5),
    "shifted": spaces.Discrete(5, start=-2),
    "multidiscrete": spaces.MultiDiscrete([3, 4, 5]),
    "multibinary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"a": spaces.Discrete(3),
                         "b": spaces.Tuple([spaces.Discrete(4), spaces.MultiDiscrete([2, 5])])}),
    "box": spaces.Box(-1, 1, (2,)),
    "box64": spaces.Box(-1, 1, (2,), np.float64),
    "matrix": spaces.Box(-1, 1, (2, 3)),
    "boxes": spaces.Dict({"a": spaces.Box(-1, 1, ()), "b": spaces.Box(0, 1, (2,))}),
}
WHERE = spaces.Box(-np.inf, np.inf, (4,))
OBSERVATIONS = {
    "plain": WHERE,
    "float64": spaces.Box(-np.inf, np.inf, (4,), np.float64),
    "dict": spaces.Dict({"where": WHERE, "kind": spaces.Discrete(8),
                         "picture": spaces.Box(0, 255, (2, 3, 1), np.uint8)}),
    "tuple": spaces.Tuple([spaces.Discrete(100), spaces.Discrete(9), spaces.Discrete(9)]),
    "category": spaces.Discrete(10_000, start=1),
    "multidiscrete": spaces.MultiDiscrete([64, 100, 9]),
    "bits": spaces.MultiBinary(6),
}


def total(action):
    """The sum of all numbers in an action of any structure."""
    parts = action.values() if isinstance(action, dict) else action if isinstance(action, tuple) else None
    return float(np.sum(action)) if parts is None else sum(map(total, parts))


class Gymnasium(gymnasium.Env):
    """Refuses actions that are not in its space, and remembers the last one, to see that nobody writes into it."""

    def __init__(self, observation="plain", action="discrete"):
        self.kind = observation
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.index, self.episode, self.last = None, -1, None

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.index, self.episode = seed - FIRST, -1
        self.episode, self.step_, self.echo = self.episode + 1, 0, 0.0
        return self.observe(), {"anything": self.index}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        assert self.last is None or total(self.last[0]) == self.last[1], "somebody wrote into an earlier action"
        self.last = action, total(action)
        reward = code(self.index, self.episode, self.step_)
        self.step_, self.echo = self.step_ + 1, self.last[1]
        over = self.step_ == length(self.index, self.episode)
        terminated, truncated = end(self.index, self.episode) if over else (False, False)
        return self.observe(), reward, terminated, truncated, {"nested": {"info": [1, 2]}}

    def observe(self):
        index, episode, step = self.index, self.episode, self.step_
        if self.kind == "plain":
            return np.array([index, episode, step, self.echo], np.float32)
        if self.kind == "float64":
            return np.array([index, episode, step, self.echo])
        if self.kind == "dict":
            where = np.array([index, episode, step, self.echo], np.float32)
            return {"where": where, "kind": step, "picture": np.full((2, 3, 1), 10 * episode + step, np.uint8)}
        if self.kind == "tuple":
            return index, episode % 9, step
        if self.kind == "category":
            return 1 + code(index, episode, step) % 10_000
        if self.kind == "multidiscrete":
            return np.array([index, episode, step])
        return np.array([index & 2, index & 1, episode & 1, step & 4, step & 2, step & 1]).astype(bool).astype(np.int8)


class Puffer(pufferlib.PufferEnv):
    """A batch that resets in the same step and, like most, hands over no final observations."""

    def __init__(self, num_envs=1, buf=None, seed=0):
        self.num_agents = num_envs
        self.single_observation_space, self.single_action_space = WHERE, ACTIONS["discrete"]
        super().__init__(buf)

    def reset(self, seed=None):
        self.index = seed - FIRST + np.arange(self.num_agents)
        self.episode, self.step_ = np.zeros((2, self.num_agents), int)
        self.observe(0)
        return self.observations, []

    def step(self, actions):
        self.actions[:] = actions
        self.rewards[:] = code(self.index, self.episode, self.step_)
        self.step_ += 1
        self.terminals[:] = self.truncations[:] = False
        self.observe(self.actions)
        for i, over in enumerate(self.step_ == length(self.index, self.episode)):
            if over:
                self.terminals[i], self.truncations[i] = end(self.index[i], self.episode[i])
                self.finish(i)
        return self.observations, self.rewards, self.terminals, self.truncations, []

    def finish(self, i):
        self.episode[i], self.step_[i] = self.episode[i] + 1, 0
        self.observations[i] = self.index[i], self.episode[i], 0, 0

    def observe(self, echo):
        self.observations[:] = np.stack(np.broadcast_arrays(self.index, self.episode, self.step_, echo), axis=1)


class PufferWithFinal(Puffer):
    """The same with final observations, in the array it is given or its own."""

    def __init__(self, num_envs=1, buf=None, seed=0):
        super().__init__(num_envs, buf, seed)
        self.final_observations = (buf or {}).get("final_observations", np.zeros_like(self.observations))

    def finish(self, i):
        self.final_observations[i] = self.observations[i]
        super().finish(i)


class PufferSingle(PufferWithFinal):
    """One environment per instance, saved and restored exactly."""

    def __init__(self, buf=None, seed=0):
        super().__init__(1, buf, seed)

    def get_state(self):
        return np.stack([self.index, self.episode, self.step_]).astype(np.int64).view(np.uint8).reshape(-1)

    def set_state(self, state):
        self.index, self.episode, self.step_ = state.view(np.int64).reshape(3, -1).copy()
        self.observe(0)


def puffer_without_buf():
    """A PufferEnv that writes into arrays of its own."""
    return PufferWithFinal(1)


class Parallel:
    """PettingZoo without the package: agent k ends after step 2 + k, the last one by truncation.

    In odd episodes agent 1 vanishes without a last observation; agent 2 arrives in step 1. A `silent` episode is over
    without a flag.
    """

    possible_agents = ("agent0", "agent1", "agent2")

    def __init__(self, action="discrete", silent=False):
        self.action, self.silent, self.episode, self.agents = ACTIONS[action], silent, -1, []

    def observation_space(self, agent):
        return WHERE

    def action_space(self, agent):
        return self.action

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.index, self.episode = seed - FIRST, -1
        self.episode, self.step_ = self.episode + 1, 0
        self.agents = ["agent0", "agent1"]
        return {agent: self.observe(agent) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents), (actions, self.agents)
        assert all(self.action.contains(action) for action in actions.values())
        rewards = {agent: code(3 * self.index + int(agent[-1]), self.episode, self.step_) for agent in self.agents}
        self.step_ += 1
        acting, over = self.agents, {agent: self.step_ == 2 + int(agent[-1]) for agent in self.agents}
        self.agents = [agent for agent in acting if not over[agent]]
        if self.silent and not self.agents:
            over = dict.fromkeys(acting, False)
        terminations = {agent: over[agent] and agent != "agent2" for agent in acting}
        truncations = {agent: over[agent] and agent == "agent2" for agent in acting}
        seen = [agent for agent in acting if not (over[agent] and agent == "agent1" and self.episode % 2)]
        if self.step_ == 1:
            self.agents.append("agent2")
            seen.append("agent2")
            rewards["agent2"], terminations["agent2"], truncations["agent2"] = 5.0, False, False  # not its own doing
        observations = {agent: self.observe(agent) for agent in seen}
        return observations, rewards, terminations, truncations, {agent: {} for agent in seen}

    def observe(self, agent):
        return np.array([3 * self.index + int(agent[-1]), self.episode, self.step_, 0], np.float32)

    def close(self):
        pass


class Careless(Gymnasium):
    """Draws its first observation from NumPy's global generator."""

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.random.random(4).astype(np.float32), {}


class Fragile(Gymnasium):
    """Breaks in `when`, in step 3 of environment `who`, as `how` says."""

    def __init__(self, how, when="step", who=2):
        super().__init__()
        self.how, self.when, self.who, self.steps = how, when, who, 0

    def reset(self, seed=None, options=None):
        result = super().reset(seed=seed)
        if self.when == "reset" and self.index == self.who:
            self.end()
        return result

    def step(self, action):
        self.steps += 1
        if self.when == "step" and self.index == self.who and self.steps == 3:
            self.end()
        return super().step(action)

    def end(self):
        if self.how == "exception":
            raise ZeroDivisionError("the pole has snapped")
        if self.how == "exit":
            sys.exit(3)
        if self.how == "os_exit":
            os._exit(4)
        if self.how == "segfault":
            faulthandler.disable()  # pytest's own would print the stack
            ctypes.string_at(0)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            time.sleep(0.01)


def fragile_constructor(parent):
    """Opens in the process `parent` and nowhere else."""
    if os.getpid() != parent:
        raise OSError("no display in this process")
    return Gymnasium()


def text_observations():
    env = Gymnasium()
    env.observation_space = spaces.Text(5)
    return env


def not_an_environment():
    return 5
