/* Environments under check: batches made through the table vec_api as any caller makes them, and their actions. */
#ifndef PUFFER_IL_CHECK_BATCH_H
#define PUFFER_IL_CHECK_BATCH_H

#include <time.h>

#include "memory.h"

typedef struct {
    VecEnv vec;
    int64_t envs;
    int64_t steps;  // since it was seeded
} CheckBatch;

typedef enum { CHECK_RANDOM, CHECK_EXTREME, CHECK_WILD, CHECK_HELD, CHECK_EXPERT, CHECK_MODES } CheckMode;

#define CHECK_REAL ((Action)0.5 != 0)  // actions are float, not categories

static const VecApi *const check_api = &vec_api;
static const Params *check_params;
static const Params *check_short_params;  // with a time limit that is met often, where the environment may have one
static const void *check_data;
static void *check_shared;  // what c_share made
static clock_t check_deadline;  // of the phase, in processor time
static time_t check_latest;     // and by the clock, for environments that sleep

static void check_begin(const char *phase, double seconds) {
    check_where.phase = phase;
    check_deadline = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    check_latest = time(NULL) + 1 + (time_t)(4 * seconds);
    check_say("phase\t%s", phase);
}

static bool check_late(void) {
    return time(NULL) > check_latest;
}

static bool check_over(void) {
    return clock() > check_deadline || check_late();
}

static CheckBatch check_open(const Params *params, int64_t envs, uint64_t seed, uint64_t first) {
    const VecApi *api = check_api;
    const int64_t rows = envs * api->agents, log_bytes = 8 * (1 + api->log_size);
    CheckBatch batch = {
        .vec = {
            .envs = check_new("Env", envs * api->env_bytes),
            .clocks = check_new("the generators", envs * api->clock_bytes),
            .params = params,
            .data = check_data,
            .shared = check_shared,
            .actions = check_new("actions", rows * api->action_bytes),
            .observations = check_new("observations", rows * api->obs_bytes),
            .rewards = check_new("rewards", rows * (int64_t)sizeof(float)),
            .terminals = check_new("terminations", rows),
            .truncations = check_new("truncations", rows),
            .masks = check_new("masks", rows),
            .final_observations = check_new("final_observations", rows * api->obs_bytes),
            .logs = check_new("logs", rows * log_bytes),
        },
        .envs = envs,
    };
    memset(batch.vec.clocks, 0, (size_t)(envs * api->clock_bytes));
    memset(batch.vec.logs, 0, (size_t)(rows * log_bytes));
    if (api->open) {
        memset(batch.vec.envs, 0, (size_t)(envs * api->env_bytes));
        const char *wrong = api->open(&batch.vec, 0, envs);
        if (wrong) {
            check_say("refused\tc_open\t%s", wrong);
            check_quit(3);
        }
    }
    api->seed(&batch.vec, seed, first, 0, envs);
    return batch;
}

static void check_close(CheckBatch *batch) {
    VecEnv *vec = &batch->vec;
    if (check_api->close)
        check_api->close(vec, 0, batch->envs);
    void *blocks[] = {vec->envs, vec->clocks, (void *)vec->actions, vec->observations, vec->rewards, vec->terminals,
                      vec->truncations, vec->masks, vec->final_observations, vec->logs};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        check_delete(blocks[i]);
}

static void check_reset(CheckBatch *batch) {
    check_where.step = batch->steps;
    check_api->reset(&batch->vec, 0, batch->envs);
    check_guards();
}

static void check_step(CheckBatch *batch) {
    check_where.step = ++batch->steps;
    check_api->step(&batch->vec, 0, batch->envs);
    check_guards();
}

/* The same where much has been stepped with a look at the guards already. */
static void check_stride(CheckBatch *batch) {
    check_where.step = ++batch->steps;
    check_api->step(&batch->vec, 0, batch->envs);
}

/* Element k of an action. Where there are no bounds, nothing is out of range, and values stay within reason. */
static Action check_action(Rng *rng, const Params *params, int k, CheckMode mode) {
    (void)params;
    const double low = (double)ACTION_LOW(params, k), high = (double)ACTION_HIGH(params, k);
    const bool bounded = isfinite(low) && isfinite(high);
    const double from = isfinite(low) ? low : isfinite(high) ? high - 6 : -3, to = isfinite(high) ? high : from + 6;
    static const float wild_reals[] = {-INFINITY, -1e30f, NAN, 1e30f, INFINITY};
    static const int32_t wild_categories[] = {INT32_MIN, -1, 0, INT32_MAX};
    const uint32_t pick = rng_u32(rng);
    if (mode == CHECK_WILD && bounded)
        return CHECK_REAL ? (Action)wild_reals[pick % 5] : (Action)wild_categories[pick % 4];
    if (mode == CHECK_WILD || mode == CHECK_EXTREME)
        return (Action)(pick % 2 ? from : to);
    if (CHECK_REAL)
        return (Action)rng_uniform(rng, from, to);
    return (Action)(from + pick % (uint32_t)(to - from + 1));
}

/* Writes the actions of step `step`, which depend on nothing else but `key` and, for the expert, on the states. */
static void check_act(const CheckBatch *batch, uint64_t key, int64_t step, CheckMode mode) {
    if (mode == CHECK_EXPERT && check_api->expert) {
        check_where.step = batch->steps;
        check_api->expert(&batch->vec, (void *)batch->vec.actions, 0, batch->envs);
        return;
    }
    Rng rng;
    rng_seed(&rng, key, (uint64_t)(mode == CHECK_HELD ? step / 40 : step));
    Action *actions = (Action *)batch->vec.actions;
    for (int64_t k = 0; k < batch->envs * ENV_AGENTS * ENV_ACTION_SIZE; k++)
        actions[k] = check_action(&rng, batch->vec.params, (int)(k % ENV_ACTION_SIZE), mode);
}

#endif
