/* A taxi fetches a passenger at one of four places and brings them to another: the taxi domain of Dietterich (2000),
 * equal to Gymnasium's Taxi-v4 in all probabilities, rewards and ends, with its rain and its fickle passengers. */
#include <stdlib.h>

#include "env.h"

enum { SIDE = 5, CELLS = SIDE * SIDE, PLACES = 4, ABOARD = PLACES };
enum { SOUTH, NORTH, EAST, WEST, MOVES, PICK_UP = MOVES, DROP_OFF };

static const int PLACE[PLACES] = {0 * SIDE + 0, 0 * SIDE + 4, 4 * SIDE + 0, 4 * SIDE + 3};  // R, G, Y, B
static const char WALLS[SIDE][SIDE + 1] = {".|...", ".|...", ".....", "|.|..", "|.|.."};  // '|': one to the east
static const int LEFT_OF[MOVES] = {EAST, WEST, NORTH, SOUTH}, RIGHT_OF[MOVES] = {WEST, EAST, SOUTH, NORTH};

typedef struct {
    int32_t cell, passenger, destination;  // row * SIDE + column; a place or ABOARD; a place
    int32_t fickle;                        // the passenger will want to go elsewhere once the taxi moves off
} Env;

static inline void c_observe(const Env *env, Io io) {
    io.observations[0] = (env->cell * (PLACES + 1) + env->passenger) * PLACES + env->destination;
}

/* The cell after a move; walls and edges hold. */
static inline int neighbour(int cell, int move) {
    const int row = cell / SIDE, column = cell % SIDE;
    switch (move) {
        case SOUTH: return row < SIDE - 1 ? cell + SIDE : cell;
        case NORTH: return row > 0 ? cell - SIDE : cell;
        case EAST: return column < SIDE - 1 && WALLS[row][column] != '|' ? cell + 1 : cell;
        default: return column > 0 && WALLS[row][column - 1] != '|' ? cell - 1 : cell;
    }
}

static inline void c_reset(Env *env, Io io) {
    env->cell = (int32_t)rng_below(io.rng, CELLS);
    env->passenger = (int32_t)rng_below(io.rng, PLACES);
    env->destination = (env->passenger + 1 + (int32_t)rng_below(io.rng, PLACES - 1)) % PLACES;
    env->fickle = io.params->fickle_passenger && rng_double(io.rng) < io.params->fickle_probability;
    c_observe(env, io);
}

/* A move as Gymnasium has it: in the rain it may go to a side, unless the way ahead is blocked. */
static inline int drive(int cell, int move, Io io) {
    if (io.params->is_rainy && neighbour(cell, move) != cell) {
        const double luck = rng_double(io.rng), ahead = io.params->rainy_probability;
        if (luck >= ahead)
            move = luck < ahead + (1 - ahead) / 2 ? LEFT_OF[move] : RIGHT_OF[move];
    }
    return neighbour(cell, move);
}

static inline void c_step(Env *env, Io io) {
    const int action = io.actions[0];
    io.rewards[0] = -1;
    if (action < MOVES) {
        const int cell = drive(env->cell, action, io);
        if (env->fickle && env->passenger == ABOARD && cell != env->cell) {
            env->fickle = false;
            env->destination = (env->destination + 1 + (int32_t)rng_below(io.rng, PLACES - 1)) % PLACES;
        }
        env->cell = cell;
    } else if (action == PICK_UP) {
        if (env->passenger < PLACES && env->cell == PLACE[env->passenger])
            env->passenger = ABOARD;
        else
            io.rewards[0] = -10;
    } else {
        int place = 0;
        while (place < PLACES && PLACE[place] != env->cell)
            place++;
        if (place == PLACES || env->passenger != ABOARD) {
            io.rewards[0] = -10;
        } else {
            env->passenger = place;
            io.terminations[0] = place == env->destination;
            io.rewards[0] = place == env->destination ? 20 : -1;
        }
    }
    c_observe(env, io);
}

/* The best move from each cell to each place: value iteration on the mean number of moves, which in the rain takes the
 * drift into account. */
typedef struct {
    uint8_t moves[PLACES][CELLS];
} Plan;

static inline double mean_moves(int cell, int move, const double *moves, const Params *p) {
    const int ahead = neighbour(cell, move);
    if (!p->is_rainy || ahead == cell)
        return 1 + moves[ahead];
    const double chance = p->rainy_probability;
    return 1 + chance * moves[ahead] +
           (1 - chance) / 2 * (moves[neighbour(cell, LEFT_OF[move])] + moves[neighbour(cell, RIGHT_OF[move])]);
}

static const char *c_share(const Params *p, const Data *data, void **shared) {
    enum { MAX_SWEEPS = 1000 };
    Plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return "out of memory for the expert's plan";
    for (int place = 0; place < PLACES; place++) {
        double moves[CELLS] = {0}, change = 1;
        for (int sweep = 0; sweep < MAX_SWEEPS && change > 1e-9; sweep++) {
            change = 0;
            for (int cell = 0; cell < CELLS; cell++) {
                double least = cell == PLACE[place] ? 0 : INFINITY;
                for (int move = 0; move < MOVES; move++) {
                    const double mean = mean_moves(cell, move, moves, p);
                    if (mean < least) {
                        least = mean;
                        plan->moves[place][cell] = (uint8_t)move;
                    }
                }
                change = fmax(change, fabs(least - moves[cell]));
                moves[cell] = least;
            }
        }
    }
    *shared = plan;
    return NULL;
}

static void c_unshare(void *shared) {
    free(shared);
}

/* Drives to the passenger, picks them up, drives to the destination, drops them off. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const bool aboard = env->passenger == ABOARD;
    const int place = aboard ? env->destination : env->passenger;
    if (env->cell == PLACE[place])
        actions[0] = aboard ? DROP_OFF : PICK_UP;
    else
        actions[0] = ((const Plan *)io.shared)->moves[place][env->cell];
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    state[0] = env->cell;
    state[1] = env->passenger;
    state[2] = env->destination;
    state[3] = env->fickle;
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    env->cell = (int32_t)clip(state[0], 0, CELLS - 1);
    env->passenger = (int32_t)clip(state[1], 0, ABOARD);
    env->destination = (int32_t)clip(state[2], 0, PLACES - 1);
    env->fickle = state[3] != 0;
    c_observe(env, io);
}

static void draw_person(Canvas *canvas, double x, double y, double unit) {
    canvas_line(canvas, x, y + 2 * unit, x, y + 6 * unit, 7 * unit, CANVAS_INK);
    canvas_disc(canvas, x, y - 4 * unit, 3.5 * unit, CANVAS_INK);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    static const uint32_t COLORS[PLACES] = {0xe9b4b4, 0xb4d9c0, 0xf0dca8, 0xb3cbe8};
    static const char *const NAMES[PLACES] = {"R", "G", "Y", "B"};
    const double margin = canvas->width * 0.03, size = (canvas->width - 2 * margin) / SIDE, unit = size / 32;
    const double end = margin + SIDE * size;
    canvas_rect(canvas, margin, margin, SIDE * size, SIDE * size, CANVAS_LIGHT);
    for (int place = 0; place < PLACES; place++) {
        const double x = margin + PLACE[place] % SIDE * size, y = margin + PLACE[place] / SIDE * size;
        canvas_rect(canvas, x, y, size, size, COLORS[place]);
        canvas_text(canvas, x + 3 * unit, y + 3 * unit, unit, NAMES[place], CANVAS_INK);
        if (place == env->destination) {  // a flag
            canvas_line(canvas, x + 22 * unit, y + 28 * unit, x + 22 * unit, y + 5 * unit, 1.5 * unit, CANVAS_INK);
            canvas_polygon(canvas, (double[]){x + 21 * unit, y + 5 * unit, x + 21 * unit, y + 14 * unit, x + 11 * unit,
                                              y + 9.5 * unit}, 3, CANVAS_RED);
        }
        if (place == env->passenger)
            draw_person(canvas, x + 9 * unit, y + 20 * unit, unit);
    }
    for (int k = 0; k <= SIDE; k++) {
        const double at = margin + k * size;
        canvas_line(canvas, margin, at, end, at, k % SIDE ? 1 : 5, k % SIDE ? CANVAS_PAPER : CANVAS_INK);
        canvas_line(canvas, at, margin, at, end, k % SIDE ? 1 : 5, k % SIDE ? CANVAS_PAPER : CANVAS_INK);
    }
    for (int cell = 0; cell < CELLS; cell++)
        if (WALLS[cell / SIDE][cell % SIDE] == '|') {
            const double x = margin + (cell % SIDE + 1) * size, y = margin + cell / SIDE * size;
            canvas_line(canvas, x, y, x, y + size, 5, CANVAS_INK);
        }

    const double x = margin + (env->cell % SIDE + 0.5) * size, y = margin + (env->cell / SIDE + 0.5) * size;
    canvas_polygon(canvas, (double[]){x - 8 * unit, y, x - 5 * unit, y - 8 * unit, x + 5 * unit, y - 8 * unit,
                                      x + 8 * unit, y}, 4, CANVAS_GOLD);
    canvas_rect(canvas, x - 12 * unit, y - unit, 24 * unit, 8 * unit, CANVAS_GOLD);
    canvas_rect(canvas, x - 3 * unit, y - 11 * unit, 6 * unit, 2.5 * unit, CANVAS_INK);
    canvas_polygon(canvas, (double[]){x - 5.5 * unit, y - unit, x - 3.5 * unit, y - 6.5 * unit, x + 3.5 * unit,
                                      y - 6.5 * unit, x + 5.5 * unit, y - unit}, 4, CANVAS_PAPER);
    if (env->passenger == ABOARD)
        canvas_disc(canvas, x, y - 3 * unit, 2.5 * unit, CANVAS_INK);
    for (int side = -1; side <= 1; side += 2)
        canvas_disc(canvas, x + 7 * side * unit, y + 7 * unit, 3 * unit, CANVAS_INK);
}
