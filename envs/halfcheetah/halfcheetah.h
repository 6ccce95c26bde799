/* Half of a cheetah that runs (Wawrzyński 2009), equal to Gymnasium's HalfCheetah-v5 and HalfCheetah-v4 step for step,
 * which follow the same rules. */
enum { NQ = 9, NV = 9, NBODY = 8, CARRIED = 0, START_NORMAL = 1 };

#include "mujoco_planar.h"

static inline void c_observe(const Env *env, Io io) {
    put_state(env, io, io.params->exclude_current_positions_from_observation, INFINITY);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 90, .elevation = -15, .width = 4, .height = 0.5, .follows = true});
}
