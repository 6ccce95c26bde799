/* What a policy predicts, by a mixture or a flow as well, and how a chunk of it becomes one action after the other. The
 * same as nn/chunks.py, mixture.py and flow.py, with the same noise. */
#ifndef PUFFER_IL_CHUNKS_H
#define PUFFER_IL_CHUNKS_H

#include "training.h"

enum { PLAIN, MIXTURE, FLOW };
#define CHOICE_SEED 0x9E3779B97F4A7C15u  // a mixture's choice has noise of its own, apart from its normals'

static const float ZEROS[MAX_DIMS * BLOCK];

/* `dist` is that of the whole chunk, of the choice among a mixture's components, or not used by a flow. */
typedef struct {
    int32_t kind, size, dim, execute, components, flow_steps, state_dim;
    float ensemble;
    Distribution dist, unit;      // `unit`: standard normals, as many as a chunk has numbers
    const float *center, *scale;  // (size * dim,), of a mixture or a flow
    const float *log_std;         // (components, size * dim), of a mixture
    const float *begin;           // (size * dim,), where a flow's mode begins
    float *state;                 // (rows, state_dim)
} Chunks;

static inline void prepare_chunks(Chunks *c) {
    prepare_distribution(&c->dist);
    c->unit = (Distribution){.gaussian = 1, .dims = c->size * c->dim, .num_params = c->size * c->dim};
    for (int k = 0; k < c->unit.dims; k++)
        c->unit.scale[k] = 1;
    prepare_distribution(&c->unit);
}

/* Standard normals of BLOCK rows, the first of them `row` in the vector. */
static inline void draw_normals(const Kernels *kernels, const Chunks *c, Noise noise, uint32_t row, RowBlock *out) {
    kernels->sample_block(&c->unit, ZEROS, noise, row, out);
}

static inline void predict_mixture(const Kernels *kernels, const Chunks *c, const float *params, Noise noise,
                                   uint32_t row, int64_t count, bool greedy, RowBlock *out) {
    const int dims = c->size * c->dim;
    RowBlock choice;
    if (greedy) {
        kernels->mode_block(&c->dist, params, &choice);
        memset(out->actions, 0, sizeof(float) * (size_t)dims * BLOCK);
    } else {
        kernels->sample_block(&c->dist, params, (Noise){noise.seed ^ CHOICE_SEED, noise.step}, row, &choice);
        draw_normals(kernels, c, noise, row, out);
    }
    for (int64_t i = 0; i < count; i++) {
        const int at = choice.chosen[0][i] * dims;
        for (int k = 0; k < dims; k++) {
            const float mean = params[(c->components + at + k) * BLOCK + i];
            const float log_std = c->log_std[at + k];
            const float std = expf(log_std < -5 ? -5 : log_std > 2 ? 2 : log_std);
            out->actions[k][i] = c->center[k] + c->scale[k] * (mean + std * out->actions[k][i]);
        }
    }
}

/* `seen` (rows, columns) is what the network sees of the observations. */
static inline void predict_flow(const Pass *pass, Scratch *s, const Chunks *c, const float *seen, int columns, int rows,
                                Noise noise, uint32_t row, int64_t count, bool greedy, RowBlock *out) {
    const int dims = c->size * c->dim, inputs = pass->plan.inputs;
    if (!greedy)
        draw_normals(pass->kernels, c, noise, row, out);
    for (int k = 0; greedy && k < dims; k++)
        for (int64_t i = 0; i < count; i++)
            out->actions[k][i] = c->begin[k];
    memset(s->x, 0, sizeof(float) * (size_t)(rows * inputs));
    for (int step = 0; step < c->flow_steps; step++) {
        for (int64_t i = 0; i < count; i++) {
            float *x = s->x + i * inputs;
            memcpy(x, seen + i * columns, sizeof(float) * (size_t)columns);
            for (int k = 0; k < dims; k++)
                x[columns + k] = out->actions[k][i];
            x[columns + dims] = (float)step / (float)c->flow_steps;
        }
        pass->kernels->block_forward(&pass->plan, pass->packed, s->x, s->tape, s, rows);
        const float left = (float)(c->flow_steps - step);
        for (int k = 0; k < dims; k++)
            for (int64_t i = 0; i < count; i++)
                out->actions[k][i] += (s->outputs[k * BLOCK + i] - out->actions[k][i]) / left;
    }
    for (int k = 0; k < dims; k++)
        for (int64_t i = 0; i < count; i++)
            out->actions[k][i] = c->center[k] + c->scale[k] * out->actions[k][i];
}

/* Chunks of `count` rows from `row` on into `out`, whose whole numbers become floats. */
static inline void predict(const Pass *pass, Scratch *s, const Chunks *c, const Observations *obs, Noise noise,
                           int64_t row, int64_t count, bool greedy, RowBlock *out) {
    const bool flow = c->kind == FLOW;
    float *seen = flow ? s->tangent : s->x;
    const int rows = read_observations(obs, row, count, seen);
    if (flow) {
        predict_flow(pass, s, c, seen, obs->columns, rows, noise, (uint32_t)row, count, greedy, out);
        return;
    }
    pass->kernels->block_forward(&pass->plan, pass->packed, s->x, s->tape, s, rows);
    if (c->kind == MIXTURE) {
        predict_mixture(pass->kernels, c, s->outputs, noise, (uint32_t)row, count, greedy, out);
        return;
    }
    if (greedy)
        pass->kernels->mode_block(&c->dist, s->outputs, out);
    else
        pass->kernels->sample_block(&c->dist, s->outputs, noise, (uint32_t)row, out);
    for (int k = 0; !c->dist.gaussian && k < c->dist.dims; k++)
        for (int64_t i = 0; i < count; i++)
            out->actions[k][i] = (float)out->chosen[k][i];
}

/* The action of row i of a block, (dim,), and what is left in `state`; the chunk's numbers are read if it is `due`. */
static inline void follow(const Chunks *c, const RowBlock *chunks, int64_t i, float *state, float *action) {
    const int dim = c->dim, last = c->size - 1;
    if (c->ensemble > 0) {
        float *counts = state + last * dim;
        const float first = counts[0] + 1;
        const float norm = (1 - expf(-c->ensemble * first)) / -expm1f(-c->ensemble);
        const float weight = expf(-c->ensemble * counts[0]);
        for (int k = 0; k < dim; k++)
            action[k] = (state[k] + weight * chunks->actions[k][i]) / norm;
        for (int step = 0; step < last; step++) {
            const bool begun = step + 1 < last;
            const float count = begun ? counts[step + 1] : 0, share = expf(-c->ensemble * count);
            for (int k = 0; k < dim; k++)
                state[step * dim + k] = (begun ? state[(step + 1) * dim + k] : 0) +
                                        share * chunks->actions[(step + 1) * dim + k][i];
            counts[step] = count + 1;
        }
        return;
    }
    if (c->state_dim == 0 || state[0] == 0) {
        for (int k = 0; k < dim; k++)
            action[k] = chunks->actions[k][i];
        for (int k = 0; k < (c->execute - 1) * dim; k++)
            state[1 + k] = chunks->actions[dim + k][i];
        if (c->state_dim)
            state[0] = (float)(c->execute - 1);
        return;
    }
    float *steps = state + 1;
    const int width = c->state_dim - 1;
    memcpy(action, steps, sizeof(float) * (size_t)dim);
    memmove(steps, steps + dim, sizeof(float) * (size_t)(width - dim));
    memset(steps + width - dim, 0, sizeof(float) * (size_t)dim);
    state[0] -= 1;
}

#endif
