/* One table of kernels per instruction set, from the same sources, and the choice among them when the program runs. */
#ifndef PUFFER_IL_KERNELS_H
#define PUFFER_IL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "jobs.h"
#include "memory.h"
#include "network.h"
#include "picture_plan.h"

typedef struct {
    const char *name;
    int lanes;
    void (*pack_network)(const Network *, const Plan *, int use, float *packed);
    void (*unpack_gradients)(const Network *, const Plan *, const float *sums, const Gradients *);
    void (*block_forward)(const Plan *, const float *packed, const float *x, Tape, Scratch *, int rows);
    void (*block_backward)(const Plan *, const float *packed, const float *x, Tape, Scratch *, float *sums,
                           bool input_gradient, int rows);
    void (*block_double_backward)(const Plan *, const float *packed, const float *x, const float *c, Tape, Scratch *,
                                  float *sums, bool input_gradient, bool output_gradient, int rows);
    void (*backward_data)(const Plan *, const float *packed, Tape, Scratch *, int rows);
    void (*input_gradient)(const Plan *, const float *packed, const float *d, float *dx, int rows);
    void (*pack_memory)(const Memory *, const MemoryPlan *, bool backward, float *packed);
    void (*unpack_memory)(const MemoryPlan *, const float *sums, float *joined, const MemoryGradients *);
    void (*memory_forward)(const MemoryPlan *, const float *packed, const MemoryStep *, float *z);
    void (*memory_backward)(const MemoryPlan *, const float *packed, const MemoryStep *, const uint8_t *cut,
                            float *later, float *carry, bool further);
    void (*memory_inputs)(const MemoryPlan *, const float *packed, const float *by_gates, float *by_inputs, int rows);
    void (*memory_gradients)(const MemoryPlan *, const float *read, const float *by_gates, float *sums, int rows);
    void (*sample_block)(const Distribution *, const float *params, Noise, uint32_t row, RowBlock *out);
    void (*mode_block)(const Distribution *, const float *params, RowBlock *out);
    void (*ppo_block)(const Distribution *, const PpoSettings *, const float *params, const float *values,
                      const RowBlock *, float *params_gradient, float *values_gradient, double *stats, float *log_std);
    void (*cloning_block)(const Distribution *, const CloningLoss *, float share, const float *params,
                          const RowBlock *, float *params_gradient, double *stats, float *log_std);
    void (*verdict_block)(int loss, const float *scores, float side, float label, const float *weights, float ent_coef,
                          float *gradient, double *stats);
    void (*adam)(const AdamSettings *, double step, float factor, int64_t n, float *p, const float *g, float *m,
                 float *v);
    void (*adam_followed)(const AdamSettings *, double step, float factor, int64_t n, float *p, const float *g,
                          float *m, float *v, float *followers, float tau);
    double (*square_sum)(const float *, int64_t n);
    void (*add_gradients)(const Plan *, const float *x, Tape, const Scratch *, float *sums, int rows);
    void (*pack_last_inputs)(const Network *, const Plan *, int count, float *panels);
    void (*last_inputs_gradient)(const Plan *, const float *panels, int count, const float *d, float *gradient,
                                 int rows);
    void (*normed_forward)(const Plan *, const int32_t *units, const float *packed, const float *affine,
                           const float *x, Tape, NormTape, Scratch *, int rows);
    void (*normed_backward)(const Plan *, const int32_t *units, const float *packed, const float *affine, Tape,
                            NormTape, Scratch *, float *sums, int rows);
    void (*squash_block)(const Distribution *, const float *params, const float *noise, float *actions, float *negentropy);
    void (*squash_gradient_block)(const Distribution *, float alpha, const float *params, const float *noise,
                                  const float *actions, const float *by_actions, const float *weights, float *gradient,
                                  float *log_std);
    double (*anchor_block)(const Distribution *, const Distribution *origin, float price, const float *params,
                           const float *origin_params, const float *weights, float *gradient, float *log_std);
    void (*pack_pictures)(const PicturePlan *, const PictureParameters *, bool forward, bool backward, float *packed);
    void (*unpack_pictures)(const PicturePlan *, const float *sums, const PictureParameters *to);
    void (*pictures_forward)(const PicturePlan *, const float *packed, const float *linear, const char *x,
                             ptrdiff_t row_bytes, int count, float *saved, bool keep, float *flat, float *out,
                             float *space);
    void (*pictures_backward)(const PicturePlan *, const float *packed, const PictureRows *, int count, PictureSpace *,
                              float *sums);
    void (*picture_tangents)(const PicturePlan *, const float *packed, const float *flat, const float *features,
                             int count, float *out);
    void (*linear_gradient)(const PicturePlan *, const float *flat, const float *d, int rows, int first, int count,
                            float *panels, float *to);
} Kernels;

/* clang and gcc set the instruction set of a stretch of code in ways of their own. */
#define STRING(x) #x
#define PRAGMA(x) _Pragma(STRING(x))
#if defined(__clang__)
#define BEGIN_TARGET(set) PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define END_TARGET _Pragma("clang attribute pop")
#else
#define BEGIN_TARGET(set) _Pragma("GCC push_options") PRAGMA(GCC target(set))
#define END_TARGET _Pragma("GCC pop_options")
#endif

#if defined(__x86_64__)
#if defined(__clang__) || __GNUC__ >= 10
#define HAVE_BF16
#endif

#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#define ISA avx512
#define LANES 16
#define TILE 4
BEGIN_TARGET(AVX512)
#include "instruction_set.h"
END_TARGET

#define ISA avx2
#define LANES 8
#define TILE 2
BEGIN_TARGET("avx2,fma")
#include "instruction_set.h"
END_TARGET
#endif

#if defined(__aarch64__)
#define ISA neon
#define TILE 4
#else
#define ISA portable
#define TILE 2
#endif
#define LANES 4
#include "instruction_set.h"

/* Whether this processor multiplies bf16 by itself when it runs these kernels. */
static bool has_bf16(const Kernels *kernels) {
#if defined(__x86_64__) && defined(HAVE_BF16)
    __builtin_cpu_init();
    return kernels == &kernels_avx512 && __builtin_cpu_supports("avx512bf16");
#else
    (void)kernels;
    return false;
#endif
}

/* The best set that this processor has, or the one called `name`; NULL if it has no such set. */
static const Kernels *choose_kernels(const char *name) {
    const Kernels *found[3];
    int count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
        found[count++] = &kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        found[count++] = &kernels_avx2;
#endif
#if defined(__aarch64__)
    found[count++] = &kernels_neon;
#else
    found[count++] = &kernels_portable;
#endif
    for (int i = 0; i < count; i++)
        if (!name || !*name || strcmp(name, found[i]->name) == 0)
            return found[i];
    return NULL;
}

#endif
