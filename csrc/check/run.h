/* The long run: many steps under all kinds of actions, each output looked at, and hashed so that builds can be
 * compared step for step. */
#ifndef PUFFER_IL_CHECK_RUN_H
#define PUFFER_IL_CHECK_RUN_H

#include "batch.h"

enum { CHECK_ENVS = 8, CHECK_STEPS = 20000, CHECK_FIRST = 200, CHECK_KINDS = 3, CHECK_SEED = 11 };

static const char *const check_kinds[CHECK_KINDS] = {"observations", "rewards", "ends"};
static uint64_t check_first[CHECK_ENVS][CHECK_FIRST][CHECK_KINDS];  // what the first steps gave, one by one
static int64_t check_ran;                                           // how many of them there are
static const double *check_low, *check_high;                        // [ENV_OBS_SIZE]

/* Of an element of the observation: what has been seen of it. */
enum { CHECK_NOT_FINITE = 1, CHECK_OUTSIDE = 2, CHECK_VARIES = 4 };

typedef struct {
    Obs first[ENV_OBS_SIZE];
    uint8_t seen[ENV_OBS_SIZE];
    bool started, bad_reward;
    int64_t episodes;
} CheckSeen;

static CheckSeen check_seen;

/* The actions of the run: every mode in turn, a different one in neighbouring environments. */
static CheckMode check_mode(int64_t env, int64_t step) {
    return (CheckMode)((env + step / 100) % CHECK_MODES);
}

static const Params *check_params_of(int64_t env) {
    return env % 4 == 3 ? check_short_params : check_params;
}

static void check_look_at(const Obs *row, int64_t step) {
    CheckSeen *seen = &check_seen;
    if (!seen->started)
        memcpy(seen->first, row, sizeof seen->first);
    seen->started = true;
    for (int k = 0; k < ENV_OBS_SIZE; k++) {
        const double x = (double)row[k];
        uint8_t now = row[k] != seen->first[k] ? CHECK_VARIES : 0;
        if (!isfinite(x))
            now |= CHECK_NOT_FINITE;
        else if (!(x >= check_low[k] && x <= check_high[k]))
            now |= CHECK_OUTSIDE;
        if (now & ~seen->seen[k] & ~CHECK_VARIES)
            check_say("observation\t%s\t%d\t%.9g\t%.9g\t%.9g\t%lld", now & CHECK_NOT_FINITE ? "finite" : "bounds", k, x,
                      check_low[k], check_high[k], (long long)step);
        seen->seen[k] |= now;
    }
}

/* Looks at what a step, or at step 0 a reset, has written, and adds it to the hashes. */
static void check_outputs(const CheckBatch *batch, uint64_t hashes[CHECK_KINDS], bool look) {
    const VecEnv *vec = &batch->vec;
    for (int64_t row = 0; row < batch->envs * ENV_AGENTS; row++) {
        const Obs *obs = (const Obs *)vec->observations + row * ENV_OBS_SIZE;
        const Obs *final = (const Obs *)vec->final_observations + row * ENV_OBS_SIZE;
        const uint8_t flags[3] = {((uint8_t *)vec->terminals)[row], ((uint8_t *)vec->truncations)[row],
                                  ((uint8_t *)vec->masks)[row]};
        const bool ended = flags[0] | flags[1];
        hashes[0] = check_hash(hashes[0], obs, ENV_OBS_SIZE * sizeof(Obs));
        if (ended)
            hashes[0] = check_hash(hashes[0], final, ENV_OBS_SIZE * sizeof(Obs));
        hashes[1] = check_hash(hashes[1], vec->rewards + row, sizeof(float));
        hashes[2] = check_hash(hashes[2], flags, sizeof flags);
        if (!look)
            continue;
        check_look_at(obs, batch->steps);
        if (ended)
            check_look_at(final, batch->steps);
        check_seen.episodes += ended && vec->params == check_params;
        if (!isfinite(vec->rewards[row]) && !check_seen.bad_reward) {
            check_seen.bad_reward = true;
            check_say("reward\t%.9g\t%lld", (double)vec->rewards[row], (long long)batch->steps);
        }
    }
}

static void check_tell_elements(void) {
    for (int k = 0; k < ENV_OBS_SIZE; k++)
        if (!(check_seen.seen[k] & CHECK_VARIES))
            check_say("constant\t%d\t%.9g", k, (double)check_seen.first[k]);
}

/* The steps are also written to `trace`, CHECK_KINDS hashes each. */
static void check_run(FILE *trace, double seconds) {
    check_begin("run", seconds);
    CheckBatch batches[CHECK_ENVS];
    for (int i = 0; i < CHECK_ENVS; i++) {
        batches[i] = check_open(check_params_of(i), 1, CHECK_SEED, (uint64_t)i);
        check_reset(&batches[i]);
    }
    int64_t step = 0;
    for (; step < CHECK_STEPS && !check_over(); step++) {
        uint64_t all[CHECK_KINDS] = {0};
        for (int i = 0; i < CHECK_ENVS; i++) {
            uint64_t hashes[CHECK_KINDS] = {0};
            if (step > 0) {
                check_act(&batches[i], (uint64_t)i, step, check_mode(i, step));
                check_step(&batches[i]);
            }
            check_outputs(&batches[i], hashes, true);
            for (int kind = 0; kind < CHECK_KINDS; kind++)
                all[kind] = rng_mix(all[kind] ^ hashes[kind]);
            if (step < CHECK_FIRST)
                memcpy(check_first[i][step], hashes, sizeof hashes);
        }
        fwrite(all, sizeof all, 1, trace);
        if (step % 64 == 0)
            fflush(trace);  // for whoever compares what came before a crash
    }
    fflush(trace);
    check_ran = step < CHECK_FIRST ? step : CHECK_FIRST;
    double logged = 0;
    for (int i = 0; i < CHECK_ENVS; i++) {
        for (int64_t k = 0; k <= check_api->log_size; k++)
            logged += batches[i].vec.logs[k];
        check_close(&batches[i]);
    }
    check_tell_elements();
    check_say("ran\t%lld\t%lld\t%d", (long long)step * CHECK_ENVS, (long long)check_seen.episodes,
              isfinite(logged) != 0);
}

#endif
