/* A leg that hops (Erez, Tassa and Todorov 2012), equal to Gymnasium's Hopper-v5 and Hopper-v4 step for step. */
enum { NQ = 6, NV = 6, NBODY = 5, CARRIED = 0 };

#include "mujoco_env.h"

static inline void observe(const Env *env, Io io) {
    put_state(env, io, io.params->exclude_current_positions_from_observation, 10);
}

static inline bool is_healthy(const Env *env, const Params *p) {
    bool healthy = p->healthy_z_min < env->qpos[1] && env->qpos[1] < p->healthy_z_max &&
                   p->healthy_angle_min < env->qpos[2] && env->qpos[2] < p->healthy_angle_max;
    for (int k = 2; k < NQ; k++)
        healthy &= p->healthy_state_min < env->qpos[k] && env->qpos[k] < p->healthy_state_max;
    for (int k = 0; k < NV; k++)
        healthy &= p->healthy_state_min < env->qvel[k] && env->qvel[k] < p->healthy_state_max;
    return healthy;
}

static inline void c_reset(Env *env, Io io) {
    draw_start(env, io, io.params->reset_noise_scale, false);
    begin(env, io);
    observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const double x = env->qpos[0];
    if (!simulate(env, io))
        return;
    const double cost = p->ctrl_cost_weight * actions_squared(io), moved = env->qpos[0] - x;
    const bool healthy = is_healthy(env, p);
    const bool survives = healthy || (p->version == VERSION_V4 && p->terminate_when_unhealthy);
    io.rewards[0] = (float)(p->forward_reward_weight * (moved / step_time(io)) + survives * p->healthy_reward - cost);
    io.terminations[0] = !healthy && p->terminate_when_unhealthy;
    io.log->distance += (float)moved;
    io.log->control_cost += (float)cost;
    observe(env, io);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 90, .elevation = -15, .width = 4, .height = 0.9, .follows = true});
}
