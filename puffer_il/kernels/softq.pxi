"""Soft Q-learning."""

cdef extern from "kernels/softq.h" nogil:
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
    with nogil:
        _check(soft_q_updates(kernels, &net, &following, &to, &adam.optimizer, <float *>followers, at, chosen, updates,
                              rows, &stats[0], threads))
