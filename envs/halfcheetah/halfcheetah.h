/* Half of a cheetah that runs (Wawrzyński 2009), equal to Gymnasium's HalfCheetah-v5 and HalfCheetah-v4 step for step,
 * which follow the same rules. */
enum { NQ = 9, NV = 9, NBODY = 8, CARRIED = 0 };

#include "mujoco_env.h"

static inline void observe(const Env *env, Io io) {
    put_state(env, io, io.params->exclude_current_positions_from_observation, INFINITY);
}

static inline void c_reset(Env *env, Io io) {
    draw_start(env, io, io.params->reset_noise_scale, true);
    begin(env, io);
    observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const double x = env->qpos[0];
    if (!simulate(env, io))
        return;
    const double cost = p->ctrl_cost_weight * actions_squared(io), moved = env->qpos[0] - x;
    io.rewards[0] = (float)(p->forward_reward_weight * (moved / step_time(io)) - cost);
    io.log->distance += (float)moved;
    io.log->control_cost += (float)cost;
    observe(env, io);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 90, .elevation = -15, .width = 4, .height = 0.5, .follows = true});
}
