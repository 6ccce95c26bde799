/* Three links that swim (Coulom 2002), equal to Gymnasium's Swimmer-v5 and Swimmer-v4 step for step, which follow the
 * same rules. */
enum { NQ = 5, NV = 5, NBODY = 4, CARRIED = 0, START_NORMAL = 0 };

#include "mujoco_planar.h"

static inline void c_observe(const Env *env, Io io) {
    put_state(env, io, 2 * io.params->exclude_current_positions_from_observation, INFINITY);
}

/* Found by a cross-entropy search over linear policies; its return is 350, Gymnasium's threshold 360. */
static inline void c_expert(const Env *env, Io io, Action *actions) {
    static const double WEIGHTS[2][8] = {{0.66, -0.15, -2.01, -0.03, 1.7, 0.27, 0.21, -0.41},
                                         {0.79, 1.38, -0.18, 0.37, 0.14, -1.1, 2.59, 0.69}};
    for (int a = 0; a < 2; a++) {
        double torque = 0;
        for (int k = 0; k < 3; k++)
            torque += WEIGHTS[a][k] * env->qpos[2 + k];
        for (int k = 0; k < NV; k++)
            torque += WEIGHTS[a][3 + k] * env->qvel[k];
        actions[a] = (Action)clip(torque, -1, 1);
    }
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 90, .elevation = -90, .width = 8, .follows = true});
}
