/* Whole passes over any number of rows: blocks shared out to threads, gradients summed in a fixed order.
 *
 * Rows are cut into chunks whose size depends on the network and the number of rows alone, each with gradient sums of
 * its own, so that the result does not depend on how many threads there are. */
#ifndef PUFFER_IL_PASSES_H
#define PUFFER_IL_PASSES_H

#include <string.h>

#include "kernels.h"
#include "pool.h"

enum {
    MOST_CHUNKS = 64, LEAST_CHUNKS = 4,
    MOST_SUMS = 1 << 25,    // floats that the gradient sums of all chunks take
    CHUNK_WORK = 1 << 19,   // multiplications worth the handing over
    GRADIENT_ROWS = 240,    // rows of a chunk below which its gradient sums cost too much to clear and to add
    FEW_ROWS = 24,          // rows for which packing a wide layer costs more than it saves
    WIDE = 128,
};

static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

static inline int64_t chunk_rows(const Plan *plan, int64_t rows, bool gradients) {
    int64_t worth = round_up(CHUNK_WORK / (plan->parameters + 1) + 1, BLOCK);
    if (gradients && worth < GRADIENT_ROWS)
        worth = GRADIENT_ROWS;
    int64_t most = gradients ? least(MOST_CHUNKS, MOST_SUMS / plan->sums) : MOST_CHUNKS;
    most = most < LEAST_CHUNKS ? LEAST_CHUNKS : most;
    const int64_t few = round_up((rows + most - 1) / most, BLOCK);
    return worth > few ? worth : few;
}

static inline int64_t chunks_of(int64_t rows, int64_t chunk) {
    return (rows + chunk - 1) / chunk;
}

/* Floats that `saved` must hold for `rows` rows. */
static inline int64_t saved_floats(const Plan *plan, int64_t rows) {
    int64_t width = 0;
    for (int l = 0; l < plan->num_hidden; l++)
        width += plan->width[l];
    return width * round_up(rows, BLOCK) * (plan->activation == SILU ? 2 : 1);
}

/* The place of the block from row `first` on in what a forward pass saved. */
static inline Tape saved_tape(const Plan *plan, float *saved, int64_t rows, int64_t first) {
    Tape tape = {{NULL}, {NULL}};
    const int64_t all = round_up(rows, BLOCK);
    for (int l = 0; l < plan->num_hidden; l++) {
        tape.h[l] = saved + first * plan->width[l];
        saved += all * plan->width[l];
        if (plan->activation == SILU) {
            tape.z[l] = saved + first * plan->width[l];
            saved += all * plan->width[l];
        }
    }
    return tape;
}

/* Rows (count, columns) as they are if they fill whole tiles, or else in `copy`, with rows of zeros after them. */
static inline const float *whole_rows(const float *x, int64_t count, int64_t columns, float *copy, int *rows) {
    *rows = (int)round_up(count, TILE_ROWS);
    if (*rows == count)
        return x;
    memcpy(copy, x, sizeof(float) * (size_t)(count * columns));
    memset(copy + count * columns, 0, sizeof(float) * (size_t)((*rows - count) * columns));
    return copy;
}

/* (count, outputs) → (outputs, BLOCK), zero beyond `count`. */
static inline void turn_in(const float *rows, int64_t count, int outputs, float *block) {
    memset(block, 0, sizeof(float) * (size_t)outputs * BLOCK);
    for (int64_t r = 0; r < count; r++)
        for (int o = 0; o < outputs; o++)
            block[o * BLOCK + r] = rows[r * outputs + o];
}

static inline void turn_out(const float *block, int64_t count, int outputs, float *rows) {
    for (int64_t r = 0; r < count; r++)
        for (int o = 0; o < outputs; o++)
            rows[r * outputs + o] = block[o * BLOCK + r];
}

/* Zeros instead of what an earlier block left beyond `count`: such rows weigh nothing, but nothing times a NaN is one. */
static inline void clear_tail(float *block, int outputs, int64_t count) {
    for (int o = 0; count < BLOCK && o < outputs; o++)
        memset(block + o * BLOCK + count, 0, sizeof(float) * (size_t)(BLOCK - count));
}

/* What every pass needs: the kernels, one network with its packed copy, each thread's scratch, each chunk's sums. */
typedef struct {
    const Kernels *kernels;
    Plan plan;
    float *packed, *scratch, *sums;
    ptrdiff_t scratch_floats;
    int64_t rows, chunk, chunks;
} Pass;

static inline Scratch scratch_of(const Pass *pass, int thread) {
    Scratch scratch;
    lay_scratch(&pass->plan, pass->scratch + thread * pass->scratch_floats, &scratch);
    return scratch;
}

static inline float *sums_of(const Pass *pass, int64_t chunk) {
    return pass->sums ? pass->sums + chunk * pass->plan.sums : NULL;
}

/* Lets a forward pass of few rows read wide layers' weights where they are. A backward pass reads whole tiles of rows,
 * so that those must be finite. */
static inline void read_directly(Pass *pass, const Network *net, bool backward_follows) {
    pass->plan.direct_rows = (int32_t)round_up(pass->rows, backward_follows ? TILE_ROWS : 2);
    for (int l = 1; l < net->num_hidden; l++)
        if (pass->rows < FEW_ROWS && net->hidden[l - 1] >= WIDE && net->hidden[l - 1] % PAD == 0 &&
            net->hidden[l] % PAD == 0)
            pass->plan.direct[l] = net->weights[l];
}

static inline size_t pass_bytes(const Pass *pass, int threads, bool gradients) {
    return sizeof(float) * (size_t)(pass->plan.packed + threads * pass->scratch_floats +
                                    (gradients ? pass->chunks * pass->plan.sums : 0));
}

/* Sizes of a pass; `bytes` is what it needs of the pool's memory. */
static inline Pass size_pass(const Kernels *kernels, const Network *net, int64_t rows, int threads, bool gradients,
                             size_t *bytes) {
    Pass pass = {.kernels = kernels, .plan = plan_network(net), .rows = rows};
    Scratch unused;
    pass.scratch_floats = round_up(lay_scratch(&pass.plan, NULL, &unused), 16);
    pass.chunk = chunk_rows(&pass.plan, rows, gradients);
    pass.chunks = chunks_of(rows, pass.chunk);
    *bytes = pass_bytes(&pass, threads, gradients);
    return pass;
}

/* Another chunk size than the pass's own choice; returns the bytes that it then needs. */
static inline size_t set_chunk(Pass *pass, int64_t chunk, int threads, bool gradients) {
    pass->chunk = chunk;
    pass->chunks = chunks_of(pass->rows, chunk);
    return pass_bytes(pass, threads, gradients);
}

/* Sizes of the passes of networks that go through the same chunks, with their gradients; returns the bytes needed. */
static inline size_t size_passes(const Kernels *kernels, const Network *net, int networks, int64_t rows, int threads,
                                 Pass *pass) {
    size_t bytes = 0, part;
    int64_t chunk = 0;
    for (int i = 0; i < networks; i++) {
        pass[i] = size_pass(kernels, &net[i], rows, threads, true, &part);
        chunk = pass[i].chunk > chunk ? pass[i].chunk : chunk;
    }
    for (int i = 0; i < networks; i++)
        bytes += set_chunk(&pass[i], chunk, threads, true);
    return bytes;
}

/* Packs the parameters into the pass's share of `memory`; returns what lies behind it. */
static inline float *lay_pass(Pass *pass, const Network *net, int threads, int use, bool gradients, float *memory) {
    pass->packed = memory;
    pass->kernels->pack_network(net, &pass->plan, use, pass->packed);
    pass->scratch = memory + pass->plan.packed;
    memory = pass->scratch + threads * pass->scratch_floats;
    pass->sums = gradients ? memory : NULL;
    return memory + (gradients ? pass->chunks * pass->plan.sums : 0);
}

static inline void add_sums(float *total, const float *other, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        total[i] += other[i];
}

typedef struct {
    float *total;  // (chunks, floats)
    int64_t floats, chunks, pieces;
} Reduction;

static void add_piece(void *context, int64_t piece, int thread) {
    (void)thread;
    const Reduction *r = context;
    const int64_t size = round_up((r->floats + r->pieces - 1) / r->pieces, 16);
    const int64_t start = piece * size, stop = least(start + size, r->floats);
    float *total = r->total + start;
    for (int64_t chunk = 1; chunk < r->chunks; chunk++)
        add_sums(total, total + chunk * r->floats, stop - start);
}

/* Sums the chunks' floats, in their order, into those of the first. */
static inline void add_chunks(const Work *work, float *sums, int64_t floats, int64_t chunks) {
    const Reduction reduction = {sums, floats, chunks, chunks * floats > CHUNK_WORK ? 16 : 1};
    run_tasks(work, reduction.pieces, add_piece, (void *)&reduction);
}

/* Sums the chunks in their order and writes the gradients out. */
static inline void finish_gradients(Pass *pass, const Work *work, const Network *net, const Gradients *to) {
    add_chunks(work, pass->sums, pass->plan.sums, pass->chunks);
    pass->kernels->unpack_gradients(net, &pass->plan, pass->sums, to);
}

/* ---- forward ---- */

typedef struct {
    Pass pass;
    const float *x;
    float *out, *saved;
} Forward;

static void forward_chunk(void *context, int64_t chunk, int thread) {
    const Forward *f = context;
    const Pass *pass = &f->pass;
    const Plan *plan = &pass->plan;
    Scratch s = scratch_of(pass, thread);
    const int64_t stop = least((chunk + 1) * pass->chunk, pass->rows);
    for (int64_t first = chunk * pass->chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        int rows;
        const float *x = whole_rows(f->x + first * plan->inputs, count, plan->inputs, s.x, &rows);
        const Tape tape = f->saved ? saved_tape(plan, f->saved, pass->rows, first) : s.tape;
        pass->kernels->block_forward(plan, pass->packed, x, tape, &s, rows);
        turn_out(s.outputs, count, plan->outputs, f->out + first * plan->outputs);
    }
}

/* x (rows, inputs) → out (rows, outputs); `saved` (saved_floats) is written for a backward pass, or NULL. False if there
 * is no memory. */
static bool network_forward(const Kernels *kernels, const Network *net, const float *x, int64_t rows, float *out,
                            float *saved, int threads) {
    size_t bytes;
    Forward f = {size_pass(kernels, net, rows, threads, false, &bytes), x, out, saved};
    read_directly(&f.pass, net, saved != NULL);
    Work work = begin_work(threads, bytes);
    if (work.memory) {
        lay_pass(&f.pass, net, threads, FOR_FORWARD, false, work.memory);
        run_tasks(&work, f.pass.chunks, forward_chunk, &f);
    }
    const bool done = work.memory != NULL;
    end_work(&work);
    return done;
}

/* ---- backward ---- */

typedef struct {
    Pass pass;
    const float *x, *out_gradient, *tangent;
    float *saved, *dx, *dout;
} Backward;

static void backward_chunk(void *context, int64_t chunk, int thread) {
    const Backward *b = context;
    const Pass *pass = &b->pass;
    const Plan *plan = &pass->plan;
    Scratch s = scratch_of(pass, thread);
    float *sums = sums_of(pass, chunk);
    if (sums)
        memset(sums, 0, sizeof(float) * (size_t)plan->sums);
    const int64_t stop = least((chunk + 1) * pass->chunk, pass->rows);
    for (int64_t first = chunk * pass->chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        int rows;
        const float *x = whole_rows(b->x + first * plan->inputs, count, plan->inputs, s.x, &rows);
        turn_in(b->out_gradient + first * plan->outputs, count, plan->outputs, s.output_gradients);
        Tape tape = s.tape;
        if (b->saved)
            tape = saved_tape(plan, b->saved, pass->rows, first);
        else
            pass->kernels->block_forward(plan, pass->packed, x, tape, &s, rows);
        if (b->tangent) {
            pass->kernels->block_backward(plan, pass->packed, x, tape, &s, NULL, false, rows);
            int same;
            const float *c = whole_rows(b->tangent + first * plan->inputs, count, plan->inputs, s.tangent, &same);
            pass->kernels->block_double_backward(plan, pass->packed, x, c, tape, &s, sums, b->dx != NULL,
                                                 b->dout != NULL, rows);
            if (b->dout)
                turn_out(s.outputs, count, plan->outputs, b->dout + first * plan->outputs);
        } else {
            pass->kernels->block_backward(plan, pass->packed, x, tape, &s, sums, b->dx != NULL, rows);
        }
        if (b->dx)
            for (int64_t r = 0; r < count; r++)
                memcpy(b->dx + (first + r) * plan->inputs, s.input_gradient + r * plan->input_width,
                       sizeof(float) * (size_t)plan->inputs);
    }
}

static bool run_backward(Backward *b, const Network *net, const Gradients *gradients, size_t bytes, int threads) {
    Work work = begin_work(threads, bytes);
    if (work.memory) {
        const int use = (b->saved ? 0 : FOR_FORWARD) | FOR_BACKWARD | (b->dx ? FOR_INPUT_GRADIENT : 0);
        lay_pass(&b->pass, net, threads, use, gradients != NULL, work.memory);
        run_tasks(&work, b->pass.chunks, backward_chunk, b);
        if (gradients)
            finish_gradients(&b->pass, &work, net, gradients);
    }
    const bool done = work.memory != NULL;
    end_work(&work);
    return done;
}

/* Gradients of sum(out_gradient * out) with respect to the parameters (`gradients`, may be NULL) and x (`dx`, may be
 * NULL). `saved` is what the forward pass wrote; NULL to compute it again. */
static bool network_backward(const Kernels *kernels, const Network *net, const float *x, float *saved,
                             const float *out_gradient, int64_t rows, const Gradients *gradients, float *dx,
                             int threads) {
    size_t bytes;
    Backward b = {.pass = size_pass(kernels, net, rows, threads, gradients != NULL, &bytes), .x = x,
                  .out_gradient = out_gradient, .saved = saved, .dx = dx};
    read_directly(&b.pass, net, true);
    return run_backward(&b, net, gradients, bytes, threads);
}

/* Gradients of sum(tangent * dx), dx being that of network_backward, with respect to the parameters, x and
 * out_gradient (`dout`); each may be NULL. */
static bool network_double_backward(const Kernels *kernels, const Network *net, const float *x,
                                    const float *out_gradient, const float *tangent, int64_t rows,
                                    const Gradients *gradients, float *dx, float *dout, int threads) {
    size_t bytes;
    Backward b = {.pass = size_pass(kernels, net, rows, threads, gradients != NULL, &bytes), .x = x,
                  .out_gradient = out_gradient, .tangent = tangent, .dx = dx, .dout = dout};
    return run_backward(&b, net, gradients, bytes, threads);
}

#endif
