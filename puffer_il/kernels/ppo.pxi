"""PPO's minibatches."""

cdef extern from "kernels/training.h" nogil:
    ctypedef struct Selection:
        const int64_t *index
        int64_t count, stride
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
    bint ppo_gradients(const CKernels *, const ActorCritic *, const CObservations *, const CDistribution *, PpoSettings,
                       const PpoRows *, double *, float *, int)


def ppo_step(tuple networks, Observations obs, Distribution dist, uintptr_t log_std, tuple arrays, uintptr_t index,
             int64_t count, int64_t stride, int64_t rows, tuple settings, double[::1] stats,
             float[::1] log_std_gradient):
    """Gradients of PPO's loss. `networks`: (Network, parameters, gradients) of one or two; `arrays`: addresses of
    obs, actions, logprobs, values, advantages, returns, valid (0: all rows count); the rows are
    (i // count) * stride + index[i % count]; `settings` in the order of PpoSettings."""
    cdef ActorCritic ac = _actor_critic(networks)
    cdef CObservations seen = obs.at(arrays[0])
    cdef CDistribution actions = dist.at(log_std)
    cdef PpoSettings ppo = _ppo_settings(settings)
    cdef PpoRows job = _ppo_rows(arrays, <const int64_t *>index, count, stride, rows)
    with nogil:
        _check(ppo_gradients(kernels, &ac, &seen, &actions, ppo, &job, &stats[0], &log_std_gradient[0], threads))


cdef PpoSettings _ppo_settings(tuple settings):
    cdef PpoSettings ppo
    (ppo.clip_coef, ppo.vf_clip_coef, ppo.ent_coef, ppo.vf_coef, ppo.advantage_mean, ppo.advantage_scale) = settings
    return ppo


cdef PpoRows _ppo_rows(tuple arrays, const int64_t *index, int64_t count, int64_t stride, int64_t rows):
    cdef PpoRows job
    job.actions = <const void *><uintptr_t>arrays[1]
    job.logprobs, job.values = <const float *><uintptr_t>arrays[2], <const float *><uintptr_t>arrays[3]
    job.advantages, job.returns = <const float *><uintptr_t>arrays[4], <const float *><uintptr_t>arrays[5]
    job.valid = <const uint8_t *><uintptr_t>arrays[6]
    job.selection.index, job.selection.count, job.selection.stride = index, count, stride
    job.rows = rows
    return job
