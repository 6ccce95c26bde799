/* The discriminator's rows and its gradients: a loss of expert against policy rows, and the gradient penalty. */
#ifndef PUFFER_IL_ADVERSARY_H
#define PUFFER_IL_ADVERSARY_H

#include "training.h"

/* Pairs as a discriminator sees them: observation; action features (one-hot, or clipped to [low, high] and scaled), or
 * the next observation, or nothing; a zero that stands for "not absorbing". */
typedef struct {
    Observations obs;
    const void *next;     // observations; NULL: none
    Distribution dist;
    const void *actions;  // NULL: none
    const float *low, *high;
    const int64_t *index;  // NULL: all rows in order
    int64_t rows;
    int32_t width;
    float *out;
} Pairs;

static inline void action_features(const Pairs *p, int64_t row, float *to) {
    const Distribution *dist = &p->dist;
    if (dist->gaussian) {
        const float *action = (const float *)p->actions + row * dist->dims;
        for (int k = 0; k < dist->dims; k++) {
            const float bounded = action[k] < p->low[k] ? p->low[k] : action[k] > p->high[k] ? p->high[k] : action[k];
            to[k] = (bounded - dist->center[k]) / dist->scale[k];
        }
        return;
    }
    const int32_t *action = (const int32_t *)p->actions + row * dist->dims;
    memset(to, 0, sizeof(float) * (size_t)dist->num_params);
    for (int k = 0; k < dist->dims; to += dist->choices[k++])
        to[action[k]] = 1;
}

enum { PAIR_ROWS = 1024 };

/* Pairs number [first, stop), in rows of `width` from `to` on. */
static inline void write_pairs(const Pairs *p, int64_t first, int64_t stop, float *to) {
    const int columns = p->obs.columns;
    for (int64_t i = first; i < stop; i++, to += p->width) {
        const int64_t row = p->index ? p->index[i] : i;
        to_floats(p->obs.dtype, (const char *)p->obs.data + row * p->obs.bytes, columns, to);
        normalise(&p->obs, columns, to);
        if (p->next) {
            to_floats(p->obs.dtype, (const char *)p->next + row * p->obs.bytes, columns, to + columns);
            normalise(&p->obs, columns, to + columns);
        }
        if (p->actions)
            action_features(p, row, to + columns);
        to[p->width - 1] = 0;
    }
}

static void pair_chunk(void *context, int64_t chunk, int thread) {
    (void)thread;
    const Pairs *p = context;
    const int64_t first = chunk * PAIR_ROWS;
    write_pairs(p, first, least(first + PAIR_ROWS, p->rows), p->out + first * p->width);
}

static void make_pairs(Pairs *pairs, int threads) {
    Work work = begin_work(threads, 0);
    run_tasks(&work, chunks_of(pairs->rows, PAIR_ROWS), pair_chunk, pairs);
    end_work(&work);
}

typedef struct {
    Pass pass;
    Pairs pairs;
} PairLogits;

static void logit_chunk(void *context, int64_t chunk, int thread) {
    const PairLogits *l = context;
    const Pass *pass = &l->pass;
    Scratch s = scratch_of(pass, thread);
    const int64_t stop = least((chunk + 1) * pass->chunk, pass->rows);
    for (int64_t first = chunk * pass->chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        write_pairs(&l->pairs, first, first + count, s.x);
        int rows;
        const float *x = whole_rows(s.x, count, pass->plan.inputs, s.tangent, &rows);
        pass->kernels->block_forward(&pass->plan, pass->packed, x, s.tape, &s, rows);
        memcpy(l->pairs.out + first, s.outputs, sizeof(float) * (size_t)count);
    }
}

/* The network's only output for every pair, into `pairs->out` (rows,), without the inputs ever being in memory. */
static bool pair_logits(const Kernels *kernels, const Network *net, const Pairs *pairs, int threads) {
    size_t bytes;
    PairLogits l = {size_pass(kernels, net, pairs->rows, threads, false, &bytes), *pairs};
    Work work = begin_work(threads, bytes);
    const bool done = work.memory != NULL;
    if (done) {
        lay_pass(&l.pass, net, threads, FOR_FORWARD, false, work.memory);
        run_tasks(&work, l.pass.chunks, logit_chunk, &l);
    }
    end_work(&work);
    return done;
}

enum { NO_PENALTY, INTERPOLATED, ZERO_CENTRED };
enum { DISC_LOSS, DISC_RIGHT_EXPERT, DISC_RIGHT_POLICY, DISC_LOGIT_EXPERT, DISC_LOGIT_POLICY, DISC_PENALTY, DISC_NORM,
       DISC_STATS };

typedef struct {
    float label_smoothing, ent_coef, penalty_coef, penalty_target;
    int32_t penalty, loss;
} DiscSettings;

typedef struct {
    Pass pass;
    DiscSettings settings;
    const float *expert, *policy, *mix;
    double *stats;  // (chunks, DISC_STATS)
} DiscPass;

/* The loss of one block: `expert` tells the side. */
static inline void side_block(const DiscPass *p, Scratch *s, float *sums, const float *rows_of_side, int64_t count,
                                 bool expert, double *stats) {
    const Pass *pass = &p->pass;
    const float label = expert ? 1 - p->settings.label_smoothing : p->settings.label_smoothing;
    float weights[BLOCK];
    for (int64_t r = 0; r < BLOCK; r++)
        weights[r] = r < count ? 0.5f / (float)pass->rows : 0;
    int rows;
    const float *x = whole_rows(rows_of_side, count, pass->plan.inputs, s->x, &rows);
    double of_block[3] = {0, 0, 0};
    pass->kernels->block_forward(&pass->plan, pass->packed, x, s->tape, s, rows);
    clear_tail(s->outputs, 1, count);
    pass->kernels->verdict_block(p->settings.loss, s->outputs, expert ? 1 : -1, label, weights, p->settings.ent_coef,
                                 s->output_gradients, of_block);
    pass->kernels->block_backward(&pass->plan, pass->packed, x, s->tape, s, sums, false, rows);
    stats[DISC_LOSS] += of_block[0];
    stats[expert ? DISC_LOGIT_EXPERT : DISC_LOGIT_POLICY] += 2 * of_block[1];
    stats[expert ? DISC_RIGHT_EXPERT : DISC_RIGHT_POLICY] += 2 * of_block[2];
}

/* Penalty on the norm of the logit's gradient at one block of points. */
static inline void penalty_block(const DiscPass *p, Scratch *s, float *sums, const float *expert, const float *policy,
                                 const float *mix, int64_t count, double *stats) {
    const Pass *pass = &p->pass;
    const Plan *plan = &pass->plan;
    const int64_t inputs = plan->inputs;
    const int rows = (int)round_up(count, TILE_ROWS);
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < inputs; i++)
            s->x[r * inputs + i] = mix ? mix[r] * expert[r * inputs + i] + (1 - mix[r]) * policy[r * inputs + i]
                                       : expert[r * inputs + i];
    memset(s->x + count * inputs, 0, sizeof(float) * (size_t)((rows - count) * inputs));
    for (int64_t r = 0; r < BLOCK; r++)
        s->output_gradients[r] = r < count;
    pass->kernels->block_forward(plan, pass->packed, s->x, s->tape, s, rows);
    pass->kernels->backward_data(plan, pass->packed, s->tape, s, rows);
    pass->kernels->input_gradient(plan, pass->packed, s->d[0], s->input_gradient, rows);
    memset(s->tangent, 0, sizeof(float) * (size_t)(rows * inputs));
    for (int64_t r = 0; r < count; r++) {
        const float *g = s->input_gradient + r * plan->input_width;
        float square = 0;
        for (int64_t i = 0; i < inputs; i++)
            square += g[i] * g[i];
        const float norm = sqrtf(square), excess = norm - p->settings.penalty_target;
        float factor = 2 * p->settings.penalty_coef / (float)pass->rows;
        if (p->settings.penalty == INTERPOLATED) {
            factor *= excess > 0 ? excess / norm : 0;
            stats[DISC_PENALTY] += excess > 0 ? excess * excess / (double)pass->rows : 0;
        } else {
            stats[DISC_PENALTY] += square / (double)pass->rows;
        }
        stats[DISC_NORM] += norm / (double)pass->rows;
        for (int64_t i = 0; i < inputs; i++)
            s->tangent[r * inputs + i] = factor * g[i];
    }
    pass->kernels->block_double_backward(plan, pass->packed, s->x, s->tangent, s->tape, s, sums, false, false, rows);
}

static void disc_chunk(void *context, int64_t chunk, int thread) {
    const DiscPass *p = context;
    const Pass *pass = &p->pass;
    Scratch s = scratch_of(pass, thread);
    float *sums = sums_of(pass, chunk);
    double *stats = p->stats + chunk * DISC_STATS;
    memset(sums, 0, sizeof(float) * (size_t)pass->plan.sums);
    memset(stats, 0, sizeof(double) * DISC_STATS);
    const int64_t inputs = pass->plan.inputs, stop = least((chunk + 1) * pass->chunk, pass->rows);
    for (int64_t first = chunk * pass->chunk; first < stop; first += BLOCK) {
        const int64_t count = least(BLOCK, stop - first);
        const float *expert = p->expert + first * inputs, *policy = p->policy + first * inputs;
        side_block(p, &s, sums, expert, count, true, stats);
        side_block(p, &s, sums, policy, count, false, stats);
        if (p->settings.penalty != NO_PENALTY)
            penalty_block(p, &s, sums, expert, policy, p->mix ? p->mix + first : NULL, count, stats);
    }
}

/* Gradients of the discriminator's loss on equally many expert and policy rows (rows, inputs); `mix` (rows,) are the
 * expert's shares in the points of an interpolated penalty, NULL without one. `stats` (DISC_STATS,). False if there is
 * no memory. */
static bool discriminator_gradients(const Kernels *kernels, const Network *net, const Gradients *gradients,
                                    DiscSettings settings, const float *expert, const float *policy, const float *mix,
                                    int64_t rows, double *stats, int threads) {
    DiscPass p = {.settings = settings, .expert = expert, .policy = policy, .mix = mix};
    size_t bytes;
    p.pass = size_pass(kernels, net, rows, threads, true, &bytes);
    Work work = begin_work(threads, bytes + sizeof(double) * (size_t)(p.pass.chunks * DISC_STATS));
    const bool done = work.memory != NULL;
    if (done) {
        p.stats = (double *)lay_pass(&p.pass, net, threads, FOR_FORWARD | FOR_BACKWARD | FOR_INPUT_GRADIENT,
                                      true, work.memory);
        run_tasks(&work, p.pass.chunks, disc_chunk, &p);
        finish_gradients(&p.pass, &work, net, gradients);
        memset(stats, 0, sizeof(double) * DISC_STATS);
        for (int64_t chunk = 0; chunk < p.pass.chunks; chunk++)
            for (int k = 0; k < DISC_STATS; k++)
                stats[k] += p.stats[chunk * DISC_STATS + k];
    }
    end_work(&work);
    return done;
}

#endif
