/* Runners in a plane (mujoco_runner.h), whose first position is x. <name>.h defines START_NORMAL: 1 if velocities are
 * drawn from a normal distribution at the start, 0 if from a uniform one. */
#ifndef PUFFER_IL_MUJOCO_PLANAR_H
#define PUFFER_IL_MUJOCO_PLANAR_H

#include "mujoco_runner.h"

static inline void c_reset(Env *env, Io io) {
    draw_start(env, io, io.params->reset_noise_scale, START_NORMAL);
    begin(env, io);
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const double x = env->qpos[0];
    if (simulate(env, io)) {
        judge(env, io, env->qpos[0] - x, 0);
        c_observe(env, io);
    }
}

#endif
