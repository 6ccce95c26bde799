"""What discriminators see, say and learn from."""

cdef extern from "kernels/adversary.h" nogil:
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
    ctypedef struct Term:
        int32_t network, first, last
        float weight
    ctypedef struct Logit:
        int32_t networks, terms, width, offset
        CNetwork *net
        Gradients *gradients
        Term *term
    void make_pairs(CPairs *, int)
    bint pair_logits(const CKernels *, const CNetwork *, const CPairs *, int)
    bint discriminator_gradients(const CKernels *, const Logit *, DiscSettings, const float *, const float *,
                                 const float *, int64_t, double *, int)


def pairs(Observations obs, uintptr_t data, tuple actions, uintptr_t following, uintptr_t index, int64_t rows,
          int width, uintptr_t out, int64_t stride, Network network=None, tuple parameters=None):
    """Discriminator inputs (rows, width), `stride` floats apart, of the rows `index` (int64, or 0 for all); with a
    network its outputs (rows,) for them instead. Beside the observations stand `actions` (Distribution, address,
    addresses of low and high), or the observations that follow, or, with None and 0, nothing."""
    cdef CPairs job
    cdef CNetwork net
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
        _check(pair_logits(kernels, &net, &job, threads))


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
    memset(&logit, 0, sizeof(Logit))
    logit.networks, logit.terms, logit.width, logit.offset = len(networks), len(terms), width, offset
    for i in range(logit.networks):
        network = networks[i][0]
        logit.net[i], logit.gradients[i] = network._at(networks[i][1]), network._to(networks[i][2])
    for i in range(logit.terms):
        logit.term[i] = Term(terms[i][0], terms[i][1], terms[i][2], terms[i][3])
    with nogil:
        _check(discriminator_gradients(kernels, &logit, settings, <const float *>expert, <const float *>policy,
                                       <const float *>mix, rows, &stats[0], threads))
