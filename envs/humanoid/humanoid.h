/* A figure that walks (Tassa, Erez and Todorov 2012), equal to Gymnasium's Humanoid-v5 and -v4 step for step. */
enum { NQ = 24, NV = 23, NBODY = 14 };
enum { INERTIAS = 2, VELOCITIES = INERTIAS + 10 * NBODY, MOTORS = VELOCITIES + 6 * NBODY, FORCES = MOTORS + NV };
enum { CARRIED = FORCES + 6 * NBODY };  // the centre of mass (x, y), then what is observed of all bodies from these on

#define STAYS_HEALTHY
#include "mujoco_runner.h"

/* v4 also observes the world, the first body, and the root's joints, which have no motors: zeros all of them. */
static inline void c_observe(const Env *env, Io io) {
    const Params *p = io.params;
    const bool v5 = p->version == VERSION_V5;
    const double *c = env->carried;
    Obs *obs = put_state(env, io, 2 * p->exclude_current_positions_from_observation, INFINITY);
    if (!v5 || p->include_cinert_in_observation)
        obs = put(obs, c + INERTIAS + 10 * v5, 10 * (NBODY - v5), INFINITY);
    if (!v5 || p->include_cvel_in_observation)
        obs = put(obs, c + VELOCITIES + 6 * v5, 6 * (NBODY - v5), INFINITY);
    if (!v5 || p->include_qfrc_actuator_in_observation)
        obs = put(obs, c + MOTORS + 6 * v5, NV - 6 * v5, INFINITY);
    if (!v5 || p->include_cfrc_ext_in_observation)
        put(obs, c + FORCES + 6 * v5, 6 * (NBODY - v5), INFINITY);
}

static inline bool is_healthy(const Env *env, const Params *p) {
    return p->healthy_z_min < env->qpos[2] && env->qpos[2] < p->healthy_z_max;
}

static inline void carry(Env *env, Io io, const mjData *d) {
    const double *masses = model_of(io)->body_mass;
    double x = 0, y = 0, mass = 0;
    for (int k = 0; k < NBODY; k++) {
        x += masses[k] * d->xipos[3 * k];
        y += masses[k] * d->xipos[3 * k + 1];
        mass += masses[k];
    }
    double *c = env->carried;
    c[0] = x / mass;
    c[1] = y / mass;
    memcpy(c + INERTIAS, d->cinert, 10 * NBODY * sizeof *c);
    memcpy(c + VELOCITIES, d->cvel, 6 * NBODY * sizeof *c);
    memcpy(c + MOTORS, d->qfrc_actuator, NV * sizeof *c);
    memcpy(c + FORCES, d->cfrc_ext, 6 * NBODY * sizeof *c);
}

static inline void c_reset(Env *env, Io io) {
    draw_start(env, io, io.params->reset_noise_scale, false);
    carry(env, io, begin(env, io));
    memset(env->carried + FORCES, 0, 6 * NBODY * sizeof *env->carried);  // not computed yet
    c_observe(env, io);
}

static inline void c_step(Env *env, Io io) {
    const Params *p = io.params;
    const double x = env->carried[0];
    const mjData *d = simulate(env, io);
    if (!d)
        return;
    compute_forces(io);
    carry(env, io, d);
    const double contact = fmin(p->contact_cost_weight * sum_of_squares(env->carried + FORCES, 6 * NBODY),
                                p->contact_cost_max) * (p->version == VERSION_V5);
    judge(env, io, env->carried[0] - x, contact);
    io.log->contact_cost += (float)contact;
    c_observe(env, io);
}

static void c_render(const Env *env, Io io, Canvas *canvas) {
    draw(env, io, canvas, (Camera){.azimuth = 120, .elevation = -15, .width = 3.2, .height = 0.9, .follows = true});
}
