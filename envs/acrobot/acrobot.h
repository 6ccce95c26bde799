/* Two-link underactuated robot of Sutton (1996), equal to Gymnasium's Acrobot-v1 step for step: the equations of
 * motion of Sutton and Barto's book, integrated by one step of fourth-order Runge-Kutta. */
#include "env.h"
#include "trig.h"

static const double MAX_SPEED_1 = 4 * PI, MAX_SPEED_2 = 9 * PI;  // rad/s
static const double GRAVITY = 9.8;                               // m/s²

typedef struct {
    double theta1, theta2;  // of the first link from hanging down, of the second from the first; rad
    double speed1, speed2;
} Env;

static inline void c_observe(const Env *env, Io io) {
    double sine1, cosine1, sine2, cosine2;
    sin_cos(env->theta1, &sine1, &cosine1);
    sin_cos(env->theta2, &sine2, &cosine2);
    io.observations[0] = (float)cosine1;
    io.observations[1] = (float)sine1;
    io.observations[2] = (float)cosine2;
    io.observations[3] = (float)sine2;
    io.observations[4] = (float)env->speed1;
    io.observations[5] = (float)env->speed2;
}

/* Of the free end over the fixed one, in lengths of a link. */
static inline double height(const Env *env) {
    double sine, cosine1, cosine12;
    sin_cos(env->theta1, &sine, &cosine1);
    sin_cos(env->theta1 + env->theta2, &sine, &cosine12);
    return -cosine1 - cosine12;
}

static inline Env derivative(Env s, double torque, const Params *p) {
    const double m1 = p->link_mass_1, m2 = p->link_mass_2, l1 = p->link_length_1;
    const double lc1 = p->link_com_pos_1, lc2 = p->link_com_pos_2, inertia = p->link_moi;
    double sine1, sine2, sine12, cosine2, unused;
    sin_cos(s.theta1, &sine1, &unused);
    sin_cos(s.theta2, &sine2, &cosine2);
    sin_cos(s.theta1 + s.theta2, &sine12, &unused);

    const double d1 = m1 * lc1 * lc1 + m2 * (l1 * l1 + lc2 * lc2 + 2 * l1 * lc2 * cosine2) + 2 * inertia;
    const double d2 = m2 * (lc2 * lc2 + l1 * lc2 * cosine2) + inertia;
    const double coupling = m2 * l1 * lc2 * sine2;
    const double phi2 = m2 * lc2 * GRAVITY * sine12;
    const double phi1 = -coupling * s.speed2 * s.speed2 - 2 * coupling * s.speed2 * s.speed1 +
                        (m1 * lc1 + m2 * l1) * GRAVITY * sine1 + phi2;
    const double ratio = d2 / d1;
    const double acc2 = (torque + ratio * phi1 - coupling * s.speed1 * s.speed1 - phi2) /
                        (m2 * lc2 * lc2 + inertia - d2 * ratio);
    const double acc1 = -(d2 * acc2 + phi1) / d1;
    return (Env){s.speed1, s.speed2, acc1, acc2};
}

static inline Env add(Env s, double time, Env rate) {
    return (Env){s.theta1 + time * rate.theta1, s.theta2 + time * rate.theta2, s.speed1 + time * rate.speed1,
                 s.speed2 + time * rate.speed2};
}

static inline void c_reset(Env *env, Io io) {
    env->theta1 = (float)rng_uniform(io.rng, -0.1, 0.1);  // float as in Gymnasium
    env->theta2 = (float)rng_uniform(io.rng, -0.1, 0.1);
    env->speed1 = (float)rng_uniform(io.rng, -0.1, 0.1);
    env->speed2 = (float)rng_uniform(io.rng, -0.1, 0.1);
    c_observe(env, io);
}

/* The state `dt` later. */
static inline Env integrate(Env start, double torque, const Params *p) {
    const Env k1 = derivative(start, torque, p);
    const Env k2 = derivative(add(start, p->dt / 2, k1), torque, p);
    const Env k3 = derivative(add(start, p->dt / 2, k2), torque, p);
    const Env k4 = derivative(add(start, p->dt, k3), torque, p);
    const Env end = add(start, p->dt / 6, add(add(add(k1, 2, k2), 2, k3), 1, k4));

    return (Env){wrap_angle(end.theta1), wrap_angle(end.theta2), clip(end.speed1, -MAX_SPEED_1, MAX_SPEED_1),
                 clip(end.speed2, -MAX_SPEED_2, MAX_SPEED_2)};
}

static inline void c_step(Env *env, Io io) {
    *env = integrate(*env, (io.actions[0] - 1) * io.params->torque, io.params);
    const bool reached = height(env) > 1;
    io.rewards[0] = reached ? 0 : -1;
    io.terminations[0] = reached;
    c_observe(env, io);
}

/* Steps until the end is over the line if the torque stays, at most `limit`. */
static inline int steps_to_line(Env env, double torque, int limit, const Params *p) {
    int steps = 0;
    while (steps < limit && height(&env) <= 1) {
        env = integrate(env, torque, p);
        steps++;
    }
    return steps;
}

/* Pumps energy into the first link, which is pushed by the reaction to the torque; but once one torque lifts the end
 * over the line within a few steps, holds the one that does it first. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    enum { LOOK_AHEAD = 12 };
    const double torque = io.params->torque;
    const int left = steps_to_line(*env, -torque, LOOK_AHEAD, io.params);
    const int right = steps_to_line(*env, torque, LOOK_AHEAD, io.params);
    actions[0] = left != right ? (left < right ? 0 : 2) : (env->speed1 > 0 ? 0 : 2);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    const double link = canvas->width / 4.6, x0 = canvas->width / 2.0, y0 = canvas->height / 2.0;
    const double angle12 = env->theta1 + env->theta2;
    const double x1 = x0 + link * sin(env->theta1), y1 = y0 + link * cos(env->theta1);
    const double x2 = x1 + link * sin(angle12), y2 = y1 + link * cos(angle12);

    canvas_line(canvas, 0, y0 - link, canvas->width, y0 - link, 3, CANVAS_RED);
    canvas_line(canvas, x0, y0, x1, y1, 18, CANVAS_BLUE);
    canvas_line(canvas, x1, y1, x2, y2, 18, CANVAS_GOLD);
    canvas_disc(canvas, x0, y0, 7, CANVAS_INK);
    canvas_disc(canvas, x1, y1, 7, CANVAS_INK);
    canvas_disc(canvas, x2, y2, 6, height(env) > 1 ? CANVAS_GREEN : CANVAS_PAPER);
}
