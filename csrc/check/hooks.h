/* The hooks that look on: c_expert and c_render, which change nothing. */
#ifndef PUFFER_IL_CHECK_HOOKS_H
#define PUFFER_IL_CHECK_HOOKS_H

#include "walk.h"

/* All that an onlooker could change and must not. */
typedef struct {
    uint8_t *env, *obs;
    Rng rng;
} CheckCopy;

static Clock *check_clock(const CheckBatch *batch) {
    return batch->vec.clocks;
}

static CheckCopy check_remember(const CheckBatch *batch) {
    CheckCopy copy = {check_new("Env", check_api->env_bytes),
                      check_new("observations", ENV_AGENTS * check_api->obs_bytes), check_clock(batch)->rng};
    memcpy(copy.env, batch->vec.envs, (size_t)check_api->env_bytes);
    memcpy(copy.obs, batch->vec.observations, (size_t)(ENV_AGENTS * check_api->obs_bytes));
    return copy;
}

/* Tells what a function has changed, and forgets the copy. */
static void check_unchanged(const char *function, const CheckBatch *batch, CheckCopy copy) {
    const uint8_t *env = batch->vec.envs;
    bool named = false;
    for (const CheckField *field = check_fields; field->name; field++)
        if (memcmp(env + field->at, copy.env + field->at, field->size)) {
            check_say("changed\t%s\tenv->%s", function, field->name);
            named = true;
        }
    if (!named && memcmp(env, copy.env, (size_t)check_api->env_bytes))
        check_say("changed\t%s\tEnv", function);
    if (memcmp(batch->vec.observations, copy.obs, (size_t)(ENV_AGENTS * check_api->obs_bytes)))
        check_say("changed\t%s\tthe observations", function);
    if (memcmp(&check_clock(batch)->rng, &copy.rng, sizeof copy.rng))
        check_say("changed\t%s\tthe generator", function);
    check_delete(copy.env);
    check_delete(copy.obs);
}

static void check_expert_actions(const Action *actions, const Params *params, int64_t step) {
    (void)params;
    static bool told;
    for (int k = 0; k < ENV_AGENTS * ENV_ACTION_SIZE && !told; k++) {
        const double low = (double)ACTION_LOW(params, k % ENV_ACTION_SIZE);
        const double high = (double)ACTION_HIGH(params, k % ENV_ACTION_SIZE), x = (double)actions[k];
        if (!(x >= low && x <= high) || !isfinite(x)) {
            check_say("expert\t%d\t%.9g\t%.9g\t%.9g\t%lld", k, x, low, high, (long long)step);
            told = true;
        }
    }
}

static void check_expert(double seconds) {
    if (!check_api->expert)
        return;
    check_begin("expert", seconds);
    const int64_t count = ENV_AGENTS * ENV_ACTION_SIZE;
    CheckBatch batch = check_open(check_params, 1, 21, 0);
    check_reset(&batch);
    Action *first = check_new("actions", count * (int64_t)sizeof(Action));
    for (int64_t step = 0; step < 3000 && !check_over(); step++) {
        const CheckCopy copy = check_remember(&batch);
        const Clock clock = *check_clock(&batch);
        check_where.step = step;
        memset(first, 0x5b, (size_t)count * sizeof(Action));
        check_api->expert(&batch.vec, first, 0, 1);
        check_guards();
        check_unchanged("c_expert", &batch, copy);
        if (step == 0) {
            *check_clock(&batch) = clock;
            memset((void *)batch.vec.actions, 0x6d, (size_t)count * sizeof(Action));
            check_api->expert(&batch.vec, (void *)batch.vec.actions, 0, 1);
            check_unwritten("c_expert", first, batch.vec.actions, sizeof(Action), count, 0x5b, 0x6d);
        }
        check_expert_actions(first, check_params, step);
        // Half of the time on its own way, half off it.
        check_act(&batch, 21, step, CHECK_RANDOM);
        if (step / 100 % 2 == 0)
            memcpy((void *)batch.vec.actions, first, (size_t)count * sizeof(Action));
        check_step(&batch);
    }
    check_delete(first);
    check_close(&batch);
}

static void check_render(double seconds) {
    if (!check_api->render)
        return;
    check_begin("render", seconds);
    const int64_t bytes = 3 * check_api->render_width * check_api->render_height;
    uint8_t *pixels = check_new("the picture", bytes), *again = check_new("the picture", bytes);
    CheckBatch batch = check_open(check_params, 1, 31, 0);
    check_reset(&batch);
    uint64_t before = 0;
    bool drawn = false, moves = false, repeats = true;
    for (int64_t frame = 0; frame < 60 && (frame < 3 || !check_over()); frame++) {
        const CheckCopy copy = check_remember(&batch);
        check_where.step = batch.steps;
        check_api->render(&batch.vec, 0, pixels);
        check_api->render(&batch.vec, 0, again);
        check_guards();
        check_unchanged("c_render", &batch, copy);
        repeats &= !memcmp(pixels, again, (size_t)bytes);
        for (int64_t k = 3; k < bytes && !drawn; k++)
            drawn = pixels[k] != pixels[k - 3];
        const uint64_t now = check_hash(0, pixels, (size_t)bytes);
        moves |= frame > 0 && now != before;
        before = now;
        check_drive(&batch, (uint64_t)frame, 1 + frame % 5);
    }
    check_say("picture\t%d\t%d\t%d", drawn, moves, repeats);
    check_delete(pixels);
    check_delete(again);
    check_close(&batch);
}

#endif
