/* Cart-pole of Barto, Sutton and Anderson (1983), equal to Gymnasium's CartPole-v1 step for step. */
#include "env.h"
#include "trig.h"

static const double POSITION_LIMIT = 2.4;               // m
static const double ANGLE_LIMIT = 12 * 2 * PI / 360;    // rad

typedef struct {
    double x, x_dot, theta, theta_dot;
} Env;

static inline void c_observe(const Env *env, Io io) {
    io.observations[0] = (float)env->x;
    io.observations[1] = (float)env->x_dot;
    io.observations[2] = (float)env->theta;
    io.observations[3] = (float)env->theta_dot;
}

static inline void c_reset(Env *env, Io io) {
    env->x = rng_uniform(io.rng, -0.05, 0.05);
    env->x_dot = rng_uniform(io.rng, -0.05, 0.05);
    env->theta = rng_uniform(io.rng, -0.05, 0.05);
    env->theta_dot = rng_uniform(io.rng, -0.05, 0.05);
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const double inverse_mass = 1 / (p->masscart + p->masspole);
    const double pole_moment = p->masspole * p->length;
    const double force = io.actions[0] == 1 ? p->force_mag : -p->force_mag;

    double sine, cosine;
    sin_cos(env->theta, &sine, &cosine);
    const double push = (force + pole_moment * env->theta_dot * env->theta_dot * sine) * inverse_mass;
    const double theta_acc = (p->gravity * sine - cosine * push) /
                             (p->length * (4.0 / 3.0 - p->masspole * inverse_mass * cosine * cosine));
    const double x_acc = push - pole_moment * theta_acc * cosine * inverse_mass;

    env->x += p->tau * env->x_dot;
    env->x_dot += p->tau * x_acc;
    env->theta += p->tau * env->theta_dot;
    env->theta_dot += p->tau * theta_acc;

    const bool fell = !(fabs(env->x) <= POSITION_LIMIT) | !(fabs(env->theta) <= ANGLE_LIMIT);
    io.terminations[0] = fell;
    if (p->sutton_barto_reward)
        io.rewards[0] = fell ? -1 : 0;
    else
        io.rewards[0] = 1;
    c_observe(env, io);
}

/* Steers by where the pole is about to lean; leaning with the cart's place and drift makes the cart come back. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    actions[0] = env->theta + 0.4 * env->theta_dot + 0.1 * env->x + 0.2 * env->x_dot > 0;
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const double scale = canvas->width / (2 * POSITION_LIMIT + 0.8);  // pixels per metre
    const double middle = canvas->width / 2.0, track = canvas->height * 0.72;
    const double x = middle + env->x * scale, axle = track - 34, length = 2 * io.params->length * scale;

    canvas_line(canvas, 0, track, canvas->width, track, 2, CANVAS_GREY);
    for (int side = -1; side <= 1; side += 2)  // the ends of the track
        canvas_line(canvas, middle + side * POSITION_LIMIT * scale, track - 9, middle + side * POSITION_LIMIT * scale,
                    track + 9, 4, CANVAS_RED);
    canvas_rect(canvas, x - 32, track - 40, 64, 28, CANVAS_INK);
    for (int side = -1; side <= 1; side += 2)
        canvas_disc(canvas, x + 18 * side, track - 9, 8, CANVAS_GREY);
    canvas_line(canvas, x, axle, x + length * sin(env->theta), axle - length * cos(env->theta), 11, CANVAS_GOLD);
    canvas_disc(canvas, x, axle, 5, CANVAS_BLUE);
}
