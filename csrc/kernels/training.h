/* Gradients of whole minibatches, block by block: forward, loss and backward of a block follow each other while its
 * activations are in the cache. losses.py has the same losses in torch. */
#ifndef PUFFER_IL_TRAINING_H
#define PUFFER_IL_TRAINING_H

#include "passed.h"
#include "passes.h"

enum { FLOAT32, FLOAT64, UINT8, INT8, INT16, INT32, INT64, BOOL };

/* Observations as the environment stores them, (rows, columns) of `dtype`, and how a network sees them:
 * clip((x - mean) * scale, ±clip), or as they are without `mean`. */
typedef struct {
    const void *data;
    int32_t dtype, bytes, columns;  // bytes of one row
    float clip;
    const float *mean, *scale;  // (BLOCK, columns): the same for every row
    const void *more;           // rows that are gathered lie there from row `split` on; NULL: all lie at `data`
    int64_t split;
    int64_t mapped;             // bytes from `data` on that lie in a mapped file, of which a pass leaves none resident
} Observations;

/* Which tasks of a pass follow `first` until the rows that they take lie PASSED_BYTES apart. */
static inline int64_t end_of_some(const Observations *obs, const int64_t *index, int64_t rows, int64_t chunk,
                                  int64_t first) {
    int64_t row = first * chunk, low = index ? index[row] : row, high = low;
    for (; row < rows && (high - low) * obs->bytes < PASSED_BYTES; row++) {
        const int64_t at = index ? index[row] : row;
        low = at < low ? at : low;
        high = at > high ? at : high;
    }
    return row < rows ? row / chunk : chunks_of(rows, chunk);
}

/* A pass over `rows` of these, which `index` lists (NULL: the first ones), in tasks of `chunk` rows. */
static inline void run_over(const Work *work, Task task, void *context, const Observations *obs, const int64_t *index,
                            int64_t rows, int64_t chunk) {
    const int64_t chunks = chunks_of(rows, chunk);
    if (!obs->mapped)
        run_tasks(work, chunks, task, context);
    for (int64_t first = 0, stop; obs->mapped && first < chunks; first = stop) {
        stop = end_of_some(obs, index, rows, chunk, first);
        stop = least(stop > first + work->threads ? stop : first + work->threads, chunks);
        run_passed(work, first, stop, task, context, obs->data, obs->mapped);
    }
}

/* Rows of floats as they are. */
static inline Observations plain_rows(const float *x, int32_t columns) {
    return (Observations){.data = x, .dtype = FLOAT32, .bytes = columns * (int32_t)sizeof(float), .columns = columns};
}

/* Which rows of a rollout are meant: row i is (i / count) * stride + index[i % count]. */
typedef struct {
    const int64_t *index;
    int64_t count, stride;
} Selection;

/* The `count` selected rows from number `first` on. */
static inline void select_rows(const Selection *selection, int64_t first, int64_t count, int64_t *rows) {
    int64_t base = first / selection->count * selection->stride, at = first % selection->count;
    for (int64_t r = 0; r < count; r++) {
        rows[r] = base + selection->index[at];
        if (++at == selection->count) {
            at = 0;
            base += selection->stride;
        }
    }
}

#define CONVERT(type)                                     \
    for (int64_t i = 0; i < n; i++)                       \
        to[i] = (float)((const type *)from)[i];           \
    break

static inline void to_floats(int dtype, const void *from, int64_t n, float *to) {
    switch (dtype) {
    case FLOAT32: memcpy(to, from, sizeof(float) * (size_t)n); break;
    case FLOAT64: CONVERT(double);
    case UINT8: CONVERT(uint8_t);
    case INT8: CONVERT(int8_t);
    case INT16: CONVERT(int16_t);
    case INT32: CONVERT(int32_t);
    case INT64: CONVERT(int64_t);
    case BOOL: CONVERT(uint8_t);
    }
}
#undef CONVERT

/* n numbers of whole rows, in place. */
static inline void normalise(const Observations *obs, int64_t n, float *x) {
    const float clip = obs->clip;
    for (int64_t i = 0; obs->mean && i < n; i++) {
        const float centred = (x[i] - obs->mean[i]) * obs->scale[i];
        x[i] = centred < -clip ? -clip : centred > clip ? clip : centred;
    }
}

/* `count` rows in `x` (BLOCK, columns), read already, become what the network sees; zeros fill the tile behind them. */
static inline int finish_observations(const Observations *obs, int64_t count, float *x) {
    const int64_t n = count * obs->columns;
    const int rows = (int)round_up(count, TILE_ROWS);
    normalise(obs, n, x);
    memset(x + n, 0, sizeof(float) * (size_t)(rows * obs->columns - n));
    return rows;
}

/* The rows from `first` on; returns how many rows x then has, a multiple of TILE_ROWS. */
static inline int read_observations(const Observations *obs, int64_t first, int64_t count, float *x) {
    to_floats(obs->dtype, (const char *)obs->data + first * obs->bytes, count * obs->columns, x);
    return finish_observations(obs, count, x);
}

static inline int gather_observations(const Observations *obs, const int64_t *rows, int64_t count, float *x) {
    for (int64_t r = 0; r < count; r++) {
        const bool behind = obs->more && rows[r] >= obs->split;
        const char *from = behind ? (const char *)obs->more + (rows[r] - obs->split) * obs->bytes
                                  : (const char *)obs->data + rows[r] * obs->bytes;
        to_floats(obs->dtype, from, obs->columns, x + r * obs->columns);
    }
    return finish_observations(obs, count, x);
}

/* ---- moments of columns ---- */

enum { MOMENT_ROWS = 4096 };

typedef struct {
    Observations obs;
    const int64_t *index;  // which rows of `obs` these are; NULL: the first ones
    const uint8_t *valid;  // NULL: all rows count
    int64_t rows, origin;  // the row that differences are taken from
    double *sums;          // (chunks, 2 * columns + 1): sums of x - x₀ and of its square, and how many rows
} Moments;

static inline const char *moments_row(const Moments *m, int64_t row) {
    return (const char *)m->obs.data + (m->index ? m->index[row] : row) * m->obs.bytes;
}

static void moments_chunk(void *context, int64_t chunk, int thread) {
    (void)thread;
    const Moments *m = context;
    const int columns = m->obs.columns;
    double *sum = m->sums + chunk * (2 * columns + 1), *square = sum + columns, counted = 0;
    memset(sum, 0, sizeof(double) * (size_t)(2 * columns));
    const int64_t stop = least((chunk + 1) * MOMENT_ROWS, m->rows);
    float x[columns], origin[columns];
    to_floats(m->obs.dtype, moments_row(m, m->origin), columns, origin);
    for (int64_t row = chunk * MOMENT_ROWS; row < stop; row++) {
        if (m->valid && !m->valid[row])
            continue;
        to_floats(m->obs.dtype, moments_row(m, row), columns, x);
        counted += 1;
        for (int i = 0; i < columns; i++) {
            const double d = (double)x[i] - origin[i];  // differences from a row: no cancellation far from zero
            sum[i] += d;
            square[i] += d * d;
        }
    }
    sum[2 * columns] = counted;
}

/* Mean and variance of every column over the valid rows of those that `index` (rows,) lists, of the first `rows` if it is
 * NULL; returns how many those are, -1 if there is no memory. */
static double column_moments(const Observations *obs, const int64_t *index, const uint8_t *valid, int64_t rows,
                             float *mean, float *variance, int threads) {
    const int columns = obs->columns, width = 2 * columns + 1;
    const int64_t chunks = chunks_of(rows, MOMENT_ROWS);
    Work work = begin_work(threads, sizeof(double) * (size_t)(chunks * width));
    Moments m = {*obs, index, valid, rows, 0, work.memory};
    while (valid && m.origin < rows - 1 && !valid[m.origin])
        m.origin++;
    double counted = -1;
    if (work.memory) {
        run_over(&work, moments_chunk, &m, obs, index, rows, MOMENT_ROWS);
        for (int64_t chunk = 1; chunk < chunks; chunk++)
            for (int i = 0; i < width; i++)
                m.sums[i] += m.sums[chunk * width + i];
        counted = m.sums[2 * columns];
        float origin[columns];
        to_floats(obs->dtype, moments_row(&m, m.origin), columns, origin);
        for (int i = 0; i < columns; i++) {
            const double d = counted ? m.sums[i] / counted : 0;
            mean[i] = (float)(origin[i] + d);
            variance[i] = counted ? (float)(m.sums[columns + i] / counted - d * d) : 0;
            variance[i] = variance[i] < 0 ? 0 : variance[i];
        }
    }
    end_work(&work);
    return counted;
}

/* ---- rows of a minibatch ---- */

/* (rows, dims) of int32 or float → (dims, BLOCK). */
static inline void gather_actions(const Distribution *dist, const void *actions, const int64_t *rows, int64_t count,
                                  RowBlock *block) {
    for (int64_t r = 0; r < count; r++) {
        const int32_t *source = (const int32_t *)actions + rows[r] * dist->dims;
        for (int k = 0; k < dist->dims; k++)
            block->chosen[k][r] = source[k];  // the union holds floats as well
    }
    for (int k = 0; k < dist->dims; k++)
        memset(&block->chosen[k][count], 0, sizeof(int32_t) * (size_t)(BLOCK - count));
}

/* An actor and a critic, in one network whose last output is the value, or in two. */
typedef struct {
    int32_t networks;
    Network net[2];
    Gradients gradients[2];
} ActorCritic;

/* ---- PPO ---- */

typedef struct {
    const void *actions;
    const float *logprobs, *values, *advantages, *returns;
    const uint8_t *valid;  // NULL: all rows count
    Selection selection;
    int64_t rows;
} PpoRows;

/* What PPO needs of the rows `at`; beyond `count` they weigh nothing. */
static inline void gather_ppo(const PpoRows *rows, const Distribution *dist, const int64_t *at, int64_t count,
                              RowBlock *block) {
    memset(block, 0, offsetof(RowBlock, chosen));
    for (int64_t r = 0; r < count; r++) {
        const int64_t row = at[r];
        block->logprobs[r] = rows->logprobs[row];
        block->values[r] = rows->values[row];
        block->advantages[r] = rows->advantages[row];
        block->returns[r] = rows->returns[row];
        block->weights[r] = rows->valid ? (float)(rows->valid[row] != 0) : 1;
    }
    gather_actions(dist, rows->actions, at, count, block);
}

/* 1 / how many of the rows count, 0 if none does. */
static inline float share_of(const PpoRows *rows) {
    int64_t counted = 0, at[BLOCK];
    if (!rows->valid)
        return 1.0f / (float)rows->rows;
    for (int64_t first = 0; first < rows->rows; first += BLOCK) {
        const int64_t count = least(BLOCK, rows->rows - first);
        select_rows(&rows->selection, first, count, at);
        for (int64_t r = 0; r < count; r++)
            counted += rows->valid[at[r]] != 0;
    }
    return counted ? 1.0f / (float)counted : 0;
}

typedef struct {
    int networks;
    Pass pass[2];
    Observations obs;
    Distribution dist;
    PpoSettings settings;
    PpoRows rows;
    double *stats;   // (chunks, PPO_STATS)
    float *log_std;  // (chunks, MAX_DIMS)
} PpoPass;

static void ppo_chunk(void *context, int64_t chunk, int thread) {
    const PpoPass *p = context;
    const Kernels *k = p->pass[0].kernels;
    Scratch scratch[2];
    for (int i = 0; i < p->networks; i++) {
        scratch[i] = scratch_of(&p->pass[i], thread);
        memset(sums_of(&p->pass[i], chunk), 0, sizeof(float) * (size_t)p->pass[i].plan.sums);
    }
    double *stats = p->stats + chunk * PPO_STATS;
    float *log_std = p->log_std + chunk * MAX_DIMS;
    memset(stats, 0, sizeof(double) * PPO_STATS);
    memset(log_std, 0, sizeof(float) * MAX_DIMS);
    Scratch *actor = &scratch[0], *critic = &scratch[p->networks - 1];
    const ptrdiff_t value_row = p->networks == 1 ? (ptrdiff_t)p->dist.num_params * BLOCK : 0;
    RowBlock block;
    const int64_t size = p->pass[0].chunk, stop = least((chunk + 1) * size, p->rows.rows);
    for (int64_t first = chunk * size; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        int64_t at[BLOCK];
        select_rows(&p->rows.selection, first, count, at);
        const int rows = gather_observations(&p->obs, at, count, actor->x);
        gather_ppo(&p->rows, &p->dist, at, count, &block);
        for (int i = 0; i < p->networks; i++) {
            k->block_forward(&p->pass[i].plan, p->pass[i].packed, actor->x, scratch[i].tape, &scratch[i], rows);
            clear_tail(scratch[i].outputs, p->pass[i].plan.outputs, count);
        }
        k->ppo_block(&p->dist, &p->settings, actor->outputs, critic->outputs + value_row, &block,
                     actor->output_gradients, critic->output_gradients + value_row, stats, log_std);
        for (int i = 0; i < p->networks; i++)
            k->block_backward(&p->pass[i].plan, p->pass[i].packed, actor->x, scratch[i].tape, &scratch[i],
                              sums_of(&p->pass[i], chunk), false, rows);
    }
}

/* Gradients of PPO's loss on the selected rows; `stats` (PPO_STATS,) are its parts, `log_std` (dims,) the gradient of a
 * Gaussian's. Settings' `share` follows from the rows that are valid. False if there is no memory. */
static bool ppo_gradients(const Kernels *kernels, const ActorCritic *ac, const Observations *obs,
                          const Distribution *dist, PpoSettings settings, const PpoRows *rows, double *stats,
                          float *log_std, int threads) {
    PpoPass p = {.networks = ac->networks, .obs = *obs, .dist = *dist, .settings = settings, .rows = *rows};
    prepare_distribution(&p.dist);
    const size_t bytes = size_passes(kernels, ac->net, ac->networks, rows->rows, threads, p.pass);
    const int64_t chunks = p.pass[0].chunks;
    const size_t tail = (size_t)chunks * (sizeof(double) * PPO_STATS + sizeof(float) * MAX_DIMS);
    Work work = begin_work(threads, bytes + tail);
    const bool done = work.memory != NULL;
    if (done) {
        float *memory = work.memory;
        for (int i = 0; i < ac->networks; i++)
            memory = lay_pass(&p.pass[i], &ac->net[i], threads, FOR_FORWARD | FOR_BACKWARD, true, memory);
        p.stats = (double *)memory;
        p.log_std = (float *)(p.stats + chunks * PPO_STATS);
        p.settings.share = share_of(rows);
        run_tasks(&work, chunks, ppo_chunk, &p);
        for (int i = 0; i < ac->networks; i++)
            finish_gradients(&p.pass[i], &work, &ac->net[i], &ac->gradients[i]);
        memset(stats, 0, sizeof(double) * PPO_STATS);
        memset(log_std, 0, sizeof(float) * (size_t)(dist->gaussian ? dist->dims : 0));
        for (int64_t chunk = 0; chunk < chunks; chunk++) {
            for (int k = 0; k < PPO_STATS; k++)
                stats[k] += p.stats[chunk * PPO_STATS + k];
            for (int k = 0; dist->gaussian && k < dist->dims; k++)
                log_std[k] += p.log_std[chunk * MAX_DIMS + k];
        }
    }
    end_work(&work);
    return done;
}

/* ---- Adam ---- */

/* Parameters in one piece, their gradient and Adam's moments, (count,) each; `step` counts Adam's steps. */
typedef struct {
    AdamSettings settings;
    int64_t count;
    float *parameters, *gradient, *mean, *square;
    double step;
} Optimizer;

/* What a gradient of this norm is multiplied by. */
static inline float clipping_factor(const Optimizer *o, double norm) {
    const double most = o->settings.max_grad_norm;
    return (float)(most > 0 && !(norm + 1e-6 <= most) ? most / (norm + 1e-6) : 1);
}

/* One step; returns the gradient's norm before it was clipped. */
static inline double optimizer_step(const Kernels *kernels, Optimizer *o) {
    const double norm = sqrt(kernels->square_sum(o->gradient, o->count));
    o->step += 1;
    kernels->adam(&o->settings, o->step, clipping_factor(o, norm), o->count, o->parameters, o->gradient, o->mean,
                  o->square);
    return norm;
}

#endif
