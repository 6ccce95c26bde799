/* A leg that hops (Erez, Tassa and Todorov 2012), equal to Gymnasium's Hopper-v5 and Hopper-v4 step for step. */
enum { NQ = 6, NV = 6, NBODY = 5, CARRIED = 0, START_NORMAL = 0 };

#define STAYS_HEALTHY
#include "mujoco_planar.h"

static inline void c_observe(const Env *env, Io io) {
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

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 90, .elevation = -15, .width = 4, .height = 0.9, .follows = true});
}
