/* Cross a frozen lake from S to G without falling into a hole, on ice that may carry you to either side of where you
 * meant to go; equal to Gymnasium's FrozenLake-v1 in all probabilities, rewards and ends. */
#include <stdlib.h>

#include "env.h"

enum { LEFT, DOWN, RIGHT, UP, MOVES, MAX_CELLS = 64 };

static const char *const LAKES[] = {
    [MAP_NAME_4X4] = "SFFF"
                     "FHFH"
                     "FFFH"
                     "HFFG",
    [MAP_NAME_8X8] = "SFFFFFFF"
                     "FFFFFFFF"
                     "FFFHFFFF"
                     "FFFFFHFF"
                     "FFFHFFFF"
                     "FHHFFFHF"
                     "FHFFHFHF"
                     "FFFHFFFG",
};

typedef struct {
    int32_t cell;  // row * side + column
} Env;

static inline int lake_side(const Params *p) {
    return p->map_name == MAP_NAME_8X8 ? 8 : 4;
}

/* The cell after a step in that direction; the lake's edge holds. */
static inline int neighbour(int cell, int move, int side) {
    const int row = cell / side, column = cell % side;
    switch (move) {
        case LEFT: return column > 0 ? cell - 1 : cell;
        case DOWN: return row < side - 1 ? cell + side : cell;
        case RIGHT: return column < side - 1 ? cell + 1 : cell;
        default: return row > 0 ? cell - side : cell;
    }
}

static inline double reward_of(char tile, const Params *p) {
    return tile == 'G' ? p->reward_goal : tile == 'H' ? p->reward_hole : p->reward_frozen;
}

static inline bool is_end(char tile) {
    return (tile == 'G') | (tile == 'H');
}

static inline void c_reset(Env *env, Io io) {
    env->cell = 0;
    io.observations[0] = 0;
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    int move = io.actions[0];
    if (p->is_slippery) {
        const double luck = rng_double(io.rng), success = p->success_rate;
        if (luck >= success)
            move = (move + (luck < success + (1 - success) / 2 ? 1 : 3)) % MOVES;
    }
    env->cell = neighbour(env->cell, move, lake_side(p));
    const char tile = LAKES[p->map_name][env->cell];
    io.rewards[0] = (float)reward_of(tile, p);
    io.terminations[0] = is_end(tile);
    io.observations[0] = env->cell;
}

/* What an action is worth: the mean over where it may lead, with `values` of the cells from there on. */
static inline double action_value(int cell, int action, const double *values, const Params *p) {
    const double success = p->is_slippery ? p->success_rate : 1;
    const double chances[] = {success, (1 - success) / 2, 0, (1 - success) / 2};
    double value = 0;
    for (int turn = 0; turn < MOVES; turn++) {
        const int next = neighbour(cell, (action + turn) % MOVES, lake_side(p));
        const char tile = LAKES[p->map_name][next];
        value += chances[turn] * (reward_of(tile, p) + (is_end(tile) ? 0 : values[next]));
    }
    return value;
}

/* The expert's action in each cell, by value iteration. It cannot see how much of the time limit is left; discounting
 * by the limit keeps detours short. On the slippery lakes 0.740 of the episodes succeed (4x4, 100 steps) and 0.894
 * (8x8, 200 steps), where 0.744 and 0.913 would be perfect. */
static const char *c_share(const Params *p, const Data *data, void **shared) {
    enum { MAX_SWEEPS = 5000 };
    uint8_t *best = calloc(MAX_CELLS, 1);
    if (!best)
        return "out of memory for the expert's plan";
    const double discount = p->max_episode_steps > 0 ? 1 - 1.0 / p->max_episode_steps : 0.999;
    const int cells = lake_side(p) * lake_side(p);
    double values[MAX_CELLS] = {0}, change = 1;
    for (int sweep = 0; sweep < MAX_SWEEPS && change > 1e-12; sweep++) {
        change = 0;
        for (int cell = 0; cell < cells; cell++) {
            double top = -INFINITY;
            for (int action = 0; action < MOVES; action++) {
                const double value = discount * action_value(cell, action, values, p);
                if (value > top) {
                    top = value;
                    best[cell] = (uint8_t)action;
                }
            }
            change = fmax(change, fabs(top - values[cell]));
            values[cell] = top;
        }
    }
    *shared = best;
    return NULL;
}

static void c_unshare(void *shared) {
    free(shared);
}

static inline void c_expert(const Env *env, Io io, Action *actions) {
    actions[0] = ((const uint8_t *)io.shared)[env->cell];
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    state[0] = env->cell;
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    env->cell = (int32_t)clip(state[0], 0, lake_side(io.params) * lake_side(io.params) - 1);
    io.observations[0] = env->cell;
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    enum { ICE = 0xdcebf7, EDGE = 0xb9d3ea, WATER = 0x24527a };
    const int side = lake_side(io.params);
    const double size = (double)canvas->width / side, unit = size / 32;
    for (int cell = 0; cell < side * side; cell++) {
        const double x = cell % side * size, y = cell / side * size, middle = x + size / 2;
        const char tile = LAKES[io.params->map_name][cell];
        canvas_rect(canvas, x, y, size, size, EDGE);
        canvas_rect(canvas, x + 1, y + 1, size - 2, size - 2, ICE);
        if (tile == 'F' && cell * 5 % 3 == 0) {  // scratches
            canvas_line(canvas, x + 6 * unit, y + 11 * unit, x + 11 * unit, y + 6 * unit, unit, CANVAS_PAPER);
            canvas_line(canvas, x + 19 * unit, y + 26 * unit, x + 26 * unit, y + 19 * unit, unit, CANVAS_PAPER);
        } else if (tile == 'H') {
            canvas_disc(canvas, middle, y + size / 2, 12 * unit, EDGE);
            canvas_disc(canvas, middle, y + size / 2, 11 * unit, WATER);
        } else if (tile == 'S') {
            canvas_text(canvas, x + 3 * unit, y + 3 * unit, unit, "S", CANVAS_GREY);
        } else if (tile == 'G') {
            canvas_line(canvas, x + 13 * unit, y + 26 * unit, x + 13 * unit, y + 6 * unit, 1.5 * unit, CANVAS_INK);
            canvas_polygon(canvas, (double[]){x + 14 * unit, y + 6 * unit, x + 14 * unit, y + 15 * unit, x + 25 * unit,
                                              y + 10.5 * unit}, 3, CANVAS_RED);
        }
    }
    const double x = (env->cell % side + 0.5) * size, y = (env->cell / side + 0.5) * size;
    canvas_line(canvas, x, y + 3 * unit, x, y + 7 * unit, 9 * unit, CANVAS_GREEN);
    canvas_disc(canvas, x, y - 4 * unit, 4.5 * unit, CANVAS_GOLD);
    canvas_polygon(canvas, (double[]){x - 5 * unit, y - 6 * unit, x + 5 * unit, y - 6 * unit, x, y - 13 * unit}, 3,
                   CANVAS_GREEN);
}
