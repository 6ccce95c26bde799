/* The reward of what runs along x (mujoco_env.h): its speed, less the cost of its actions. With a first line
 * `#define STAYS_HEALTHY` <name>.h has it paid for staying so as well, and defines what that is in is_healthy(). */
#ifndef PUFFER_IL_MUJOCO_RUNNER_H
#define PUFFER_IL_MUJOCO_RUNNER_H

#include "mujoco_env.h"

#ifdef STAYS_HEALTHY
static inline bool is_healthy(const Env *env, const Params *p);
#endif

/* Reward, end and log of a step that brought it `moved` metres ahead and cost `contact` besides its actions. */
static inline void judge(const Env *env, Io io, double moved, double contact) {
    const Params *p = io.params;
    const double control = p->ctrl_cost_weight * actions_squared(io);
    double gain = p->forward_reward_weight * (moved / step_time(io));
#ifdef STAYS_HEALTHY
    const bool healthy = is_healthy(env, p);
    // v4 pays for any step where an unhealthy one would be the last.
    gain += (healthy || (p->version == VERSION_V4 && p->terminate_when_unhealthy)) * p->healthy_reward;
    io.terminations[0] = !healthy && p->terminate_when_unhealthy;
#else
    (void)env;
#endif
    io.rewards[0] = (float)(gain - (control + contact));
    io.log->distance += (float)moved;
    io.log->control_cost += (float)control;
}

#endif
