"""Stored observations as networks read them, and their moments."""

cdef extern from "kernels/training.h" nogil:
    enum:
        BLOCK
    ctypedef struct CObservations "Observations":
        const void *data
        int32_t dtype, bytes, columns
        float clip
        const float *mean
        const float *scale
        const void *more
        int64_t split, mapped
    double column_moments(const CObservations *, const int64_t *, const uint8_t *, int64_t, float *, float *, int)
    void c_let_go "let_go"(const void *, int64_t)

BLOCK_ROWS = BLOCK
DTYPES = {"float32": 0, "float64": 1, "uint8": 2, "int8": 3, "int16": 4, "int32": 5, "int64": 6, "bool": 7}


cdef class Observations:
    """How stored observations become a network's inputs: dtype, columns, and the normalisation, if there is one.

    `mean` and `scale` are float32 (BLOCK_ROWS * columns,): one row's numbers, again and again.
    """
    cdef CObservations obs
    cdef object keep

    def __init__(self, str dtype, int itemsize, int columns, float clip, mean, scale):
        cdef const float[::1] view
        memset(&self.obs, 0, sizeof(CObservations))
        self.obs.dtype, self.obs.bytes = DTYPES[dtype], itemsize * columns
        self.obs.columns, self.obs.clip = columns, clip
        self.keep = (mean, scale)
        if mean is not None:
            view = mean
            self.obs.mean = &view[0]
            view = scale
            self.obs.scale = &view[0]

    cdef CObservations at(self, uintptr_t data, uintptr_t more=0, int64_t split=0, int64_t mapped=0):
        cdef CObservations obs = self.obs
        obs.data, obs.more, obs.split, obs.mapped = <const void *>data, <const void *>more, split, mapped
        return obs


def moments(Observations obs, uintptr_t data, uintptr_t index, uintptr_t valid, int64_t rows, float[::1] mean,
            float[::1] variance, int64_t mapped):
    """Mean and variance of every column over the valid rows (0: all) of those that `index` lists (0: of the first
    `rows`); returns how many those are. `mapped` bytes from `data` on lie in a mapped file."""
    cdef CObservations seen = obs.at(data, 0, 0, mapped)
    cdef double counted
    with nogil:
        counted = column_moments(&seen, <const int64_t *>index, <const uint8_t *>valid, rows, &mean[0], &variance[0],
                                 threads)
    _check(counted >= 0)
    return counted


def let_go(uintptr_t data, int64_t size):
    """Take `size` bytes of a mapped file out of the process's memory; they are read again where they are asked for. Not
    for a private mapping that is written to: changes would be lost."""
    c_let_go(<const void *>data, size)
