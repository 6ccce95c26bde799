/* What an episode's state is: that c_reset leaves nothing of it, and that the hooks hand over all of it. */
#ifndef PUFFER_IL_CHECK_STATE_H
#define PUFFER_IL_CHECK_STATE_H

#include "compare.h"

enum { CHECK_AFTER = 120 };  // steps in which two environments must stay the same

static void check_drive(CheckBatch *batch, uint64_t key, int64_t steps) {
    for (int64_t step = 1; step <= steps && !check_late(); step++) {
        check_act(batch, key, step, (CheckMode)(step / 15 % CHECK_EXPERT));
        check_step(batch);
    }
}

static CheckBatch check_used_env(uint64_t seed, int64_t steps) {
    CheckBatch batch = check_open(check_params, 1, seed, 0);
    check_reset(&batch);
    check_drive(&batch, seed, steps);
    return batch;
}

/* Another one in the same state, generator and clock: only of environments whose bytes are all there is. */
static CheckBatch check_twin(const CheckBatch *of) {
    CheckBatch twin = check_open(of->vec.params, 1, 0, 0);
    check_copy(&twin, of, true);
    twin.steps = of->steps;
    return twin;
}

/* Elements that a function has left as they were: `a` and `b` held different bytes before. */
static bool check_unwritten(const char *function, const void *a, const void *b, size_t size, int64_t count,
                            uint8_t fill_a, uint8_t fill_b) {
    bool any = false;
    for (int64_t k = 0; k < count; k++) {
        const uint8_t *x = (const uint8_t *)a + (size_t)k * size, *y = (const uint8_t *)b + (size_t)k * size;
        bool left = true;
        for (size_t i = 0; i < size; i++)
            left &= x[i] == fill_a && y[i] == fill_b;
        if (left)
            check_say("unwritten\t%s\t%lld", function, (long long)k);
        any |= left;
    }
    return any;
}

/* Two environments with different pasts and the same generator must start the same episode; false if they do not. */
static bool check_same_start(const char *label, CheckBatch *a, CheckBatch *b, uint64_t key) {
    const size_t bytes = (size_t)(ENV_AGENTS * check_api->obs_bytes), env_bytes = (size_t)check_api->env_bytes;
    CheckBatch past_a = check_open(check_params, 1, 0, 0), past_b = check_open(check_params, 1, 0, 0);
    check_copy(b, a, false);
    check_copy(&past_a, a, !check_api->open);
    check_copy(&past_b, b, !check_api->open);
    memset(a->vec.observations, 0x5b, bytes);
    memset(b->vec.observations, 0x6d, bytes);
    check_reset(a);
    check_reset(b);
    const bool unwritten = check_unwritten("c_reset", a->vec.observations, b->vec.observations, sizeof(Obs),
                                           ENV_AGENTS * ENV_OBS_SIZE, 0x5b, 0x6d);
    const CheckDifference found = check_compare(a, b, key, CHECK_AFTER);
    if (found.what && !unwritten) {  // those elements differ of course
        check_say("differs\t%s\t%s\t%lld", label, found.what, (long long)found.step);
        if (env_bytes)
            check_culprits(label, &past_a, &past_b, true, key, CHECK_AFTER);
    }
    check_close(&past_a);
    check_close(&past_b);
    return !found.what && !unwritten;
}

static void check_resets(double seconds) {
    static const int64_t pasts[][2] = {{1, 30}, {60, 7}, {3, 200}, {0, 100}, {2, 1}};
    check_begin("reset", seconds);
    for (size_t i = 0; i < sizeof pasts / sizeof *pasts && (i == 0 || !check_over()); i++) {
        CheckBatch a = check_used_env(100 + i, pasts[i][0]), b = check_used_env(200 + i, pasts[i][1]);
        check_same_start("reset", &a, &b, i);
        check_close(&a);
        check_close(&b);
    }
}

/* Env's memory may hold anything before the first c_reset. Last, because anything may come of it. */
static void check_fresh_memory(double seconds) {
    if (check_api->open || CHECK_SANITIZED)
        return;
    check_begin("fresh", seconds);
    for (int seed = 0; seed < 3 && !check_over(); seed++) {
        CheckBatch a = check_open(check_params, 1, (uint64_t)seed, 0);
        CheckBatch b = check_open(check_params, 1, (uint64_t)seed, 0);
        memset(b.vec.envs, 0x42, (size_t)check_api->env_bytes);  // large numbers that do not swallow all others
        check_same_start("fresh", &a, &b, (uint64_t)seed);
        check_close(&a);
        check_close(&b);
    }
}

/* ---- states ---- */

/* The hook that a field is lost by: c_get_state if it makes no difference to what that writes. */
static void check_lost(const CheckBatch *a, const CheckBatch *b, const CheckField *field) {
    const int64_t bytes = check_api->state_size * (int64_t)sizeof(double);
    double *state = check_new("state", bytes), *other = check_new("state", bytes);
    CheckBatch changed = check_twin(a);
    memcpy((uint8_t *)changed.vec.envs + field->at, (uint8_t *)b->vec.envs + field->at, field->size);
    memset(state, 0, (size_t)bytes);
    memset(other, 0, (size_t)bytes);
    check_api->get_state(&a->vec, state, 0, 1);
    check_api->get_state(&changed.vec, other, 0, 1);
    check_say("lost\t%s\tenv->%s", memcmp(state, other, (size_t)bytes) ? "c_set_state" : "c_get_state", field->name);
    check_close(&changed);
    check_delete(state);
    check_delete(other);
}

/* Who wrote the observations of a state last, c_reset or c_step, and whether c_set_state has said the same. */
enum { CHECK_BY_RESET, CHECK_BY_STEP, CHECK_WRITERS };
static const char *const check_writers[CHECK_WRITERS] = {"c_reset", "c_step"};
static struct {
    int64_t agreed;
    bool told;
} check_views[CHECK_WRITERS];

static int64_t check_unlike(const CheckBatch *a, const CheckBatch *b) {
    const Obs *x = a->vec.observations, *y = b->vec.observations;
    int64_t count = 0;
    for (int64_t k = 0; k < ENV_AGENTS * ENV_OBS_SIZE; k++)
        count += memcmp(&x[k], &y[k], sizeof(Obs)) != 0;
    return count;
}

/* Tells the fields that make c_set_state's observations of `state` wrong, if there are any: with their value in `a` less
 * is wrong. `past` is the environment into which the state was set, `b` what became of it. */
static bool check_blind_field(const CheckBatch *a, const CheckBatch *b, const CheckBatch *past, const double *state) {
    bool any = false;
    for (const CheckField *field = check_fields; field->name && !check_api->open; field++) {
        if (!memcmp((uint8_t *)a->vec.envs + field->at, (uint8_t *)b->vec.envs + field->at, field->size))
            continue;
        CheckBatch mended = check_twin(past);
        memcpy((uint8_t *)mended.vec.envs + field->at, (uint8_t *)a->vec.envs + field->at, field->size);
        check_api->set_state(&mended.vec, state, 0, 1);
        if (check_unlike(a, &mended) < check_unlike(a, b)) {
            check_lost(a, b, field);
            any = true;
        }
        check_close(&mended);
    }
    return any;
}

/* Compares what c_set_state has written into b, all of it, with what there is in a. */
static void check_views_of(const CheckBatch *a, const CheckBatch *b, const CheckBatch *past, const double *state) {
    const bool young = ((Clock *)a->vec.clocks)->elapsed == 0;
    const int writer = young ? CHECK_BY_RESET : CHECK_BY_STEP;
    const Obs *there = a->vec.observations, *set = b->vec.observations;
    for (int64_t k = 0; k < ENV_AGENTS * ENV_OBS_SIZE; k++) {
        if (!memcmp(&there[k], &set[k], sizeof(Obs)))
            continue;
        if (!check_views[writer].told && !check_blind_field(a, b, past, state))
            check_say("seen\t%s\t%lld\t%.9g\t%.9g\t%lld", check_writers[writer], (long long)k, (double)there[k],
                      (double)set[k], (long long)a->steps);
        check_views[writer].told = true;
        return;
    }
    check_views[writer].agreed++;
}

/* get → set into `b`, an environment with another past → get, and both go on. False if something was lost. */
static bool check_round_trip(CheckBatch *a, CheckBatch *b, uint64_t key) {
    const int64_t n = check_api->state_size;
    const size_t bytes = (size_t)n * sizeof(double), env_bytes = (size_t)check_api->env_bytes;
    const size_t obs_bytes = (size_t)(ENV_AGENTS * check_api->obs_bytes);
    double *state = check_new("state", (int64_t)bytes), *again = check_new("state", (int64_t)bytes);
    uint8_t *env = check_new("Env", (int64_t)env_bytes), *seen = check_new("observations", (int64_t)obs_bytes);
    bool sound = true;
    memcpy(env, a->vec.envs, env_bytes);
    memset(state, 0x5b, bytes);
    memset(again, 0x6d, bytes);
    check_where.step = a->steps;
    check_api->get_state(&a->vec, state, 0, 1);
    check_api->get_state(&a->vec, again, 0, 1);
    check_guards();
    sound &= !check_unwritten("c_get_state", state, again, sizeof(double), n, 0x5b, 0x6d);
    if (memcmp(env, a->vec.envs, env_bytes))
        check_say("changed\tc_get_state\tEnv");
    CheckBatch past = check_open(a->vec.params, 1, 0, 0);
    check_copy(b, a, false);
    check_copy(&past, b, !check_api->open);
    memset(b->vec.observations, 0x6d, obs_bytes);
    check_api->set_state(&b->vec, state, 0, 1);
    memcpy(seen, b->vec.observations, obs_bytes);
    memset(b->vec.observations, 0x5b, obs_bytes);
    check_api->set_state(&b->vec, state, 0, 1);
    check_guards();
    if (check_unwritten("c_set_state", b->vec.observations, seen, sizeof(Obs), ENV_AGENTS * ENV_OBS_SIZE, 0x5b, 0x6d))
        sound = false;
    else
        check_views_of(a, b, &past, state);
    check_api->get_state(&b->vec, again, 0, 1);
    for (int64_t k = 0; k < n; k++)
        if (memcmp(&state[k], &again[k], sizeof(double))) {
            check_say("identity\t%lld\t%.9g\t%.9g", (long long)k, state[k], again[k]);
            sound = false;
            break;
        }
    memcpy(b->vec.observations, a->vec.observations, obs_bytes);
    CheckBatch start_a = check_open(check_params, 1, 0, 0), start_b = check_open(check_params, 1, 0, 0);
    check_copy(&start_a, a, !check_api->open);
    check_copy(&start_b, b, !check_api->open);
    const CheckDifference found = check_compare(a, b, key, CHECK_AFTER);
    if (found.what) {
        check_say("differs\tstate\t%s\t%lld", found.what, (long long)found.step);
        check_culprits("state", &start_a, &start_b, false, key, CHECK_AFTER);
        sound = false;
    }
    CheckBatch *opened[] = {&past, &start_a, &start_b};
    for (size_t i = 0; i < sizeof opened / sizeof *opened; i++)
        check_close(opened[i]);
    void *blocks[] = {state, again, env, seen};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        check_delete(blocks[i]);
    return sound;
}

static void check_states(double seconds) {
    static const int64_t ages[] = {0, 5, 40, 1, 150, 13};
    if (!check_api->get_state)
        return;
    check_begin("state", seconds);
    for (size_t i = 0; i < sizeof ages / sizeof *ages && (i == 0 || !check_over()); i++) {
        CheckBatch a = check_used_env(300 + i, ages[i]), b = check_used_env(400 + i, 3);
        check_round_trip(&a, &b, i);
        check_close(&a);
        check_close(&b);
    }
}

#endif
