"""Maximum likelihood of demonstrated actions."""

cdef extern from "kernels/training.h" nogil:
    bint clone_score(const CKernels *, const CNetwork *, const float *, const CObservations *, const CDistribution *,
                     const void *, const int64_t *, int64_t, double *, int)
    bint clone_epoch(const CKernels *, const CNetwork *, const Gradients *, const float *, float *,
                     const CObservations *, const CDistribution *, const void *, const int64_t *, int64_t, int64_t,
                     float, Optimizer *, double *, int)


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
    with nogil:
        _check(clone_epoch(kernels, &net, &to, <const float *>log_std, <float *>log_std_gradient, &seen, &actions_of,
                           <const void *>actions, &order[0], rows, batch, ent_coef, optimizer, &means[0], threads))


def score(Network network, tuple parameters, Observations obs, Distribution dist, uintptr_t log_std, uintptr_t data,
          uintptr_t actions, uintptr_t index, int64_t rows, double[::1] means):
    """Means over the rows that `index` lists (0: over the first `rows`): negative log-likelihood, entropy, and rows
    whose likeliest action is the given one (continuous: the squared distance to it)."""
    cdef CNetwork net = network._at(parameters)
    cdef CObservations seen = obs.at(data)
    cdef CDistribution actions_of = dist.at(log_std)
    with nogil:
        _check(clone_score(kernels, &net, <const float *>log_std, &seen, &actions_of, <const void *>actions,
                           <const int64_t *>index, rows, &means[0], threads))
