/* What the environments simulated by MuJoCo (Todorov, Erez and Tassa 2012; https://mujoco.org) share: the state, the
 * step, the start of an episode, the picture. <name>.h includes this file after the sizes of its model,
 *
 *     enum { NQ = …, NV = …, NBODY = … };  positions, velocities, bodies
 *     enum { CARRIED = … };                numbers in Env.carried
 *
 * and defines c_observe(). The model comes from the array `model` of [data], the path of an XML file.
 *
 * All is done by the same calls in the same order as in Gymnasium, so that the same start and actions give the same
 * doubles, bit for bit, with the same MuJoCo. What Gymnasium computes and does not use is left out.
 *
 * An environment is its state alone. mjData, in which MuJoCo works, belongs to a thread and not to an environment: it
 * then stays in that core's cache however many environments there are, and 4096 Humanoids do not need 60 GB. */
#ifndef PUFFER_IL_MUJOCO_ENV_H
#define PUFFER_IL_MUJOCO_ENV_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <mujoco/mujoco.h>

#include "env.h"

/* env.toml: state = NQ + 2 * NV + CARRIED */
typedef struct {
    double qpos[NQ], qvel[NV];
    double warmstart[NV];     // the accelerations from which the solver of the next step starts
    double carried[CARRIED];  // what else the last step leaves to the observation or to the next reward
} Env;

typedef struct Workspace {
    struct Workspace *next;
    const void *thread;  // the only one that uses it
    mjData *data;
} Workspace;

typedef struct {
    mjModel *model;
    _Atomic(Workspace *) workspaces;
} Simulator;

/* Writes the observation of `env`, which is all that it depends on. */
static inline void c_observe(const Env *env, Io io);

static inline const mjModel *model_of(Io io) {
    return ((const Simulator *)io.shared)->model;
}

/* Seconds of a step. */
static inline double step_time(Io io) {
    return model_of(io)->opt.timestep * (double)io.params->frame_skip;
}

static void ignore_warning(const char *text) {
    (void)text;
}

static void c_unshare(void *shared) {
    Simulator *simulator = shared;
    for (Workspace *w = atomic_load(&simulator->workspaces), *next; w; w = next) {
        next = w->next;
        mj_deleteData(w->data);
        free(w);
    }
    mj_deleteModel(simulator->model);
    free(simulator);
}

static const char *c_share(const Params *params, const Data *data, void **shared) {
    static _Thread_local char error[400];
    Simulator *simulator = calloc(1, sizeof *simulator);
    if (!simulator)
        return "out of memory";
    *shared = simulator;
    // MuJoCo would write what it does not like about a model to stderr and to a file in the working directory.
    void (*const before)(const char *) = mju_user_warning;
    mju_user_warning = ignore_warning;
    const mjModel *m = simulator->model = mj_loadXML((const char *)data->model, NULL, error, sizeof error);
    mju_user_warning = before;
    if (m && m->nq == NQ && m->nv == NV && m->na == 0 && m->nbody == NBODY && m->nu == ENV_ACTION_SIZE)
        return NULL;
    if (m)
        snprintf(error, sizeof error,
                 "the model has %d positions, %d velocities, %d bodies, %d actuators with %d states; "
                 "it must have %d, %d, %d, %d and 0",
                 (int)m->nq, (int)m->nv, (int)m->nbody, (int)m->nu, (int)m->na, NQ, NV, NBODY, ENV_ACTION_SIZE);
    error[strcspn(error, "\n")] = 0;
    c_unshare(simulator);
    *shared = NULL;
    return error;
}

/* The calling thread's mjData, made when it first asks. */
static mjData *workspace(Simulator *simulator) {
    static _Thread_local char here;  // its address tells threads apart
    for (Workspace *w = atomic_load(&simulator->workspaces); w; w = w->next)
        if (w->thread == &here)
            return w->data;
    Workspace *mine = malloc(sizeof *mine);
    *mine = (Workspace){atomic_load(&simulator->workspaces), &here, mj_makeData(simulator->model)};
    while (!atomic_compare_exchange_weak(&simulator->workspaces, &mine->next, mine))
        continue;
    return mine->data;
}

static inline mjData *load(const Env *env, Io io) {
    mjData *d = workspace(io.shared);
    memcpy(d->qpos, env->qpos, sizeof env->qpos);
    memcpy(d->qvel, env->qvel, sizeof env->qvel);
    memcpy(d->qacc_warmstart, env->warmstart, sizeof env->warmstart);
    return d;
}

static inline void save(Env *env, const mjData *d) {
    memcpy(env->qpos, d->qpos, sizeof env->qpos);
    memcpy(env->qvel, d->qvel, sizeof env->qvel);
    memcpy(env->warmstart, d->qacc_warmstart, sizeof env->warmstart);
}

/* frame_skip steps of MuJoCo under the actions; what they leave behind, from which `carried` is to be filled.
 * NULL if the simulation became unstable. MuJoCo then goes on from the model's initial pose, as if nothing had been;
 * here the episode is cut where it was before the step, and c_step has nothing more to do. */
static inline const mjData *simulate(Env *env, Io io) {
    const mjModel *m = model_of(io);
    mjData *d = load(env, io);
    for (int k = 0; k < ENV_ACTION_SIZE; k++)
        d->ctrl[k] = io.actions[k];
    for (int k = 0; k < mjNWARNING; k++)
        d->warning[k].number = 1;  // only the first of a kind is written to stderr and to a file
    for (int64_t k = 0; k < io.params->frame_skip; k++)
        mj_step(m, d);
    bool unstable = false;  // MuJoCo's own reset clears the counts
    for (int k = mjWARN_BADQPOS; k <= mjWARN_BADQACC; k++)
        unstable |= d->warning[k].number != 1;
    for (int k = 0; k < NQ; k++)
        unstable |= mju_isBad(d->qpos[k]);
    for (int k = 0; k < NV; k++)
        unstable |= mju_isBad(d->qvel[k]);
    if (unstable) {
        io.truncations[0] = true;
        c_observe(env, io);
        return NULL;
    }
    save(env, d);
    return d;
}

/* Forces between bodies, cfrc_ext and others, as of the last step; only a few environments look at them. */
static inline void compute_forces(Io io) {
    mj_rnePostConstraint(model_of(io), workspace(io.shared));
}

/* Starts from the positions and velocities of `env`, at rest before. What this leaves behind is for `carried`. */
static inline const mjData *begin(Env *env, Io io) {
    memset(env->warmstart, 0, sizeof env->warmstart);
    mjData *d = load(env, io);
    memset(d->ctrl, 0, ENV_ACTION_SIZE * sizeof *d->ctrl);
    mj_forward(model_of(io), d);
    save(env, d);
    return d;
}

static inline double standard_normal(Rng *rng) {
    const double radius = sqrt(-2 * log(1 - rng_double(rng)));
    return radius * cos(2 * mjPI * rng_double(rng));
}

/* The model's initial pose with uniform noise; velocities uniform as well, or normal. */
static inline void draw_start(Env *env, Io io, double noise, bool normal) {
    for (int k = 0; k < NQ; k++)
        env->qpos[k] = model_of(io)->qpos0[k] + rng_uniform(io.rng, -noise, noise);
    for (int k = 0; k < NV; k++)
        env->qvel[k] = normal ? noise * standard_normal(io.rng) : rng_uniform(io.rng, -noise, noise);
}

static inline double sum_of_squares(const double *numbers, int count) {
    double sum = 0;
    for (int k = 0; k < count; k++)
        sum += numbers[k] * numbers[k];
    return sum;
}

/* Of what was asked of the motors, which Gymnasium charges for whether they can do it or not. */
static inline double actions_squared(Io io) {
    double sum = 0;
    for (int k = 0; k < ENV_ACTION_SIZE; k++)
        sum += (double)io.given[k] * io.given[k];
    return sum;
}

/* Appends `count` numbers to an observation, each within ±limit. */
static inline Obs *put(Obs *obs, const double *numbers, int count, double limit) {
    for (int k = 0; k < count; k++)
        *obs++ = (Obs)clip(numbers[k], -limit, limit);
    return obs;
}

/* Positions without the first `skipped`, and velocities within ±limit. */
static inline Obs *put_state(const Env *env, Io io, int64_t skipped, double limit) {
    Obs *obs = put(io.observations, env->qpos + skipped, (int)(NQ - skipped), INFINITY);
    return put(obs, env->qvel, NV, limit);
}

/* From where a picture is taken, without perspective. */
typedef struct {
    double azimuth, elevation;  // in which direction it looks, degrees from x and upwards
    double width;               // metres from left to right
    double height;              // of the point in the middle, m
    bool follows;               // the first body
} Camera;

typedef struct {
    double right[3], up[3], forward[3], middle[3];
    double scale;  // pixels per metre
} View;

static inline double dot(const double *a, const double *b) {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

static View view_of(const mjData *d, Camera camera, int width) {
    const double a = camera.azimuth * mjPI / 180, e = camera.elevation * mjPI / 180;
    const double *followed = d->xpos + 3;
    return (View){
        .right = {sin(a), -cos(a), 0},
        .up = {-sin(e) * cos(a), -sin(e) * sin(a), cos(e)},
        .forward = {cos(e) * cos(a), cos(e) * sin(a), sin(e)},
        .middle = {camera.follows ? followed[0] : 0, camera.follows ? followed[1] : 0, camera.height},
        .scale = width / camera.width,
    };
}

static void project(const View *view, const Canvas *canvas, const double *point, double *x, double *y) {
    const double from[3] = {point[0] - view->middle[0], point[1] - view->middle[1], point[2] - view->middle[2]};
    *x = canvas->width / 2.0 + view->scale * dot(view->right, from);
    *y = canvas->height / 2.0 - view->scale * dot(view->up, from);
}

/* A ground of squares, `size` metres wide, at the height z, seen from above. */
static void draw_ground(const View *view, Canvas *canvas, double z, double size) {
    for (int j = 0; j < canvas->height; j++)
        for (int i = 0; i < canvas->width; i++) {
            const double u = (i + 0.5 - canvas->width / 2.0) / view->scale;
            const double v = (canvas->height / 2.0 - j - 0.5) / view->scale;
            const double t = (z - view->middle[2] - u * view->right[2] - v * view->up[2]) / view->forward[2];
            int64_t squares = 0;
            for (int k = 0; k < 2; k++)
                squares += (int64_t)clip(floor((view->middle[k] + u * view->right[k] + v * view->up[k] +
                                                t * view->forward[k]) / size), -0x1p40, 0x1p40);
            canvas_blend(canvas, i, j, 1, squares & 1 ? CANVAS_LIGHT : CANVAS_PAPER);
        }
}

/* A limb: a capsule, or anything else as a ball; or its shadow, where the height of the ground is given. */
static void draw_geom(const View *view, Canvas *canvas, const mjModel *m, const mjData *d, int geom,
                      const double *ground) {
    const double *centre = d->geom_xpos + 3 * geom, *turn = d->geom_xmat + 9 * geom, *size = m->geom_size + 3 * geom;
    const bool is_long = m->geom_type[geom] == mjGEOM_CAPSULE || m->geom_type[geom] == mjGEOM_CYLINDER;
    const double half = is_long ? size[1] : 0, thickness = 2 * size[0] * view->scale;
    double from[3], to[3], x0, y0, x1, y1;
    for (int k = 0; k < 3; k++) {
        from[k] = centre[k] - half * turn[3 * k + 2];  // along its own z
        to[k] = centre[k] + half * turn[3 * k + 2];
    }
    if (ground)
        from[2] = to[2] = *ground;
    project(view, canvas, from, &x0, &y0);
    project(view, canvas, to, &x1, &y1);
    if (ground) {
        canvas_line(canvas, x0, y0, x1, y1, thickness, CANVAS_GREY);
        return;
    }
    uint32_t color = 0;
    for (int k = 0; k < 3; k++)
        color = color << 8 | (uint32_t)(clip(m->geom_rgba[4 * geom + k], 0, 1) * 255);
    canvas_line(canvas, x0, y0, x1, y1, thickness, CANVAS_INK);
    canvas_line(canvas, x0, y0, x1, y1, thickness - 3, color);
}

/* The model's limbs, the farthest first, over their shadows. */
static void draw(const Env *env, Io io, Canvas *canvas, Camera camera) {
    const mjModel *m = model_of(io);
    mjData *d = load(env, io);
    mj_kinematics(m, d);
    const View view = view_of(d, camera, canvas->width);
    double ground = 0;
    for (int k = 0; k < m->ngeom; k++)
        if (m->geom_type[k] == mjGEOM_PLANE)
            ground = d->geom_xpos[3 * k + 2];
    draw_ground(&view, canvas, ground, camera.width / 8);
    for (int k = 0; k < m->ngeom; k++)
        if (m->geom_type[k] != mjGEOM_PLANE)
            draw_geom(&view, canvas, m, d, k, &ground);
    int order[m->ngeom];
    for (int k = 0; k < m->ngeom; k++) {
        const double depth = dot(view.forward, d->geom_xpos + 3 * k);
        int at = k;
        for (; at > 0 && dot(view.forward, d->geom_xpos + 3 * order[at - 1]) < depth; at--)
            order[at] = order[at - 1];
        order[at] = k;
    }
    for (int k = 0; k < m->ngeom; k++)
        if (m->geom_type[order[k]] != mjGEOM_PLANE)
            draw_geom(&view, canvas, m, d, order[k], NULL);
}

#endif
