/* Four legs that walk in any direction (Schulman et al. 2016), equal to Gymnasium's Ant-v5 and Ant-v4 step for step. */
enum { NQ = 15, NV = 14, NBODY = 14 };
enum { CARRIED = 2 + 6 * NBODY };  // the trunk's x and y, and the contact forces on all bodies, clipped

#define STAYS_HEALTHY
#include "mujoco_runner.h"

/* The world's, the first, are always 0; only v4 observes them. */
static inline void c_observe(const Env *env, Io io) {
    const Params *p = io.params;
    Obs *obs = put_state(env, io, 2 * p->exclude_current_positions_from_observation, INFINITY);
    const double *forces = env->carried + 2;
    if (p->version == VERSION_V4 && p->use_contact_forces)
        put(obs, forces, 6 * NBODY, INFINITY);
    else if (p->version == VERSION_V5 && p->include_cfrc_ext_in_observation)
        put(obs, forces + 6, 6 * (NBODY - 1), INFINITY);
}

static inline bool feels_contacts(const Params *p) {
    return p->version == VERSION_V4 ? p->use_contact_forces
                                    : p->include_cfrc_ext_in_observation || p->contact_cost_weight != 0;
}

static inline bool is_healthy(const Env *env, const Params *p) {
    return p->healthy_z_min <= env->qpos[2] && env->qpos[2] <= p->healthy_z_max;
}

static inline void carry(Env *env, Io io, const mjData *d) {
    const Params *p = io.params;
    memcpy(env->carried, d->xpos + 3, 2 * sizeof *env->carried);
    if (feels_contacts(p))
        for (int k = 0; k < 6 * NBODY; k++)
            env->carried[2 + k] = clip(d->cfrc_ext[k], p->contact_force_min, p->contact_force_max);
}

static inline void c_reset(Env *env, Io io) {
    draw_start(env, io, io.params->reset_noise_scale, true);
    carry(env, io, begin(env, io));
    for (int k = 0; k < 6 * NBODY; k++)  // not computed yet
        env->carried[2 + k] = clip(0, io.params->contact_force_min, io.params->contact_force_max);
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const double x = env->carried[0];
    const mjData *d = simulate(env, io);
    if (!d)
        return;
    if (feels_contacts(p))
        compute_forces(io);
    carry(env, io, d);
    const double contact = feels_contacts(p) ? p->contact_cost_weight * sum_of_squares(env->carried + 2, 6 * NBODY) : 0;
    judge(env, io, env->carried[0] - x, contact);
    io.log->contact_cost += (float)contact;
    c_observe(env, io);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 65, .elevation = -30, .width = 4, .height = 0.4, .follows = true});
}
