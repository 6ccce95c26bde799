"""Policies with a memory: PPO's minibatches and cloning on whole sequences."""

cdef extern from "kernels/clone_sequences.h" nogil:
    ctypedef struct CMemory "Memory":
        int32_t kind, inputs, units, operands
        const float *input_weights
        const float *state_weights
        const float *input_bias
        const float *state_bias
    ctypedef struct MemoryGradients:
        float *input_weights
        float *state_weights
        float *input_bias
        float *state_bias
    ctypedef struct CSequences "Sequences":
        const int64_t *index
        int64_t columns, steps, stride
        const int64_t *table
        const uint8_t *starts
        const float *state
    bint c_ppo_sequences "ppo_sequences"(const CKernels *, const CMemory *, const MemoryGradients *,
                                         const ActorCritic *, const CSequences *, const CObservations *,
                                         const CDistribution *, PpoSettings, const PpoRows *, double *, float *, int)
    bint c_clone_sequences "clone_sequences"(const CKernels *, const CMemory *, const MemoryGradients *,
                                             const ActorCritic *, const CSequences *, const CloningRows *,
                                             const CDistribution *, const float *, float *, const CloningLoss *,
                                             int64_t, Optimizer *, double *, int)
    bint c_score_sequences "score_sequences"(const CKernels *, const CMemory *, const ActorCritic *,
                                             const CSequences *, const CloningRows *, const CDistribution *,
                                             const CloningLoss *, double *, int)
    bint c_sequence_states "sequence_states"(const CKernels *, const CMemory *, const CSequences *,
                                             const CObservations *, float *, int)

cdef extern from "kernels/recall.h" nogil:
    bint c_remember "remember"(const CKernels *, const CMemory *, const float *, int64_t, float *, int)

cdef extern from "kernels/through_time.h" nogil:
    bint through_time(const CKernels *, const CMemory *, const MemoryGradients *, const CSequences *, const float *,
                      float *, float *, const float *, float *, int)

MEMORIES = {"lstm": 0, "gru": 1}
STATES = {"lstm": 2, "gru": 1}  # times its units


cdef class Memory:
    """An LSTM's or a GRU's shape, the addresses of its parameters and, if they are given, of their gradients, in
    torch's order: weights of the inputs (4 or 3 units, inputs) and of the hidden state (4 or 3 units, units), and their
    biases. A row of its state is of `state` floats: a hidden state and, of an LSTM, the cell."""
    cdef CMemory memory
    cdef MemoryGradients to
    cdef readonly int inputs, units, state

    def __init__(self, str kind, int inputs, int units, tuple parameters, tuple gradients=None):
        memset(&self.to, 0, sizeof(MemoryGradients))
        self.inputs, self.units, self.state = inputs, units, STATES[kind] * units
        self.memory.kind, self.memory.inputs, self.memory.units = MEMORIES[kind], inputs, units
        self.memory.operands = operands
        self.memory.input_weights = <const float *><uintptr_t>parameters[0]
        self.memory.state_weights = <const float *><uintptr_t>parameters[1]
        self.memory.input_bias = <const float *><uintptr_t>parameters[2]
        self.memory.state_bias = <const float *><uintptr_t>parameters[3]
        if gradients is not None:
            self.to.input_weights = <float *><uintptr_t>gradients[0]
            self.to.state_weights = <float *><uintptr_t>gradients[1]
            self.to.input_bias = <float *><uintptr_t>gradients[2]
            self.to.state_bias = <float *><uintptr_t>gradients[3]


cdef class Sequences:
    """Which rows are the steps of which sequence.

    index   (columns,) environments, or with a `table` sequences
    stride  rows from one step of an environment to the next
    table   (sequences, steps), -1 for what pads a sequence; or None
    starts  address of a flag for every row: an episode begins with it. 0 for none
    state   address of (…, state): what is remembered before the first step of what `index` names
    """
    cdef CSequences sequences
    cdef object keep

    def __init__(self, const int64_t[::1] index, int64_t steps, int64_t stride, const int64_t[:, ::1] table,
                 uintptr_t starts, uintptr_t state):
        memset(&self.sequences, 0, sizeof(CSequences))
        self.keep = (index, table)
        self.sequences.index, self.sequences.columns = &index[0], index.shape[0]
        self.sequences.steps, self.sequences.stride = steps, stride
        if table is not None:
            self.sequences.table = &table[0, 0]
        self.sequences.starts, self.sequences.state = <const uint8_t *>starts, <const float *>state


def remember(Memory memory, uintptr_t x, int64_t rows, uintptr_t state):
    """x (rows, inputs) float32 is seen in the states (rows, state), which are written over."""
    with nogil:
        _check(c_remember(kernels, &memory.memory, <const float *>x, rows, <float *>state, threads))


def unroll(Memory memory, Sequences sequences, uintptr_t x, uintptr_t hidden, uintptr_t after):
    """x (steps, columns, inputs) float32 → hidden states (steps, columns, units) and states after (columns, state)."""
    with nogil:
        _check(through_time(kernels, &memory.memory, NULL, &sequences.sequences, <const float *>x, <float *>hidden,
                            <float *>after, NULL, NULL, threads))


def unroll_back(Memory memory, Sequences sequences, uintptr_t x, uintptr_t by_hidden, uintptr_t by_inputs):
    """Gradients of sum(by_hidden * hidden) by the parameters, and by the inputs if there is an address for them."""
    with nogil:
        _check(through_time(kernels, &memory.memory, &memory.to, &sequences.sequences, <const float *>x, NULL, NULL,
                            <const float *>by_hidden, <float *>by_inputs, threads))


def ppo_sequences(Memory memory, tuple networks, Sequences sequences, Observations obs, Distribution dist,
                  uintptr_t log_std, tuple arrays, tuple settings, double[::1] stats, float[::1] log_std_gradient):
    """`ppo_step` on whole columns of a rollout, for networks on top of a memory."""
    cdef ActorCritic ac = _actor_critic(networks)
    cdef CObservations seen = obs.at(arrays[0])
    cdef CDistribution actions = dist.at(log_std)
    cdef PpoSettings ppo = _ppo_settings(settings)
    cdef CSequences *s = &sequences.sequences
    cdef PpoRows job = _ppo_rows(arrays, s.index, s.columns, s.stride, s.columns * s.steps)
    cdef double found[16]
    with nogil:
        _check(c_ppo_sequences(kernels, &memory.memory, &memory.to, &ac, s, &seen, &actions, ppo, &job, found,
                               &log_std_gradient[0], threads))
    for i in range(stats.shape[0]):
        stats[i] = found[i]


def clone_sequences(Memory memory, tuple networks, Sequences sequences, Observations obs, Distribution dist,
                    uintptr_t log_std, uintptr_t log_std_gradient, tuple rows, int64_t batch, tuple loss, Adam adam,
                    double[::1] means):
    """`clone` on sequences, in their order, `batch` of them at a time."""
    cdef Optimizer *optimizer = NULL if adam is None else &adam.optimizer
    cdef ActorCritic ac = _actor_critic(networks)
    cdef CloningRows seen = _cloning_rows(obs, rows)
    cdef CloningLoss how = _cloning_loss(loss)
    cdef CDistribution actions = dist.at(log_std)
    with nogil:
        _check(c_clone_sequences(kernels, &memory.memory, &memory.to, &ac, &sequences.sequences, &seen, &actions,
                                 <const float *>log_std, <float *>log_std_gradient, &how, batch, optimizer, &means[0],
                                 threads))


def score_sequences(Memory memory, tuple networks, Sequences sequences, Observations obs, Distribution dist,
                    uintptr_t log_std, tuple rows, tuple loss, double[::1] means):
    """`score` over the steps of sequences."""
    cdef ActorCritic ac = _actor_critic(networks)
    cdef CloningRows seen = _cloning_rows(obs, rows)
    cdef CloningLoss how = _cloning_loss(loss)
    cdef CDistribution actions = dist.at(log_std)
    with nogil:
        _check(c_score_sequences(kernels, &memory.memory, &ac, &sequences.sequences, &seen, &actions, &how, &means[0],
                                 threads))


def sequence_states(Memory memory, Sequences sequences, Observations obs, uintptr_t data, uintptr_t state,
                    int64_t mapped):
    """Of the sequences' states at `state`, write those after each behind it: sequence i + 1 goes on where i ends.
    `mapped` as in `moments`."""
    cdef CObservations seen = obs.at(data, 0, 0, mapped)
    with nogil:
        _check(c_sequence_states(kernels, &memory.memory, &sequences.sequences, &seen, <float *>state, threads))
