/* The recurrent layer of a policy as the kernels see it: torch's own parameters, and where their packed copies lie.
 *
 * A step is one product. What it reads, [observation, hidden state before], stands in rows of `row` floats, what it
 * gives in rows of `gates` floats: four blocks of `width` each, the units padded to a multiple of PAD. Padded units stay
 * zero from end to end. The blocks are i, f, g, o of an LSTM; lstm.h and gru.h say what becomes of them. */
#ifndef PUFFER_IL_MEMORY_H
#define PUFFER_IL_MEMORY_H

#include <stdbool.h>
#include <string.h>

#include "network.h"

enum { BLOCKS = 4 };
enum { LSTM, GRU };

typedef struct {
    int32_t kind, inputs, units, operands;
    const float *input_weights, *state_weights;  // of an LSTM (4 * units, …), of a GRU (3 * units, …); … inputs or units
    const float *input_bias, *state_bias;        // (4 * units,) or (3 * units,)
} Memory;

/* Where gradients go: laid out as the parameters are. */
typedef struct {
    float *input_weights, *state_weights, *input_bias, *state_bias;
} MemoryGradients;

/* Sizes and offsets, in floats. */
typedef struct {
    int32_t kind, inputs, units, width, row, gates, operands;
    int32_t state;  // floats that a row remembers as torch has it
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
    MemoryPlan plan = {.kind = m->kind, .inputs = m->inputs, .units = m->units, .width = padded(m->units)};
    plan.row = plan.inputs + plan.width;
    plan.gates = BLOCKS * plan.width;
    plan.state = plan.kind == LSTM ? 2 * plan.units : plan.units;
    plan.operands = operands_of(m->operands, plan.row, plan.gates);
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

/* Which of torch's blocks of rows stands in a block of gates: of the weights and biases of the inputs, or of the hidden
 * state; -1 for none. A GRU's new state needs its two sums apart, as the reset gate stands between them. */
static inline int gate_of(int kind, int block, bool of_state) {
    if (kind == LSTM || block < 2)
        return block;
    return of_state == (block == 3) ? 2 : -1;
}

/* Row or column of the blocks in which that of `unit` in torch's matrices goes to. */
static inline ptrdiff_t padded_unit(const MemoryPlan *plan, int block, int unit) {
    return (ptrdiff_t)block * plan->width + unit;
}

/* One of torch's matrices (…, columns) → rows of gates, `row` floats apart; zeros where there is nothing. */
static inline void join_rows(const MemoryPlan *plan, const float *weights, bool of_state, int columns, ptrdiff_t row,
                             float *to) {
    for (int block = 0; block < BLOCKS; block++) {
        const int gate = gate_of(plan->kind, block, of_state);
        for (int unit = 0; unit < plan->width; unit++) {
            float *here = to + padded_unit(plan, block, unit) * row;
            memset(here, 0, sizeof(float) * (size_t)columns);
            if (gate >= 0 && unit < plan->units)
                memcpy(here, weights + ((ptrdiff_t)gate * plan->units + unit) * columns,
                       sizeof(float) * (size_t)columns);
        }
    }
}

/* (gates, row): torch's two matrices side by side. */
static inline void join_weights(const Memory *m, const MemoryPlan *plan, float *to) {
    memset(to, 0, sizeof(float) * (size_t)plan->gates * (size_t)plan->row);
    join_rows(plan, m->input_weights, false, plan->inputs, plan->row, to);
    join_rows(plan, m->state_weights, true, plan->units, plan->row, to + plan->inputs);
}

static inline void join_biases(const Memory *m, const MemoryPlan *plan, float *to) {
    memset(to, 0, sizeof(float) * (size_t)plan->gates);
    for (int block = 0; block < BLOCKS; block++)
        for (int of_state = 0; of_state < 2; of_state++) {
            const int gate = gate_of(plan->kind, block, of_state);
            const float *bias = of_state ? m->state_bias : m->input_bias;
            for (int unit = 0; gate >= 0 && unit < plan->units; unit++)
                to[padded_unit(plan, block, unit)] += bias[(ptrdiff_t)gate * plan->units + unit];
        }
}

/* The inverse, for gradients: `joined` (gates, row), `bias` (gates,). */
static inline void part_gradients(const MemoryPlan *plan, const float *joined, const float *bias,
                                  const MemoryGradients *to) {
    for (int block = 0; block < BLOCKS; block++)
        for (int of_state = 0; of_state < 2; of_state++) {
            const int gate = gate_of(plan->kind, block, of_state), columns = of_state ? plan->units : plan->inputs;
            for (int unit = 0; gate >= 0 && unit < plan->units; unit++) {
                const ptrdiff_t at = (ptrdiff_t)gate * plan->units + unit, from = padded_unit(plan, block, unit);
                memcpy((of_state ? to->state_weights : to->input_weights) + at * columns,
                       joined + from * plan->row + (of_state ? plan->inputs : 0), sizeof(float) * (size_t)columns);
                (of_state ? to->state_bias : to->input_bias)[at] = bias[from];
            }
        }
}

/* A row of state as torch has it, the hidden state and an LSTM's cell behind it, apart. A GRU's cell is its hidden state. */
static inline void load_state(const MemoryPlan *plan, const float *state, float *hidden, float *cell) {
    memcpy(hidden, state, sizeof(float) * (size_t)plan->units);
    memcpy(cell, state + plan->state - plan->units, sizeof(float) * (size_t)plan->units);
}

static inline void store_state(const MemoryPlan *plan, const float *hidden, const float *cell, float *state) {
    memcpy(state, hidden, sizeof(float) * (size_t)plan->units);
    memcpy(state + plan->state - plan->units, cell, sizeof(float) * (size_t)plan->units);
}

#endif
