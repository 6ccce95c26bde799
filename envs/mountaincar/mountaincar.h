/* Mountain car of Moore (1990), equal to Gymnasium's MountainCar-v0 step for step. */
#include "env.h"
#include "trig.h"
#include "valley.h"

static const double MIN_POSITION = -1.2, MAX_POSITION = 0.6, MAX_SPEED = 0.07, GOAL_POSITION = 0.5;

typedef struct {
    double position, velocity;
} Env;

static inline void c_observe(const Env *env, Io io) {
    io.observations[0] = (float)env->position;
    io.observations[1] = (float)env->velocity;
}

static inline void c_reset(Env *env, Io io) {
    env->position = rng_uniform(io.rng, -0.6, -0.4);
    env->velocity = 0;
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    double sine, slope;
    sin_cos(3 * env->position, &sine, &slope);

    double velocity = env->velocity + ((io.actions[0] - 1) * p->force - slope * p->gravity);
    velocity = clip(velocity, -MAX_SPEED, MAX_SPEED);
    const double position = env->position + velocity;
    velocity = (position <= MIN_POSITION) & (velocity < 0) ? 0 : velocity;  // the wall on the left stops the car

    env->position = clip(position, MIN_POSITION, MAX_POSITION);
    env->velocity = velocity;
    io.rewards[0] = -1;
    io.terminations[0] = (position >= GOAL_POSITION) & (velocity >= p->goal_velocity);
    c_observe(env, io);
}

/* Pushes the way that the car goes, and so adds to its energy with every swing. It turns back early on the right, the
 * further up the sooner, unless the car is fast: short swings that do not reach the goal cost the least time. The
 * line in the plane of position and velocity is the best of a grid: -106 on average, where -98 would be perfect. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    actions[0] = env->velocity > 0.011 * (env->position + 0.47) ? 2 : 0;
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw_valley(canvas, env->position, MIN_POSITION, MAX_POSITION, GOAL_POSITION);
}
