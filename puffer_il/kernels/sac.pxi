"""Soft actor-critic."""

cdef extern from "kernels/sac.h" nogil:
    ctypedef struct Affine:
        float **scale
        float **shift
    ctypedef struct Critic:
        CNetwork net
        Affine affine
        Gradients gradients
        Affine affine_gradients
    ctypedef struct Anchor:
        CNetwork net
        CDistribution dist
        float *log_price
        float *distance
        float bound, rate, least, most
    ctypedef struct SacRows:
        CObservations obs
        CObservations next_obs
        const float *actions
        const float *rewards
        const float *noise
        const uint8_t *ends
    ctypedef struct SacJob:
        Critic *critic
        Critic *target
        Optimizer *critics_optimizer
        float *followers
        CNetwork actor
        Gradients actor_gradients
        const float *log_std
        float *log_std_gradient
        Optimizer *actor_optimizer
        CDistribution dist
        Optimizer *alpha_optimizer
        Anchor anchor
        float gamma, tau, end_value, most, target_negentropy
        cbool move
    bint sac_updates(const CKernels *, const SacJob *, SacRows, int64_t, int64_t, double *, int)


def sac(tuple critics, tuple targets, uintptr_t followers, tuple actor, tuple dist, tuple anchor, tuple adams,
        Observations obs, tuple rows_at, tuple settings, bint move, int64_t updates, int64_t rows, double[::1] stats):
    """Updates of soft actor-critic in one call, each on `rows` rows; means of the statistics that off_policy.py names.

    critics, targets  two each of (Network, parameters, gradients, affine, affine gradients): addresses; `affine` are
                      scale and shift of every layer's normalisation, () where there is none; targets' gradients None
    followers         address of the targets' parameters in one piece
    actor             (Network, parameters, gradients)
    dist              (Distribution, addresses of log_std and of its gradient)
    anchor            (Network, parameters, Distribution), then addresses of log_std, log_price and distance, then
                      bound, rate, least and most; () if there is none
    adams             of the critics, the actor and log alpha
    rows_at           addresses of obs, next_obs, actions, rewards, noise, ends
    settings          gamma, tau, end_value, most, target_negentropy
    move              or only the critics learn
    """
    cdef SacJob job
    cdef SacRows at
    cdef int c
    memset(&job, 0, sizeof(SacJob))
    for c in range(2):
        job.critic[c], job.target[c] = _critic(critics[c]), _critic(targets[c])
    job.actor = (<Network>actor[0])._at(actor[1])
    job.actor_gradients = (<Network>actor[0])._to(actor[2])
    job.dist = (<Distribution>dist[0]).dist
    job.log_std, job.log_std_gradient = <const float *><uintptr_t>dist[1], <float *><uintptr_t>dist[2]
    if anchor:
        job.anchor.net = (<Network>anchor[0])._at(anchor[1])
        job.anchor.dist = (<Distribution>anchor[2]).at(anchor[3])
        job.anchor.log_price, job.anchor.distance = <float *><uintptr_t>anchor[4], <float *><uintptr_t>anchor[5]
        job.anchor.bound, job.anchor.rate, job.anchor.least, job.anchor.most = anchor[6:]
    job.followers, job.critics_optimizer = <float *>followers, &(<Adam>adams[0]).optimizer
    job.actor_optimizer, job.alpha_optimizer = &(<Adam>adams[1]).optimizer, &(<Adam>adams[2]).optimizer
    job.gamma, job.tau, job.end_value, job.most, job.target_negentropy = settings
    job.move = move
    at.obs, at.next_obs = obs.at(rows_at[0]), obs.at(rows_at[1])
    at.actions, at.rewards = <const float *><uintptr_t>rows_at[2], <const float *><uintptr_t>rows_at[3]
    at.noise, at.ends = <const float *><uintptr_t>rows_at[4], <const uint8_t *><uintptr_t>rows_at[5]
    with nogil:
        _check(sac_updates(kernels, &job, at, updates, rows, &stats[0], threads))


cdef Critic _critic(tuple given):
    cdef Critic critic
    cdef Network network = given[0]
    memset(&critic, 0, sizeof(Critic))
    critic.net, critic.gradients = network._at(given[1]), network._to(given[2])
    critic.affine, critic.affine_gradients = _affine(given[3]), _affine(given[4])
    return critic


cdef Affine _affine(tuple addresses):
    cdef Affine affine
    cdef int i
    memset(&affine, 0, sizeof(Affine))
    for i in range(len(addresses) // 2):
        affine.scale[i] = <float *><uintptr_t>addresses[2 * i]
        affine.shift[i] = <float *><uintptr_t>addresses[2 * i + 1]
    return affine
