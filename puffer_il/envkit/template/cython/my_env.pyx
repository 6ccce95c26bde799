# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Docking: a craft drifts before a station, which it must reach and touch gently.

A small task that is here to be replaced. What matters is its form: a PufferEnv that steps `num_envs` environments in
one call, writes into the arrays that it is given, and draws all its random numbers from (seed, index).
"""
import gymnasium
import numpy as np
from pufferlib import PufferEnv

from libc.stdint cimport uint64_t


cdef extern from "rng.h":  # puffer_il's own: one generator per environment
    ctypedef struct Rng:
        pass
    void rng_seed(Rng *rng, uint64_t seed, uint64_t index) nogil
    double rng_uniform(Rng *rng, double low, double high) nogil


cdef double STEP = 0.1      # seconds per step
cdef double FAR_AWAY = 3.0  # metres at which the craft counts as lost

cdef struct Craft:
    double distance  # from the station, m
    double speed     # away from it, m/s
    int elapsed      # steps of this episode
    Rng rng


cdef inline void start(Craft *craft) noexcept nogil:
    craft.distance = rng_uniform(&craft.rng, 1, 2)
    craft.speed = rng_uniform(&craft.rng, -0.2, 0.2)
    craft.elapsed = 0


class MyEnv(PufferEnv):
    """Parameters after `first_env` are the environment's own: --env.kwargs.acceleration 2."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # for `puffer-il env play`; leave it out with `render`

    def __init__(self, num_envs=1, buf=None, seed=0, first_env=0, acceleration=1.0, gentle=0.2, limit=200):
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)  # distance, speed
        self.single_action_space = gymnasium.spaces.Discrete(3)  # thrust towards the station, off, away from it
        self.num_agents = num_envs
        super().__init__(buf)  # makes observations, actions, rewards, terminals, truncations, or takes those of `buf`
        final = (buf or {}).get("final_observations")  # what was seen last of an episode, in the rows that ended
        self.final_observations = np.zeros_like(self.observations) if final is None else final
        self.first_env = first_env
        self.acceleration, self.gentle, self.limit = acceleration, gentle, limit
        self.crafts = np.zeros(num_envs * sizeof(Craft), np.uint8)
        self.seed(seed)

    def seed(self, seed):
        cdef unsigned char[::1] memory = self.crafts
        cdef Craft *crafts = <Craft *>&memory[0]
        cdef Py_ssize_t i
        for i in range(self.num_agents):
            rng_seed(&crafts[i].rng, seed, self.first_env + i)

    def reset(self, seed=None):
        if seed is not None:
            self.seed(seed)
        cdef unsigned char[::1] memory = self.crafts
        cdef Craft *crafts = <Craft *>&memory[0]
        cdef float[:, ::1] obs = self.observations
        cdef Py_ssize_t i
        for i in range(self.num_agents):
            start(&crafts[i])
            obs[i, 0], obs[i, 1] = crafts[i].distance, crafts[i].speed
        return self.observations, []

    def step(self, actions):
        if actions is not self.actions:
            self.actions[:] = actions
        cdef unsigned char[::1] memory = self.crafts
        cdef Craft *crafts = <Craft *>&memory[0]
        cdef Craft *craft
        cdef int[::1] act = self.actions
        cdef float[:, ::1] obs = self.observations, final = self.final_observations
        cdef float[::1] rewards = self.rewards
        cdef unsigned char[::1] terminals = self.terminals.view(np.uint8), truncations = self.truncations.view(np.uint8)
        cdef double acceleration = self.acceleration, gentle = self.gentle
        cdef int limit = self.limit
        cdef bint touched, lost
        cdef Py_ssize_t i
        with nogil:  # nothing of Python from here on
            for i in range(act.shape[0]):
                craft = &crafts[i]
                craft.speed += STEP * acceleration * (act[i] - 1)
                craft.distance += STEP * craft.speed
                craft.elapsed += 1
                touched, lost = craft.distance <= 0, craft.distance > FAR_AWAY
                rewards[i] = -0.01
                if touched:
                    rewards[i] = 1 if craft.speed >= -gentle else craft.speed  # a crash costs its speed
                elif lost:
                    rewards[i] = -2
                terminals[i] = touched or lost
                truncations[i] = craft.elapsed >= limit and not terminals[i]
                if terminals[i] or truncations[i]:  # the next episode begins in this very step
                    final[i, 0], final[i, 1] = craft.distance, craft.speed
                    start(craft)
                obs[i, 0], obs[i, 1] = craft.distance, craft.speed
        return self.observations, self.rewards, self.terminals, self.truncations, []

    def render(self):
        """A picture of the first environment, (height, width, 3): the station on the left, the craft as a square."""
        picture = np.full((120, 480, 3), 250, np.uint8)
        picture[20:100, :48] = 0x22, 0x26, 0x2b
        place = 48 + int(self.observations[0, 0] * 120)
        picture[48:72, max(0, place):place + 24] = 0x2b, 0x6c, 0xb0
        return picture

    def get_state(self):
        """All that changes, as bytes: a run that is interrupted goes on exactly. Leave both out and it begins anew."""
        return np.concatenate([self.crafts, self.observations.ravel().view(np.uint8)])

    def set_state(self, state):
        self.crafts[:] = state[:len(self.crafts)]
        self.observations.ravel().view(np.uint8)[:] = state[len(self.crafts):]

    def close(self):
        pass
