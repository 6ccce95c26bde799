/* A recurrent layer over whole sequences, forward and back through time, for policies on top of it.
 *
 * Sequences are columns that lie side by side, so that a step of a group of them is one product. Groups are small enough
 * for all that a backward pass needs to stay in the outer cache: a group goes through all of its steps, forward, loss and
 * back, before the next one begins. Columns are cut into chunks with gradient sums of their own, and groups are cut,
 * by sizes alone, so that the result does not depend on how many threads there are. */
#ifndef PUFFER_IL_UNROLL_H
#define PUFFER_IL_UNROLL_H

#include "training.h"

enum {
    ROOM_FLOATS = 2 << 20,   // of a group: 8 MB
    GRADIENT_BLOCK = 96,     // rows at least whose share of the weights' gradients is summed at once
};

/* Which rows of an array are the steps of which sequence: step t of column c is row t * stride + index[c] or, with a
 * `table` (sequences, steps), row table[index[c]][t], or none if that is -1. */
typedef struct {
    const int64_t *index;  // (columns,)
    int64_t columns, steps, stride;
    const int64_t *table;
    const uint8_t *starts;  // of each row whether an episode begins with it, before which the state is zero; NULL: none
    const float *state;     // (…, state): what is remembered before the first step of column c, at index[c]
} Sequences;

static inline int64_t sequence_row(const Sequences *s, int64_t step, int64_t column) {
    const int64_t at = s->index[column];
    return s->table ? s->table[at * s->steps + step] : step * s->stride + at;
}

typedef struct {
    const Kernels *kernels;
    MemoryPlan plan;
    float *packed, *sums, *room;
    ptrdiff_t room_floats;
    int64_t group, chunk, chunks;  // columns of a group and of a chunk; chunks
} MemoryPass;

/* What one thread keeps of a group of `count` columns: row t * count + c is step t of column c. */
typedef struct {
    int64_t first, count, rows;
    float *read, *gates, *cell, *hidden, *begin, *later, *carry, *z, *x;
    int64_t *at;      // which row of the data
    uint8_t *starts;
} Group;

/* Lays a group of at most `columns` out; with memory NULL it only counts. Returns the floats it takes. */
static inline ptrdiff_t lay_group(const MemoryPlan *plan, int64_t columns, int64_t steps, float *memory, Group *g) {
    ptrdiff_t used = 0;
    const int64_t rows = columns * steps + TILE_ROWS, tiles = round_up(columns, TILE_ROWS);
#define TAKE(field, floats) g->field = memory + place(&used, floats)
    TAKE(read, rows * plan->row);
    TAKE(gates, rows * plan->gates);
    TAKE(cell, rows * plan->width);
    TAKE(hidden, rows * plan->width);
    TAKE(begin, tiles * plan->width);
    TAKE(later, tiles * plan->width);
    TAKE(carry, tiles * plan->width);
    TAKE(z, tiles * plan->gates);
    TAKE(x, (ptrdiff_t)BLOCK * padded(plan->inputs));
#undef TAKE
    g->at = (int64_t *)(memory + place(&used, 2 * rows));
    g->starts = (uint8_t *)(memory + place(&used, (rows + 3) / 4));
    return used;
}

/* Sizes of a pass over sequences; `bytes` is what it needs of the pool's memory. */
static inline MemoryPass size_memory(const Kernels *kernels, const Memory *memory, const Sequences *s, int threads,
                                     size_t *bytes) {
    MemoryPass p = {.kernels = kernels, .plan = plan_memory(memory)};
    const int64_t column = s->steps * (p.plan.row + p.plan.gates + 2 * p.plan.width);
    p.group = ROOM_FLOATS / column / TILE_ROWS * TILE_ROWS;
    p.group = p.group < TILE_ROWS ? TILE_ROWS : p.group > BLOCK ? BLOCK : p.group;
    p.group = least(p.group, s->columns);
    int64_t most = least(MOST_CHUNKS, MOST_SUMS / p.plan.sums);
    most = most < LEAST_CHUNKS ? LEAST_CHUNKS : most;
    p.chunk = round_up((s->columns + most - 1) / most, p.group);
    p.chunks = chunks_of(s->columns, p.chunk);
    Group unused;
    p.room_floats = lay_group(&p.plan, p.group, s->steps, NULL, &unused);
    *bytes = sizeof(float) * (size_t)(p.plan.packed + threads * p.room_floats + p.chunks * p.plan.sums);
    return p;
}

/* Packs the parameters into the pass's share of `memory`; returns what lies behind it. */
static inline float *lay_memory(MemoryPass *p, const Memory *memory, int threads, bool backward, float *at) {
    p->packed = at;
    p->kernels->pack_memory(memory, &p->plan, backward, p->packed);
    p->room = at + p->plan.packed;
    p->sums = p->room + threads * p->room_floats;
    return p->sums + p->chunks * p->plan.sums;
}

/* A network that reads the layer's rows, which are padded. Returns the bytes its pass needs. */
static inline size_t size_head(const MemoryPass *memory, const Network *net, int64_t rows, int threads, Pass *pass) {
    Network wide = *net;
    size_t unused;
    wide.padded = true;
    *pass = size_pass(memory->kernels, &wide, rows, threads, true, &unused);
    pass->chunks = memory->chunks;
    return pass_bytes(pass, threads, true);
}

static inline Group group_of(const MemoryPass *p, const Sequences *s, int thread, int64_t first, int64_t count) {
    Group g;
    lay_group(&p->plan, p->group, s->steps, p->room + thread * p->room_floats, &g);
    g.first = first;
    g.count = count;
    g.rows = count * s->steps;
    return g;
}

static inline MemoryStep step_of(const MemoryPlan *plan, const Group *g, int64_t step) {
    const ptrdiff_t at = step * g->count;
    return (MemoryStep){(int)g->count, g->read + at * plan->row,
                        step ? g->cell + (at - g->count) * plan->width : g->begin, g->starts + at,
                        g->gates + at * plan->gates, g->cell + at * plan->width, g->hidden + at * plan->width};
}

/* The hidden state before step `step` of column c, (units,), or zeros where an episode begins. */
static inline void read_state(const MemoryPlan *plan, const Group *g, int64_t step, int64_t c, const float *state) {
    const int64_t row = step * g->count + c;
    float *to = g->read + row * plan->row + plan->inputs;
    memset(to, 0, sizeof(float) * (size_t)plan->width);
    if (!g->starts[row])
        memcpy(to, state, sizeof(float) * (size_t)plan->units);
}

/* Observations and starts of all steps, and the state before the first. */
static inline void read_group(const MemoryPass *p, const Sequences *s, const Observations *obs, Group *g) {
    const MemoryPlan *plan = &p->plan;
    for (int64_t t = 0, row = 0; t < s->steps; t++)
        for (int64_t c = 0; c < g->count; c++, row++) {
            g->at[row] = sequence_row(s, t, g->first + c);
            g->starts[row] = s->starts && s->starts[g->at[row]];
        }
    for (int64_t first = 0; first < g->rows; first += BLOCK) {
        const int64_t count = least(BLOCK, g->rows - first);
        int64_t rows[BLOCK];
        for (int64_t r = 0; r < count; r++)
            rows[r] = g->at[first + r] < 0 ? 0 : g->at[first + r];
        gather_observations(obs, rows, count, g->x);
        for (int64_t r = 0; r < count; r++) {
            float *read = g->read + (first + r) * plan->row;
            memset(read, 0, sizeof(float) * (size_t)plan->inputs);
            if (g->at[first + r] >= 0)
                memcpy(read, g->x + r * plan->inputs, sizeof(float) * (size_t)plan->inputs);
        }
    }
    memset(g->begin, 0, sizeof(float) * (size_t)(g->count * plan->width));
    for (int64_t c = 0; c < g->count; c++) {
        const float *state = s->state + s->index[g->first + c] * plan->state;
        load_state(plan, state, g->z, g->begin + c * plan->width);
        read_state(plan, g, 0, c, g->z);
    }
}

/* All steps of a group, forward. */
static inline void unroll(const MemoryPass *p, const Sequences *s, const Group *g) {
    for (int64_t t = 0; t < s->steps; t++) {
        const MemoryStep step = step_of(&p->plan, g, t);
        p->kernels->memory_forward(&p->plan, p->packed, &step, g->z);
        for (int64_t c = 0; t + 1 < s->steps && c < g->count; c++)
            read_state(&p->plan, g, t + 1, c, step.hidden + c * p->plan.width);
    }
}

/* Back through all steps: `hidden` holds the gradients by it. Adds the weights' to `sums`, of some steps at once, while
 * their gates are in the cache. */
static inline void unroll_back(const MemoryPass *p, const Sequences *s, const Group *g, float *sums) {
    const MemoryPlan *plan = &p->plan;
    int64_t stop = g->rows;
    for (int64_t t = s->steps - 1; t >= 0; t--) {
        const MemoryStep step = step_of(plan, g, t);
        const uint8_t *cut = t + 1 < s->steps ? g->starts + (t + 1) * g->count : NULL;
        p->kernels->memory_backward(plan, p->packed, &step, cut, g->later, g->carry, t > 0);
        const int64_t row = t * g->count;
        if (t && stop - row < GRADIENT_BLOCK)
            continue;
        p->kernels->memory_gradients(plan, g->read + row * plan->row, g->gates + row * plan->gates, sums,
                                     (int)(stop - row));
        stop = row;
    }
}

/* Sums the chunks in their order and writes the gradients out. */
static inline void finish_memory(const MemoryPass *p, const Work *work, const MemoryGradients *to) {
    add_chunks(work, p->sums, p->plan.sums, p->chunks);
    p->kernels->unpack_memory(&p->plan, p->sums, p->packed + p->plan.joined, to);
}

#endif
