/* Long walks, at random and behind the expert, that stop where a field of Env holds what it has never held: what only
 * rare states reveal shows there, if anywhere. */
#ifndef PUFFER_IL_CHECK_WALK_H
#define PUFFER_IL_CHECK_WALK_H

#include "state.h"

enum { CHECK_WALKS = 6, CHECK_WALK = 200000, CHECK_EVERY = 997, CHECK_JUDGED = 50 };
enum { CHECK_PIECES = 1024, CHECK_VALUES = 5 };

/* The first values of every number in Env, of the longer fields by eight bytes; of `state` where the bytes of Env are not
 * all there is, or nobody knows what they mean. */
static struct {
    uint64_t seen[CHECK_VALUES];
    int count;
} check_values[CHECK_PIECES];

/* Whether the number at `at` has a value that number `piece` has not had, of the first few that it has. */
static bool check_new_number(int piece, const uint8_t *at, size_t size) {
    uint64_t value = 0;
    memcpy(&value, at, size < 8 ? size : 8);
    for (int k = 0; k < check_values[piece].count; k++)
        if (check_values[piece].seen[k] == value)
            return false;
    if (check_values[piece].count == CHECK_VALUES)
        return false;
    check_values[piece].seen[check_values[piece].count++] = value;
    return true;
}

static bool check_new_value(const CheckBatch *batch) {
    bool any = false;
    int piece = 0;
    if (!check_api->open && check_fields->name) {
        for (const CheckField *field = check_fields; field->name; field++)
            for (size_t at = 0; at < field->size && piece < CHECK_PIECES; at += 8)
                any |= check_new_number(piece++, (uint8_t *)batch->vec.envs + field->at + at, field->size - at);
    } else if (check_api->get_state) {
        double *state = check_new("state", check_api->state_size * (int64_t)sizeof(double));
        check_api->get_state(&batch->vec, state, 0, 1);
        for (; piece < check_api->state_size && piece < CHECK_PIECES; piece++)
            any |= check_new_number(piece, (uint8_t *)&state[piece], sizeof(double));
        check_delete(state);
    }
    return any;
}

/* The actions of a walk: all kinds in turn, the expert's, the expert's with some at random, and kinds held for long. */
static CheckMode check_walk_mode(int walk, int64_t step) {
    const CheckMode expert = check_api->expert ? CHECK_EXPERT : CHECK_HELD;
    switch (walk % 3) {
    case 0: return expert;
    case 1: return step % 7 && step / 200 % 3 ? expert : CHECK_RANDOM;
    default: return (CheckMode)(step / 100 % CHECK_EXPERT);
    }
}

static bool check_ended(const CheckBatch *batch) {
    bool ended = false;
    for (int64_t row = 0; row < ENV_AGENTS; row++)
        ended |= ((uint8_t *)batch->vec.terminals)[row] | ((uint8_t *)batch->vec.truncations)[row] |
                 !((uint8_t *)batch->vec.masks)[row];
    return ended;
}

/* Whether c_step writes observations at all, where it does not end an episode: the same steps are taken twice, once with
 * the observations of another environment in the buffer, and what holds those afterwards was not written. Some write only
 * what has changed, so that a few steps prove nothing. */
static void check_idle(double seconds) {
    check_begin("idle", seconds);
    const size_t bytes = (size_t)(ENV_AGENTS * check_api->obs_bytes);
    CheckBatch one = check_open(check_params, 1, 41, 0), two = check_open(check_params, 1, 41, 0);
    CheckBatch other = check_used_env(42, 5);
    Obs *before = check_new("observations", (int64_t)bytes);
    int64_t judged = 0;
    bool written = false;
    check_reset(&one);
    check_reset(&two);
    for (int64_t step = 1; step < 50 * CHECK_JUDGED && judged < CHECK_JUDGED && !written && !check_over(); step++) {
        check_act(&one, 43, step, CHECK_RANDOM);
        memcpy((void *)two.vec.actions, one.vec.actions, (size_t)(ENV_AGENTS * check_api->action_bytes));
        memcpy(before, one.vec.observations, bytes);
        memcpy(two.vec.observations, other.vec.observations, bytes);
        check_stride(&one);
        check_stride(&two);
        if (!check_ended(&one) && memcmp(before, other.vec.observations, bytes)) {
            judged++;
            written = memcmp(before, one.vec.observations, bytes) ||
                      memcmp(two.vec.observations, other.vec.observations, bytes);
        }
        memcpy(two.vec.observations, one.vec.observations, bytes);
        check_drive(&other, (uint64_t)step, step % 4 == 0);
    }
    if (!written && judged == CHECK_JUDGED)
        check_say("idle\tc_step\t%d", CHECK_JUDGED);
    check_delete(before);
    check_close(&one);
    check_close(&two);
    check_close(&other);
}

/* What must hold in every state: c_reset leaves nothing of it, and the hooks hand it over, into one that has just begun
 * and into the last state that was as rare. False once something does not. */
static bool check_moment(const CheckBatch *here, const CheckBatch *before, uint64_t key) {
    const CheckBatch *pasts[] = {NULL, before};
    bool sound = true;
    for (size_t i = 0; i < 2 && sound; i++) {
        CheckBatch young = check_used_env(500 + key, 3);
        if (pasts[i])
            check_copy(&young, pasts[i], true);
        if (check_api->get_state) {
            CheckBatch a = check_twin(here), b = check_twin(&young);
            sound &= check_round_trip(&a, &b, key);
            check_close(&a);
            check_close(&b);
        }
        if (!pasts[i]) {
            CheckBatch a = check_twin(here);
            sound &= check_same_start("reset", &a, &young, key);
            check_close(&a);
        }
        check_close(&young);
    }
    return sound;
}

static void check_walks(double seconds) {
    bool sound = true;
    for (int walk = 0; walk < CHECK_WALKS; walk++) {
        check_begin("walk", seconds / CHECK_WALKS);
        CheckBatch batch = check_open(check_params, 1, 600 + (uint64_t)walk, 0);
        CheckBatch before = check_used_env(800 + (uint64_t)walk, 40);
        check_reset(&batch);
        for (int64_t step = 1; step < CHECK_WALK && sound && !check_over(); step++) {
            check_act(&batch, 900 + (uint64_t)walk, step, check_walk_mode(walk, step));
            check_stride(&batch);
            if (!check_new_value(&batch) && step % CHECK_EVERY)
                continue;
            if (!check_api->open) {
                sound = check_moment(&batch, &before, (uint64_t)step);
                check_copy(&before, &batch, true);
            } else {  // there is no other one in the same state, so the walk goes on from where the comparison ends
                sound = check_round_trip(&batch, &before, (uint64_t)step);
            }
        }
        check_close(&batch);
        check_close(&before);
    }
}

#endif
