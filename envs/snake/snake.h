/* Snake on a board with walls. The snake moves one cell per step, grows by one with every meal, and dies when it runs
 * into a wall or itself, or starves; the cell that its tail leaves in a step may be entered in the same step. Turning
 * straight back is no turn. The episode also ends, well, once the board is full.
 *
 * The expert follows a Hamiltonian cycle of the board and cuts corners where that is safe (Tapsell 2015, "Nokia 6110
 * Part 3: Algorithms"), which fills every board. */
#include <stdio.h>

#include "env.h"

enum { PLANES = 4, CELLS = ENV_OBS_SIZE / PLANES, START_LENGTH = 3 };
enum { UP, RIGHT, DOWN, LEFT };  // actions and headings
static const int32_t DX[4] = {0, 1, 0, -1}, DY[4] = {-1, 0, 1, 0};

typedef struct {
    uint16_t body[CELLS];  // steps until the snake has left this cell: `length` at the head, 1 at the tail, 0 if free
    int32_t x, y, heading;  // of the head
    int32_t food;           // its cell; -1 once the board is full
    int32_t length;
    int32_t fasted;         // steps since the last meal
} Env;

static inline void c_observe(const Env *env, Io io) {
    uint8_t *planes = io.observations;
    const float shade = 255.0f / (float)env->length;
    for (int c = 0; c < CELLS; c++) {
        planes[c] = env->body[c] ? 255 : 0;
        planes[CELLS + c] = (uint8_t)((float)env->body[c] * shade);
    }
    memset(planes + 2 * CELLS, 0, 2 * CELLS);
    planes[2 * CELLS + env->y * io.params->width + env->x] = 255;
    if (env->food >= 0)
        planes[3 * CELLS + env->food] = 255;
}

/* On any free cell with the same chance. */
static inline void place_food(Env *env, Io io) {
    env->food = -1;
    if (env->length == CELLS)
        return;
    int32_t skip = (int32_t)rng_below(io.rng, (uint32_t)(CELLS - env->length));
    do {
        skip -= env->body[++env->food] == 0;
    } while (skip >= 0 && env->food < CELLS - 1);  // always found, but where the state was set to what no snake is
}

static inline void c_reset(Env *env, Io io) {
    const int32_t width = (int32_t)io.params->width, height = (int32_t)io.params->height;
    memset(env, 0, sizeof *env);
    env->x = width / 2;
    env->y = height / 2;
    env->heading = (int32_t)rng_below(io.rng, 4);
    env->length = START_LENGTH;
    const int32_t dx = DX[env->heading], dy = DY[env->heading];
    for (int32_t k = 0; k < START_LENGTH; k++)
        env->body[(env->y - k * dy) * width + env->x - k * dx] = (uint16_t)(START_LENGTH - k);
    place_food(env, io);
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const int32_t width = (int32_t)io.params->width, height = (int32_t)io.params->height;
    if (io.actions[0] != (env->heading ^ 2))  // never straight back
        env->heading = io.actions[0];
    const int32_t x = env->x + DX[env->heading], y = env->y + DY[env->heading], cell = y * width + x;
    const bool inside = x >= 0 && x < width && y >= 0 && y < height;
    const bool starved = ++env->fasted >= io.params->hunger * CELLS && !(inside && cell == env->food);
    if (!inside || env->body[cell] > 1 || starved) {
        io.rewards[0] = -1;
        io.terminations[0] = true;
        io.log->starved = starved;
    } else {
        env->x = x;
        env->y = y;
        if (cell == env->food) {
            env->length++;
            env->fasted = 0;
            env->body[cell] = (uint16_t)env->length;
            io.rewards[0] = 1;
            io.log->score++;
            place_food(env, io);
            io.log->filled = env->food < 0;
            io.terminations[0] = env->food < 0;
        } else {
            for (int c = 0; c < CELLS; c++)  // everything is a step nearer to its end, and the tail is gone
                env->body[c] -= env->body[c] > 0;
            env->body[cell] = (uint16_t)env->length;
        }
    }
    c_observe(env, io);
}

/* Place of a cell in a closed tour of the board: along row 0, back and forth through the other rows, and home up
 * column 0. It needs an even number of rows; where they are odd, rows and columns change places. */
static inline int32_t tour(int32_t cell, int32_t width) {
    int32_t x = cell % width, y = cell / width, columns = width;
    if (CELLS / width % 2) {
        x = cell / width, y = cell % width, columns = CELLS / width;
    }
    if (x == 0)
        return y ? CELLS - y : 0;
    return 1 + y * (columns - 1) + (y % 2 ? columns - 1 - x : x - 1);
}

/* As far ahead along the tour as a move goes without passing the food or reaching the tail. The body then always lies
 * in the order of the tour, behind the head, and the way ahead to the tail is free. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const int32_t width = (int32_t)io.params->width, height = (int32_t)io.params->height;
    int32_t tail = 0;
    while (env->body[tail] != 1 && tail < CELLS - 1)
        tail++;
    const int32_t here = tour(env->y * width + env->x, width);
    const int32_t to_tail = (tour(tail, width) - here + CELLS) % CELLS;
    const int32_t to_food = env->food < 0 ? CELLS : (tour(env->food, width) - here + CELLS) % CELLS;
    int32_t best = INT32_MIN;
    actions[0] = env->heading;
    for (int32_t action = 0; action < 4; action++) {
        const int32_t x = env->x + DX[action], y = env->y + DY[action], cell = y * width + x;
        if (action == (env->heading ^ 2) || x < 0 || x >= width || y < 0 || y >= height || env->body[cell] > 1)
            continue;
        const int32_t ahead = (tour(cell, width) - here + CELLS) % CELLS;
        const bool safe = ahead <= to_food && (ahead < to_tail || ahead == 1);
        const int32_t value = safe ? ahead : -ahead;  // unsafe moves are for the first steps, before it is on the tour
        if (value > best) {
            best = value;
            actions[0] = action;
        }
    }
}

static const char *c_share(const Params *params, const Data *data, void **shared) {
    const bool even = params->width % 2 == 0 || params->height % 2 == 0;
    return even ? NULL : "width and height are odd; the expert's tour needs one of them even, such as height = 10";
}

static void c_unshare(void *shared) {}

static inline void c_get_state(const Env *env, Io io, double *state) {
    const double rest[] = {env->x, env->y, env->heading, env->food, env->length, env->fasted};
    for (int c = 0; c < CELLS; c++)
        state[c] = env->body[c];
    memcpy(state + CELLS, rest, sizeof rest);
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    const double *rest = state + CELLS;
    env->x = (int32_t)clip(rest[0], 0, (double)io.params->width - 1);
    env->y = (int32_t)clip(rest[1], 0, (double)io.params->height - 1);
    env->heading = (int32_t)clip(rest[2], 0, 3);
    env->length = (int32_t)clip(rest[4], 1, CELLS);
    env->food = env->length < CELLS ? (int32_t)clip(rest[3], -1, CELLS - 1) : -1;
    env->fasted = (int32_t)clip(rest[5], 0, 0x1p30);
    for (int c = 0; c < CELLS; c++)
        env->body[c] = (uint16_t)clip(state[c], 0, env->length);
    c_observe(env, io);
}

static inline uint32_t mix(uint32_t from, uint32_t to, double share) {
    uint32_t color = 0;
    for (int bit = 0; bit < 24; bit += 8) {
        const double a = from >> bit & 255, b = to >> bit & 255;
        color |= (uint32_t)(a + (b - a) * share) << bit;
    }
    return color;
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    enum { MARGIN = 20, TITLE = 40, PALE = 0xbfdcc8 };
    const int width = (int)io.params->width, height = (int)io.params->height;
    const int size_x = (canvas->width - 2 * MARGIN) / width, size_y = (canvas->height - TITLE - MARGIN) / height;
    const double size = size_x < size_y ? size_x : size_y;
    const double left = floor((canvas->width - size * width) / 2);
    const double top = floor((canvas->height + TITLE - MARGIN - size * height) / 2);
    char title[32];
    snprintf(title, sizeof title, "SCORE %d", (int)env->length - START_LENGTH);
    canvas_text(canvas, left, 14, 2, title, CANVAS_INK);
    canvas_rect(canvas, left - 4, top - 4, size * width + 8, size * height + 8, CANVAS_INK);
    int cells[CELLS + 1] = {0};  // of the snake, from its tail
    for (int c = 0; c < CELLS; c++) {
        const int x = c % width, y = c / width;
        canvas_rect(canvas, left + size * x, top + size * y, size, size, (x + y) % 2 ? CANVAS_PAPER : 0xf0f1ee);
        cells[env->body[c]] = c;
    }
    if (env->food >= 0)
        canvas_disc(canvas, left + size * (env->food % width + 0.5), top + size * (env->food / width + 0.5), 0.3 * size,
                    CANVAS_RED);
    for (int k = 1; k <= env->length; k++) {
        const int from = cells[k > 1 ? k - 1 : k], to = cells[k];
        canvas_line(canvas, left + size * (from % width + 0.5), top + size * (from / width + 0.5),
                    left + size * (to % width + 0.5), top + size * (to / width + 0.5), 0.72 * size,
                    mix(PALE, CANVAS_GREEN, (double)k / env->length));
    }
    for (int side = -1; side <= 1; side += 2) {  // eyes
        const double along = 0.1 * size, across = 0.17 * side * size;
        const double x = left + size * (env->x + 0.5) + DX[env->heading] * along - DY[env->heading] * across;
        const double y = top + size * (env->y + 0.5) + DY[env->heading] * along + DX[env->heading] * across;
        canvas_disc(canvas, x, y, 0.11 * size, CANVAS_PAPER);
        canvas_disc(canvas, x + 0.04 * size * DX[env->heading], y + 0.04 * size * DY[env->heading], 0.06 * size,
                    CANVAS_INK);
    }
}
