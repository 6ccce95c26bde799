/* Torque-limited pendulum swing-up, equal to Gymnasium's Pendulum-v1 step for step. */
#include "env.h"
#include "trig.h"

static const double MAX_SPEED = 8;  // rad/s
static const double STEP = 0.05;    // s

typedef struct {
    double theta, theta_dot;  // from the upright position, not wrapped
} Env;

static inline void c_observe(const Env *env, Io io) {
    double sine, cosine;
    sin_cos(env->theta, &sine, &cosine);
    io.observations[0] = (float)cosine;
    io.observations[1] = (float)sine;
    io.observations[2] = (float)env->theta_dot;
}

static inline void c_reset(Env *env, Io io) {
    env->theta = rng_uniform(io.rng, -PI, PI);
    env->theta_dot = rng_uniform(io.rng, -1, 1);
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const float torque = io.actions[0];  // its terms are rounded to float, as NumPy does for Gymnasium
    const float torque_cost = 0.001f * (torque * torque);
    const float torque_acc = (float)(p->gain * 3 / (p->m * p->l * p->l)) * torque;
    double sine, cosine;
    sin_cos(env->theta, &sine, &cosine);

    const double angle = wrap_angle(env->theta);
    io.rewards[0] = (float)-(angle * angle + 0.1 * (env->theta_dot * env->theta_dot) + torque_cost);
    const double theta_acc = 3 * p->g / (2 * p->l) * sine + torque_acc;
    env->theta_dot = clip(env->theta_dot + theta_acc * STEP, -MAX_SPEED, MAX_SPEED);
    env->theta += env->theta_dot * STEP;
    c_observe(env, io);
}

/* Near the top a spring and a damper hold the pendulum; elsewhere the torque goes along with the motion as long as the
 * energy is below that of standing upright, and brakes above. The numbers are the best of a search with the default
 * parameters: about -150 on average, where -140 would be perfect. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    const Params *p = io.params;
    const double angle = wrap_angle(env->theta), speed = env->theta_dot;
    double sine, cosine;
    sin_cos(angle, &sine, &cosine);
    const double missing = 3 * p->g / (2 * p->l) * (1 - cosine) - speed * speed / 2;  // energy by moment of inertia
    const double swing = 0.6 * (missing + 0.5) * (speed >= 0 ? 1 : -1);
    const double hold = -(11.5 * angle + 3 * speed) * p->m * p->l * p->l;
    const double torque = fabs(angle + 0.17 * speed) < 0.46 ? hold : swing;
    actions[0] = (float)clip(p->gain ? torque / p->gain : 0, ACTION_LOW(p, 0), ACTION_HIGH(p, 0));
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const double x = canvas->width / 2.0, y = canvas->height / 2.0, length = canvas->width * 0.36;
    canvas_line(canvas, x, y, x - length * sin(env->theta), y - length * cos(env->theta), 36, CANVAS_RED);
    canvas_disc(canvas, x, y, 8, CANVAS_INK);

    /* The last torque as an arc about the axle, a third of the circle at the limit, with an arrowhead. */
    enum { PARTS = 24 };
    const double limit = ACTION_HIGH(io.params, 0), r = canvas->width * 0.13;
    const double turn = -clip(io.actions[0], -limit, limit) / limit * 2 * PI / 3;
    if (fabs(turn) < 0.05)
        return;
    for (int k = 0; k < PARTS; k++) {
        const double a = turn * k / PARTS, b = turn * (k + 1) / PARTS;
        canvas_line(canvas, x + r * sin(a), y - r * cos(a), x + r * sin(b), y - r * cos(b), 5, CANVAS_INK);
    }
    const double tip_x = x + r * sin(turn), tip_y = y - r * cos(turn), side = turn > 0 ? 1 : -1;
    const double along_x = cos(turn) * side, along_y = sin(turn) * side, out_x = sin(turn), out_y = -cos(turn);
    canvas_polygon(canvas, (double[]){tip_x + 16 * along_x, tip_y + 16 * along_y, tip_x + 10 * out_x,
                                      tip_y + 10 * out_y, tip_x - 10 * out_x, tip_y - 10 * out_y}, 3, CANVAS_INK);
}
