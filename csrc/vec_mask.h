/* Which actions may be taken: after the batch loop, where the environment defines
 *
 *     static inline void c_mask(const Env *env, Io io, uint8_t *mask);
 *
 * mask is [ENV_AGENTS][ENV_CHOICES], the choices of each part of a discrete action side by side, all 1 when it is called:
 * a 0 is written for what may not be done now. It is asked after every c_reset, c_step and c_set_state, about the state
 * and the observations that are then there, and it changes nothing. A part of which nothing is left is not masked. */
#ifndef PUFFER_IL_VEC_MASK_H
#define PUFFER_IL_VEC_MASK_H

#if defined(_WIN32)
__declspec(dllexport)
#else
__attribute__((visibility("default")))
#endif
void vec_mask(const VecEnv *vec, uint8_t *masks, int64_t lo, int64_t hi);

void vec_mask(const VecEnv *vec, uint8_t *masks, int64_t lo, int64_t hi) {  // (rows, choices)
    for (int64_t i = lo; i < hi; i++) {
        uint8_t *mask = masks + i * ENV_AGENTS * ENV_CHOICES;
        memset(mask, 1, ENV_AGENTS * ENV_CHOICES);
        c_mask((const Env *)vec->envs + i, io_of(vec, vec->params, i), mask);
    }
}

#endif
