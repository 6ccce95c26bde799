/* Generalised advantage estimation, one time step of many environments (Schulman et al. 2016, eq. 16):
 *
 *     delta_t = r_t + gamma * V(s_{t+1}) - V(s_t)
 *     A_t     = delta_t + gamma * lambda * A_{t+1}
 *
 * Where an episode ends at t, V(s_{t+1}) is its final value and the sum stops. An invalid row has no advantage, so
 * nothing flows through it. Ends are bit masks instead of branches: the loop stays in vector registers, where the compiler
 * refuses to vectorise `?:`, and a NaN that is masked out is gone. */
#ifndef PUFFER_IL_GAE_H
#define PUFFER_IL_GAE_H

#include <stddef.h>
#include <stdint.h>

typedef union {
    float number;
    uint32_t bits;
} FloatBits;

/* All ones if the flag is set. */
static inline uint32_t flag_mask(uint8_t flag) {
    return -(uint32_t)(flag != 0);
}

/* x where the mask is all ones, y where it is zero. */
static inline float masked_select(uint32_t mask, float x, float y) {
    const FloatBits a = {x}, b = {y};
    const FloatBits chosen = {.bits = (a.bits & mask) | (b.bits & ~mask)};
    return chosen.number;
}

/* Copies for wider vectors, chosen when the program is loaded. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define GAE_CLONED __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define GAE_CLONED
#endif

GAE_CLONED static void gae_step(ptrdiff_t n, float gamma, float gamma_lambda, const float *restrict rewards,
                            const float *restrict values, const float *restrict next_values,
                            const float *restrict final_values, const float *restrict next_advantages,
                            const uint8_t *restrict terminations, const uint8_t *restrict truncations,
                            const uint8_t *restrict valid, float *restrict advantages, float *restrict returns) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint32_t ended = flag_mask(terminations[i] | truncations[i]);
        const float next_value = masked_select(ended, final_values[i], next_values[i]);
        const float later = masked_select(ended, 0.0f, gamma_lambda * next_advantages[i]);
        const float delta = rewards[i] + gamma * next_value - values[i];
        advantages[i] = masked_select(flag_mask(valid[i]), delta + later, 0.0f);
        returns[i] = advantages[i] + values[i];
    }
}

#endif
