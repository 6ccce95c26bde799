/* Long walks, at random and behind the expert, that stop where a field of Env holds what it has never held: what only
 * rare states reveal shows there, if anywhere. */
#ifndef PUFFER_IL_CHECK_WALK_H
#define PUFFER_IL_CHECK_WALK_H

#include "state.h"

enum { CHECK_WALKS = 6, CHECK_WALK = 200000, CHECK_EVERY = 997, CHECK_JUDGED = 50 };
enum { CHECK_PIECES = 1024, CHECK_VALUES = 5 };

/* The first values of every number in Env, of the longer fields by eight bytes. */
static struct {
    uint64_t seen[CHECK_VALUES];
    int count;
} check_values[CHECK_PIECES];

/* Whether some number in Env has a value that it has not had, of the first few that it has. */
static bool check_new_value(const CheckBatch *batch) {
    bool any = false;
    int piece = 0;
    for (const CheckField *field = check_fields; field->name; field++)
        for (size_t at = 0; at < field->size && piece < CHECK_PIECES; at += 8, piece++) {
            uint64_t value = 0;
            memcpy(&value, (uint8_t *)batch->vec.envs + field->at + at, field->size - at < 8 ? field->size - at : 8);
            bool known = check_values[piece].count == CHECK_VALUES;
            for (int k = 0; k < check_values[piece].count && !known; k++)
                known = check_values[piece].seen[k] == value;
            if (!known)
                check_values[piece].seen[check_values[piece].count++] = value;
            any |= !known;
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

/* Of each element, whether a c_step that ended nothing has ever written it. */
static struct {
    bool written[ENV_AGENTS * ENV_OBS_SIZE];
    int64_t judged;  // steps
} check_stepped;

static bool check_ended(const CheckBatch *batch) {
    bool ended = false;
    for (int64_t row = 0; row < ENV_AGENTS; row++)
        ended |= ((uint8_t *)batch->vec.terminals)[row] | ((uint8_t *)batch->vec.truncations)[row] |
                 !((uint8_t *)batch->vec.masks)[row];
    return ended;
}

/* The step that `batch` is about to take, once more with the observations of another environment in its buffer: what
 * holds the other's afterwards was not written. Some write only what has changed, so that one step proves nothing. */
static void check_written(const CheckBatch *batch, const CheckBatch *other) {
    CheckBatch one = check_twin(batch), two = check_twin(batch);
    const Obs *mine = batch->vec.observations, *theirs = other->vec.observations;
    memcpy(two.vec.observations, theirs, (size_t)(ENV_AGENTS * check_api->obs_bytes));
    CheckBatch *both[] = {&one, &two};
    for (int i = 0; i < 2; i++) {
        memcpy((void *)both[i]->vec.actions, batch->vec.actions, (size_t)(ENV_AGENTS * check_api->action_bytes));
        check_stride(both[i]);
    }
    if (!check_ended(&one)) {
        bool apart = false;
        for (int64_t k = 0; k < ENV_AGENTS * ENV_OBS_SIZE; k++) {
            const Obs *x = (Obs *)one.vec.observations + k, *y = (Obs *)two.vec.observations + k;
            apart |= memcmp(&mine[k], &theirs[k], sizeof(Obs)) != 0;
            check_stepped.written[k] |= memcmp(x, &mine[k], sizeof(Obs)) || memcmp(y, &theirs[k], sizeof(Obs));
        }
        check_stepped.judged += apart;
    }
    check_close(&one);
    check_close(&two);
}

static void check_tell_written(void) {
    bool any = false;
    for (int64_t k = 0; k < ENV_AGENTS * ENV_OBS_SIZE; k++)
        any |= check_stepped.written[k];
    if (!any && check_stepped.judged >= CHECK_JUDGED)
        check_say("idle\tc_step\t%lld", (long long)check_stepped.judged);
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
    if (check_api->open || !check_fields->name)
        return;  // its bytes are not all there is, or nobody knows which is which
    bool sound = true;
    for (int walk = 0; walk < CHECK_WALKS; walk++) {
        check_begin("walk", seconds / CHECK_WALKS);
        CheckBatch batch = check_open(check_params, 1, 600 + (uint64_t)walk, 0), other = check_used_env(700, 5);
        CheckBatch before = check_used_env(800 + (uint64_t)walk, 40);
        check_reset(&batch);
        for (int64_t step = 1; step < CHECK_WALK && !check_over(); step++) {
            check_act(&batch, 900 + (uint64_t)walk, step, check_walk_mode(walk, step));
            if (step % 5 == 0 && check_stepped.judged < 4 * CHECK_JUDGED)
                check_written(&batch, &other);
            check_stride(&batch);
            if (sound && (check_new_value(&batch) || step % CHECK_EVERY == 0)) {
                sound = check_moment(&batch, &before, (uint64_t)step);
                check_copy(&before, &batch, true);
            }
            if (step % 50 == 0)
                check_drive(&other, (uint64_t)step, 3);
        }
        check_close(&batch);
        check_close(&other);
        check_close(&before);
    }
    check_tell_written();
}

#endif
