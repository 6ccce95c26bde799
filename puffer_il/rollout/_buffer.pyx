"""Kernels of the rollout buffer. They trust their arguments, which buffer.py has checked, and hold no GIL.

Arrays of any dtype come as bytes: a field is uint8 (num_steps, num_envs, width).
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

import numpy as np

cnp.import_array()

cdef extern from "kernels/gather.h" nogil:
    void gather_rows(Py_ssize_t n, Py_ssize_t width, const int64_t *index, const uint8_t *source, uint8_t *target)

cdef extern from "copy.h" nogil:
    Py_ssize_t find_ends(Py_ssize_t n, const uint8_t *a, const uint8_t *b, const uint8_t *c, int64_t *found)
    void copy_out(uint8_t *to, const uint8_t *source, size_t bytes)

cdef extern from "gae.h" nogil:
    void gae_step(Py_ssize_t n, float gamma, float gamma_lambda, const float *rewards, const float *values,
                  const float *next_values, const float *final_values, const float *next_advantages,
                  const uint8_t *terminations, const uint8_t *truncations, const uint8_t *valid,
                  float *advantages, float *returns)

include "fields.pxi"


def write(tuple targets, tuple sources, Py_ssize_t t, Py_ssize_t first, Py_ssize_t n):
    """targets[k][t, first:first + n] = sources[k] for every field k.

    A target is (num_steps, num_envs, …), contiguous, its source (n, …) of the same dtype with any strides. Returns the
    number of the first field whose source is none such, before anything is written, or -1.
    """
    cdef Field fields[MAX_FIELDS]
    cdef cnp.ndarray target, source
    cdef list copies = []
    cdef Py_ssize_t k, width, count = _count(targets, sources)
    for k in range(count):
        target, source = targets[k], sources[k]
        if not _fits(target, source, n):
            return k
        if not cnp.PyArray_IS_C_CONTIGUOUS(source):
            source = np.ascontiguousarray(source)
            copies.append(source)
        width = cnp.PyArray_NBYTES(target) // (target.shape[0] * target.shape[1])
        fields[k] = Field(<uint8_t *>cnp.PyArray_DATA(target) + (t * target.shape[1] + first) * width,
                          <const uint8_t *>cnp.PyArray_DATA(source), n * width)
    with nogil:
        for k in range(count):
            copy_out(fields[k].target, fields[k].source, <size_t>fields[k].width)
    return -1


def ends(const uint8_t[::1] terminations, const uint8_t[::1] truncations, const uint8_t[::1] valid,
         float[::1] final_values, int64_t[::1] found):
    """Zero `final_values` (n,), list the valid rows that ended in `found` (n,), and return how many those are."""
    cdef Py_ssize_t n = valid.shape[0], count
    with nogil:
        memset(&final_values[0], 0, <size_t>n * sizeof(float))
        count = find_ends(n, &terminations[0], &truncations[0], &valid[0], &found[0])
    return count


cdef bint _fits(cnp.ndarray target, cnp.ndarray source, Py_ssize_t n):
    """True if `source` is n rows of what `target` holds."""
    cdef int axis
    if source.ndim != target.ndim - 1 or source.shape[0] != n or source.descr.type_num != target.descr.type_num:
        return False
    for axis in range(2, target.ndim):
        if source.shape[axis - 1] != target.shape[axis]:
            return False
    return cnp.PyArray_ISNOTSWAPPED(source)


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
