/* Light cycles. All move at the same time, one cell per step, and leave a wall behind. A cycle that drives into a wall
 * or a trail, or into a cell that another one enters in the same step, is out: reward -1. The last one on the board has
 * won: reward +1. If the last ones go in the same step the game is a draw, without either. Every step survived is worth
 * a little too (`survival`), so that good players who are equals have a return to show for it: their games are long.
 *
 * Each agent sees the board around itself, turned so that it heads up, and one policy can play them all. The expert
 * counts the cells that it would be the first to reach after each of its moves, those of the others likewise, and takes
 * the move with the best balance; alone in its part of the board it fills that, close along the walls. With `scripted`
 * the last players are such experts and no agents. */
#include <stdlib.h>

#include "env.h"

enum { MAX_PLAYERS = 8, MAX_SIDE = 32 + 2 * 15, MAX_CELLS = MAX_SIDE * MAX_SIDE, MOVES = 3 };
enum { UP, RIGHT, DOWN, LEFT };            // headings
enum { STRAIGHT, TURN_LEFT, TURN_RIGHT };  // actions
enum { FREE = 0, WALL = 255 };             // what a cell holds, or 1 + 4 * player + the heading it was entered with

typedef struct {
    uint8_t board[MAX_CELLS];  // row by row, with a rim of walls as wide as the sight
    int32_t cell[MAX_PLAYERS], heading[MAX_PLAYERS];
    uint8_t alive[MAX_PLAYERS];
} Env;

static inline int32_t stride_of(const Params *p) {
    return (int32_t)(p->width + 2 * p->sight);
}

/* The way from a cell to the next one. */
static inline int32_t ahead(int32_t heading, int32_t stride) {
    return heading == UP ? -stride : heading == RIGHT ? 1 : heading == DOWN ? stride : -1;
}

static inline int32_t turned(int32_t heading, Action action) {
    return (heading + (action == TURN_LEFT ? 3 : action == TURN_RIGHT)) % 4;
}

/* From the far left to the near right of the player. */
static inline void look(const Env *env, int player, const Params *p, uint8_t *walls) {
    const int32_t sight = (int32_t)p->sight, side = 2 * sight + 1, stride = stride_of(p), here = env->cell[player];
    const int32_t front = ahead(env->heading[player], stride), right = ahead((env->heading[player] + 1) % 4, stride);
    const uint8_t *line = env->board + here + sight * (front - right);
    for (int32_t row = 0; row < side; row++, line -= front, walls += side)
        if (right == 1)  // apart, as neighbours in memory are compared many at a time
            for (int32_t column = 0; column < side; column++)
                walls[column] = line[column] == FREE ? 0 : 255;
        else
            for (int32_t column = 0; column < side; column++)
                walls[column] = line[column * right] == FREE ? 0 : 255;

    uint8_t *heads = walls;  // the second plane
    memset(heads, 0, (size_t)(side * side));
    for (int k = 0; k < p->players; k++) {
        const int32_t x = env->cell[k] % stride - here % stride, y = env->cell[k] / stride - here / stride;
        const int32_t turns[4][2] = {{x, y}, {y, -x}, {-x, -y}, {-y, x}};  // to the right, and back
        const int32_t *place = turns[env->heading[player]];
        if (k != player && env->alive[k] && abs(place[0]) <= sight && abs(place[1]) <= sight)
            heads[(sight + place[1]) * side + sight + place[0]] = 255;
    }
}

static inline void c_observe(const Env *env, Io io) {
    for (int a = 0; a < ENV_AGENTS; a++)
        look(env, a, io.params, io.observations + a * ENV_OBS_SIZE);
}

static inline void clear(Env *env, const Params *p) {
    const int32_t stride = stride_of(p);
    memset(env->board, WALL, (size_t)(stride * (p->height + 2 * p->sight)));
    for (int64_t y = 0; y < p->height; y++)
        memset(env->board + (y + p->sight) * stride + p->sight, FREE, (size_t)p->width);
}

static inline void place(Env *env, int player, int32_t cell, int32_t heading) {
    env->cell[player] = cell;
    env->heading[player] = heading;
    env->board[cell] = (uint8_t)(1 + 4 * player + heading);
}

/* Anywhere but next to the wall. */
static inline void c_reset(Env *env, Io io) {
    const Params *p = io.params;
    clear(env, p);
    for (int k = 0; k < p->players; k++) {
        int64_t x, y, cell;
        do {
            x = 1 + rng_below(io.rng, (uint32_t)p->width - 2);
            y = 1 + rng_below(io.rng, (uint32_t)p->height - 2);
            cell = (y + p->sight) * stride_of(p) + x + p->sight;
        } while (env->board[cell] != FREE);
        place(env, k, (int32_t)cell, (int32_t)rng_below(io.rng, 4));
        env->alive[k] = true;
    }
    c_observe(env, io);
}

/* Cells that `player` is the first to reach from `start`, where it moves to now, less those of the best of the others:
 * everybody's shortest ways grow together, and what two reach in the same step is nobody's. */
static inline int balance(const Env *env, int player, int32_t start, const Params *p) {
    enum { STEP = 16, SHARED = 65534, BLOCKED = 65535 };
    uint16_t reached[MAX_CELLS];  // STEP * steps + 1 + player; 0 where nobody has been yet
    int16_t queue[MAX_CELLS];
    int counts[MAX_PLAYERS + 1] = {0}, length = 0;
    const int32_t stride = stride_of(p), cells = stride * (int32_t)(p->height + 2 * p->sight);
    for (int32_t c = 0; c < cells; c++)
        reached[c] = env->board[c] == FREE ? 0 : BLOCKED;
    for (int k = 0; k < p->players; k++)
        if (k != player && env->alive[k]) {
            queue[length++] = (int16_t)env->cell[k];
            reached[env->cell[k]] = (uint16_t)(1 + k);
        }
    queue[length++] = (int16_t)start;
    reached[start] = (uint16_t)(STEP + 1 + player);
    for (int next = 0; next < length; next++) {
        const int32_t cell = queue[next];
        if (reached[cell] == SHARED)
            continue;
        counts[reached[cell] % STEP]++;
        const uint16_t mark = (uint16_t)(reached[cell] + STEP);
        for (int heading = 0; heading < 4; heading++) {
            uint16_t *beside = &reached[cell + ahead(heading, stride)];
            if (*beside == 0) {
                *beside = mark;
                queue[length++] = (int16_t)(cell + ahead(heading, stride));
            } else if (*beside != mark && *beside / STEP == mark / STEP) {
                *beside = SHARED;
            }
        }
    }
    int most = 0;
    for (int k = 0; k < p->players; k++)
        if (k != player && counts[1 + k] > most)
            most = counts[1 + k];
    return counts[1 + player] - most;
}

static inline Action choose(const Env *env, int player, const Params *p) {
    const int32_t stride = stride_of(p);
    int best = INT32_MIN;
    Action chosen = STRAIGHT;
    for (Action action = 0; action < MOVES; action++) {
        const int32_t start = env->cell[player] + ahead(turned(env->heading[player], action), stride);
        if (env->board[start] != FREE)
            continue;
        int value = 8 * balance(env, player, start, p);
        for (int heading = 0; heading < 4; heading++)  // of equal ones the one along a wall
            value += env->board[start + ahead(heading, stride)] != FREE;
        if (value > best) {
            best = value;
            chosen = action;
        }
    }
    return chosen;
}

static inline void c_expert(const Env *env, Io io, Action *actions) {
    for (int a = 0; a < ENV_AGENTS; a++)
        actions[a] = env->alive[a] ? choose(env, a, io.params) : STRAIGHT;
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const int players = (int)p->players;
    int32_t headings[MAX_PLAYERS], targets[MAX_PLAYERS];
    bool moves[MAX_PLAYERS], crashes[MAX_PLAYERS];
    int left = 0, winner = -1;
    for (int k = 0; k < players; k++) {
        moves[k] = env->alive[k];
        if (moves[k]) {
            headings[k] = turned(env->heading[k], k < ENV_AGENTS ? io.actions[k] : choose(env, k, p));
            targets[k] = env->cell[k] + ahead(headings[k], stride_of(p));
        }
    }
    for (int k = 0; k < players; k++) {
        crashes[k] = moves[k] && env->board[targets[k]] != FREE;
        for (int j = 0; j < players; j++)
            crashes[k] |= moves[k] && moves[j] && j != k && targets[j] == targets[k];
    }
    for (int k = 0; k < players; k++) {
        if (crashes[k]) {
            env->alive[k] = false;
            env->heading[k] = headings[k];
        } else if (moves[k]) {
            place(env, k, targets[k], headings[k]);
            left++;
            winner = k;
        }
    }
    for (int a = 0; a < ENV_AGENTS; a++) {
        if (env->alive[a])
            io.rewards[a] = (float)p->survival + (left == 1 ? 1 : 0);
        else if (left > 0)
            io.rewards[a] = -1;
        io.terminations[a] = left <= 1 || !env->alive[a];
    }
    io.log->steps++;
    io.log->won = left == 1 && winner < ENV_AGENTS;
    io.log->drawn = left == 0;
    c_observe(env, io);
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    const Params *p = io.params;
    const int32_t stride = stride_of(p), rim = (int32_t)p->sight;
    for (int32_t y = 0; y < p->height; y++)
        for (int32_t x = 0; x < p->width; x++)
            *state++ = env->board[(y + rim) * stride + x + rim];
    for (int k = 0; k < p->players; k++, state += 3) {
        state[0] = env->alive[k];
        state[1] = env->heading[k];
        state[2] = (double)((env->cell[k] / stride - rim) * p->width + env->cell[k] % stride - rim);
    }
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    const Params *p = io.params;
    const int32_t stride = stride_of(p), rim = (int32_t)p->sight, width = (int32_t)p->width;
    clear(env, p);
    for (int32_t y = 0; y < p->height; y++)
        for (int32_t x = 0; x < p->width; x++)
            env->board[(y + rim) * stride + x + rim] = (uint8_t)clip(*state++, FREE, 4.0 * (double)p->players);
    for (int k = 0; k < p->players; k++, state += 3) {
        const int32_t cell = (int32_t)clip(state[2], 0, (double)(p->width * p->height - 1));
        env->alive[k] = state[0] != 0;
        env->heading[k] = (int32_t)clip(state[1], 0, 3);
        env->cell[k] = (cell / width + rim) * stride + cell % width + rim;
    }
    c_observe(env, io);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    enum { MARGIN = 14 };
    static const uint32_t COLORS[MAX_PLAYERS] = {CANVAS_BLUE, CANVAS_RED, CANVAS_GREEN, CANVAS_GOLD,
                                                 0x6b46c1, 0x2c7a7b, 0xb83280, CANVAS_GREY};
    const Params *p = io.params;
    const int stride = stride_of(p), rim = (int)p->sight, width = (int)p->width, height = (int)p->height;
    const double size = floor(fmin((canvas->width - 2.0 * MARGIN) / width, (canvas->height - 2.0 * MARGIN) / height));
    const double left = (canvas->width - size * width) / 2, top = (canvas->height - size * height) / 2;
    canvas_rect(canvas, left - 4, top - 4, size * width + 8, size * height + 8, CANVAS_INK);
    canvas_rect(canvas, left, top, size * width, size * height, CANVAS_PAPER);
    for (int x = 1; x < width; x++)
        canvas_line(canvas, left + size * x, top, left + size * x, top + size * height, 1, CANVAS_LIGHT);
    for (int y = 1; y < height; y++)
        canvas_line(canvas, left, top + size * y, left + size * width, top + size * y, 1, CANVAS_LIGHT);
    for (int c = 0; c < width * height; c++) {
        const int x = c % width, y = c / width, cell = (y + rim) * stride + x + rim, trail = env->board[cell] - 1;
        if (env->board[cell] == FREE || env->board[cell] == WALL)
            continue;
        const int from = cell - ahead(trail % 4, stride);  // where the trail came from, if it did
        const bool begun = (env->board[from] - 1) / 4 != trail / 4 || env->board[from] == FREE;
        const double px = left + size * (x + 0.5), py = top + size * (y + 0.5);
        const double fx = begun ? px : left + size * (from % stride - rim + 0.5);
        const double fy = begun ? py : top + size * (from / stride - rim + 0.5);
        canvas_line(canvas, fx, fy, px, py, 0.4 * size, COLORS[trail / 4]);
    }
    for (int k = 0; k < p->players; k++) {
        const double x = left + size * (env->cell[k] % stride - rim + 0.5);
        const double y = top + size * (env->cell[k] / stride - rim + 0.5);
        canvas_disc(canvas, x, y, 0.42 * size, COLORS[k]);
        canvas_disc(canvas, x, y, 0.2 * size, env->alive[k] ? CANVAS_PAPER : CANVAS_INK);
    }
}
