/* Mountain car of Moore (1990) with a continuous push, equal to Gymnasium's MountainCarContinuous-v0 step for step. */
#include "env.h"
#include "trig.h"
#include "../mountaincar/valley.h"

static const float MIN_POSITION = -1.2f, MAX_POSITION = 0.6f, MAX_SPEED = 0.07f, GOAL_POSITION = 0.45f;
static const float POWER = 0.0015f;

typedef struct {
    float position, velocity;  // as in Gymnasium, which rounds them to float in every step (we do at the start, too)
} Env;

static inline void c_observe(const Env *env, Io io) {
    io.observations[0] = env->position;
    io.observations[1] = env->velocity;
}

static inline void c_reset(Env *env, Io io) {
    env->position = (float)rng_uniform(io.rng, -0.6, -0.4);
    env->velocity = 0;
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const float force = io.actions[0], given = io.given[0];
    double sine, slope;
    sin_cos(3 * env->position, &sine, &slope);

    // Gymnasium computes a push that it has clipped in double.
    const float pull = force == given ? force * POWER - (float)(0.0025 * slope)
                                      : (float)(force * 0.0015 - 0.0025 * slope);
    float velocity = env->velocity + pull;
    velocity = velocity > MAX_SPEED ? MAX_SPEED : velocity < -MAX_SPEED ? -MAX_SPEED : velocity;
    float position = env->position + velocity;
    position = position > MAX_POSITION ? MAX_POSITION : position < MIN_POSITION ? MIN_POSITION : position;
    velocity = (position == MIN_POSITION) & (velocity < 0) ? 0 : velocity;  // the wall on the left stops the car

    env->position = position;
    env->velocity = velocity;
    const bool reached = (position >= GOAL_POSITION) & (velocity >= (float)io.params->goal_velocity);
    io.rewards[0] = (float)((reached ? 100 : 0) - 0.1 * ((double)given * given));  // it charges for all of it
    io.terminations[0] = reached;
    c_observe(env, io);
}

/* Of all pushes that bring the car to the same energy, those in proportion to its velocity cost the least; a little
 * more keeps swings from dying out near rest. 97 on average. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    actions[0] = 10 * env->velocity + (env->velocity >= 0 ? 0.1f : -0.1f);
}

static inline void c_get_state(const Env *env, Io io, double *state) {
    state[0] = env->position;
    state[1] = env->velocity;
}

static inline void c_set_state(Env *env, Io io, const double *state) {
    *env = (Env){(float)state[0], (float)state[1]};
    c_observe(env, io);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw_valley(canvas, env->position, MIN_POSITION, MAX_POSITION, GOAL_POSITION);
}
