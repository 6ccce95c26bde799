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
    bint c_has_bf16 "has_bf16"(const CKernels *)
    enum:
        FLOATS
        BF16
        BF16_EMULATED

cdef const CKernels *kernels = choose_kernels(NULL)
cdef int threads = 1
cdef bint told = False
cdef int operands = FLOATS  # of the products of every later call


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


def has_bf16():
    """True if the instruction set in use multiplies bf16 by itself."""
    return c_has_bf16(kernels)


def bf16():
    """What `use_bf16` was given, '' before."""
    return {FLOATS: "", BF16: "hardware", BF16_EMULATED: "emulated"}[operands]


def use_bf16(str how):
    """Round the operands of wide layers' products to bf16: by 'hardware' (ValueError if this processor cannot), or
    'emulated', which gives the same bits and is for tests; '' multiplies floats."""
    global operands
    if how == "hardware" and not c_has_bf16(kernels):
        raise ValueError(f"bf16: this processor's kernels ({instruction_set()}) do not multiply it")
    operands = {"": FLOATS, "hardware": BF16, "emulated": BF16_EMULATED}[how]


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
