/* The recurrent layer of a policy as the kernels see it: torch's own parameters, and where their packed copies lie.
 *
 * A step is one product. What it reads, [observation, hidden state before], stands in rows of `row` floats, what it
 * gives in rows of `gates` floats: blocks i, f, g, o of `width` each, the units padded to a multiple of PAD. Padded
 * units stay zero from end to end. */
#ifndef PUFFER_IL_MEMORY_H
#define PUFFER_IL_MEMORY_H

#include <stdbool.h>
#include <string.h>

#include "network.h"

enum { GATES = 4 };

typedef struct {
    int32_t inputs, units;
    const float *input_weights, *state_weights;  // (GATES * units, inputs) and (GATES * units, units), row-major
    const float *input_bias, *state_bias;        // (GATES * units,)
} Memory;

/* Where gradients go: laid out as the parameters are. */
typedef struct {
    float *input_weights, *state_weights, *input_bias, *state_bias;
} MemoryGradients;

/* Sizes and offsets, in floats. */
typedef struct {
    int32_t inputs, units, width, row, gates;
    ptrdiff_t forward, backward, inputs_backward, bias, packed;
    ptrdiff_t joined;  // room for one matrix before it is packed
    ptrdiff_t weight_sum, bias_sum, sums;
} MemoryPlan;

/* One step of `count` rows. */
typedef struct {
    int count;
    const float *read;      // (count, row), readable up to whole tiles of TILE_ROWS
    const float *before;    // cells (count, width)
    const uint8_t *starts;  // (count,): where it is set, the cell before counts as zero; NULL: nowhere
    float *gates;           // (count, gates): activated gates; the backward pass leaves the gradient before them
    float *cell, *hidden;   // (count, width); the backward pass finds the gradient by `hidden` in its place
} MemoryStep;

static inline MemoryPlan plan_memory(const Memory *m) {
    MemoryPlan plan = {.inputs = m->inputs, .units = m->units, .width = padded(m->units)};
    plan.row = plan.inputs + plan.width;
    plan.gates = GATES * plan.width;
    const ptrdiff_t floats = (ptrdiff_t)plan.row * plan.gates;
    plan.forward = place(&plan.packed, floats);
    plan.backward = place(&plan.packed, (ptrdiff_t)plan.gates * plan.width);
    plan.inputs_backward = place(&plan.packed, (ptrdiff_t)plan.gates * padded(plan.inputs));
    plan.bias = place(&plan.packed, plan.gates);
    plan.joined = place(&plan.packed, floats);
    plan.weight_sum = place(&plan.sums, floats);
    plan.bias_sum = place(&plan.sums, plan.gates);
    return plan;
}

/* Number `gate` of the blocks in which row or column `unit` of torch's matrices goes to. */
static inline ptrdiff_t padded_unit(const MemoryPlan *plan, int gate, int unit) {
    return (ptrdiff_t)gate * plan->width + unit;
}

/* (gates, row): torch's two matrices side by side, with zeros for padded units. */
static inline void join_weights(const Memory *m, const MemoryPlan *plan, float *to) {
    memset(to, 0, sizeof(float) * (size_t)plan->gates * (size_t)plan->row);
    for (int gate = 0; gate < GATES; gate++)
        for (int unit = 0; unit < m->units; unit++) {
            const ptrdiff_t from = (ptrdiff_t)gate * m->units + unit;
            float *row = to + padded_unit(plan, gate, unit) * plan->row;
            memcpy(row, m->input_weights + from * m->inputs, sizeof(float) * (size_t)m->inputs);
            memcpy(row + m->inputs, m->state_weights + from * m->units, sizeof(float) * (size_t)m->units);
        }
}

/* (gates, columns) of one of them, (GATES * units, columns). */
static inline void join_rows(const Memory *m, const MemoryPlan *plan, const float *weights, int columns, float *to) {
    memset(to, 0, sizeof(float) * (size_t)plan->gates * (size_t)columns);
    for (int gate = 0; gate < GATES; gate++)
        memcpy(to + padded_unit(plan, gate, 0) * columns, weights + (ptrdiff_t)gate * m->units * columns,
               sizeof(float) * (size_t)m->units * (size_t)columns);
}

static inline void join_biases(const Memory *m, const MemoryPlan *plan, float *to) {
    memset(to, 0, sizeof(float) * (size_t)plan->gates);
    for (int gate = 0; gate < GATES; gate++)
        for (int unit = 0; unit < m->units; unit++) {
            const ptrdiff_t from = (ptrdiff_t)gate * m->units + unit;
            to[padded_unit(plan, gate, unit)] = m->input_bias[from] + m->state_bias[from];
        }
}

/* The inverse of the three, for gradients: `joined` (gates, row), `bias` (gates,). */
static inline void part_gradients(const Memory *m, const MemoryPlan *plan, const float *joined, const float *bias,
                                  const MemoryGradients *to) {
    for (int gate = 0; gate < GATES; gate++)
        for (int unit = 0; unit < m->units; unit++) {
            const ptrdiff_t at = (ptrdiff_t)gate * m->units + unit, from = padded_unit(plan, gate, unit);
            const float *row = joined + from * plan->row;
            memcpy(to->input_weights + at * m->inputs, row, sizeof(float) * (size_t)m->inputs);
            memcpy(to->state_weights + at * m->units, row + m->inputs, sizeof(float) * (size_t)m->units);
            to->input_bias[at] = to->state_bias[at] = bias[from];
        }
}

#endif
