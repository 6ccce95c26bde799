/* Walk along a cliff from the lower left to the lower right corner of a 4 x 12 grid: Example 6.6 of Sutton and Barto
 * (2018), equal to Gymnasium's CliffWalking-v1 (and CliffWalkingSlippery-v1) in all probabilities, rewards and ends. */
#include "env.h"

enum { ROWS = 4, COLUMNS = 12, START = (ROWS - 1) * COLUMNS, GOAL = ROWS * COLUMNS - 1 };
enum { UP, RIGHT, DOWN, LEFT, MOVES };

typedef struct {
    int32_t cell;  // row * COLUMNS + column
} Env;

static inline void c_reset(Env *env, Io io) {
    env->cell = START;
    io.observations[0] = START;
}

static inline void c_step(Env *env, Io io) {
    int move = io.actions[0];
    if (io.params->is_slippery)  // as meant, or to either side of it
        move = (move + 3 + (int)rng_below(io.rng, 3)) % MOVES;
    const int row = env->cell / COLUMNS + (move == DOWN) - (move == UP);
    const int column = env->cell % COLUMNS + (move == RIGHT) - (move == LEFT);
    const bool inside = (row >= 0) & (row < ROWS) & (column >= 0) & (column < COLUMNS);

    int cell = inside ? row * COLUMNS + column : env->cell;
    const bool fell = (cell > START) & (cell < GOAL);
    cell = fell ? START : cell;
    env->cell = cell;
    io.rewards[0] = fell ? -100 : -1;
    io.terminations[0] = cell == GOAL;
    io.observations[0] = cell;
}

/* The best action in each cell, by value iteration over Gymnasium's table of transitions without discount: close to the
 * cliff where a step goes where it is meant to (-13 from the start), far from it where it may not (-64.7). */
static const char *const BEST[2][ROWS] = {
    {
        ">>>>>>>>>>>v",
        ">>>>>>>>>>>v",
        ">>>>>>>>>>>v",
        "^^^^^^^^^^>>",
    },
    {
        "^>>>>>>>>>>>",
        "^>>>>>>>>>>>",
        "^^^^^^^^^^^>",
        "<^^^^^^^^^^>",
    },
};

static inline void c_expert(const Env *env, Io io, Action *actions) {
    const char arrow = BEST[io.params->is_slippery][env->cell / COLUMNS][env->cell % COLUMNS];
    actions[0] = arrow == '^' ? UP : arrow == '>' ? RIGHT : arrow == 'v' ? DOWN : LEFT;
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    state[0] = env->cell;
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    env->cell = (int32_t)clip(state[0], 0, GOAL);
    io.observations[0] = env->cell;
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    enum { GRASS = 0xdfe8d3, EDGE = 0xc5d3b4, ROCK = 0x8a6f5c, DEPTH = 0x3b2f2a };
    const double size = (double)canvas->width / COLUMNS, unit = size / 32;
    for (int cell = 0; cell < ROWS * COLUMNS; cell++) {
        const double x = cell % COLUMNS * size, y = cell / COLUMNS * size;
        if (cell > START && cell < GOAL) {
            canvas_rect(canvas, x, y, size, size, DEPTH);
            const double edge[] = {x, y, x + size, y, x + size, y + 11 * unit, x + 20 * unit, y + 14 * unit,
                                   x + 9 * unit, y + 9 * unit, x, y + 11 * unit};
            canvas_polygon(canvas, edge, 6, ROCK);
            continue;
        }
        canvas_rect(canvas, x, y, size, size, EDGE);
        canvas_rect(canvas, x + 1, y + 1, size - 2, size - 2, GRASS);
        if (cell == START)
            canvas_text(canvas, x + 3 * unit, y + 3 * unit, unit, "S", CANVAS_GREY);
        if (cell == GOAL) {
            canvas_line(canvas, x + 13 * unit, y + 26 * unit, x + 13 * unit, y + 6 * unit, 1.5 * unit, CANVAS_INK);
            canvas_polygon(canvas, (double[]){x + 14 * unit, y + 6 * unit, x + 14 * unit, y + 15 * unit, x + 25 * unit,
                                              y + 10.5 * unit}, 3, CANVAS_RED);
        }
    }
    const double x = (env->cell % COLUMNS + 0.5) * size, y = (env->cell / COLUMNS + 0.5) * size;
    canvas_line(canvas, x, y + 3 * unit, x, y + 7 * unit, 9 * unit, CANVAS_BLUE);
    canvas_disc(canvas, x, y - 5 * unit, 4.5 * unit, CANVAS_GOLD);
}
