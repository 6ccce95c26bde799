/* The batch loop around one environment: the end of every generated translation unit (see glue.py and vec_api.h).
 * An episode ends when each of its agents has terminated or been truncated; the next one starts in the same step. */
#ifndef PUFFER_IL_VEC_ENV_H
#define PUFFER_IL_VEC_ENV_H

#include <stddef.h>

#include "vec_api.h"

#if defined(__GNUC__) && !defined(__clang__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

#if defined(__GNUC__)
#define INLINED __attribute__((always_inline))  // into each copy of a CLONED caller
#else
#define INLINED
#endif

/* What the glue knows of an environment. Apart from Env, so that the physics walks through memory that is all its own. */
typedef struct {
    Rng rng;
#ifdef ENV_HAS_EXPERT
    Rng expert_rng;  // of its own, so that asking the expert changes nothing
#endif
#if ENV_LOG_SIZE
    Log log;
#endif
    int64_t elapsed;         // steps of this episode
    bool ended[ENV_AGENTS];  // agents whose part in this episode is over
} Clock;

_Static_assert(ENV_AGENTS > 0 && ENV_OBS_SIZE > 0 && ENV_ACTION_SIZE > 0, "glue.py generates sizes above 0");
_Static_assert(sizeof(Params) == 8 * ENV_PARAMS, "callers pack parameters in 8 bytes each");
_Static_assert(ENV_LOG_SIZE == 0 || sizeof(Log) == ENV_LOG_SIZE * sizeof(float), "the log is read as an array");
_Static_assert(_Alignof(Env) <= 16, "callers align states to 16 bytes");
_Static_assert(sizeof(bool) == 1, "callers hold flags in bytes");

static inline Log *log_of(Clock *clock) {
#if ENV_LOG_SIZE
    return &clock->log;
#else
    (void)clock;
    return NULL;
#endif
}

static inline Io io_of(const VecEnv *vec, const Params *params, int64_t i) {
    const int64_t row = i * ENV_AGENTS;
    Clock *clock = (Clock *)vec->clocks + i;
    return (Io){
        .params = params,
        .data = vec->data,
        .shared = vec->shared,
        .rng = &clock->rng,
        .log = log_of(clock),
        .actions = (const Action *)vec->actions + row * ENV_ACTION_SIZE,
        .given = (const Action *)vec->actions + row * ENV_ACTION_SIZE,
        .observations = (Obs *)vec->observations + row * ENV_OBS_SIZE,
        .final_observations = (Obs *)vec->final_observations + row * ENV_OBS_SIZE,
        .rewards = vec->rewards + row,
        .terminations = vec->terminals + row,
        .truncations = vec->truncations + row,
    };
}

/* An episode begins where c_reset says, or in one of the states that the caller gave. */
static inline void start_episode(const VecEnv *vec, Env *env, Clock *clock, Io io) {
    clock->elapsed = 0;
    memset(clock->ended, 0, sizeof clock->ended);
#if ENV_LOG_SIZE
    memset(&clock->log, 0, sizeof clock->log);
#endif
    c_reset(env, io);
#ifdef ENV_HAS_STATE
    if (vec->start_share > 0 && rng_double(io.rng) < vec->start_share)
        c_set_state(env, io, vec->starts + (int64_t)rng_below(io.rng, (uint32_t)vec->start_count) * ENV_STATE_SIZE);
#else
    (void)vec;
#endif
}

/* Adds the log of `count` episodes that have just ended to the environment's sums. */
static inline void keep_log(Clock *clock, double *sums, int count) {
#if ENV_LOG_SIZE
    sums[0] += count;
    for (int k = 0; k < ENV_LOG_SIZE; k++)
        sums[1 + k] += ((const float *)&clock->log)[k];
    memset(&clock->log, 0, sizeof clock->log);
#else
    (void)clock, (void)sums, (void)count;
#endif
}

/* Comparisons are written so that a NaN ends at the lower bound, in `given` as well. */
static inline void clip_actions(Action *clipped, Action *given, const Action *actions, const Params *params) {
    (void)params;  // bounds may depend on them
    for (int k = 0; k < ENV_AGENTS * ENV_ACTION_SIZE; k++) {
        const Action low = ACTION_LOW(params, k % ENV_ACTION_SIZE), high = ACTION_HIGH(params, k % ENV_ACTION_SIZE);
        clipped[k] = actions[k] > low ? (actions[k] < high ? actions[k] : high) : low;
        given[k] = actions[k] == actions[k] ? actions[k] : low;
    }
}

/* One step of one environment, but for the bookkeeping of ends. */
static inline void act(Env *env, Io io, bool unclipped) {
    Action actions[ENV_AGENTS * ENV_ACTION_SIZE], given[ENV_AGENTS * ENV_ACTION_SIZE];
    clip_actions(actions, given, io.actions, io.params);
    io.actions = actions;
    io.given = unclipped ? given : actions;
    for (int a = 0; a < ENV_AGENTS; a++) {
        io.rewards[a] = 0;
        io.terminations[a] = io.truncations[a] = false;
    }
    c_step(env, io);
}

/* Settles which agents have ended, keeps what they saw last, and starts the next episode once nobody is left. */
static inline void settle(const VecEnv *vec, Env *env, Clock *clock, Io io, bool *masks, double *sums) {
    const int64_t limit = io.params->max_episode_steps;
    const bool timeout = ++clock->elapsed >= limit && limit > 0;
    bool running = !ENV_AUTORESET;
    int restarted = 0;  // agents that c_step has restarted
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
        } else {
            restarted++;
        }
    }
    if (restarted)
        keep_log(clock, sums, restarted);
    if (!running) {
        keep_log(clock, sums, 1);
        start_episode(vec, env, clock, io);
    }
}

static inline double *sums_of(const VecEnv *vec, int64_t i) {
    return ENV_LOG_SIZE ? vec->logs + i * ENV_AGENTS * (1 + ENV_LOG_SIZE) : NULL;
}

static void vec_seed(const VecEnv *vec, uint64_t seed, uint64_t first_env, int64_t lo, int64_t hi) {
    Clock *clocks = vec->clocks;
    for (int64_t i = lo; i < hi; i++) {
#ifndef ENV_HAS_OPEN
        memset((Env *)vec->envs + i, 0, sizeof(Env));  // nothing of earlier episodes outlives a seed
#endif
        rng_seed(&clocks[i].rng, seed, first_env + (uint64_t)i);
#ifdef ENV_HAS_EXPERT
        rng_seed(&clocks[i].expert_rng, ~seed, first_env + (uint64_t)i);
#endif
    }
}

static void vec_reset(const VecEnv *vec, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i++) {
        const Io io = io_of(vec, vec->params, i);
        start_episode(vec, (Env *)vec->envs + i, (Clock *)vec->clocks + i, io);
        for (int a = 0; a < ENV_AGENTS; a++) {
            io.rewards[a] = 0;
            io.terminations[a] = io.truncations[a] = false;
            vec->masks[i * ENV_AGENTS + a] = true;
        }
    }
}

/* In blocks that stay in the first-level cache, and in two passes: the first has no branch on ends, so that compilers
 * run the physics of several environments side by side where c_step is plain arithmetic. */
static inline INLINED void step_batch(const VecEnv *caller, int64_t lo, int64_t hi, bool unclipped) {
    enum { BLOCK = 256 };
    const VecEnv vec = *caller;  // copies: the compiler keeps them in registers, as no store can change them
    const Params params = *(const Params *)vec.params;
    Env *envs = vec.envs;
    Clock *clocks = vec.clocks;
    for (int64_t start = lo; start < hi; start += BLOCK) {
        const int64_t end = start + BLOCK < hi ? start + BLOCK : hi;
        INDEPENDENT
        for (int64_t i = start; i < end; i++)
            act(&envs[i], io_of(&vec, &params, i), unclipped);
        for (int64_t i = start; i < end; i++)
            settle(caller, &envs[i], &clocks[i], io_of(&vec, &params, i), vec.masks + i * ENV_AGENTS, sums_of(&vec, i));
    }
}

CLONED static void vec_step(const VecEnv *vec, int64_t lo, int64_t hi) {
    step_batch(vec, lo, hi, false);
}

CLONED static void vec_step_unclipped(const VecEnv *vec, int64_t lo, int64_t hi) {
    step_batch(vec, lo, hi, true);
}

#ifdef ENV_HAS_EXPERT
static void vec_expert(const VecEnv *vec, void *actions, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i++) {
        Io io = io_of(vec, vec->params, i);
        io.rng = &((Clock *)vec->clocks)[i].expert_rng;
        c_expert((const Env *)vec->envs + i, io, (Action *)actions + i * ENV_AGENTS * ENV_ACTION_SIZE);
    }
}
#else
#define vec_expert NULL
#endif

#ifdef ENV_HAS_STATE
static void vec_get_state(const VecEnv *vec, double *states, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i++)
        c_get_state((const Env *)vec->envs + i, io_of(vec, vec->params, i), states + i * ENV_STATE_SIZE);
}

static void vec_set_state(const VecEnv *vec, const double *states, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i++)
        c_set_state((Env *)vec->envs + i, io_of(vec, vec->params, i), states + i * ENV_STATE_SIZE);
}
#else
#define vec_get_state NULL
#define vec_set_state NULL
#endif

#ifdef ENV_HAS_RENDER
static void vec_render(const VecEnv *vec, int64_t env, uint8_t *pixels) {
    Canvas canvas = {ENV_RENDER_WIDTH, ENV_RENDER_HEIGHT, pixels};
    canvas_clear(&canvas, CANVAS_PAPER);
    c_render((const Env *)vec->envs + env, io_of(vec, vec->params, env), &canvas);
}
#else
#define vec_render NULL
#endif

#ifdef ENV_HAS_SHARE
static const char *vec_share(VecEnv *vec) {
    return c_share(vec->params, vec->data, &vec->shared);
}

static void vec_unshare(VecEnv *vec) {
    c_unshare(vec->shared);
    vec->shared = NULL;
}
#else
#define vec_share NULL
#define vec_unshare NULL
#endif

#ifdef ENV_HAS_OPEN
static void vec_close(const VecEnv *vec, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i++)
        c_close((Env *)vec->envs + i);
}

static const char *vec_open(const VecEnv *vec, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i++) {
        const char *wrong = c_open((Env *)vec->envs + i, io_of(vec, vec->params, i));
        if (wrong) {
            vec_close(vec, lo, i);
            return wrong;
        }
    }
    return NULL;
}
#else
#define vec_open NULL
#define vec_close NULL
#endif

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
    .data_bytes = sizeof(Data),
    .obs_bytes = ENV_OBS_SIZE * sizeof(Obs),
    .action_bytes = ENV_ACTION_SIZE * sizeof(Action),
    .state_size = ENV_STATE_SIZE,
    .log_size = ENV_LOG_SIZE,
    .render_width = ENV_RENDER_WIDTH,
    .render_height = ENV_RENDER_HEIGHT,
    .source_hash = ENV_SOURCE_HASH,
    .seed = vec_seed,
    .reset = vec_reset,
    .step = vec_step,
    .step_unclipped = vec_step_unclipped,
    .expert = vec_expert,
    .get_state = vec_get_state,
    .set_state = vec_set_state,
    .render = vec_render,
    .share = vec_share,
    .open = vec_open,
    .close = vec_close,
    .unshare = vec_unshare,
};

#endif
