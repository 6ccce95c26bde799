/* Checks by comparison: environments that should do the same are stepped side by side. Where they do not, one field of
 * Env after the other is exchanged, to find those that it is due to. */
#ifndef PUFFER_IL_CHECK_COMPARE_H
#define PUFFER_IL_CHECK_COMPARE_H

#include "run.h"

typedef struct {
    const char *what;  // NULL: none
    int64_t step;      // 0: at the start
} CheckDifference;

typedef struct {
    const char *name;
    size_t at, size;
} CheckField;

static const CheckField check_fields[] = {CHECK_FIELDS{NULL, 0, 0}};

static CheckDifference check_outputs_differ(const CheckBatch *a, const CheckBatch *b, int64_t step) {
    uint64_t x[CHECK_KINDS] = {0}, y[CHECK_KINDS] = {0};
    check_outputs(a, x, false);
    check_outputs(b, y, false);
    for (int kind = 0; kind < CHECK_KINDS; kind++)
        if (x[kind] != y[kind])
            return (CheckDifference){check_kinds[kind], step};
    return (CheckDifference){NULL, 0};
}

/* Where two batches come apart under the same actions, if they do within `steps`. */
static CheckDifference check_compare(CheckBatch *a, CheckBatch *b, uint64_t key, int64_t steps) {
    CheckDifference found = {NULL, 0};
    const size_t row = (size_t)(a->envs * ENV_AGENTS);
    if (memcmp(a->vec.observations, b->vec.observations, row * ENV_OBS_SIZE * sizeof(Obs)))
        return (CheckDifference){"observations", 0};
    for (int64_t step = 1; step <= steps && !found.what && !check_late(); step++) {
        check_act(a, key, step, check_api->expert && key % 2 ? CHECK_EXPERT : (CheckMode)(step / 10 % CHECK_EXPERT));
        memcpy((void *)b->vec.actions, a->vec.actions, row * ENV_ACTION_SIZE * sizeof(Action));
        check_stride(a);
        check_stride(b);
        found = check_outputs_differ(a, b, step);
    }
    return found;
}

/* Makes `to` the same as `from` in generator and clock and, with `env`, in its state. */
static void check_copy(CheckBatch *to, const CheckBatch *from, bool env) {
    memcpy(to->vec.clocks, from->vec.clocks, (size_t)(from->envs * check_api->clock_bytes));
    if (env) {
        memcpy(to->vec.envs, from->vec.envs, (size_t)(from->envs * check_api->env_bytes));
        memcpy(to->vec.observations, from->vec.observations, (size_t)(from->envs * ENV_AGENTS * check_api->obs_bytes));
    }
}

static void check_lost(const CheckBatch *a, const CheckBatch *b, const CheckField *field);

/* Tells which fields of Env make a difference: `a` goes on (after a reset, if so) otherwise with its value in `b`. */
static void check_culprits(const char *label, const CheckBatch *a, const CheckBatch *b, bool reset, uint64_t key,
                           int64_t steps) {
    for (const CheckField *field = check_fields; field->name && !check_api->open; field++) {
        uint8_t *value = (uint8_t *)b->vec.envs + field->at;
        if (!memcmp((uint8_t *)a->vec.envs + field->at, value, field->size))
            continue;
        CheckBatch same = check_open(a->vec.params, 1, 0, 0), other = check_open(a->vec.params, 1, 0, 0);
        check_copy(&same, a, true);
        check_copy(&other, a, true);
        memcpy((uint8_t *)other.vec.envs + field->at, value, field->size);
        if (reset) {
            check_reset(&same);
            check_reset(&other);
        }
        if (check_compare(&same, &other, key, steps).what) {
            check_say("field\t%s\t%s", label, field->name);
            if (!strcmp(label, "state"))
                check_lost(a, b, field);
        }
        check_close(&same);
        check_close(&other);
    }
}

/* Outputs of one environment again: alone, or beside the others as in the run. */
static void check_repeat(const char *label, int first, int count) {
    CheckBatch batches[CHECK_ENVS];
    for (int i = 0; i < count; i++) {
        batches[i] = check_open(check_params_of(first + i), 1, CHECK_SEED, (uint64_t)(first + i));
        check_reset(&batches[i]);
    }
    CheckDifference found = {NULL, 0};
    for (int64_t step = 0; step < check_ran && !found.what && !check_over(); step++)
        for (int i = 0; i < count && !found.what; i++) {
            uint64_t hashes[CHECK_KINDS] = {0};
            if (step > 0) {
                check_act(&batches[i], (uint64_t)(first + i), step, check_mode(first + i, step));
                check_step(&batches[i]);
            }
            check_outputs(&batches[i], hashes, false);
            for (int kind = CHECK_KINDS - 1; kind >= 0; kind--)
                if (hashes[kind] != check_first[first + i][step][kind])
                    found = (CheckDifference){check_kinds[kind], step};
        }
    if (found.what)
        check_say("differs\t%s\t%s\t%lld", label, found.what, (long long)found.step);
    for (int i = 0; i < count; i++)
        check_close(&batches[i]);
}

/* One batch of all environments, stepped in two ranges, against single ones. */
static void check_split(void) {
    enum { CUT = CHECK_ENVS / 2 - 1 };
    CheckBatch whole = check_open(check_params, CHECK_ENVS, CHECK_SEED, 0), parts[CHECK_ENVS];
    check_reset(&whole);
    for (int i = 0; i < CHECK_ENVS; i++) {
        parts[i] = check_open(check_params, 1, CHECK_SEED, (uint64_t)i);
        check_reset(&parts[i]);
    }
    bool same = true;
    for (int64_t step = 1; step < check_ran && same && !check_over(); step++) {
        uint64_t together[CHECK_KINDS] = {0}, apart[CHECK_KINDS] = {0};
        check_act(&whole, 1, step, CHECK_RANDOM);
        check_where.step = ++whole.steps;
        check_api->step(&whole.vec, 0, CUT);
        check_api->step(&whole.vec, CUT, CHECK_ENVS);
        check_outputs(&whole, together, false);
        for (int i = 0; i < CHECK_ENVS; i++) {
            const size_t bytes = (size_t)(ENV_AGENTS * check_api->action_bytes);
            memcpy((void *)parts[i].vec.actions, (const uint8_t *)whole.vec.actions + (size_t)i * bytes, bytes);
            check_step(&parts[i]);
            check_outputs(&parts[i], apart, false);
        }
        for (int kind = 0; kind < CHECK_KINDS && same; kind++)
            if (together[kind] != apart[kind]) {
                check_say("differs\tsplit\t%s\t%lld", check_kinds[kind], (long long)step);
                same = false;
            }
    }
    check_close(&whole);
    for (int i = 0; i < CHECK_ENVS; i++)
        check_close(&parts[i]);
}

static void check_sharing(double seconds) {
    check_begin("repeat", seconds / 3);
    check_repeat("repeat", 0, CHECK_ENVS);
    check_begin("alone", seconds / 3);
    check_repeat("alone", 2, 1);
    check_begin("split", seconds / 3);
    check_split();
}

#endif
