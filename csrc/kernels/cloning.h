/* Behaviour cloning in whole epochs, and how well a policy explains demonstrations; nn/losses.py and learners/bc.py have
 * the same in torch. */
#ifndef PUFFER_IL_CLONING_H
#define PUFFER_IL_CLONING_H

#include "training.h"

/* Demonstrated rows: `index` lists which are meant (NULL: the first ones), `weights` (by the row's own number) what each
 * counts for (NULL: 1). */
typedef struct {
    Observations obs;
    const void *actions;
    const int64_t *index;
    const float *weights;
} CloningRows;

typedef struct {
    Pass pass;
    CloningRows rows;
    Distribution dist;
    CloningLoss loss;
    double *stats;
    float *log_std;
} CloningPass;

/* `count` rows from number `first` on, through the network; how many rows the tape then holds. */
static inline int read_block(const CloningPass *p, Scratch *s, int64_t first, int64_t count, RowBlock *block) {
    int64_t at[BLOCK];
    for (int64_t r = 0; r < count; r++)
        at[r] = p->rows.index ? p->rows.index[first + r] : first + r;
    const int rows = gather_observations(&p->rows.obs, at, count, s->x);
    gather_actions(&p->dist, p->rows.actions, at, count, block);
    for (int64_t r = 0; r < BLOCK; r++) {
        block->present[r] = r < count;
        block->weights[r] = r < count && p->rows.weights ? p->rows.weights[at[r]] : block->present[r];
    }
    p->pass.kernels->block_forward(&p->pass.plan, p->pass.packed, s->x, s->tape, s, rows);
    clear_tail(s->outputs, p->pass.plan.outputs, count);
    return rows;
}

static void cloning_chunk(void *context, int64_t chunk, int thread) {
    const CloningPass *p = context;
    const Pass *pass = &p->pass;
    Scratch s = scratch_of(pass, thread);
    float *sums = sums_of(pass, chunk), *log_std = p->log_std + chunk * MAX_DIMS;
    double *stats = p->stats + chunk * CLONING_STATS;
    memset(sums, 0, sizeof(float) * (size_t)pass->plan.sums);
    memset(stats, 0, sizeof(double) * CLONING_STATS);
    memset(log_std, 0, sizeof(float) * MAX_DIMS);
    RowBlock block;
    const int64_t stop = least((chunk + 1) * pass->chunk, pass->rows);
    for (int64_t first = chunk * pass->chunk; first < stop; first += BLOCK) {
        const int rows = read_block(p, &s, first, least(BLOCK, stop - first), &block);
        pass->kernels->cloning_block(&p->dist, &p->loss, 1.0f / (float)pass->rows, s.outputs, &block,
                                     s.output_gradients, stats, log_std);
        pass->kernels->block_backward(&pass->plan, pass->packed, s.x, s.tape, &s, sums, false, rows);
    }
}

/* Whole minibatches, the `count` rows cut into pieces of `batch`, each with a step of `optimizer`, whose gradient the
 * network's `gradients` (and `log_std`, a place in it or NULL) lie in; without it gradients alone. `means` is
 * overwritten with the mean over the minibatches of -log π, entropy and gradient norm. False if there is no memory. */
static bool clone_epoch(const Kernels *kernels, const Network *net, const Gradients *gradients,
                        const float *log_std, float *log_std_gradient, const CloningRows *rows,
                        const Distribution *dist, const CloningLoss *loss, int64_t count, int64_t batch,
                        Optimizer *optimizer, double means[3], int threads) {
    CloningPass p = {.rows = *rows, .dist = *dist, .loss = *loss};
    size_t bytes;
    p.pass = size_pass(kernels, net, least(batch, count), threads, true, &bytes);
    const size_t tail = (size_t)p.pass.chunks * (sizeof(double) * CLONING_STATS + sizeof(float) * MAX_DIMS);
    Work work = begin_work(threads, bytes + tail);
    const bool done = work.memory != NULL;
    memset(means, 0, sizeof(double) * 3);
    const int64_t batches = chunks_of(count, batch);
    for (int64_t first = 0; done && first < count; first += batch) {
        p.pass.rows = least(batch, count - first);  // the last one may be smaller; its chunks are as large, and no more
        p.pass.chunks = chunks_of(p.pass.rows, p.pass.chunk);
        p.rows.index = rows->index + first;
        p.stats = (double *)lay_pass(&p.pass, net, threads, FOR_FORWARD | FOR_BACKWARD, true, work.memory);
        p.log_std = (float *)(p.stats + p.pass.chunks * CLONING_STATS);
        for (int k = 0; log_std && k < dist->dims; k++)
            p.dist.log_std[k] = log_std[k];
        prepare_distribution(&p.dist);
        run_tasks(&work, p.pass.chunks, cloning_chunk, &p);
        finish_gradients(&p.pass, &work, net, gradients);
        for (int k = 0; log_std_gradient && k < dist->dims; k++)
            log_std_gradient[k] = 0;
        for (int64_t chunk = 0; chunk < p.pass.chunks; chunk++) {
            means[0] += p.stats[chunk * CLONING_STATS + CLONING_NLL] / (double)batches;
            means[1] += p.stats[chunk * CLONING_STATS + CLONING_ENTROPY] / (double)batches;
            for (int k = 0; log_std_gradient && k < dist->dims; k++)
                log_std_gradient[k] += p.log_std[chunk * MAX_DIMS + k];
        }
        if (optimizer)
            means[2] += optimizer_step(kernels, optimizer) / (double)batches;
    }
    end_work(&work);
    return done;
}

/* ---- scores ---- */

enum { SCORE_STATS = CLONING_STATS + 1 };

/* Adds to `stats` how well the likeliest actions meet the demonstrated ones: of discrete ones the rows in which all
 * agree, of continuous ones the squared distances. */
static inline void compare_modes(const Distribution *dist, const RowBlock *shown, const RowBlock *modes, int64_t count,
                                 double *stats) {
    for (int64_t r = 0; r < count; r++) {
        bool same = true;
        if (!shown->present[r])
            continue;
        double square = 0;
        for (int k = 0; k < dist->dims; k++) {
            same &= shown->chosen[k][r] == modes->chosen[k][r];
            const double distance = dist->gaussian ? shown->actions[k][r] - modes->actions[k][r] : 0;
            square += distance * distance;
        }
        *stats += dist->gaussian ? square : same;
    }
}

static void score_chunk(void *context, int64_t chunk, int thread) {
    const CloningPass *p = context;
    const Pass *pass = &p->pass;
    Scratch s = scratch_of(pass, thread);
    float ignored[MAX_DIMS] = {0};
    double *stats = p->stats + chunk * SCORE_STATS;
    memset(stats, 0, sizeof(double) * SCORE_STATS);
    RowBlock block, modes;
    const int64_t stop = least((chunk + 1) * pass->chunk, pass->rows);
    for (int64_t first = chunk * pass->chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        read_block(p, &s, first, count, &block);
        pass->kernels->mode_block(&p->dist, s.outputs, &modes);
        compare_modes(&p->dist, &block, &modes, count, stats + CLONING_STATS);
        pass->kernels->cloning_block(&p->dist, &p->loss, 1, s.outputs, &block, s.output_gradients, stats, ignored);
    }
}

/* One pass without gradients over all rows in chunks with `numbers` sums each, which are added up in `sums`. */
static bool score_rows(CloningPass *p, const Kernels *kernels, const Network *net, int64_t count, Task task, int numbers,
                       double *sums, int threads) {
    size_t bytes;
    p->pass = size_pass(kernels, net, count, threads, false, &bytes);
    prepare_distribution(&p->dist);
    Work work = begin_work(threads, bytes + (size_t)(p->pass.chunks * numbers) * sizeof(double));
    const bool done = work.memory != NULL;
    memset(sums, 0, sizeof(double) * (size_t)numbers);
    if (done) {
        p->stats = (double *)lay_pass(&p->pass, net, threads, FOR_FORWARD, false, work.memory);
        run_over(&work, task, p, &p->rows.obs, p->rows.index, count, p->pass.chunk);
        for (int64_t chunk = 0; chunk < p->pass.chunks; chunk++)
            for (int k = 0; k < numbers; k++)
                sums[k] += p->stats[chunk * numbers + k];
    }
    end_work(&work);
    return done;
}

/* Means over the rows of the weighted loss, of -log π, of the entropy, and what compare_modes counts. False if there is
 * no memory. */
static bool clone_score(const Kernels *kernels, const Network *net, const CloningRows *rows, const Distribution *dist,
                        const CloningLoss *loss, int64_t count, double means[SCORE_STATS], int threads) {
    CloningPass p = {.rows = *rows, .dist = *dist, .loss = *loss};
    const bool done = score_rows(&p, kernels, net, count, score_chunk, SCORE_STATS, means, threads);
    for (int k = 0; k < SCORE_STATS; k++)
        means[k] /= (double)count;
    return done;
}

static void spread_chunk(void *context, int64_t chunk, int thread) {
    const CloningPass *p = context;
    const Distribution *dist = &p->dist;
    Scratch s = scratch_of(&p->pass, thread);
    double *sums = p->stats + chunk * (dist->dims + 1);
    memset(sums, 0, sizeof(double) * (size_t)(dist->dims + 1));
    RowBlock block;
    const int64_t stop = least((chunk + 1) * p->pass.chunk, p->pass.rows);
    for (int64_t first = chunk * p->pass.chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        read_block(p, &s, first, count, &block);
        for (int64_t r = 0; r < count; r++)
            sums[dist->dims] += block.weights[r];
        for (int k = 0; k < dist->dims; k++) {
            const float *mean = s.outputs + k * BLOCK;
            for (int64_t r = 0; r < count; r++) {
                const float off = (block.actions[k][r] - dist->center[k]) / dist->scale[k] - mean[r];
                sums[k] += block.weights[r] * off * off;
            }
        }
    }
}

/* Of a Gaussian the weighted mean squares (dims,) of what the actions are off its means, in units of the range; `sums`
 * (dims + 1,) has its sum of weights in the last place. False if there is no memory. */
static bool clone_spread(const Kernels *kernels, const Network *net, const CloningRows *rows, const Distribution *dist,
                         int64_t count, double *sums, int threads) {
    CloningPass p = {.rows = *rows, .dist = *dist};
    const bool done = score_rows(&p, kernels, net, count, spread_chunk, dist->dims + 1, sums, threads);
    for (int k = 0; k < dist->dims; k++)
        sums[k] = sums[dist->dims] > 0 ? sums[k] / sums[dist->dims] : 0;
    return done;
}

#endif
