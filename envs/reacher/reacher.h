/* An arm of two links that points at a target, equal to Gymnasium's Reacher-v5 and Reacher-v4 step for step. */
enum { NQ = 4, NV = 4, NBODY = 5 };
enum { CARRIED = 3 };  // from the target to the fingertip, m

#include "mujoco_env.h"

static inline void c_observe(const Env *env, Io io) {
    Obs *obs = io.observations;
    for (int k = 0; k < 2; k++) {
        obs[k] = (Obs)cos(env->qpos[k]);
        obs[2 + k] = (Obs)sin(env->qpos[k]);
    }
    obs = put(obs + 4, env->qpos + 2, 2, INFINITY);
    obs = put(obs, env->qvel, 2, INFINITY);
    put(obs, env->carried, io.params->version == VERSION_V4 ? 3 : 2, INFINITY);
}

static inline void carry(Env *env, const mjData *d) {
    const double *fingertip = d->xpos + 3 * 3, *target = d->xpos + 3 * 4;
    for (int k = 0; k < 3; k++)
        env->carried[k] = fingertip[k] - target[k];
}

static inline void c_reset(Env *env, Io io) {
    const double *initial = model_of(io)->qpos0;
    for (int k = 0; k < 2; k++) {
        env->qpos[k] = initial[k] + rng_uniform(io.rng, -0.1, 0.1);
        env->qvel[k] = rng_uniform(io.rng, -0.005, 0.005);
    }
    double *goal = env->qpos + 2;
    do {
        goal[0] = rng_uniform(io.rng, -0.2, 0.2);
        goal[1] = rng_uniform(io.rng, -0.2, 0.2);
    } while (hypot(goal[0], goal[1]) >= 0.2);
    env->qvel[2] = env->qvel[3] = 0;
    carry(env, begin(env, io));
    c_observe(env, io);
}

static inline double distance(const Env *env) {
    return sqrt(sum_of_squares(env->carried, 3));
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const double before = distance(env);  // which is what v4 rewards
    const mjData *d = simulate(env, io);
    if (!d)
        return;
    carry(env, d);
    const double cost = p->reward_control_weight * actions_squared(io);
    const double rewarded = p->version == VERSION_V4 ? before : distance(env);
    io.rewards[0] = (float)(-p->reward_dist_weight * rewarded - cost);
    io.log->final_distance = (float)distance(env);
    io.log->control_cost += (float)cost;
    c_observe(env, io);
}

/* Both joints go to the angles that reach the target, like damped springs; of the two ways to bend the elbow the nearer
 * one. The gains are those of the best return, -3.5; Gymnasium's threshold is -3.75. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    static const double LINK_1 = 0.1, LINK_2 = 0.11, STIFFNESS = 0.3, DAMPING = 0.055;
    const double x = env->qpos[2], y = env->qpos[3];
    const double cosine = (x * x + y * y - LINK_1 * LINK_1 - LINK_2 * LINK_2) / (2 * LINK_1 * LINK_2);
    double nearest = INFINITY;
    for (int side = -1; side <= 1; side += 2) {
        const double elbow = side * acos(clip(cosine, -1, 1));
        const double shoulder = atan2(y, x) - atan2(LINK_2 * sin(elbow), LINK_1 + LINK_2 * cos(elbow));
        const double turn[2] = {remainder(shoulder - env->qpos[0], 2 * mjPI), elbow - env->qpos[1]};
        if (sum_of_squares(turn, 2) < nearest) {
            nearest = sum_of_squares(turn, 2);
            for (int k = 0; k < 2; k++)
                actions[k] = (Action)clip(STIFFNESS * turn[k] - DAMPING * env->qvel[k], -1, 1);
        }
    }
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 90, .elevation = -90, .width = 0.8});
}
