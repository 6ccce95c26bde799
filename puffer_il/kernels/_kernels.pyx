"""Kernels of networks, losses and rollouts. They trust their arguments, which fused.py and rollout.py have checked.

Memory comes as addresses (0 for none): of torch tensors, which have no buffer protocol, and of numpy arrays alike. What
lies there is said in csrc/kernels/. Every call gives up the GIL.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import numpy as np

cdef extern from "stdbool.h":
    ctypedef bint cbool "bool"

cdef extern from "kernels/rollout.h" nogil:
    enum:
        BLOCK
        MAX_DIMS
        MAX_PARAMS
        PPO_STATS
    ctypedef struct CKernels "Kernels":
        const char *name
        int lanes
    ctypedef struct CNetwork "Network":
        int32_t activation, num_hidden, num_heads, inputs
        int32_t *hidden
        int32_t *head_outputs
        const float **weights
        const float **biases
        const float **head_weights
        const float **head_biases
    ctypedef struct Gradients:
        float **weights
        float **biases
        float **head_weights
        float **head_biases
    ctypedef struct Plan:
        pass
    ctypedef struct CDistribution "Distribution":
        int32_t gaussian, dims, num_params
        int32_t *choices
        float *center
        float *scale
        float *log_std
    ctypedef struct Noise:
        uint64_t seed, step
    ctypedef struct CObservations "Observations":
        const void *data
        int32_t dtype, bytes, columns
        float clip
        const float *mean
        const float *scale
    ctypedef struct Selection:
        const int64_t *index
        int64_t count, stride
    ctypedef struct ActorCritic:
        int32_t networks
        CNetwork *net
        Gradients *gradients
    ctypedef struct PpoSettings:
        float clip_coef, vf_clip_coef, ent_coef, vf_coef, advantage_mean, advantage_scale
    ctypedef struct PpoRows:
        const void *actions
        const float *logprobs
        const float *values
        const float *advantages
        const float *returns
        const uint8_t *valid
        Selection selection
        int64_t rows
    ctypedef struct AdamSettings:
        float learning_rate, beta1, beta2, eps, weight_decay, max_grad_norm
    ctypedef struct Optimizer:
        AdamSettings settings
        int64_t count
        float *parameters
        float *gradient
        float *mean
        float *square
        double step
    ctypedef struct VecEnv:
        pass
    ctypedef void (*StepFunction)(const VecEnv *, int64_t, int64_t)
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
    ctypedef struct CRollout "Rollout":
        CObservations obs
        CDistribution dist
        Noise noise
        cbool greedy
        VecEnv vec
        StepFunction step
        RolloutArrays to
        int64_t steps, rows, agents, slice
        cbool *starts
        double *returns
        int64_t *lengths
        Ends *ends
    ctypedef struct Samples:
        const CKernels *kernels
        CDistribution dist
        Noise noise
        const float *params
        int32_t *actions
        float *logprobs
        int64_t rows, first_row
    const CKernels *choose_kernels(const char *)
    Plan plan_network(const CNetwork *)
    int64_t saved_floats(const Plan *, int64_t)
    int64_t slice_rows(int64_t, int64_t, int)
    void step_on_threads(const VecEnv *, StepFunction, int64_t, int)
    int64_t chunks_of(int64_t, int64_t)
    void free_ends(Ends *, int64_t)
    bint network_forward(const CKernels *, const CNetwork *, const float *, int64_t, float *, float *, int)
    bint network_backward(const CKernels *, const CNetwork *, const float *, float *, const float *, int64_t,
                          const Gradients *, float *, int)
    bint network_double_backward(const CKernels *, const CNetwork *, const float *, const float *, const float *,
                                 int64_t, const Gradients *, float *, float *, int)
    bint ppo_gradients(const CKernels *, const ActorCritic *, const CObservations *, const CDistribution *, PpoSettings,
                       const PpoRows *, double *, float *, int)
    bint clone_score(const CKernels *, const CNetwork *, const float *, const CObservations *, const CDistribution *,
                     const void *, int64_t, double *, int)
    bint clone_epoch(const CKernels *, const CNetwork *, const Gradients *, const float *, float *,
                     const CObservations *, const CDistribution *, const void *, const int64_t *, int64_t, int64_t,
                     float, Optimizer *, double *, int)
    double column_moments(const CObservations *, const uint8_t *, int64_t, float *, float *, int)
    double optimizer_step(const CKernels *, Optimizer *)
    bint run_rollout(const CKernels *, const ActorCritic *, CRollout *, int)
    void sample_rows(Samples *, int)

cdef extern from "kernels/softq.h" nogil:
    enum:
        SOFT_Q_STATS
    ctypedef struct SoftQSettings:
        float alpha, gamma, tau, end_value
    ctypedef struct SoftQRows:
        const float *obs
        const float *next_obs
        const float *rewards
        const int32_t *actions
        const uint8_t *ends
    bint soft_q_updates(const CKernels *, const CNetwork *, const CNetwork *, const Gradients *, Optimizer *, float *,
                        SoftQRows, SoftQSettings, int64_t, int64_t, double *, int)

cdef extern from "kernels/adversary.h" nogil:
    enum:
        DISC_STATS
    ctypedef struct CPairs "Pairs":
        CObservations obs
        const void *next
        CDistribution dist
        const void *actions
        const float *low
        const float *high
        const int64_t *index
        int64_t rows, stride
        int32_t width
        float *out
    ctypedef struct DiscSettings:
        float label_smoothing, ent_coef, penalty_coef, penalty_target
        int32_t penalty, loss
    void make_pairs(CPairs *, int)
    bint pair_logits(const CKernels *, const CNetwork *, const CPairs *, int)
    ctypedef struct Term:
        int32_t network, first, last
        float weight
    ctypedef struct Logit:
        int32_t networks, terms, width, offset
        CNetwork *net
        Gradients *gradients
        Term *term
    bint discriminator_gradients(const CKernels *, const Logit *, DiscSettings, const float *, const float *,
                                 const float *, int64_t, double *, int)

MAX_ACTION_DIMS, MAX_ACTION_PARAMS, BLOCK_ROWS = MAX_DIMS, MAX_PARAMS, BLOCK
ACTIVATIONS = {"tanh": 1, "relu": 2, "silu": 3, "elu": 4}
DTYPES = {"float32": 0, "float64": 1, "uint8": 2, "int8": 3, "int16": 4, "int32": 5, "int64": 6, "bool": 7}

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


cdef class Network:
    """Shape of an MLP: inputs, hidden widths, outputs of each head; parameters come with every call.

    `parameters` are the addresses of weight and bias of every layer in order, the heads last; so are `gradients`.
    """
    cdef CNetwork net
    cdef readonly int inputs, outputs
    cdef tuple arguments

    def __init__(self, int inputs, tuple hidden, tuple heads, str activation):
        cdef int i
        self.arguments = (inputs, hidden, heads, activation)
        memset(&self.net, 0, sizeof(CNetwork))
        self.net.activation, self.net.inputs = ACTIVATIONS[activation], inputs
        self.net.num_hidden, self.net.num_heads = len(hidden), len(heads)
        for i in range(self.net.num_hidden):
            self.net.hidden[i] = hidden[i]
        for i in range(self.net.num_heads):
            self.net.head_outputs[i] = heads[i]
        self.inputs, self.outputs = inputs, sum(heads)

    def __reduce__(self):
        return Network, self.arguments

    def saved_size(self, int64_t rows):
        """Floats that `forward` saves for `backward`."""
        cdef Plan plan = plan_network(&self.net)
        return saved_floats(&plan, rows)

    def forward(self, tuple parameters, uintptr_t x, int64_t rows, uintptr_t out, uintptr_t saved):
        """x (rows, inputs) → out (rows, outputs); what `backward` needs into `saved`, if that is given."""
        cdef CNetwork net = self._at(parameters)
        cdef bint done
        with nogil:
            done = network_forward(kernels, &net, <const float *>x, rows, <float *>out, <float *>saved, threads)
        _check(done)

    def backward(self, tuple parameters, uintptr_t x, uintptr_t saved, uintptr_t out_gradient, int64_t rows,
                 tuple gradients, uintptr_t dx):
        """Gradients of sum(out_gradient * out) into `gradients` (or None) and dx; without `saved` it is recomputed."""
        cdef CNetwork net = self._at(parameters)
        cdef Gradients to = self._to(gradients)
        cdef const Gradients *wanted = NULL if gradients is None else &to
        cdef bint done
        with nogil:
            done = network_backward(kernels, &net, <const float *>x, <float *>saved, <const float *>out_gradient, rows,
                                    wanted, <float *>dx, threads)
        _check(done)

    def double_backward(self, tuple parameters, uintptr_t x, uintptr_t out_gradient, uintptr_t tangent, int64_t rows,
                        tuple gradients, uintptr_t dx, uintptr_t dout):
        """Gradients of sum(tangent * dx(out_gradient)) into `gradients` (or None), dx and dout."""
        cdef CNetwork net = self._at(parameters)
        cdef Gradients to = self._to(gradients)
        cdef const Gradients *wanted = NULL if gradients is None else &to
        cdef bint done
        with nogil:
            done = network_double_backward(kernels, &net, <const float *>x, <const float *>out_gradient,
                                           <const float *>tangent, rows, wanted, <float *>dx, <float *>dout, threads)
        _check(done)

    cdef CNetwork _at(self, tuple parameters):
        cdef CNetwork net = self.net
        cdef int i
        for i in range(net.num_hidden):
            net.weights[i] = <const float *><uintptr_t>parameters[2 * i]
            net.biases[i] = <const float *><uintptr_t>parameters[2 * i + 1]
        for i in range(net.num_heads):
            net.head_weights[i] = <const float *><uintptr_t>parameters[2 * (net.num_hidden + i)]
            net.head_biases[i] = <const float *><uintptr_t>parameters[2 * (net.num_hidden + i) + 1]
        return net

    cdef Gradients _to(self, tuple gradients):
        cdef Gradients to
        cdef int i
        memset(&to, 0, sizeof(Gradients))
        if gradients is None:
            return to
        for i in range(self.net.num_hidden):
            to.weights[i] = <float *><uintptr_t>gradients[2 * i]
            to.biases[i] = <float *><uintptr_t>gradients[2 * i + 1]
        for i in range(self.net.num_heads):
            to.head_weights[i] = <float *><uintptr_t>gradients[2 * (self.net.num_hidden + i)]
            to.head_biases[i] = <float *><uintptr_t>gradients[2 * (self.net.num_hidden + i) + 1]
        return to


cdef class Distribution:
    """Categorical with the numbers of choices given, or Gaussian with center and scale per dimension."""
    cdef CDistribution dist
    cdef readonly int dims
    cdef tuple arguments

    def __init__(self, tuple choices, tuple center, tuple scale):
        cdef int k
        self.arguments = (choices, center, scale)
        memset(&self.dist, 0, sizeof(CDistribution))
        self.dist.gaussian = not choices
        self.dist.dims = len(choices) or len(center)
        self.dist.num_params = sum(choices) or len(center)
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

    cdef CObservations at(self, uintptr_t data):
        cdef CObservations obs = self.obs
        obs.data = <const void *>data
        return obs


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


def pairs(Observations obs, uintptr_t data, tuple actions, uintptr_t following, uintptr_t index, int64_t rows,
          int width, uintptr_t out, int64_t stride, Network network=None, tuple parameters=None):
    """Discriminator inputs (rows, width), `stride` floats apart, of the rows `index` (int64, or 0 for all); with a
    network its outputs (rows,) for them instead. Beside the observations stand `actions` (Distribution, address,
    addresses of low and high), or the observations that follow, or, with None and 0, nothing."""
    cdef CPairs job
    cdef CNetwork net
    cdef bint done
    memset(&job, 0, sizeof(CPairs))
    job.obs, job.index = obs.at(data), <const int64_t *>index
    if actions is not None:
        job.dist, job.actions = (<Distribution>actions[0]).dist, <const void *><uintptr_t>actions[1]
        job.low, job.high = <const float *><uintptr_t>actions[2], <const float *><uintptr_t>actions[3]
    job.next = <const void *>following
    job.rows, job.stride, job.width, job.out = rows, stride, width, <float *>out
    if network is None:
        with nogil:
            make_pairs(&job, threads)
        return
    net = network._at(parameters)
    with nogil:
        done = pair_logits(kernels, &net, &job, threads)
    _check(done)


def discriminator_step(tuple networks, tuple terms, int width, int offset, uintptr_t expert, uintptr_t policy,
                       uintptr_t mix, int64_t rows, float label_smoothing, float ent_coef, float penalty_coef,
                       float penalty_target, int penalty, int loss, double[::1] stats):
    """Gradients of the discriminator's loss; `stats` as DISC_STATS names them.

    `networks`: (Network, parameters, gradients) of one or two. The logit of a row (width,) is a sum over `terms`:
    (number of the network, first column that it reads, the column of its last input, weight), less the number in
    column `offset` (-1: none).
    """
    cdef Logit logit
    cdef DiscSettings settings = DiscSettings(label_smoothing, ent_coef, penalty_coef, penalty_target, penalty, loss)
    cdef Network network
    cdef int i
    cdef bint done
    memset(&logit, 0, sizeof(Logit))
    logit.networks, logit.terms, logit.width, logit.offset = len(networks), len(terms), width, offset
    for i in range(logit.networks):
        network = networks[i][0]
        logit.net[i], logit.gradients[i] = network._at(networks[i][1]), network._to(networks[i][2])
    for i in range(logit.terms):
        logit.term[i] = Term(terms[i][0], terms[i][1], terms[i][2], terms[i][3])
    with nogil:
        done = discriminator_gradients(kernels, &logit, settings, <const float *>expert, <const float *>policy,
                                       <const float *>mix, rows, &stats[0], threads)
    _check(done)


def moments(Observations obs, uintptr_t data, uintptr_t valid, int64_t rows, float[::1] mean, float[::1] variance):
    """Mean and variance of every column over the valid rows (0: all); returns how many those are."""
    cdef CObservations seen = obs.at(data)
    cdef double counted
    with nogil:
        counted = column_moments(&seen, <const uint8_t *>valid, rows, &mean[0], &variance[0], threads)
    _check(counted >= 0)
    return counted


def ppo_step(tuple networks, Observations obs, Distribution dist, uintptr_t log_std, tuple arrays, uintptr_t index,
             int64_t count, int64_t stride, int64_t rows, tuple settings, double[::1] stats,
             float[::1] log_std_gradient):
    """Gradients of PPO's loss. `networks`: (Network, parameters, gradients) of one or two; `arrays`: addresses of
    obs, actions, logprobs, values, advantages, returns, valid (0: all rows count); the rows are
    (i // count) * stride + index[i % count]; `settings` in the order of PpoSettings."""
    cdef ActorCritic ac = _actor_critic(networks)
    cdef CObservations seen = obs.at(arrays[0])
    cdef CDistribution actions = dist.at(log_std)
    cdef PpoSettings ppo
    cdef PpoRows job
    cdef float *to_log_std = &log_std_gradient[0]
    cdef bint done
    memset(&ppo, 0, sizeof(PpoSettings))
    memset(&job, 0, sizeof(PpoRows))
    ppo.clip_coef, ppo.vf_clip_coef, ppo.ent_coef, ppo.vf_coef = settings[0], settings[1], settings[2], settings[3]
    ppo.advantage_mean, ppo.advantage_scale = settings[4], settings[5]
    job.actions = <const void *><uintptr_t>arrays[1]
    job.logprobs, job.values = <const float *><uintptr_t>arrays[2], <const float *><uintptr_t>arrays[3]
    job.advantages, job.returns = <const float *><uintptr_t>arrays[4], <const float *><uintptr_t>arrays[5]
    job.valid = <const uint8_t *><uintptr_t>arrays[6]
    job.selection.index, job.selection.count, job.selection.stride = <const int64_t *>index, count, stride
    job.rows = rows
    with nogil:
        done = ppo_gradients(kernels, &ac, &seen, &actions, ppo, &job, &stats[0], to_log_std, threads)
    _check(done)


cdef class Adam:
    """One step of Adam over parameters that lie in one piece (count,), with its gradient and moments."""
    cdef Optimizer optimizer

    def __init__(self, int64_t count, uintptr_t parameters, uintptr_t gradient, uintptr_t mean, uintptr_t square):
        memset(&self.optimizer, 0, sizeof(Optimizer))
        self.optimizer.count, self.optimizer.parameters = count, <float *>parameters
        self.optimizer.gradient, self.optimizer.mean = <float *>gradient, <float *>mean
        self.optimizer.square = <float *>square

    def set(self, double step, float learning_rate, float beta1, float beta2, float eps, float weight_decay,
            float max_grad_norm):
        self.optimizer.step = step
        self.optimizer.settings = AdamSettings(learning_rate, beta1, beta2, eps, weight_decay, max_grad_norm)

    def step(self):
        """Clip the gradient's norm and take the step; returns the norm before."""
        cdef double norm
        with nogil:
            norm = optimizer_step(kernels, &self.optimizer)
        return norm


def clone(Network network, tuple parameters, tuple gradients, Observations obs, Distribution dist, uintptr_t log_std,
          uintptr_t log_std_gradient, uintptr_t data, uintptr_t actions, const int64_t[::1] order, int64_t batch,
          float ent_coef, Adam adam, double[::1] means):
    """An epoch of maximum likelihood in minibatches of `order`; means of loss, entropy and gradient norm. Without an
    optimiser (None) nothing is stepped, and the gradients are the last minibatch's."""
    cdef Optimizer *optimizer = NULL if adam is None else &adam.optimizer
    cdef CNetwork net = network._at(parameters)
    cdef Gradients to = network._to(gradients)
    cdef CObservations seen = obs.at(data)
    cdef CDistribution actions_of = dist.at(log_std)
    cdef int64_t rows = order.shape[0]
    cdef bint done
    with nogil:
        done = clone_epoch(kernels, &net, &to, <const float *>log_std, <float *>log_std_gradient, &seen, &actions_of,
                           <const void *>actions, &order[0], rows, batch, ent_coef, optimizer, &means[0], threads)
    _check(done)


def soft_q(Network network, tuple parameters, tuple target, tuple gradients, Adam adam, uintptr_t followers,
           tuple rows_at, tuple settings, int64_t updates, int64_t rows, double[::1] stats):
    """Updates of soft Q-learning in one call, each on `rows` rows; means of loss, value, Q, negentropy, gradient norm.

    `target` are the addresses of the network's parameters that follow, `followers` the same in one piece; `rows_at`
    those of obs, next_obs, rewards, actions, ends; `settings` are alpha, gamma, tau, end_value.
    """
    cdef CNetwork net = network._at(parameters)
    cdef CNetwork following = network._at(target)
    cdef Gradients to = network._to(gradients)
    cdef SoftQSettings chosen
    chosen.alpha, chosen.gamma, chosen.tau, chosen.end_value = settings
    cdef SoftQRows at
    at.obs, at.next_obs = <const float *><uintptr_t>rows_at[0], <const float *><uintptr_t>rows_at[1]
    at.rewards, at.actions = <const float *><uintptr_t>rows_at[2], <const int32_t *><uintptr_t>rows_at[3]
    at.ends = <const uint8_t *><uintptr_t>rows_at[4]
    cdef bint done
    with nogil:
        done = soft_q_updates(kernels, &net, &following, &to, &adam.optimizer, <float *>followers, at, chosen, updates,
                              rows, &stats[0], threads)
    _check(done)


def score(Network network, tuple parameters, Observations obs, Distribution dist, uintptr_t log_std, uintptr_t data,
          uintptr_t actions, int64_t rows, double[::1] means):
    """Means over `rows` rows: negative log-likelihood, entropy, and rows whose likeliest action is the given one
    (continuous: the squared distance to it)."""
    cdef CNetwork net = network._at(parameters)
    cdef CObservations seen = obs.at(data)
    cdef CDistribution actions_of = dist.at(log_std)
    cdef bint done
    with nogil:
        done = clone_score(kernels, &net, <const float *>log_std, &seen, &actions_of, <const void *>actions, rows,
                           &means[0], threads)
    _check(done)


def step_envs(uintptr_t vec, uintptr_t step, int64_t envs, int count):
    """One step of a batch of `envs` C environments on `count` threads; addresses as for `rollout`."""
    with nogil:
        step_on_threads(<const VecEnv *>vec, <StepFunction>step, envs, count)


def rollout(tuple networks, Observations obs, Distribution dist, uintptr_t log_std, uintptr_t vec, uintptr_t step,
            tuple arrays, int64_t steps, int64_t rows, int64_t agents, uintptr_t starts, uintptr_t returns,
            uintptr_t lengths, uint64_t seed, uint64_t first_step, bint greedy):
    """A whole rollout, of samples or of the likeliest actions.

    `vec` is the address of a VecEnv, `step` of its step function; `arrays` are addresses in the order of RolloutArrays.
    Returns, of the episodes that ended, in the order of their ends: flat row numbers (k,), returns (k,), lengths (k,),
    and final observations as bytes (k, bytes of a row).
    """
    cdef ActorCritic ac = _actor_critic(networks)
    cdef CRollout r
    cdef bint done
    memset(&r, 0, sizeof(CRollout))
    r.obs, r.dist, r.noise = obs.at(0), dist.at(log_std), Noise(seed, first_step)
    memcpy(&r.vec, <const void *>vec, sizeof(VecEnv))
    r.step, r.greedy = <StepFunction>step, greedy
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
            done = run_rollout(kernels, &ac, &r, threads)
        _check(done)
        return _collect(r.ends, slices, r.obs.bytes)
    finally:
        free_ends(r.ends, slices)
        free(r.ends)


cdef tuple _collect(Ends *ends, int64_t slices, int64_t bytes_):
    """What all slices kept, sorted by step and row."""
    cdef int64_t i, total = 0, at = 0, n
    for i in range(slices):
        total += ends[i].count
    index, returns, lengths = np.empty(total, np.int64), np.empty(total), np.empty(total, np.int64)
    final_obs = np.empty((total, bytes_), np.uint8)
    cdef int64_t[::1] to_index = index, to_lengths = lengths
    cdef double[::1] to_returns = returns
    cdef uint8_t[:, ::1] to_obs = final_obs
    for i in range(slices):
        n = ends[i].count
        if n:
            memcpy(&to_index[at], ends[i].index, n * sizeof(int64_t))
            memcpy(&to_returns[at], ends[i].returns, n * sizeof(double))
            memcpy(&to_lengths[at], ends[i].lengths, n * sizeof(int64_t))
            memcpy(&to_obs[at, 0], ends[i].final_obs, n * bytes_)
            at += n
    order = np.argsort(index)
    return index[order], returns[order], lengths[order], final_obs[order]


cdef ActorCritic _actor_critic(tuple networks):
    cdef ActorCritic ac
    cdef Network network
    cdef int i
    memset(&ac, 0, sizeof(ActorCritic))
    ac.networks = len(networks)
    for i in range(ac.networks):
        network = networks[i][0]
        ac.net[i] = network._at(networks[i][1])
        ac.gradients[i] = network._to(networks[i][2])
    return ac


cdef int _check(bint done) except -1:
    if not done:
        raise MemoryError("out of memory; lower env.num_envs or the minibatch")
    return 0
