/* Breakout on a field of 42 × 42 units with the arcade's rules: six rows of bricks, worth 1, 4 and 7 points by pairs
 * from below. Where the ball meets the paddle decides where it goes. The ball becomes faster after 4 and 12 hits of the
 * paddle and with the first brick of the middle and of the upper rows, and the paddle shrinks to a half once the ball
 * has been at the ceiling. A missed ball costs a life, and the next one is served by itself. The episode ends with the
 * last life, or with the last brick. As in MinAtar there is nothing to see but the ball, the paddle and the wall, and
 * actions stick: with a chance of `sticky` the last one is repeated instead of a new one (Machado et al. 2018). */
#include <stdio.h>

#include "env.h"

enum { FIELD = 42, ROWS = 6, COLUMNS = 7, BRICK_WIDTH = 6, BRICK_HEIGHT = 2, WALL_TOP = 6, PADDLE_TOP = 38 };
enum { ZONES = 6, SUBSTEPS = 2, FRAMES = 4, FULL_ROW = (1 << COLUMNS) - 1 };
static const double PADDLE_HALF = 4, PADDLE_SPEED = 2, PADDLE_HEIGHT = 2, RADIUS = 1, SERVE_HEIGHT = 26;
static const double SPEEDS[5] = {1, 1.15, 1.3, 1.45, 1.6};          // vertical, units per step
static const double SLOPES[ZONES] = {-1, -0.7, -0.4, 0.4, 0.7, 1};  // horizontal by vertical, from the left
static const int POINTS[ROWS] = {7, 7, 4, 4, 1, 1};                 // from the top
static const uint8_t SHADES[ROWS] = {200, 180, 160, 140, 120, 100};

/* What can be seen. */
typedef struct {
    double x, y;            // centre of the ball
    double paddle, half;    // its centre, and half its width
    uint16_t bricks[ROWS];  // a bit per column, from the top
} Frame;

typedef struct {
    Frame frames[FRAMES];   // the newest first
    double slope;           // horizontal by vertical speed
    int32_t down;           // 1, or -1 on the way up
    int32_t hits;           // of the paddle since the serve
    int32_t level;          // 1 since a brick of the middle rows, 2 since one of the upper rows
    int32_t lives, broken;  // broken: bricks
    int32_t action;         // the last one
} Env;

/* Pictures have `scale` pixels for two units of the field. */
static inline void draw_wall(const Frame *f, Obs *image, int scale) {
    const int side = FIELD / 2 * scale, wide = BRICK_WIDTH / 2 * scale, high = BRICK_HEIGHT / 2 * scale;
    Obs *line = image + WALL_TOP / 2 * scale * side;
    for (int row = 0; row < ROWS; row++, line += high * side) {
        for (int column = 0; column < COLUMNS; column++)
            for (int i = 0; i < wide; i++)
                line[column * wide + i] = SHADES[row] & -(f->bricks[row] >> column & 1);
        for (int j = 1; j < high; j++)
            memcpy(line + j * side, line, (size_t)side);
    }
}

/* Pixels are as bright as they are covered, so that places between them can be told. */
static inline void draw_rect(double left, double top, double width, double height, int shade, Obs *image, int scale) {
    const int side = FIELD / 2 * scale;
    const double x0 = left * scale / 2, x1 = x0 + width * scale / 2, y0 = top * scale / 2, y1 = y0 + height * scale / 2;
    for (int j = (int)y0; j < y1 && j < side; j++)
        for (int i = (int)x0; i < x1 && i < side; i++) {
            const double high = fmin(j + 1, y1) - fmax(j, y0), wide = fmin(i + 1, x1) - fmax(i, x0);
            const Obs covered = (Obs)(shade * high * wide + 0.5);
            image[j * side + i] = covered > image[j * side + i] ? covered : image[j * side + i];
        }
}

static inline void draw_paddle(const Frame *f, Obs *image, int scale) {
    draw_rect(f->paddle - f->half, PADDLE_TOP, 2 * f->half, PADDLE_HEIGHT, 255, image, scale);
}

static inline void draw_ball(const Frame *f, int shade, Obs *image, int scale) {
    draw_rect(f->x - RADIUS, f->y - RADIUS, 2 * RADIUS, 2 * RADIUS, shade, image, scale);
}

/* Either a plane each for the paddle, the ball, the places where it was in the last steps, and the wall; or the last
 * pictures in grey, the newest one last, as of a screen. */
static inline void c_observe(const Env *env, Io io) {
    const int scale = (int)io.params->scale, pixels = ENV_OBS_SIZE / FRAMES;
    const Frame *f = env->frames;
    Obs *images = io.observations;
    memset(images, 0, ENV_OBS_SIZE);
    if (io.params->view == VIEW_PLANES) {
        draw_paddle(f, images, scale);
        draw_ball(f, 255, images + pixels, scale);
        for (int k = 1; k < FRAMES; k++)
            draw_ball(&f[k], 255 - 60 * k, images + 2 * pixels, scale);
        draw_wall(f, images + 3 * pixels, scale);
        return;
    }
    for (int k = 0; k < FRAMES; k++) {
        Obs *image = images + (FRAMES - 1 - k) * pixels;
        draw_wall(&f[k], image, scale);
        draw_paddle(&f[k], image, scale);
        draw_ball(&f[k], 255, image, scale);
    }
}

static inline void serve(Env *env, Rng *rng) {
    Frame *f = env->frames;
    f->x = rng_uniform(rng, 4, FIELD - 4);
    f->y = SERVE_HEIGHT;
    f->half = PADDLE_HALF;
    f->paddle = clip(f->paddle, f->half, FIELD - f->half);
    env->slope = SLOPES[1 + rng_below(rng, ZONES - 2)];
    env->down = -1;
    env->hits = env->level = 0;
}

static inline void c_reset(Env *env, Io io) {
    memset(env, 0, sizeof *env);
    Frame *f = env->frames;
    for (int row = 0; row < ROWS; row++)
        f->bricks[row] = FULL_ROW;
    f->paddle = rng_uniform(io.rng, PADDLE_HALF, FIELD - PADDLE_HALF);
    env->lives = (int32_t)io.params->lives;
    serve(env, io.rng);
    for (int k = 1; k < FRAMES; k++)
        env->frames[k] = *f;
    c_observe(env, io);
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

/* Moves the ball by a part of a step, and bounces it; the points that it makes. */
static inline int fly(Env *env, const Params *p) {
    Frame *f = env->frames;
    const int level = p->speed_up ? (env->hits >= 4) + (env->hits >= 12) + env->level : 0;
    const double step = SPEEDS[level] / SUBSTEPS, side = env->slope < 0 ? -RADIUS : RADIUS;
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
    memmove(env->frames + 1, env->frames, (FRAMES - 1) * sizeof(Frame));
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
    c_observe(env, io);
}

/* Keeps under the ball, a little to that side of it from which it will go towards the brick that is nearest to it. It
 * never looks ahead. What it does then follows from what can be seen, at every height of the ball alike, and is cloned
 * well; experts that went where the ball would land broke all bricks, and their clones hardly any. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const Frame *f = env->frames;
    double nearest = FIELD, slope = 0;
    for (int row = 0; row < ROWS; row++)
        for (int column = 0; column < COLUMNS; column++) {
            const double x = (column + 0.5) * BRICK_WIDTH - f->x;
            const double y = PADDLE_TOP - WALL_TOP - (row + 0.5) * BRICK_HEIGHT;
            if (f->bricks[row] >> column & 1 && fabs(x) <= nearest) {
                nearest = fabs(x);
                slope = x / y;
            }
        }
    const int zone = slope < -0.55 ? 1 : slope < 0 ? 2 : slope < 0.55 ? 3 : 4;  // not those at the edge
    const double offset = 0.8 * (f->half + RADIUS) * ((zone + 0.5) / (ZONES / 2) - 1);  // and rather to the middle
    const double way = f->x - offset - f->paddle;
    actions[0] = fabs(way) <= PADDLE_SPEED / 2 ? 0 : way < 0 ? 1 : 2;
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    const double rest[] = {env->slope, env->down, env->hits, env->level, env->lives, env->broken, env->action};
    for (int k = 0; k < FRAMES; k++) {
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
    for (int k = 0; k < FRAMES; k++) {
        Frame *f = &env->frames[k];
        const double half = clip(state[3], PADDLE_HALF / 2, PADDLE_HALF);
        *f = (Frame){clip(state[0], RADIUS, FIELD - RADIUS), clip(state[1], RADIUS, FIELD + 2),
                     clip(state[2], half, FIELD - half), half, {0}};
        for (int row = 0; row < ROWS; row++)
            f->bricks[row] = (uint16_t)clip(state[4 + row], 0, FULL_ROW);
        state += 4 + ROWS;
    }
    env->slope = clip(state[0], -1, 1);
    env->down = state[1] < 0 ? -1 : 1;
    env->hits = (int32_t)clip(state[2], 0, 0x1p30);
    env->level = (int32_t)clip(state[3], 0, 2);
    env->lives = (int32_t)clip(state[4], 1, 0x1p30);
    env->broken = (int32_t)clip(state[5], 0, ROWS * COLUMNS);
    env->action = (int32_t)clip(state[6], 0, 2);
    c_observe(env, io);
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
    for (int k = FRAMES - 1; k >= 0; k--)  // with a trail of where it was
        canvas_disc(canvas, unit * env->frames[k].x, TITLE + unit * env->frames[k].y, unit * RADIUS / (1 + 0.5 * k),
                    k ? CANVAS_GREY : CANVAS_PAPER);
}
