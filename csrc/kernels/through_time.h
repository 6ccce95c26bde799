/* A recurrent layer by itself over whole sequences, forward, and backward by its inputs and parameters. What the backward
 * pass needs is computed again: it would be far more than the cache holds. */
#ifndef PUFFER_IL_THROUGH_TIME_H
#define PUFFER_IL_THROUGH_TIME_H

#include "unroll.h"

typedef struct {
    MemoryPass memory;
    Sequences sequences;
    Observations inputs;
    float *hidden, *after;   // forward: (rows, units), (columns, state)
    const float *by_hidden;  // backward: (rows, units)
    float *by_inputs;        // (rows, inputs), NULL if it is not wanted
} ThroughTime;

static inline void write_group(const ThroughTime *p, const Group *g) {
    const MemoryPlan *plan = &p->memory.plan;
    const size_t units = sizeof(float) * (size_t)plan->units;
    for (int64_t row = 0; row < g->rows; row++)
        memcpy(p->hidden + g->at[row] * plan->units, g->hidden + row * plan->width, units);
    const MemoryStep last = step_of(plan, g, p->sequences.steps - 1);
    for (int64_t c = 0; c < g->count; c++) {
        store_state(plan, last.hidden + c * plan->width, last.cell + c * plan->width,
                    p->after + (g->first + c) * plan->state);
    }
}

static inline void differentiate_group(const ThroughTime *p, const Group *g, float *sums) {
    const MemoryPlan *plan = &p->memory.plan;
    memset(g->hidden, 0, sizeof(float) * (size_t)(g->rows * plan->width));
    for (int64_t row = 0; row < g->rows; row++)
        memcpy(g->hidden + row * plan->width, p->by_hidden + g->at[row] * plan->units,
               sizeof(float) * (size_t)plan->units);
    unroll_back(&p->memory, &p->sequences, g, sums);
    for (int64_t first = 0; p->by_inputs && first < g->rows; first += BLOCK) {
        const int64_t count = least(BLOCK, g->rows - first);
        p->memory.kernels->memory_inputs(plan, p->memory.packed, g->gates + first * plan->gates, g->x, (int)count);
        for (int64_t r = 0; r < count; r++)
            memcpy(p->by_inputs + g->at[first + r] * plan->inputs, g->x + r * padded(plan->inputs),
                   sizeof(float) * (size_t)plan->inputs);
    }
}

static void time_chunk(void *context, int64_t chunk, int thread) {
    const ThroughTime *p = context;
    const Sequences *s = &p->sequences;
    float *sums = p->memory.sums + chunk * p->memory.plan.sums;
    if (p->by_hidden)
        memset(sums, 0, sizeof(float) * (size_t)p->memory.plan.sums);
    const int64_t stop = least((chunk + 1) * p->memory.chunk, s->columns);
    for (int64_t first = chunk * p->memory.chunk; first < stop; first += p->memory.group) {
        Group g = group_of(&p->memory, s, thread, first, least(p->memory.group, stop - first));
        read_group(&p->memory, s, &p->inputs, &g);
        unroll(&p->memory, s, &g);
        if (p->by_hidden)
            differentiate_group(p, &g, sums);
        else
            write_group(p, &g);
    }
}

/* x (steps, columns, inputs) → hidden states (steps, columns, units) and the states after (columns, state); or, with
 * `by_hidden`, the gradients of sum(by_hidden * hidden). `s` selects all columns. False if there is no memory. */
static bool through_time(const Kernels *kernels, const Memory *memory, const MemoryGradients *to, const Sequences *s,
                         const float *x, float *hidden, float *after, const float *by_hidden, float *by_inputs,
                         int threads) {
    ThroughTime p = {.sequences = *s, .hidden = hidden, .after = after, .by_hidden = by_hidden, .by_inputs = by_inputs};
    size_t bytes;
    p.inputs = plain_rows(x, memory->inputs);
    p.memory = size_memory(kernels, memory, s, threads, &bytes);
    Work work = begin_work(threads, bytes);
    const bool done = work.memory != NULL;
    if (done) {
        lay_memory(&p.memory, memory, threads, by_hidden != NULL, work.memory);
        run_tasks(&work, p.memory.chunks, time_chunk, &p);
        if (by_hidden)
            finish_memory(&p.memory, &work, to);
    }
    end_work(&work);
    return done;
}

#endif
