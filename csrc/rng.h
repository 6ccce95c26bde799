/* One random generator per environment: PCG32 (O'Neill 2014, "PCG", XSH-RR 64/32), seeded through SplitMix64
 * (Steele, Lea and Flood 2014). The same seed and index give the same numbers on every machine. */
#ifndef PUFFER_IL_RNG_H
#define PUFFER_IL_RNG_H

#include <stdint.h>

typedef struct {
    uint64_t state;
    uint64_t stream;  // odd: each value is a sequence of its own
} Rng;

static inline uint64_t rng_mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* 32 uniform bits. */
static inline uint32_t rng_u32(Rng *rng) {
    const uint64_t old = rng->state;
    rng->state = old * 6364136223846793005u + rng->stream;
    const uint32_t mixed = (uint32_t)(((old >> 18) ^ old) >> 27);
    const uint32_t turn = (uint32_t)(old >> 59);
    return (mixed >> turn) | (mixed << (-turn & 31));
}

/* The generator number `index` of `seed`. Mixing twice keeps (seed, index + 1) and (seed + 1, index) apart. */
static inline void rng_seed(Rng *rng, uint64_t seed, uint64_t index) {
    const uint64_t key = rng_mix(rng_mix(seed) ^ index);
    rng->stream = rng_mix(key) | 1;
    rng->state = key;
    rng_u32(rng);
}

/* [0, 1) with all 53 bits of a double. */
static inline double rng_double(Rng *rng) {
    const uint64_t high = rng_u32(rng) >> 5, low = rng_u32(rng) >> 6;
    return (double)(high << 26 | low) * 0x1p-53;
}

/* [low, high). */
static inline double rng_uniform(Rng *rng, double low, double high) {
    return low + (high - low) * rng_double(rng);
}

/* 0 … n - 1 without bias, n > 0 (Lemire 2019). */
static inline uint32_t rng_below(Rng *rng, uint32_t n) {
    uint64_t product = (uint64_t)rng_u32(rng) * n;
    if ((uint32_t)product < n)
        for (const uint32_t reject = -n % n; (uint32_t)product < reject;)
            product = (uint64_t)rng_u32(rng) * n;
    return (uint32_t)(product >> 32);
}

#endif
