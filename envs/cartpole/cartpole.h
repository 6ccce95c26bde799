/* Cart-pole of Barto, Sutton and Anderson (1983), equal to Gymnasium's CartPole-v1 step for step. */
#include "env.h"
#include "trig.h"

static const double POSITION_LIMIT = 2.4;               // m
static const double ANGLE_LIMIT = 12 * 2 * PI / 360;    // rad

typedef struct {
    double x, x_dot, theta, theta_dot;
} Env;

static inline void observe(const Env *env, Io io) {
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
    observe(env, io);
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
    observe(env, io);
}
