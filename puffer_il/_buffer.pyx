"""Kernels of the rollout buffer. They trust their arguments, which buffer.py has checked, and hold no GIL.

Arrays of any dtype come as bytes: a field is uint8 (num_steps, num_envs, width).
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

cdef extern from "gather.h" nogil:
    void gather_rows(Py_ssize_t n, Py_ssize_t width, const int64_t *index, const uint8_t *source, uint8_t *target)

cdef extern from "gae.h" nogil:
    void gae_step(Py_ssize_t n, float gamma, float gamma_lambda, const float *rewards, const float *values,
                  const float *next_values, const float *final_values, const float *next_advantages,
                  const uint8_t *terminations, const uint8_t *truncations, const uint8_t *valid,
                  float *advantages, float *returns)

cdef enum:
    MAX_FIELDS = 16

cdef struct Field:
    uint8_t *target
    const uint8_t *source
    Py_ssize_t width  # bytes of a row


def write(tuple targets, tuple sources, Py_ssize_t t, Py_ssize_t first):
    """targets[k][t, first:first + n] = sources[k], uint8 (n * width,), for every field k."""
    cdef Field fields[MAX_FIELDS]
    cdef uint8_t[:, :, ::1] target
    cdef const uint8_t[::1] source
    cdef Py_ssize_t k, count = _count(targets, sources)
    for k in range(count):
        target, source = targets[k], sources[k]
        fields[k] = Field(&target[t, first, 0], &source[0], source.shape[0])
    with nogil:
        for k in range(count):
            memcpy(fields[k].target, fields[k].source, <size_t>fields[k].width)


def gather(tuple targets, tuple sources, const int64_t[::1] index):
    """targets[k][t, j] = sources[k][t, index[j]] for every field k, step t and j."""
    cdef Field fields[MAX_FIELDS]
    cdef uint8_t[:, :, ::1] target
    cdef const uint8_t[:, :, ::1] source
    cdef Py_ssize_t k, t, num_steps = 0, num_rows = 0, n = index.shape[0], count = _count(targets, sources)
    for k in range(count):
        target, source = targets[k], sources[k]
        num_steps, num_rows = source.shape[0], source.shape[1]
        fields[k] = Field(&target[0, 0, 0], &source[0, 0, 0], source.shape[2])
    with nogil:
        for k in range(count):
            for t in range(num_steps):
                gather_rows(n, fields[k].width, &index[0], fields[k].source + t * num_rows * fields[k].width,
                            fields[k].target + t * n * fields[k].width)


def advantages(const float[:, ::1] rewards, const float[:, ::1] values, const float[::1] last_values,
               const float[:, ::1] final_values, const uint8_t[:, ::1] terminations,
               const uint8_t[:, ::1] truncations, const uint8_t[:, ::1] valid, float gamma, float gae_lambda,
               float[:, ::1] advantages, float[:, ::1] returns):
    """Fill `advantages` and `returns`, both (num_steps, num_envs), from the last step to the first."""
    cdef Py_ssize_t t, last = rewards.shape[0] - 1, n = rewards.shape[1]
    cdef const float *next_values = &last_values[0]
    # After the last step there is nothing to add: any finite row does, weighted by zero.
    cdef const float *next_advantages = &values[last, 0]
    cdef float gamma_lambda = 0
    with nogil:
        for t in range(last, -1, -1):
            gae_step(n, gamma, gamma_lambda, &rewards[t, 0], &values[t, 0], next_values, &final_values[t, 0],
                     next_advantages, &terminations[t, 0], &truncations[t, 0], &valid[t, 0],
                     &advantages[t, 0], &returns[t, 0])
            next_values, next_advantages, gamma_lambda = &values[t, 0], &advantages[t, 0], gamma * gae_lambda


cdef Py_ssize_t _count(tuple targets, tuple sources) except -1:
    if len(targets) != len(sources) or len(targets) > MAX_FIELDS:
        raise ValueError(f"{len(sources)} arrays for {len(targets)} fields, of which at most {MAX_FIELDS} fit")
    return len(targets)
