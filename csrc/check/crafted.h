/* States that nobody's episode has been in. c_set_state is given what files say: demonstrations in whose states episodes
 * begin, and checkpoints. Whatever the numbers are, it and all that follows must stay within the environment's memory
 * and return, and a state that was set must be there again when it is got and set once more.
 *
 * An input is a seed, from which all that is done to one environment follows. With CHECK_COVERAGE, in a build with
 * -fsanitize-coverage=trace-pc, sequences that reach new code are gone on from. */
#ifndef PUFFER_IL_CHECK_CRAFTED_H
#define PUFFER_IL_CHECK_CRAFTED_H

#include "compare.h"

#define CHECK_SIZE (ENV_STATE_SIZE > 0 ? ENV_STATE_SIZE : 1)

enum { CHECK_MOVES = 12, CHECK_PARENTS = 256 };  // what is done to an environment; inputs to go on from

typedef struct {
    uint64_t seeds[CHECK_MOVES];  // one for each thing that is done
} CheckInput;

static int64_t check_inputs, check_reached;
static CheckInput check_parents[CHECK_PARENTS];
static int check_parent_count;

#ifdef CHECK_COVERAGE
enum { CHECK_EDGES = 1 << 16 };
static uint8_t check_edges[CHECK_EDGES];

__attribute__((no_sanitize_coverage, no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc(void) {
    const uintptr_t place = (uintptr_t)__builtin_return_address(0);
    uint8_t *edge = &check_edges[(place ^ place >> 16) % CHECK_EDGES];
    check_reached += *edge == 0;
    *edge = 1;
}
#endif

/* A number such as no episode has: far away, not whole, not finite; or any bits at all. */
static double check_odd_number(Rng *rng, double own) {
    static const double odd[] = {-1,   0,     1,     0.5,   255,   256,    65535,    0x1p31 - 1, -0x1p31 - 1, 0x1p32, 1e4, -1e4,
                                 1e10, 1e18,  -1e18, 9.2e18, 1e30, 1e300, -1e300,   INFINITY,   -INFINITY,   NAN,    -0.0, 5e-324};
    const uint32_t pick = rng_below(rng, 40);
    if (pick < sizeof odd / sizeof *odd)
        return odd[pick];
    if (pick < 30)
        return own + (double)rng_below(rng, 7) - 3;
    if (pick < 34)
        return (double)rng_below(rng, 200) - 50;
    if (pick < 37)
        return own * rng_uniform(rng, -100, 100);
    uint64_t bits = (uint64_t)rng_u32(rng) << 32 | rng_u32(rng);
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static bool check_same_numbers(const double *a, const double *b) {
    for (int k = 0; k < ENV_STATE_SIZE; k++)
        if (memcmp(&a[k], &b[k], sizeof *a) && !(isnan(a[k]) && isnan(b[k])))
            return false;
    return true;
}

/* Puts the environment into a state, and looks whether it is the one that is got from then on. */
static void check_put(CheckBatch *batch, double *state, double *got) {
    check_api->set_state(&batch->vec, state, 0, 1);
    check_api->get_state(&batch->vec, state, 0, 1);
    check_api->set_state(&batch->vec, state, 0, 1);
    check_api->get_state(&batch->vec, got, 0, 1);
    if (!check_same_numbers(state, got)) {
        check_say("crafted\ta state that was set and got is another one once it is set again");
        check_quit(7);
    }
}

/* One thing that a caller may do. */
static void check_do(CheckBatch *batch, uint64_t seed, double *state, double *got, void *actions, uint8_t *pixels) {
    const VecApi *api = check_api;
    Rng rng;
    rng_seed(&rng, seed, 1);
    const uint32_t pick = rng_below(&rng, 12);
    if (pick < 5 && api->set_state) {
        api->get_state(&batch->vec, state, 0, 1);
        const uint32_t count = pick == 0 ? ENV_STATE_SIZE : 1 + rng_below(&rng, 4);
        for (uint32_t k = 0; k < count && ENV_STATE_SIZE > 0; k++) {
            double *number = &state[pick == 0 ? k : rng_below(&rng, (uint32_t)CHECK_SIZE)];
            *number = check_odd_number(&rng, *number);
        }
        check_put(batch, state, got);
    } else if (pick == 5 && api->set_state && !api->open) {  // the bytes of a checkpoint, as native_env.py takes them
        uint8_t *bytes = batch->vec.envs;
        for (uint32_t k = 1 + rng_below(&rng, 8); k > 0; k--)
            bytes[rng_below(&rng, (uint32_t)api->env_bytes)] = (uint8_t)rng_u32(&rng);
        api->get_state(&batch->vec, state, 0, 1);
        memset(bytes, 0, (size_t)api->env_bytes);
        check_put(batch, state, got);
    } else if (pick == 6 && api->expert) {
        api->expert(&batch->vec, actions, 0, 1);
    } else if (pick == 7 && api->render) {
        api->render(&batch->vec, 0, pixels);
    } else if (pick == 8) {
        check_reset(batch);
    } else {
        const CheckMode mode = (CheckMode)rng_below(&rng, CHECK_MODES);
        for (uint32_t steps = 1 + rng_below(&rng, 12); steps > 0; steps--) {
            check_act(batch, seed, (int64_t)steps, mode);
            check_step(batch);
        }
    }
}

static void check_crafted(double seconds) {
    check_begin("crafted states", seconds);
    Rng rng;
    rng_seed(&rng, 77, 0);
    double *state = check_new("state", CHECK_SIZE * (int64_t)sizeof *state);
    double *got = check_new("state", CHECK_SIZE * (int64_t)sizeof *got);
    void *actions = check_new("actions", ENV_AGENTS * check_api->action_bytes);
    uint8_t *pixels = check_new("the picture", 3 * check_api->render_width * check_api->render_height + 1);
    CheckBatch batch = check_open(check_short_params, 1, 9, 0);
    while (!check_over()) {
        CheckInput input;
        const bool fresh = check_parent_count == 0 || rng_below(&rng, 4) == 0;
        if (!fresh)
            input = check_parents[rng_below(&rng, (uint32_t)check_parent_count)];
        for (int k = 0; k < CHECK_MOVES; k++)
            if (fresh || rng_below(&rng, CHECK_MOVES) < 2)
                input.seeds[k] = (uint64_t)rng_u32(&rng) << 32 | rng_u32(&rng);
        const int64_t before = check_reached;
        check_api->seed(&batch.vec, input.seeds[0], 0, 0, 1);
        check_reset(&batch);
        for (int k = 0; k < CHECK_MOVES; k++)
            check_do(&batch, input.seeds[k], state, got, actions, pixels);
        check_inputs++;
        if (check_reached > before)
            check_parents[check_parent_count < CHECK_PARENTS ? check_parent_count++ : (int)rng_below(
                &rng, CHECK_PARENTS)] = input;
    }
    check_say("inputs\t%lld\t%lld", (long long)check_inputs, (long long)check_reached);
    check_close(&batch);
    check_delete(state);
    check_delete(got);
    check_delete(actions);
    check_delete(pixels);
}

#endif
