"""Kernels of the replay buffer. They trust their arguments, which replay.py has checked, and hold no GIL.

Arrays of any dtype come as bytes: a field is uint8 (rows, width).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "rng.h" nogil:
    ctypedef struct Rng:
        uint64_t state, stream
    void rng_seed(Rng *rng, uint64_t seed, uint64_t index)
    uint32_t rng_below(Rng *rng, uint32_t n)

include "fields.pxi"


cdef class Generator:
    """The generator of csrc/rng.h; `state` is all there is to save."""
    cdef Rng rng

    def __init__(self, uint64_t seed, uint64_t index):
        rng_seed(&self.rng, seed, index)

    @property
    def state(self):
        return self.rng.state, self.rng.stream

    @state.setter
    def state(self, tuple state):
        self.rng.state, self.rng.stream = state


def append(tuple targets, tuple sources, const uint8_t[::1] valid, Py_ssize_t place):
    """Copy the valid rows of every source (n, width) into its target (capacity, width), a ring, from row `place` on.

    Returns how many rows those are. Runs of valid rows are copied in one piece.
    """
    cdef Field fields[MAX_FIELDS]
    cdef uint8_t[:, ::1] target
    cdef const uint8_t[:, ::1] source
    cdef Py_ssize_t k, i, run, part, capacity = 0, stored = 0, n = valid.shape[0], count = _count(targets, sources)
    for k in range(count):
        target, source = targets[k], sources[k]
        capacity = target.shape[0]
        fields[k] = Field(&target[0, 0], &source[0, 0], source.shape[1])
    with nogil:
        i = 0
        while i < n:
            run = 0
            while i + run < n and valid[i + run]:
                run += 1
            stored += run
            while run > 0:
                part = min(run, capacity - place)
                for k in range(count):
                    memcpy(fields[k].target + place * fields[k].width, fields[k].source + i * fields[k].width,
                           <size_t>(part * fields[k].width))
                place = (place + part) % capacity
                i, run = i + part, run - part
            while i < n and not valid[i]:
                i += 1
    return stored


def draw(Generator generator, Py_ssize_t rows, int64_t[::1] index):
    """Fill `index` with numbers in [0, rows), drawn with replacement."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(index.shape[0]):
            index[i] = rng_below(&generator.rng, <uint32_t>rows)
