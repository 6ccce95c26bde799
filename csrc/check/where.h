/* Where the program is, so that a crash or an endless loop can be told by function and step: `env check` includes this
 * between the author's header and vec_env.h, whose calls of the author's functions then leave a trace here. */
#ifndef PUFFER_IL_CHECK_WHERE_H
#define PUFFER_IL_CHECK_WHERE_H

#include <stdint.h>

typedef struct {
    const char *phase;     // what is being checked
    const char *function;  // of the author's, entered last
    int64_t step;          // of the environment since it was seeded
    int64_t calls;         // of the author's functions; stands still in an endless loop
} CheckWhere;

static volatile CheckWhere check_where = {"start", "nothing", 0, 0};

static inline void check_enter(const char *function) {
    check_where.function = function;
    check_where.calls++;
}

#define c_reset(env, io) (check_enter("c_reset"), c_reset(env, io))
#define c_step(env, io) (check_enter("c_step"), c_step(env, io))
#define c_expert(env, io, actions) (check_enter("c_expert"), c_expert(env, io, actions))
#define c_get_state(env, io, state) (check_enter("c_get_state"), c_get_state(env, io, state))
#define c_set_state(env, io, state) (check_enter("c_set_state"), c_set_state(env, io, state))
#define c_render(env, io, canvas) (check_enter("c_render"), c_render(env, io, canvas))
#define c_share(params, data, shared) (check_enter("c_share"), c_share(params, data, shared))
#define c_unshare(shared) (check_enter("c_unshare"), c_unshare(shared))
#define c_open(env, io) (check_enter("c_open"), c_open(env, io))
#define c_close(env) (check_enter("c_close"), c_close(env))

#endif
