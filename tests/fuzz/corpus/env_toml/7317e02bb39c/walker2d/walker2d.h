/* Two legs that walk (Erez, Tassa and Todorov 2012), equal to Gymnasium's Walker2d-v5 and Walker2d-v4 step for step. */
enum { NQ = 9, NV = 9, NBODY = 8, CARRIED = 0, START_NORMAL = 0 };

#define STAYS_HEALTHY
#include "mujoco_planar.h"

static inline void c_observe(const Env *env, Io io) {
    put_state(env, io, io.params->exclude_current_positions_from_observation, 10);
}

static inline bool is_healthy(const Env *env, const Params *p) {
    return p->healthy_z_min < env->qpos[1] && env->qpos[1] < p->healthy_z_max &&
           p->healthy_angle_min < env->qpos[2] && env->qpos[2] < p->healthy_angle_max;
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 90, .elevation = -15, .width = 4.5, .height = 0.9, .follows = true});
}
