/* Torque-limited pendulum swing-up, equal to Gymnasium's Pendulum-v1 step for step. */
#include "env.h"
#include "trig.h"

static const double MAX_SPEED = 8;  // rad/s
static const double STEP = 0.05;    // s

typedef struct {
    double theta, theta_dot;  // from the upright position, not wrapped
} Env;

static inline void observe(const Env *env, Io io) {
    double sine, cosine;
    sin_cos(env->theta, &sine, &cosine);
    io.observations[0] = (float)cosine;
    io.observations[1] = (float)sine;
    io.observations[2] = (float)env->theta_dot;
}

static inline void c_reset(Env *env, Io io) {
    env->theta = rng_uniform(io.rng, -PI, PI);
    env->theta_dot = rng_uniform(io.rng, -1, 1);
    observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const float torque = io.actions[0];  // its terms are rounded to float, as NumPy does for Gymnasium
    const float torque_cost = 0.001f * (torque * torque);
    const float torque_acc = (float)(3 / (p->m * p->l * p->l)) * torque;
    double sine, cosine;
    sin_cos(env->theta, &sine, &cosine);

    const double angle = wrap_angle(env->theta);
    io.rewards[0] = (float)-(angle * angle + 0.1 * (env->theta_dot * env->theta_dot) + torque_cost);
    const double theta_acc = 3 * p->g / (2 * p->l) * sine + torque_acc;
    env->theta_dot = clip(env->theta_dot + theta_acc * STEP, -MAX_SPEED, MAX_SPEED);
    env->theta += env->theta_dot * STEP;
    observe(env, io);
}
