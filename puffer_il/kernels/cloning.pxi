"""Behaviour cloning: its loss on demonstrated rows, by the minibatch and over all of them."""

cdef extern from "kernels/cloning.h" nogil:
    ctypedef struct CloningLoss:
        float ent_coef, label_smoothing
        int32_t squares
        const float *class_weights
    ctypedef struct CloningRows:
        CObservations obs
        const void *actions
        const int64_t *index
        const float *weights
    bint clone_epoch(const CKernels *, const CNetwork *, const Gradients *, const float *, float *, const CloningRows *,
                     const CDistribution *, const CloningLoss *, int64_t, int64_t, Optimizer *, double *, int)
    bint clone_score(const CKernels *, const CNetwork *, const CloningRows *, const CDistribution *,
                     const CloningLoss *, int64_t, double *, int)
    bint clone_spread(const CKernels *, const CNetwork *, const CloningRows *, const CDistribution *, int64_t, double *,
                      int)


cdef CloningRows _cloning_rows(Observations obs, tuple rows):
    """`rows` are the addresses of observations, actions, row numbers (0: the first rows) and weights (0: all alike),
    where the observations from row n on are (0: behind the others), n, and how many bytes of the observations lie in a
    mapped file, of which a pass leaves none resident."""
    return CloningRows(obs.at(rows[0], rows[4], rows[5], rows[6]), <const void *><uintptr_t>rows[1],
                       <const int64_t *><uintptr_t>rows[2], <const float *><uintptr_t>rows[3])


cdef CloningLoss _cloning_loss(tuple loss):
    """`loss`: ent_coef, label_smoothing, whether it is a squared distance, the address of class weights (0: none)."""
    return CloningLoss(loss[0], loss[1], loss[2], <const float *><uintptr_t>loss[3])


def clone(Network network, tuple parameters, tuple gradients, Observations obs, Distribution dist, uintptr_t log_std,
          uintptr_t log_std_gradient, tuple rows, int64_t count, int64_t batch, tuple loss, Adam adam,
          double[::1] means):
    """An epoch in minibatches of the `count` listed rows; means of negative log-likelihood, entropy and gradient norm.
    Without an optimiser (None) nothing is stepped, and the gradients are the last minibatch's."""
    cdef Optimizer *optimizer = NULL if adam is None else &adam.optimizer
    cdef CNetwork net = network._at(parameters)
    cdef Gradients to = network._to(gradients)
    cdef CloningRows seen = _cloning_rows(obs, rows)
    cdef CloningLoss how = _cloning_loss(loss)
    cdef CDistribution actions = dist.at(log_std)
    with nogil:
        _check(clone_epoch(kernels, &net, &to, <const float *>log_std, <float *>log_std_gradient, &seen, &actions, &how,
                           count, batch, optimizer, &means[0], threads))


def score(Network network, tuple parameters, Observations obs, Distribution dist, uintptr_t log_std, tuple rows,
          int64_t count, tuple loss, double[::1] means):
    """Means over `count` rows: the weighted loss, negative log-likelihood, entropy, and rows whose likeliest action is
    the given one (continuous: the squared distance to it)."""
    cdef CNetwork net = network._at(parameters)
    cdef CloningRows seen = _cloning_rows(obs, rows)
    cdef CloningLoss how = _cloning_loss(loss)
    cdef CDistribution actions = dist.at(log_std)
    with nogil:
        _check(clone_score(kernels, &net, &seen, &actions, &how, count, &means[0], threads))


def spread(Network network, tuple parameters, Observations obs, Distribution dist, tuple rows, int64_t count,
           double[::1] squares):
    """Weighted mean squares (dims,) of what continuous actions are off their means, in units of the range, into
    `squares` (dims + 1,), whose last number is the sum of the weights."""
    cdef CNetwork net = network._at(parameters)
    cdef CloningRows seen = _cloning_rows(obs, rows)
    cdef CDistribution actions = dist.at(0)
    with nogil:
        _check(clone_spread(kernels, &net, &seen, &actions, count, &squares[0], threads))
