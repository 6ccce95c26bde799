"""Kernels of networks, losses and rollouts. They trust their arguments, which the callers' files have checked.

Memory comes as addresses (0 for none): of torch tensors, which have no buffer protocol, and of numpy arrays alike. What
lies there is said in csrc/kernels/. Every call gives up the GIL.

The parts by subject are one extension, because they share the threads and the instruction set of csrc/kernels/.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.string cimport memset

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct CKernels "Kernels":
        const char *name
        int lanes
    const CKernels *choose_kernels(const char *)

cdef const CKernels *kernels = choose_kernels(NULL)
cdef int threads = 1
cdef bint told = False


def set_threads(int count):
    """Threads of every later call, the caller's own among them."""
    global threads, told
    threads, told = max(1, count), True


def get_threads():
    return threads


def thread_budget():
    """What `set_threads` was given, 0 before."""
    return threads if told else 0


def instruction_set():
    """Name of the instruction set in use."""
    return kernels.name.decode()


def use_instruction_set(str name):
    """Choose another one that this processor has, '' the best; ValueError if it has none of that name."""
    global kernels
    cdef const CKernels *found = choose_kernels(name.encode())
    if found == NULL:
        raise ValueError(f"instruction set {name!r}: this processor has none of that name")
    kernels = found


cdef int _check(bint done) except -1 nogil:
    if not done:
        with gil:
            raise MemoryError("out of memory; lower env.num_envs or the minibatch")
    return 0


include "network.pxi"
include "observations.pxi"
include "distribution.pxi"
include "optimiser.pxi"
include "ppo.pxi"
include "cloning.pxi"
include "softq.pxi"
include "discriminator.pxi"
include "memory.pxi"
include "rollout.pxi"
include "sac.pxi"
include "pictures.pxi"
