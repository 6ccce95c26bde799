/* A point must go round a wall to a goal behind it, above or below. The expert is like a person: where it makes up its
 * mind, how fast it goes, how far from the wall and how much it sways differ from episode to episode, and the side is
 * drawn; of all that a policy sees nothing. The mean of both ways leads into the wall. */
#include "env.h"
#include "trig.h"

static const double START_X = -1.4, GOAL_X = 1.3, GOAL_RADIUS = 0.15, EDGE_X = 1.8, EDGE_Y = 1.2;
static const double HALF_THICKNESS = 0.1;
static const double STEP = 0.05;      // s
static const double RESPONSE = 0.3;   // share of the wanted velocity's change that one step brings
static const double STEP_COST = 0.005;

typedef struct {
    double x, y, v_x, v_y;
    double side, turn_x, clearance, pace, sway;  // the expert's: 1 or -1; where it turns; metres; speed; its phase
} Env;

static inline void c_observe(const Env *env, Io io) {
    io.observations[0] = (float)env->x;
    io.observations[1] = (float)env->y;
    io.observations[2] = (float)env->v_x;
    io.observations[3] = (float)env->v_y;
}

static inline void c_reset(Env *env, Io io) {
    *env = (Env){
        .x = START_X,
        .y = rng_uniform(io.rng, -0.6, 0.6),
        .side = rng_double(io.rng) < 0.5 ? 1 : -1,
        .turn_x = rng_uniform(io.rng, -0.55, -0.35),
        .clearance = rng_uniform(io.rng, 0.05, 0.2),
        .pace = rng_uniform(io.rng, 0.7, 1),
        .sway = rng_uniform(io.rng, -PI, PI),
    };
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    env->v_x += RESPONSE * (io.actions[0] - env->v_x);
    env->v_y += RESPONSE * (io.actions[1] - env->v_y);
    const double before = env->x;
    env->x = clip(env->x + STEP * env->v_x, -EDGE_X, EDGE_X);
    env->y = clip(env->y + STEP * env->v_y, -EDGE_Y, EDGE_Y);

    const double to_goal = env->x - GOAL_X;
    const bool hit = fabs(env->x) < HALF_THICKNESS && fabs(env->y) < io.params->half_width;
    const bool reached = to_goal * to_goal + env->y * env->y < GOAL_RADIUS * GOAL_RADIUS;
    io.rewards[0] = (float)((reached ? 1 : hit ? -1 : 0) - STEP_COST);
    io.terminations[0] = hit | reached;
    io.log->success = reached;
    if (before < 0 && env->x >= 0)
        io.log->above = env->y > 0;
    c_observe(env, io);
}

/* Straight on until turn_x, then past the wall's end on its side, one corner after the other, and to the goal. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const double beside = io.params->half_width + env->clearance, corner = HALF_THICKNESS + env->clearance;
    const bool past_end = env->side * env->y > io.params->half_width + env->clearance / 2;
    double aim_x = GOAL_X, aim_y = 0;
    if (env->x < corner) {
        aim_x = past_end ? corner + 0.1 : -corner;
        aim_y = env->side * beside;
    }
    double angle = env->x < env->turn_x ? 0 : atan2(aim_y - env->y, aim_x - env->x);
    angle += 0.4 * sin(env->sway + 4 * env->x);
    const double tremor[2] = {rng_uniform(io.rng, -1, 1) + rng_uniform(io.rng, -1, 1) + rng_uniform(io.rng, -1, 1),
                              rng_uniform(io.rng, -1, 1) + rng_uniform(io.rng, -1, 1) + rng_uniform(io.rng, -1, 1)};
    actions[0] = (float)clip(env->pace * cos(angle) + io.params->tremor * tremor[0], -1, 1);
    actions[1] = (float)clip(env->pace * sin(angle) + io.params->tremor * tremor[1], -1, 1);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const double scale = canvas->width / (2 * EDGE_X), x = canvas->width / 2.0, y = canvas->height / 2.0;
    const double half = io.params->half_width * scale, thick = HALF_THICKNESS * scale;
    canvas_rect(canvas, x - thick, y - half, 2 * thick, 2 * half, CANVAS_GREY);
    canvas_disc(canvas, x + GOAL_X * scale, y, GOAL_RADIUS * scale, CANVAS_GREEN);
    const double place_x = x + env->x * scale, place_y = y - env->y * scale;
    canvas_line(canvas, place_x, place_y, place_x + 30 * clip(io.actions[0], -1, 1),
                place_y - 30 * clip(io.actions[1], -1, 1), 4, CANVAS_GOLD);
    canvas_disc(canvas, place_x, place_y, 9, CANVAS_RED);
}
