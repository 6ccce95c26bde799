/* Breakout on a field of 42 × 42 units with the arcade's rules: six rows of bricks, worth 1, 4 and 7 points by pairs
 * from below. Where the ball meets the paddle decides where it goes. The ball becomes faster after 4 and 12 hits of the
 * paddle and with the first brick of the middle and of the upper rows, and the paddle shrinks to a half once the ball
 * has been at the ceiling. A missed ball costs a life, and the next one is served by itself. The episode ends with the
 * last life, or with the last brick. As in MinAtar there is nothing to see but the ball, the paddle and the wall, and
 * actions stick: with a chance of `sticky` the last one is repeated instead of a new one (Machado et al. 2018). */
#include <stdio.h>
#include <stdlib.h>

#include "env.h"

enum { FIELD = 42, ROWS = 6, COLUMNS = 14, BRICK_WIDTH = 3, BRICK_HEIGHT = 2, WALL_TOP = 6, PADDLE_TOP = 38 };
enum { ZONES = 6, SUBSTEPS = 2, MAX_FRAMES = 8, FULL_ROW = (1 << COLUMNS) - 1 };
static const double PADDLE_HALF = 4, PADDLE_SPEED = 2, PADDLE_HEIGHT = 2, RADIUS = 1, SERVE_HEIGHT = 22;
static const double SPEEDS[5] = {1, 1.15, 1.3, 1.45, 1.6};              // vertical, units per step
static const double SLOPES[ZONES] = {-1.2, -0.8, -0.4, 0.4, 0.8, 1.2};  // horizontal by vertical, from the left
static const int POINTS[ROWS] = {7, 7, 4, 4, 1, 1};                     // from the top
static const uint8_t SHADES[ROWS] = {200, 180, 160, 140, 120, 100};

/* What can be seen. */
typedef struct {
    double x, y;    // centre of the ball
    double paddle;  // centre
    double half;    // of its width
    uint16_t bricks[ROWS];  // a bit per column, from the top
} Frame;

typedef struct {
    Frame frames[MAX_FRAMES];  // the newest first
    double slope;              // horizontal by vertical speed
    int32_t down;              // 1, or -1 on the way up
    int32_t hits;              // of the paddle since the serve
    int32_t level;             // 1 since a brick of the middle rows, 2 since one of the upper rows
    int32_t lives, broken;     // broken: bricks
    int32_t action;            // the last one
} Env;

/* The rows of a picture that the wall takes; `scale` pixels are a unit. */
static inline void draw_wall(const Frame *f, Obs *rows, int scale) {
    const int size = FIELD * scale;
    for (int row = 0; row < ROWS; row++, rows += BRICK_HEIGHT * scale * size) {
        for (int column = 0; column < COLUMNS; column++)
            for (int i = 0; i < BRICK_WIDTH * scale; i++)
                rows[column * BRICK_WIDTH * scale + i] = SHADES[row] & -(f->bricks[row] >> column & 1);
        for (int j = 1; j < BRICK_HEIGHT * scale; j++)
            memcpy(rows + j * size, rows, (size_t)size);
    }
}

static inline void draw_rect(double left, double top, double width, double height, Obs *image, int scale) {
    const int size = FIELD * scale, x = (int)(left * scale + 0.5), y = (int)(top * scale + 0.5);
    const int bottom = y + (int)(height * scale);
    for (int j = y; j < bottom && j < size; j++)
        memset(image + j * size + x, 255, (size_t)(width * scale));
}

/* Grey pictures: the wall, and in white the paddle and the ball. */
static inline void draw(const Env *env, Obs *images, int frames, int scale) {
    const int size = FIELD * scale, pixels = size * size, wall = WALL_TOP * scale * size;
    memset(images, 0, (size_t)(frames * pixels));
    for (int k = 0; k < frames; k++) {
        const Frame *f = &env->frames[k];
        Obs *rows = images + (frames - 1 - k) * pixels + wall;
        if (k && memcmp(f->bricks, f[-1].bricks, sizeof f->bricks) == 0)  // as most of the time: no need to look
            memcpy(rows, rows + pixels, (size_t)(ROWS * BRICK_HEIGHT * scale * size));
        else
            draw_wall(f, rows, scale);
    }
    for (int k = 0; k < frames; k++) {
        const Frame *f = &env->frames[k];
        Obs *image = images + (frames - 1 - k) * pixels;
        draw_rect(f->paddle - f->half, PADDLE_TOP, 2 * f->half, PADDLE_HEIGHT, image, scale);
        draw_rect(f->x - RADIUS, f->y - RADIUS, 2 * RADIUS, 2 * RADIUS, image, scale);
    }
}

static inline void observe(const Env *env, Io io) {
    const int scale = (int)io.params->scale, frames = (int)io.params->frames;
    if (scale == 1)  // apart, as the constant makes it fast
        draw(env, io.observations, frames, 1);
    else
        draw(env, io.observations, frames, scale);
}

static inline void serve(Env *env, Rng *rng) {
    Frame *f = env->frames;
    f->x = rng_uniform(rng, 4, FIELD - 4);
    f->y = SERVE_HEIGHT;
    f->half = PADDLE_HALF;
    f->paddle = clip(f->paddle, f->half, FIELD - f->half);
    env->slope = SLOPES[1 + rng_below(rng, ZONES - 2)];
    env->down = 1;
    env->hits = env->level = 0;
}

static inline void c_reset(Env *env, Io io) {
    memset(env, 0, sizeof *env);
    Frame *f = env->frames;
    for (int row = 0; row < ROWS; row++)
        f->bricks[row] = FULL_ROW;
    f->paddle = FIELD / 2;
    env->lives = (int32_t)io.params->lives;
    serve(env, io.rng);
    for (int k = 1; k < MAX_FRAMES; k++)
        env->frames[k] = *f;
    observe(env, io);
}

/* Breaks the brick at a point; its points, 0 where there is none. */
static inline int strike(Env *env, double x, double y) {
    const int row = y < WALL_TOP ? ROWS : (int)(y - WALL_TOP) / BRICK_HEIGHT, bit = 1 << (int)x / BRICK_WIDTH;
    if (row >= ROWS || !(env->frames->bricks[row] & bit))
        return 0;
    env->frames->bricks[row] ^= bit;
    env->broken++;
    const int level = 2 - row / 2;
    env->level = level > env->level ? level : env->level;
    return POINTS[row];
}

/* Vertical way of the ball in a part of a step. */
static inline double pace(const Env *env, const Params *p) {
    return SPEEDS[p->speed_up ? (env->hits >= 4) + (env->hits >= 12) + env->level : 0] / SUBSTEPS;
}

/* Moves the ball by a part of a step, and bounces it; the points that it makes. */
static inline int fly(Env *env, const Params *p) {
    Frame *f = env->frames;
    const double step = pace(env, p), side = env->slope < 0 ? -RADIUS : RADIUS;
    const double x = f->x + env->slope * step, y = f->y + env->down * step;
    int points = 0;

    if (x < RADIUS || x > FIELD - RADIUS) {
        f->x = 2 * (x < RADIUS ? RADIUS : FIELD - RADIUS) - x;
        env->slope = -env->slope;
    } else if ((points = strike(env, x + side, f->y))) {
        env->slope = -env->slope;
    } else {
        f->x = x;
    }

    const double edge = y + RADIUS, offset = (f->x - f->paddle) / (f->half + RADIUS);
    if (y < RADIUS) {
        f->y = 2 * RADIUS - y;
        env->down = 1;
        f->half = p->shrink ? PADDLE_HALF / 2 : PADDLE_HALF;
    } else if (edge >= PADDLE_TOP && f->y + RADIUS < PADDLE_TOP && fabs(offset) < 1) {
        f->y = 2 * (PADDLE_TOP - RADIUS) - y;
        env->down = -1;
        env->slope = SLOPES[(int)((offset + 1) * (ZONES / 2))];
        env->hits++;
    } else {
        const int more = strike(env, f->x, y + env->down * RADIUS);
        if (more)
            env->down = -env->down;
        else
            f->y = y;
        points += more;
    }
    return points;
}

static inline double moved(const Frame *f, int steps) {
    return clip(f->paddle + steps * PADDLE_SPEED, f->half, FIELD - f->half);
}

static inline void c_step(Env *env, Io io) {
    Frame *f = env->frames;
    const int32_t before = env->broken;
    memmove(env->frames + 1, env->frames, (io.params->frames - 1) * sizeof(Frame));
    if (rng_double(io.rng) >= io.params->sticky)
        env->action = io.actions[0];
    f->paddle = moved(f, env->action == 2 ? 1 : -env->action);
    int points = 0;
    for (int k = 0; k < SUBSTEPS; k++)
        points += fly(env, io.params);
    const bool cleared = env->broken == ROWS * COLUMNS;
    if (f->y > FIELD - RADIUS && --env->lives > 0)
        serve(env, io.rng);
    io.rewards[0] = io.params->points ? points : env->broken - before;
    io.terminations[0] = cleared | (env->lives == 0);
    io.log->bricks = env->broken;
    io.log->points += points;
    io.log->cleared = cleared;
    observe(env, io);
}

/* Flies on to the paddle's height; how many steps that takes. */
static inline int land(Env *env, const Params *p) {
    const Frame *f = env->frames;
    int parts = 0;
    for (; env->down < 0 || f->y + RADIUS + pace(env, p) < PADDLE_TOP; parts++)
        fly(env, p);
    return parts / SUBSTEPS;
}

/* Follows the ball while there is time. Then it looks ahead: to where the ball lands, and on from each place of the
 * paddle that would meet it there. It takes the place from which the ball breaks the most bricks before it is back, and
 * of equal ones the nearest. Where none breaks any, the zones of the paddle take turns, so that the ball does not go
 * round in circles. It does not move while the ball is well over the paddle: what it does can be seen. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    enum { ACROSS = FIELD / 2, SPARE = 8 };  // steps from one side to the other, and to be early
    static const double SAFE = 0.7;          // of the paddle's half: a sticky action may shift it by the rest
    const Params *p = io.params;
    const Frame *f = env->frames;
    const double under = (f->x - f->paddle) / (f->half + RADIUS);
    actions[0] = fabs(under) <= SAFE ? 0 : under < 0 ? 1 : 2;
    if (env->down > 0 && f->y + RADIUS >= PADDLE_TOP)
        return;  // missed
    Env landing = *env;
    const int time = land(&landing, p);
    const double x = landing.frames->x, reach = landing.frames->half + RADIUS;
    if (time > SPARE + fabs(x - f->paddle) / PADDLE_SPEED)
        return;
    double best = -INFINITY;
    for (int steps = -ACROSS; steps <= ACROSS; steps++) {
        if (fabs(x - moved(f, steps)) > SAFE * reach)
            continue;
        Env next = landing;
        next.frames->paddle = moved(f, steps);
        fly(&next, p);
        if (next.hits == landing.hits)
            continue;  // past the edge
        const bool turn = next.slope == SLOPES[landing.hits % ZONES];
        land(&next, p);
        const int broken = next.broken - landing.broken;
        const double value = ACROSS * (broken ? 2 * broken : turn) - abs(steps);
        if (value > best) {
            best = value;
            actions[0] = steps < 0 ? 1 : steps > 0 ? 2 : 0;
        }
    }
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    const double rest[] = {env->slope, env->down, env->hits, env->level, env->lives, env->broken, env->action};
    for (int k = 0; k < io.params->frames; k++) {
        const Frame *f = &env->frames[k];
        const double seen[] = {f->x, f->y, f->paddle, f->half};
        memcpy(state, seen, sizeof seen);
        for (int row = 0; row < ROWS; row++)
            state[4 + row] = f->bricks[row];
        state += 4 + ROWS;
    }
    memcpy(state, rest, sizeof rest);
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    for (int k = 0; k < io.params->frames; k++) {
        Frame *f = &env->frames[k];
        *f = (Frame){state[0], state[1], state[2], state[3], {0}};
        for (int row = 0; row < ROWS; row++)
            f->bricks[row] = (uint16_t)state[4 + row];
        state += 4 + ROWS;
    }
    env->slope = state[0];
    env->down = (int32_t)state[1];
    env->hits = (int32_t)state[2];
    env->level = (int32_t)state[3];
    env->lives = (int32_t)state[4];
    env->broken = (int32_t)state[5];
    env->action = (int32_t)state[6];
    observe(env, io);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    enum { TITLE = 40 };
    static const uint32_t COLORS[ROWS / 2] = {CANVAS_RED, CANVAS_GOLD, CANVAS_GREEN};
    const Frame *f = env->frames;
    const double unit = (double)canvas->width / FIELD;
    char title[48];
    snprintf(title, sizeof title, "BRICKS %d   LIVES %d", (int)env->broken, (int)env->lives);
    canvas_text(canvas, unit, 14, 2, title, CANVAS_INK);
    canvas_rect(canvas, 0, TITLE, unit * FIELD, unit * FIELD, CANVAS_INK);
    for (int row = 0; row < ROWS; row++)
        for (int column = 0; column < COLUMNS; column++)
            if (f->bricks[row] >> column & 1)
                canvas_rect(canvas, unit * column * BRICK_WIDTH + 1, TITLE + unit * (WALL_TOP + row * BRICK_HEIGHT) + 1,
                            unit * BRICK_WIDTH - 2, unit * BRICK_HEIGHT - 2, COLORS[row / 2]);
    const double height = unit * (PADDLE_TOP + PADDLE_HEIGHT / 2), end = f->half - PADDLE_HEIGHT / 2;
    canvas_line(canvas, unit * (f->paddle - end), TITLE + height, unit * (f->paddle + end), TITLE + height,
                unit * PADDLE_HEIGHT, CANVAS_BLUE);
    for (int k = io.params->frames - 1; k >= 0; k--)  // with a trail of where it was
        canvas_disc(canvas, unit * env->frames[k].x, TITLE + unit * env->frames[k].y, unit * RADIUS / (1 + 0.5 * k),
                    k ? CANVAS_GREY : CANVAS_PAPER);
}
