"""Whole rollouts, and steps of C environments on several threads."""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import numpy as np

cdef extern from "stdbool.h":
    ctypedef bint cbool "bool"

cdef extern from "kernels/rollout.h" nogil:
    ctypedef struct VecEnv:
        pass
    ctypedef void (*StepFunction)(const VecEnv *, int64_t, int64_t)
    ctypedef struct CChunks "Chunks":
        int32_t kind, size, dim, execute, components, flow_steps, state_dim
        float ensemble
        CDistribution dist
        const float *center
        const float *scale
        const float *log_std
        const float *begin
        float *state
    ctypedef struct RolloutArrays:
        char *obs
        void *actions
        float *rewards
        float *env_rewards
        float *logprobs
        float *values
        float *final_values
        cbool *terminations
        cbool *truncations
        cbool *valid
        cbool *episode_starts
    ctypedef struct Ends:
        int64_t count
        int64_t *index
        double *returns
        int64_t *lengths
        char *final_obs
        double *logs
        float *states
    ctypedef struct Recall:
        float *state
    ctypedef struct CRollout "Rollout":
        CObservations obs
        CDistribution dist
        Noise noise
        Recall memory
        CChunks *chunks
        int32_t dims, log_size
        cbool greedy
        VecEnv vec
        StepFunction step
        RolloutArrays to
        int64_t steps, rows, agents, slice
        cbool *starts
        double *returns
        int64_t *lengths
        Ends *ends
    int64_t slice_rows(int64_t, int64_t, int)
    void step_on_threads(const VecEnv *, StepFunction, int64_t, int)
    int64_t chunks_of(int64_t, int64_t)
    void free_ends(Ends *, int64_t)
    bint run_rollout(const CKernels *, const ActorCritic *, const CMemory *, CRollout *, int)


cdef class Chunks:
    """How a policy predicts and what it does of that: kinds are PLAIN (0), MIXTURE (1) and FLOW (2). `dist` is that of
    a whole chunk, or of the choice among a mixture's components; a flow needs none."""
    cdef CChunks chunks

    def __init__(self, int kind, int size, int dim, int execute, double ensemble, int state_dim, int components,
                 int flow_steps, Distribution dist):
        memset(&self.chunks, 0, sizeof(CChunks))
        self.chunks.kind, self.chunks.size, self.chunks.dim, self.chunks.execute = kind, size, dim, execute
        self.chunks.ensemble, self.chunks.state_dim = ensemble, state_dim
        self.chunks.components, self.chunks.flow_steps = components, flow_steps
        if dist is not None:
            self.chunks.dist = dist.dist

    def at(self, uintptr_t center, uintptr_t scale, uintptr_t log_std, uintptr_t begin, uintptr_t state):
        """Where its numbers are, and the state (rows, state_dim) that is carried on."""
        self.chunks.center, self.chunks.scale = <const float *>center, <const float *>scale
        self.chunks.log_std, self.chunks.begin = <const float *>log_std, <const float *>begin
        self.chunks.state = <float *>state
        cdef int k
        if self.chunks.kind == 0 and log_std:
            for k in range(self.chunks.dist.dims):
                self.chunks.dist.log_std[k] = self.chunks.log_std[k]
        return self


def step_envs(uintptr_t vec, uintptr_t step, int64_t envs, int count):
    """One step of a batch of `envs` C environments on `count` threads; addresses as for `rollout`."""
    with nogil:
        step_on_threads(<const VecEnv *>vec, <StepFunction>step, envs, count)


def rollout(tuple networks, Observations obs, Distribution dist, uintptr_t log_std, uintptr_t vec, uintptr_t step,
            tuple arrays, int64_t steps, int64_t rows, int64_t agents, uintptr_t starts, uintptr_t returns,
            uintptr_t lengths, uint64_t seed, uint64_t first_step, bint greedy, int action_dims, int log_size=0,
            Chunks chunks=None, Memory memory=None, uintptr_t state=0):
    """A whole rollout, of samples or of the likeliest actions.

    `vec` is the address of a VecEnv, `step` of its step function; `arrays` are addresses in the order of RolloutArrays.
    Returns, of the episodes that ended, in the order of their ends: flat row numbers (k,), returns (k,), lengths (k,),
    final observations as bytes (k, bytes of a row), the sums of their environments' logs thereafter
    (k, 1 + log_size), (k, 0) without a log, and what a `memory` then remembered, (k, state) float32, (k, 0) without
    one. Its `state` (rows, state) is carried on.
    """
    cdef ActorCritic ac = _actor_critic(networks)
    cdef CRollout r
    memset(&r, 0, sizeof(CRollout))
    r.obs, r.dist, r.noise = obs.at(0), dist.at(log_std), Noise(seed, first_step)
    memcpy(&r.vec, <const void *>vec, sizeof(VecEnv))
    r.step, r.greedy, r.dims, r.log_size = <StepFunction>step, greedy, action_dims, log_size
    r.chunks = NULL if chunks is None else &chunks.chunks
    cdef const CMemory *remembers = NULL
    if memory is not None:
        remembers, r.memory.state = &memory.memory, <float *>state
    r.to.obs, r.to.actions = <char *><uintptr_t>arrays[0], <void *><uintptr_t>arrays[1]
    r.to.rewards, r.to.env_rewards = <float *><uintptr_t>arrays[2], <float *><uintptr_t>arrays[3]
    r.to.logprobs, r.to.values = <float *><uintptr_t>arrays[4], <float *><uintptr_t>arrays[5]
    r.to.final_values = <float *><uintptr_t>arrays[6]
    r.to.terminations, r.to.truncations = <cbool *><uintptr_t>arrays[7], <cbool *><uintptr_t>arrays[8]
    r.to.valid, r.to.episode_starts = <cbool *><uintptr_t>arrays[9], <cbool *><uintptr_t>arrays[10]
    r.steps, r.rows, r.agents, r.slice = steps, rows, agents, slice_rows(rows, agents, threads)
    r.starts, r.returns, r.lengths = <cbool *>starts, <double *>returns, <int64_t *>lengths
    cdef int64_t slices = chunks_of(rows, r.slice)
    r.ends = <Ends *>calloc(slices, sizeof(Ends))
    _check(r.ends != NULL)
    try:
        with nogil:
            _check(run_rollout(kernels, &ac, remembers, &r, threads))
        return _collect(r.ends, slices, r.obs.bytes, 1 + log_size if log_size else 0,
                        0 if memory is None else memory.state)
    finally:
        free_ends(r.ends, slices)
        free(r.ends)


cdef tuple _collect(Ends *ends, int64_t slices, int64_t bytes_, int64_t logged, int64_t kept):
    """What all slices kept, sorted by step and row."""
    cdef int64_t i, total = 0, at = 0, n
    for i in range(slices):
        total += ends[i].count
    index, returns, lengths = np.empty(total, np.int64), np.empty(total), np.empty(total, np.int64)
    final_obs, logs = np.empty((total, bytes_), np.uint8), np.empty((total, logged))
    states = np.empty((total, kept), np.float32)
    cdef int64_t[::1] to_index = index, to_lengths = lengths
    cdef double[::1] to_returns = returns
    cdef uint8_t[:, ::1] to_obs = final_obs
    cdef double[:, ::1] to_logs = logs
    cdef float[:, ::1] to_states = states
    for i in range(slices):
        n = ends[i].count
        if n:
            memcpy(&to_index[at], ends[i].index, n * sizeof(int64_t))
            memcpy(&to_returns[at], ends[i].returns, n * sizeof(double))
            memcpy(&to_lengths[at], ends[i].lengths, n * sizeof(int64_t))
            memcpy(&to_obs[at, 0], ends[i].final_obs, n * bytes_)
            if logged:
                memcpy(&to_logs[at, 0], ends[i].logs, n * logged * sizeof(double))
            if kept:
                memcpy(&to_states[at, 0], ends[i].states, n * kept * sizeof(float))
            at += n
    order = np.argsort(index)
    return index[order], returns[order], lengths[order], final_obs[order], logs[order], states[order]
