"""Action distributions and samples of them."""

cdef extern from "kernels/jobs.h" nogil:
    enum:
        MAX_DIMS
        MAX_PARAMS
    ctypedef struct CDistribution "Distribution":
        int32_t gaussian, squash, state_std, dims, num_params
        int32_t *choices
        float *center
        float *scale
        float *log_std
    ctypedef struct Noise:
        uint64_t seed, step

cdef extern from "kernels/rollout.h" nogil:
    ctypedef struct Samples:
        const CKernels *kernels
        CDistribution dist
        Noise noise
        const float *params
        int32_t *actions
        float *logprobs
        int64_t rows, first_row
    void sample_rows(Samples *, int)

MAX_ACTION_DIMS, MAX_ACTION_PARAMS = MAX_DIMS, MAX_PARAMS


cdef class Distribution:
    """Categorical with the numbers of choices given, or Gaussian with center and scale per dimension, squashed or not;
    with `state_std` the network gives its spread too."""
    cdef CDistribution dist
    cdef readonly int dims
    cdef tuple arguments

    def __init__(self, tuple choices, tuple center, tuple scale, bint squash=False, bint state_std=False):
        cdef int k
        self.arguments = (choices, center, scale, squash, state_std)
        memset(&self.dist, 0, sizeof(CDistribution))
        self.dist.gaussian = not choices
        self.dist.dims = len(choices) or len(center)
        self.dist.squash, self.dist.state_std = squash, state_std
        self.dist.num_params = sum(choices) or len(center) * (1 + state_std)
        for k in range(self.dist.dims):
            if choices:
                self.dist.choices[k] = choices[k]
            else:
                self.dist.center[k], self.dist.scale[k] = center[k], scale[k]
        self.dims = self.dist.dims

    def __reduce__(self):
        return Distribution, self.arguments

    cdef CDistribution at(self, uintptr_t log_std):
        cdef CDistribution dist = self.dist
        cdef int k
        if dist.gaussian and log_std:
            for k in range(dist.dims):
                dist.log_std[k] = (<const float *>log_std)[k]
        return dist


def sample(Distribution dist, uintptr_t log_std, uintptr_t params, int64_t rows, uint64_t seed, uint64_t step,
           int64_t first_row, uintptr_t actions, uintptr_t logprobs):
    """params (rows, num_params) → actions (rows, dims) int32 or float32 and their log-probabilities (rows,)."""
    cdef Samples samples
    memset(&samples, 0, sizeof(Samples))
    samples.kernels, samples.dist, samples.noise = kernels, dist.at(log_std), Noise(seed, step)
    samples.params, samples.actions, samples.logprobs = <const float *>params, <int32_t *>actions, <float *>logprobs
    samples.rows, samples.first_row = rows, first_row
    with nogil:
        sample_rows(&samples, threads)
