/* The batch loop around one environment: the end of every generated translation unit (see glue.py and vec_api.h).
 * An episode ends when each of its agents has terminated or been truncated; the next one starts in the same step. */
#ifndef PUFFER_IL_VEC_ENV_H
#define PUFFER_IL_VEC_ENV_H

#include <stddef.h>

#include "vec_api.h"

/* A second copy of the loop for processors with AVX2, chosen at load time; without fused operations both give the
 * same bits. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define CLONED __attribute__((target_clones("avx2", "default")))
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define CLONED
#define INDEPENDENT
#endif

/* What the glue knows of an environment. Apart from Env, so that the physics walks through memory that is all its own. */
typedef struct {
    Rng rng;
    int64_t elapsed;         // steps of this episode
    bool ended[ENV_AGENTS];  // agents whose part in this episode is over
} Clock;

_Static_assert(_Alignof(Env) <= 16, "callers align states to 16 bytes");
_Static_assert(sizeof(bool) == 1, "callers hold flags in bytes");

static inline Io io_of(const VecEnv *vec, const Params *params, int64_t i) {
    const int64_t row = i * ENV_AGENTS;
    return (Io){
        .params = params,
        .rng = &((Clock *)vec->clocks)[i].rng,
        .actions = (const Action *)vec->actions + row * ENV_ACTION_SIZE,
        .observations = (Obs *)vec->observations + row * ENV_OBS_SIZE,
        .final_observations = (Obs *)vec->final_observations + row * ENV_OBS_SIZE,
        .rewards = vec->rewards + row,
        .terminations = vec->terminals + row,
        .truncations = vec->truncations + row,
    };
}

static inline void start_episode(Env *env, Clock *clock, Io io) {
    clock->elapsed = 0;
    memset(clock->ended, 0, sizeof clock->ended);
    c_reset(env, io);
}

/* Comparisons are written so that a NaN ends at the lower bound. */
static inline void clip_actions(Action *clipped, const Action *actions) {
    for (int k = 0; k < ENV_AGENTS * ENV_ACTION_SIZE; k++) {
        const Action low = ACTION_LOW[k % ENV_ACTION_SIZE], high = ACTION_HIGH[k % ENV_ACTION_SIZE];
        clipped[k] = actions[k] > low ? (actions[k] < high ? actions[k] : high) : low;
    }
}

/* One step of one environment, but for the bookkeeping of ends. */
static inline void act(Env *env, Io io) {
    Action actions[ENV_AGENTS * ENV_ACTION_SIZE];
    clip_actions(actions, io.actions);
    io.actions = actions;
    for (int a = 0; a < ENV_AGENTS; a++) {
        io.rewards[a] = 0;
        io.terminations[a] = io.truncations[a] = false;
    }
    c_step(env, io);
}

/* Settles which agents have ended, keeps what they saw last, and starts the next episode once nobody is left. */
static inline void settle(Env *env, Clock *clock, Io io, bool *masks) {
    const int64_t limit = io.params->max_episode_steps;
    const bool timeout = ++clock->elapsed >= limit && limit > 0;
    bool running = !ENV_AUTORESET;
    for (int a = 0; a < ENV_AGENTS; a++) {
        masks[a] = !clock->ended[a];
        if (clock->ended[a]) {
            io.rewards[a] = 0;
            io.terminations[a] = io.truncations[a] = false;
            continue;
        }
        io.truncations[a] = (io.truncations[a] | timeout) & !io.terminations[a];
        if (!(io.terminations[a] | io.truncations[a])) {
            running = true;
        } else if (ENV_AUTORESET) {
            clock->ended[a] = true;
            memcpy(io.final_observations + a * ENV_OBS_SIZE, io.observations + a * ENV_OBS_SIZE,
                   ENV_OBS_SIZE * sizeof(Obs));
        }
    }
    if (!running)
        start_episode(env, clock, io);
}

static void vec_seed(const VecEnv *vec, uint64_t seed, uint64_t first_env, int64_t lo, int64_t hi) {
    Env *envs = vec->envs;
    Clock *clocks = vec->clocks;
    for (int64_t i = lo; i < hi; i++) {
        memset(&envs[i], 0, sizeof(Env));  // nothing of earlier episodes outlives a seed
        rng_seed(&clocks[i].rng, seed, first_env + (uint64_t)i);
    }
}

static void vec_reset(const VecEnv *vec, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i++) {
        const Io io = io_of(vec, vec->params, i);
        start_episode((Env *)vec->envs + i, (Clock *)vec->clocks + i, io);
        for (int a = 0; a < ENV_AGENTS; a++) {
            io.rewards[a] = 0;
            io.terminations[a] = io.truncations[a] = false;
            vec->masks[i * ENV_AGENTS + a] = true;
        }
    }
}

/* In blocks that stay in the first-level cache, and in two passes: the first has no branch on ends, so that compilers
 * run the physics of several environments side by side where c_step is plain arithmetic. */
CLONED static void vec_step(const VecEnv *caller, int64_t lo, int64_t hi) {
    enum { BLOCK = 256 };
    const VecEnv vec = *caller;  // copies: the compiler keeps them in registers, as no store can change them
    const Params params = *(const Params *)vec.params;
    Env *envs = vec.envs;
    Clock *clocks = vec.clocks;
    for (int64_t start = lo; start < hi; start += BLOCK) {
        const int64_t end = start + BLOCK < hi ? start + BLOCK : hi;
        INDEPENDENT
        for (int64_t i = start; i < end; i++)
            act(&envs[i], io_of(&vec, &params, i));
        for (int64_t i = start; i < end; i++)
            settle(&envs[i], &clocks[i], io_of(&vec, &params, i), vec.masks + i * ENV_AGENTS);
    }
}

#if defined(_WIN32)
__declspec(dllexport)
#else
__attribute__((visibility("default")))
#endif
extern const VecApi vec_api;

const VecApi vec_api = {
    .abi_version = VEC_ABI_VERSION,
    .agents = ENV_AGENTS,
    .env_bytes = sizeof(Env),
    .clock_bytes = sizeof(Clock),
    .params_bytes = sizeof(Params),
    .obs_bytes = ENV_OBS_SIZE * sizeof(Obs),
    .action_bytes = ENV_ACTION_SIZE * sizeof(Action),
    .source_hash = ENV_SOURCE_HASH,
    .seed = vec_seed,
    .reset = vec_reset,
    .step = vec_step,
};

#endif
