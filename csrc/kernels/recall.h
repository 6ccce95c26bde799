/* One step of a policy with a memory while it acts: its state lies as torch has it and goes from step to step. */
#ifndef PUFFER_IL_RECALL_H
#define PUFFER_IL_RECALL_H

#include "training.h"

typedef struct {
    MemoryPlan plan;
    float *packed, *room;
    ptrdiff_t room_floats;  // of one thread
    float *state;           // (rows, state): what they remember; NULL without a memory
} Recall;

typedef struct {
    float *x, *read, *gates, *cell, *hidden;
} RecallRoom;

/* Lays the room for BLOCK rows out; with memory NULL it only counts. Returns the floats it takes. */
static inline ptrdiff_t lay_recall(const MemoryPlan *plan, float *memory, RecallRoom *room) {
    ptrdiff_t used = 0;
#define TAKE(field, columns) room->field = memory + place(&used, (ptrdiff_t)BLOCK * (columns))
    TAKE(x, plan->inputs);
    TAKE(read, plan->row);
    TAKE(gates, plan->gates);
    TAKE(cell, plan->width);
    TAKE(hidden, plan->width);
#undef TAKE
    return used;
}

/* Bytes of the pool's memory that acting with `memory` needs, besides the networks'. */
static inline size_t size_recall(Recall *r, const Memory *memory, int threads) {
    RecallRoom unused;
    r->plan = plan_memory(memory);
    r->room_floats = lay_recall(&r->plan, NULL, &unused);
    return sizeof(float) * (size_t)(r->plan.packed + threads * r->room_floats);
}

/* Packs the parameters into `at`; returns what lies behind the memory's share. */
static inline float *begin_recall(Recall *r, const Kernels *kernels, const Memory *memory, int threads, float *at) {
    r->packed = at;
    r->room = at + r->plan.packed;
    kernels->pack_memory(memory, &r->plan, false, r->packed);
    return r->room + threads * r->room_floats;
}

/* The rows (count, width) that the networks read after the rows from `first` on have been seen, with zeros up to a whole
 * tile; `rows` is how many these are. Rows where an episode begins (`starts`, may be NULL) remember nothing. */
static inline const float *recall(const Recall *r, const Kernels *kernels, const Observations *obs, const bool *starts,
                                  int64_t first, int64_t count, int thread, int *rows) {
    const MemoryPlan *plan = &r->plan;
    RecallRoom room;
    lay_recall(plan, r->room + thread * r->room_floats, &room);
    *rows = read_observations(obs, first, count, room.x);
    memset(room.read, 0, sizeof(float) * (size_t)(*rows * plan->row));
    memset(room.cell, 0, sizeof(float) * (size_t)(count * plan->width));
    for (int64_t i = 0; i < count; i++) {
        float *read = room.read + i * plan->row;
        memcpy(read, room.x + i * plan->inputs, sizeof(float) * (size_t)plan->inputs);
        if (starts && starts[first + i])
            continue;
        load_state(plan, r->state + (first + i) * plan->state, read + plan->inputs, room.cell + i * plan->width);
    }
    const MemoryStep step = {(int)count, room.read, room.cell, NULL, room.gates, room.cell, room.hidden};
    kernels->memory_forward(plan, r->packed, &step, room.gates);
    for (int64_t i = 0; i < count; i++)
        store_state(plan, room.hidden + i * plan->width, room.cell + i * plan->width,
                    r->state + (first + i) * plan->state);
    memset(room.hidden + count * plan->width, 0, sizeof(float) * (size_t)((*rows - count) * plan->width));
    return room.hidden;
}

/* ---- single steps by themselves ---- */

typedef struct {
    const Kernels *kernels;
    Recall memory;
    Observations obs;
    int64_t rows;
} Remember;

static void remember_chunk(void *context, int64_t chunk, int thread) {
    const Remember *r = context;
    const int64_t first = chunk * BLOCK;
    int rows;
    recall(&r->memory, r->kernels, &r->obs, NULL, first, least(BLOCK, r->rows - first), thread, &rows);
}

/* x (rows, inputs) is seen in the states (rows, state), which are written over. False if there is no memory. */
static bool remember(const Kernels *kernels, const Memory *memory, const float *x, int64_t rows, float *state,
                     int threads) {
    Remember r = {.kernels = kernels, .rows = rows, .memory.state = state, .obs = plain_rows(x, memory->inputs)};
    Work work = begin_work(threads, size_recall(&r.memory, memory, threads));
    const bool done = work.memory != NULL;
    if (done) {
        begin_recall(&r.memory, kernels, memory, threads, work.memory);
        run_tasks(&work, chunks_of(rows, BLOCK), remember_chunk, &r);
    }
    end_work(&work);
    return done;
}

#endif
