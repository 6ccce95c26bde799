"""The machine's limits (csrc/yardstick.h). A call works once and says how much it did; its caller holds the watch.

Calls give up the GIL and share their work out to `threads` threads.
"""

from libc.stdint cimport int64_t, uint8_t, uintptr_t

cdef extern from "yardstick.h" nogil:
    ctypedef struct VecEnv:
        pass
    ctypedef struct Yardstick:
        const char *name
    ctypedef void (*StepFunction)(const VecEnv *, int64_t, int64_t)
    Yardstick choose_yardstick()
    double run_fma(int64_t rounds, int threads)
    double run_stream(int kind, float *a, const float *b, const float *c, int64_t n, int64_t passes, int threads)
    void run_steps(const VecEnv *vec, StepFunction step, const char *actions, int64_t action_bytes,
                   int64_t action_steps, int64_t steps, int64_t envs, int64_t slice, int threads)

STREAMS = {"read": 0, "fill": 1, "copy": 2, "triad": 3}


def instruction_set():
    """Name of the instruction set that the limits are measured with."""
    return choose_yardstick().name.decode()


def fma(int64_t rounds, int threads):
    """Multiply-adds in registers, `rounds` of every chain on every thread; the floating-point operations done."""
    cdef double flops
    with nogil:
        flops = run_fma(rounds, threads)
    return flops


def stream(str kind, float[::1] a, float[::1] b, float[::1] c, int64_t passes, int threads):
    """Passes of one of STREAMS over equally long arrays, a multiple of 64 floats; the bytes read and written."""
    cdef int chosen = STREAMS[kind]
    cdef double bytes_
    if not a.shape[0] == b.shape[0] == c.shape[0] or a.shape[0] % 64 or a.shape[0] == 0:
        raise ValueError(f"arrays of {a.shape[0]}, {b.shape[0]} and {c.shape[0]} floats; give equal multiples of 64")
    with nogil:
        bytes_ = run_stream(chosen, &a[0], &b[0], &c[0], a.shape[0], passes, threads)
    return bytes_


def steps(uintptr_t vec, uintptr_t step, const uint8_t[:, ::1] actions, int64_t count, int64_t envs, int threads,
          int64_t envs_per_slice=256):
    """`count` steps of `envs` C environments (addresses as NativeEnv.addresses gives them) with the actions
    (action_steps, bytes of all environments) in turn; environment steps done."""
    with nogil:
        run_steps(<const VecEnv *>vec, <StepFunction>step, <const char *>&actions[0, 0], actions.shape[1],
                  actions.shape[0], count, envs, envs_per_slice, threads)
    return count * envs
