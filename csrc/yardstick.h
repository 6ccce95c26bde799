/* What this machine can do at most, as a yardstick for everything else: multiply-adds in registers, bytes through
 * memory, and steps of a C environment with nothing around them. */
#ifndef PUFFER_IL_YARDSTICK_H
#define PUFFER_IL_YARDSTICK_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/pool.h"
#include "vec_api.h"

typedef void (*StepFunction)(const VecEnv *, int64_t, int64_t);

enum { READ, FILL, COPY, TRIAD };  // sum of b; a = 1; a = b; a = b + c / 2

typedef struct {
    const char *name;
    int lanes;
    float (*multiply_add)(int64_t rounds, float factor, float term);
    float (*stream)(int kind, float *a, const float *b, const float *c, int64_t n);
} Yardstick;

enum { CHAINS = 12 };  // of multiply_add

#if defined(__x86_64__)
#define L(name) name##_avx512
#define SET __attribute__((target("avx512f,fma")))
#define BYTES 64
#include "yardstick_set.h"

#define L(name) name##_avx2
#define SET __attribute__((target("avx2,fma")))
#define BYTES 32
#include "yardstick_set.h"
#endif

#define L(name) name##_portable
#define SET
#define BYTES 16
#include "yardstick_set.h"

static Yardstick choose_yardstick(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma"))
        return (Yardstick){"avx512", 16, multiply_add_avx512, stream_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (Yardstick){"avx2", 8, multiply_add_avx2, stream_avx2};
#endif
    return (Yardstick){"portable", 4, multiply_add_portable, stream_portable};
}

/* More pieces than threads, so that one that comes late costs little. */
enum { PIECES = 8, SLICE = 1 << 15 };

/* One measurement, as its tasks see it. */
typedef struct {
    Yardstick yardstick;
    int64_t rounds, n;
    int kind;
    float *a;
    const float *b, *c;
    const VecEnv *vec;
    StepFunction step;
    const char *actions;
    int64_t action_bytes, action_steps, steps, envs, slice;
    float sink[MAX_THREADS];  // results that nobody reads
} Measurement;

static void fma_piece(void *context, int64_t piece, int thread) {
    (void)piece;
    Measurement *m = context;
    m->sink[thread] += m->yardstick.multiply_add(m->rounds, 0.999f, 0.001f);
}

/* Returns the floating-point operations done: a multiply-add is two. */
static double run_fma(int64_t rounds, int threads) {
    Measurement m = {.yardstick = choose_yardstick(), .rounds = rounds / PIECES + 1};
    const int64_t pieces = (int64_t)PIECES * threads;
    Work work = begin_work(threads, 64);
    run_tasks(&work, pieces, fma_piece, &m);
    end_work(&work);
    return 2.0 * CHAINS * m.yardstick.lanes * (double)m.rounds * (double)pieces;
}

static void stream_slice(void *context, int64_t slice, int thread) {
    Measurement *m = context;
    const int64_t first = slice * SLICE, n = m->n - first < SLICE ? m->n - first : SLICE;
    m->sink[thread] += m->yardstick.stream(m->kind, m->a + first, m->b + first, m->c + first, n);
}

/* `passes` passes over three arrays of n floats, a multiple of 64. Returns the bytes that the loop names: what a store
 * makes the processor read besides is not counted, here as little as where it is compared with. */
static double run_stream(int kind, float *a, const float *b, const float *c, int64_t n, int64_t passes, int threads) {
    static const int arrays[] = {1, 1, 2, 3};
    Measurement m = {.yardstick = choose_yardstick(), .kind = kind, .n = n, .a = a, .b = b, .c = c};
    Work work = begin_work(threads, 64);
    for (int64_t pass = 0; pass < passes; pass++)
        run_tasks(&work, (n + SLICE - 1) / SLICE, stream_slice, &m);
    end_work(&work);
    return (double)sizeof(float) * arrays[kind] * (double)n * (double)passes;
}

static void step_slice(void *context, int64_t slice, int thread) {
    (void)thread;
    const Measurement *m = context;
    const int64_t lo = slice * m->slice, hi = lo + m->slice < m->envs ? lo + m->slice : m->envs;
    VecEnv vec = *m->vec;
    for (int64_t t = 0; t < m->steps; t++) {
        vec.actions = m->actions + t % m->action_steps * m->action_bytes;
        m->step(&vec, lo, hi);
    }
}

/* `steps` steps of every environment, thread by slices that stay in its cache; the actions of `action_steps` steps are
 * used again and again. */
static void run_steps(const VecEnv *vec, StepFunction step, const char *actions, int64_t action_bytes,
                      int64_t action_steps, int64_t steps, int64_t envs, int64_t slice, int threads) {
    Measurement m = {.vec = vec, .step = step, .actions = actions, .action_bytes = action_bytes,
                     .action_steps = action_steps, .steps = steps, .envs = envs, .slice = slice};
    Work work = begin_work(threads, 64);
    run_tasks(&work, (envs + slice - 1) / slice, step_slice, &m);
    end_work(&work);
}

#endif
